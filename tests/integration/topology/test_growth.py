"""A number of partitions that grows while documents are read and written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import bson
import orjson
import pytest

from tests.integration.conftest import stored
from tests.topologies import EveryWire
from writebehind import BulkOperation, Durability, Pipeline
from writebehind.documents.entry import Entry
from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.operations import growth, idle
from writebehind.operations.doctor import Level, examine
from writebehind.operations.drain import drain
from writebehind.operations.growth import grow
from writebehind.operations.repartition import repartition
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import Named, View, partition_keys
from writebehind.redis.pending import Pending
from writebehind.redis.shared.partition_count import Division
from writebehind.redis.topology import growing, splitting
from writebehind.redis.topology.guard import frozen_key
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.topology.record import MoveError
from writebehind.redis.topology.splitting import Splitting
from writebehind.settings.collection import CollectionSettings

BEFORE, AFTER = 4, 16
NEVER = float("inf")
DOCUMENTS = 100


@pytest.fixture
def process(settings, valkey_wire, mongo_client, hints, monkeypatch) -> Iterator[Callable[..., Pipeline]]:
    """Makes processes on one Redis, each with what it knows by itself.

    Nobody waits until all have looked again: they do so as soon as they do anything.
    """
    wires = []

    def forget(_pipeline, _going_on) -> None:
        for wire in wires:
            wire._lookout.due = min(wire._lookout.due, 0.0) if wire._lookout.due < NEVER else NEVER

    monkeypatch.setattr(growth, "_wait_for_all", forget)

    def make(**changed) -> Pipeline:
        wires.append(EveryWire(open_servers(settings.redis_url, 5_000)))
        changed = settings.model_copy(update={"partitions": BEFORE, **changed})
        return Pipeline(changed, hints=hints, wire=wires[-1], client=mongo_client)

    yield make
    for wire in wires:
        wire.close()


def sleep(pipeline: Pipeline) -> Pipeline:
    """Let a process know what it knows, and look no more, as one that is stopped between its look and its step."""
    pipeline.store.check()
    pipeline._sampler.look()
    pipeline._sampler._taken = pipeline.store._wire._lookout.due = NEVER
    return pipeline


@pytest.fixture
def one(process) -> Pipeline:
    """A process that has written documents."""
    pipeline = process()
    pipeline.store.check()
    write(pipeline, 1)
    return pipeline


def names() -> list[str]:
    return [f"d{at}" for at in range(DOCUMENTS)]


def write(pipeline: Pipeline, n: int, some: list[str] | None = None) -> None:
    slow = pipeline.collection("slow")
    for name in some or names():
        slow.put(name, {"n": n})


def read(pipeline: Pipeline) -> set[int]:
    slow = pipeline.collection("slow")
    return {slow.get(name)["n"] for name in names()}


def in_partitions(pipeline: Pipeline) -> dict[str, set[int]]:
    """The partitions in which members are pending."""
    found: dict[str, set[int]] = {}
    for at in range(AFTER):
        for member in pipeline.store._wire.call("ZRANGE", partition_keys(at).pending, 0, -1):
            found.setdefault(member.decode(), set()).add(at)
    return found


def test_what_is_pending_goes_where_it_belongs(one, process):
    """Each document is in one partition then, by the new number; every process reads, writes and flushes it."""
    beside = process()
    assert {1} == read(beside)
    result = grow(process(), AFTER)

    assert (BEFORE, AFTER, BEFORE) == (result.before, result.after, result.divided)
    late, old = process(partitions=AFTER), process()
    for pipeline in (late, old):
        pipeline.store.check()
    assert {f"slow/s:{name}": {late.store.partition_of(f"slow/s:{name}")} for name in names()} == in_partitions(
        one
    )
    assert {1} == read(beside) == read(late) == read(old) == read(one)
    write(one, 2)
    assert {2} == read(beside) == read(late)
    assert AFTER == one.store.partitions == beside.store.partitions == old.store.partitions
    assert DOCUMENTS == drain(late, timeout_s=30).persisted
    assert {} == in_partitions(one)
    assert [] == one.store.division.astray(AFTER)


def leaving_first() -> str:
    """A document that leaves partition 0."""
    numbers = {
        name: (View(BEFORE).number(f"slow/s:{name}"), View(AFTER).number(f"slow/s:{name}")) for name in names()
    }
    return next(name for name, (before, after) in numbers.items() if before == 0 != after)


def out_of_place(pipeline: Pipeline) -> list[str]:
    """The keys with a name in them that stand in another partition than that of the name."""
    found = map(Named.parse, pipeline.store._wire.call("KEYS", "wb:{*}:*:*"))
    return [each.key for each in found if each and each.partition != pipeline.store.partition_of(each.name)]


@pytest.fixture
def halfway(one, process, monkeypatch) -> Pipeline:
    """A process from before, when half of the partitions are divided by one that died then."""
    run = Splitting.run

    def die(self) -> float:
        if self._partition == BEFORE // 2:
            raise KeyboardInterrupt
        return run(self)

    with monkeypatch.context() as patch:
        patch.setattr(Splitting, "run", die)
        with pytest.raises(KeyboardInterrupt):
            grow(process(), AFTER)
    return one


def test_a_process_that_knows_too_little_is_refused_and_finds_out(one, process):
    """Its reads are done where the documents are by now, although it took the partitions for undivided."""
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    behind = sleep(process())
    assert frozenset() == behind.store.layout.view.divided
    grow(process(), AFTER)
    assert frozenset() == behind.store.layout.view.divided

    slow = behind.collection("slow")
    assert {1} == {one["n"] for one in slow.mget(names())}
    assert frozenset(range(BEFORE)) == behind.store.layout.view.divided


@pytest.mark.parametrize("way", ["one", "bulk"])
def test_a_write_by_a_process_that_knows_too_little(one, process, way):
    """It is made where the document is by now, with a version above the last one."""
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    behind, beside = sleep(process()), process()
    grow(process(), AFTER)
    assert frozenset() == behind.store.layout.view.divided
    assert BEFORE == behind.store.layout.view.partitions
    if way == "one":
        write(behind, 2)
    else:
        results = behind.collection("slow").bulk([BulkOperation("put", name, {"n": 2}) for name in names()])
        assert DOCUMENTS == len([one for one in results if one.version])

    assert {2} == read(beside)
    assert DOCUMENTS == sum(len(some) for some in in_partitions(beside).values())


def test_both_numbers_at_once(halfway, process):
    """While half of the partitions are divided, documents of both halves are read, written and flushed."""
    beside = process()
    assert {1} == read(beside)
    assert frozenset(range(BEFORE // 2)) == beside.store.layout.view.divided
    write(beside, 2)
    assert {2} == read(halfway)
    write(halfway, 3)
    assert {3} == read(beside)
    assert DOCUMENTS == drain(beside, timeout_s=30).persisted
    assert {3} == read(halfway)


def test_what_was_interrupted_is_gone_on_with(halfway, process):
    """The second process divides what the first had not, and nothing is lost."""
    write(halfway, 2)
    result = grow(process(partitions=AFTER), AFTER)

    assert (BEFORE, BEFORE // 2) == (result.before, result.divided)
    assert {2} == read(halfway)
    assert DOCUMENTS == sum(len(some) for some in in_partitions(halfway).values())


@pytest.mark.parametrize("step", ["_copy_members", "_catch_up", "_finish", "_divide", "_thaw", "clean"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_who_dies_at_a_step_loses_nothing(one, process, monkeypatch, step, after):
    """Everybody goes on, with what there is; who starts it again brings it to its end."""
    made = getattr(Splitting, step)

    def die(self, *arguments, **named):
        if after:
            made(self, *arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Splitting, step, die)
        with pytest.raises(KeyboardInterrupt):
            grow(process(), AFTER)
    beside = process()
    assert {1} == read(beside)
    write(beside, 2, names()[::2])
    beside.collection("slow").delete(names()[1])
    grow(process(), AFTER)

    expected = dict.fromkeys(names()[::2], 2) | dict.fromkeys(names()[3::2], 1)
    slow = one.collection("slow")
    assert expected == {name: slow.get(name)["n"] for name in expected}
    assert slow.get(names()[1]) is None
    assert [] == out_of_place(one)
    assert {f"slow/s:{name}": {one.store.partition_of(f"slow/s:{name}")} for name in names()} == in_partitions(one)


def test_writes_meanwhile_are_copied(one, process, monkeypatch):
    """What is written between the copy and the freeze goes along, and what was settled is not pending."""
    beside = process()
    catch_up, n = Splitting._catch_up, 1

    def meanwhile(self, changed) -> None:
        nonlocal n
        catch_up(self, changed)
        n += 1
        write(beside, n)
        if n == 2:
            drain(beside, timeout_s=30)

    monkeypatch.setattr(Splitting, "_catch_up", meanwhile)
    grow(process(), AFTER)

    assert {n} == read(one) == read(process(partitions=AFTER))


def test_versions_go_on_above_all_that_were_issued(one, process):
    """Also where the clock of Redis is behind them."""
    ahead = one.store.now_ms() * 1000 + 10**12
    for at in range(BEFORE):
        one.store._wire.call("SET", partition_keys(at).clock, ahead)
    grow(process(), AFTER)
    write(one, 2)

    clocks = [int(one.store._wire.call("GET", partition_keys(at).clock)) for at in range(AFTER)]
    assert all(clock > ahead for clock in clocks)


def test_a_write_of_a_process_that_slept_through_it_is_brought_home(one, process):
    """Nobody looks for it where it was put, and it is newer: it is not lost."""
    asleep = sleep(process())
    grow(process(), AFTER)
    assert BEFORE == asleep.store.partitions
    write(asleep, 2)
    beside = process()
    for at in range(BEFORE):
        beside.flusher.drain(at, budget_s=10)
    drain(beside, timeout_s=30)

    assert {2} == read(beside)


def long_idle(process) -> Pipeline:
    """A process that has done nothing since before the number grew: its next step has the first look."""
    idle = process()
    idle.store.check()
    idle._sampler.look()
    grow(process(), AFTER)
    idle._sampler._taken = NEVER
    assert BEFORE == idle.store.partitions
    return idle


@pytest.mark.parametrize("way", ["put", "commit", "get"])
def test_a_process_that_did_nothing_meanwhile(one, process, way):
    """Its first step goes where the document is by now, although its keys were made before it looked."""
    idle, beside = long_idle(process), process()
    name = leaving_first()
    payload = Entry.loaded(bson.encode({"_id": name, "n": 2}), 0).payload
    if way == "commit":
        idle.store.commit_many([CommitRequest(f"slow/s:{name}", payload, delay_ms=0)])
    elif way == "put":
        idle.collection("slow").put(name, {"n": 2})
    else:
        beside.collection("slow").put(name, {"n": 2})
        idle.store._wire._lookout.due = 0.0

    assert {"_id": name, "n": 2} == idle.collection("slow").get(name)
    assert AFTER == idle.store.partitions
    assert {idle.store.partition_of(f"slow/s:{name}")} == in_partitions(beside)[f"slow/s:{name}"]


def test_threads_of_a_process_that_did_nothing_meanwhile(one, process, monkeypatch):
    """While one of them looks, no other goes by what was known long ago."""
    idle, name = long_idle(process), leaving_first()
    looks, look, other = [], idle.store._wire._lookout._look, []

    def slow_look() -> None:
        looks.append(1)
        if len(looks) == 1:
            other.append(threads.submit(idle.collection("slow").put, name, {"n": 2}))
            with pytest.raises(TimeoutError):
                other[0].result(0.1)
        look()

    monkeypatch.setattr(idle.store._wire._lookout, "_look", slow_look)
    with ThreadPoolExecutor(1) as threads:
        idle.store.now_ms()
        idle.store._wire.call("PING", "wb:nothing")
        other[0].result()
    assert 1 == len(looks)
    assert {idle.store.partition_of(f"slow/s:{name}")} == in_partitions(idle)[f"slow/s:{name}"]


def test_a_stray_write_is_not_taken_out_with_what_has_gone(one, process, monkeypatch):
    """What a process that slept has put there since the partition was divided stays, until it is brought home."""
    asleep = sleep(process())
    clean = Splitting.clean

    def late(self, *, thoroughly: bool) -> None:
        write(asleep, self._partition + 10)
        clean(self, thoroughly=thoroughly)

    monkeypatch.setattr(Splitting, "clean", late)
    grow(process(), AFTER)
    monkeypatch.undo()
    beside = process()
    for at in range(BEFORE):
        beside.flusher.drain(at, budget_s=10)
    drain(beside, timeout_s=30)

    assert {BEFORE - 1 + 10} == read(beside)


def test_a_mover_that_was_stopped_writes_nothing_later(one, process, monkeypatch):
    """Another one has taken its place: new partitions refuse what it still sends."""
    finish = Splitting._finish

    def overtaken(self, changed, replicas):
        monkeypatch.setattr(Splitting, "_finish", finish)
        other.store.growing.expect(self._view, "another")
        write(one, 2)
        return finish(self, changed, replicas)

    other = process()
    monkeypatch.setattr(Splitting, "_finish", overtaken)
    with pytest.raises(MoveError, match="somebody else fills partition"):
        grow(process(), AFTER)
    assert {2} == read(other)


def test_a_mover_that_was_stopped_marks_nothing_later(one, process, monkeypatch):
    """Also where there was nothing left to send: another one has begun to take its copies out."""
    divide = Splitting._finish

    def overtaken(self, changed, replicas):
        self._catch_up(changed)
        process().store._wire.call("SET", partition_keys(self._partition + BEFORE).arriving, "another")
        return divide(self, changed, replicas)

    monkeypatch.setattr(Splitting, "_finish", overtaken)
    with pytest.raises(MoveError, match="somebody else fills partition"):
        grow(process(), AFTER)
    assert [] == one.store._wire.call("KEYS", "wb:{*}:divided")


def test_a_mover_that_was_stopped_takes_nothing_out_later(one, process):
    """It took partitions for undivided that are in use by the time at which it begins to fill them."""
    late = process()
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    late.store.division.follow()
    view = late.store.layout.view
    grow(process(), AFTER)

    with pytest.raises(MoveError, match="somebody else has divided partition 0"):
        late.store.growing.expect(view, "late")
    assert {1} == read(one)
    assert DOCUMENTS == sum(map(len, in_partitions(one).values()))


def test_a_mover_waits_for_the_freeze_of_another(one, process, monkeypatch):
    """That one may still mark the partition, and then its copies are no copies any more."""
    monkeypatch.setattr(growing, "WAITS_S", 0.05)
    late = process()
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    late.store.division.follow()
    one.store._wire.call("SET", frozen_key("1"), "another")
    with pytest.raises(MoveError, match="somebody else divides partition 1"):
        late.store.growing.expect(late.store.layout.view, "late")
    one.store._wire.call("PEXPIRE", frozen_key("1"), 20)
    monkeypatch.undo()
    late.store.growing.expect(late.store.layout.view, "late")


def test_a_freeze_that_ends_too_early_divides_nothing(one, process, monkeypatch):
    """What was written since is not left behind: it is tried again."""
    divide, tried = Splitting._divide, []

    def late(self, freeze, replicas):
        tried.append(self._partition)
        if len(tried) == 1:
            one.store._wire.call("DEL", partition_keys(self._partition).prefix + "frozen")
            write(one, 2)
        return divide(self, freeze, replicas)

    monkeypatch.setattr(Splitting, "_divide", late)
    grow(process(), AFTER)
    assert BEFORE + 1 == len(tried)
    assert {2} == read(process())


def test_dead_letters_deletions_and_claims_go_along(one, process, monkeypatch):
    """Each is found where its document belongs, and counted."""
    slow = one.collection("slow")
    for name in names()[:30]:
        slow.delete(name)
    drain(one, timeout_s=30)
    for name in names()[30:60]:
        slow.put(name, {"n": 2})
        digits = one.store.pending.version_digits(f"slow/s:{name}")
        one.store.pending.bury(f"slow/s:{name}", digits, digits + b'{"reason":"refused"}')
    before = one.store.letters.counts()
    grow(process(), AFTER)
    after = process()
    after.store.check()

    assert {"slow": 30} == before == after.store.letters.counts()
    for at in range(AFTER):
        of = partition_keys(at)
        for key in (of.deleted, of.deleted_at):
            members = [member.decode() for member in after.store._wire.call("ZRANGE", key, 0, -1)]
            assert all(at == after.store.partition_of(member) for member in members)
        letters = [name.decode() for name in after.store._wire.call("HKEYS", of.dead)]
        assert all(at == after.store.partition_of(member) for member in letters)
        assert len(letters) == after.store.letters.counts_in(at).get("slow", 0)
    assert 30 == sum(after.store._wire.call("ZCARD", partition_keys(at).deleted) for at in range(AFTER))


@pytest.mark.parametrize(("after", "why"), [(6, "a multiple"), (2, "a multiple")])
def test_other_numbers_are_refused(one, process, after, why):
    """With what to do instead; nothing is changed."""
    with pytest.raises(ConfigurationError, match=f"{why}.*writebehind repartition {after}"):
        grow(process(), after)
    assert Division(BEFORE) == one.store.division.recorded()


def test_it_is_done_already(one, process):
    """Nothing happens where Redis has so many."""
    assert (BEFORE, 0) == ((result := grow(process(), BEFORE)).after, result.divided)


def test_a_process_with_another_number_does_not_start(halfway, process):
    """Neither while the number grows nor after that."""
    with pytest.raises(ConfigurationError, match="is being changed from 4 to 16"):
        process(partitions=3).store.check()
    grow(process(), AFTER)
    with pytest.raises(ConfigurationError, match="holds data in 16 partitions"):
        process(partitions=8).store.check()


def test_the_offline_change_waits_for_it(halfway, process):
    """It would take what is in new partitions for nothing."""
    with pytest.raises(ConfigurationError, match="is being changed from 4 to 16"):
        repartition(process(), 32)


def test_it_grows_twice(one, process):
    """A process that has slept since the first time follows too."""
    first = process()
    first.store.check()
    grow(process(), 8)
    grow(process(), AFTER)
    first.store._wire._lookout.due = 0.0

    assert {1} == read(first)
    assert AFTER == first.store.partitions
    assert idle.left(first.store).pending == DOCUMENTS
    assert splitting.FREEZE_MS < 2_000


def test_on_a_cluster(cluster, wire, settings, mongo_client, hints, monkeypatch):
    """New partitions are on other nodes than the one that they come from."""
    wires = [wire, *(EveryWire(open_servers(cluster.url, 1_000)) for _ in range(2))]

    def forget(_pipeline, _going_on) -> None:
        for each in wires:
            each._lookout.due = 0.0

    monkeypatch.setattr(growth, "_wait_for_all", forget)
    changed = settings.model_copy(update={"redis_url": cluster.url, "partitions": BEFORE})
    pipelines = [Pipeline(changed, hints=hints, wire=one, client=mongo_client) for one in wires]
    pipelines[0].store.check()
    write(pipelines[0], 1)
    home = wire.server_of(partition_keys(0).pending)
    with monkeypatch.context() as patch:
        patch.setattr(splitting, "_replicas", lambda server: 9 * (server.name != home))  # which there are not
        patch.setattr(splitting, "MOST_FREEZES", 1)
        with pytest.raises(MoveError, match="replicas lag"):
            grow(pipelines[1], AFTER)
    assert wire.call("GET", partition_keys(0).divided) is None
    grow(pipelines[1], AFTER)

    assert {1} == read(pipelines[0]) == read(pipelines[2])
    write(pipelines[0], 2)
    assert DOCUMENTS == drain(pipelines[2], timeout_s=30).persisted
    assert DOCUMENTS == len(stored(pipelines[2]))
    for one in wires[1:]:
        one.close()


def test_unique_values_lead_to_what_is_pending(process, settings, mongo_client, database_name):
    """Claims go with their values, which are in other partitions than the documents."""
    mongo_client[database_name].people.create_index("name", unique=True)
    collections = settings.collections | {
        "people": CollectionSettings(lookup={"name": "string"}, flush_delay_ms=60_000)
    }
    one, beside = (process(collections=collections) for _ in range(2))
    one.store.check()
    people = one.collection("people")
    for name in names():
        people.put(name, {"name": f"name of {name}"})
    grow(process(collections=collections), AFTER)

    for name in names():
        found, _ = beside.collection("people").look_up("name", f"name of {name}")
        assert found == beside.collection("people").id(name)
    people.put("d0", {"name": "another"})
    assert beside.collection("people").look_up("name", "name of d0")[0] is None


@pytest.mark.parametrize("step", ["record_sending", "settle"])
def test_a_flush_that_is_overtaken_begins_anew(one, process, monkeypatch, step):
    """The partition is divided between two steps of it: nothing is lost, and all of it is persisted in the end."""
    made, begun = getattr(Pending, step), []

    def overtaken(self, *arguments, **named):
        if not begun:
            begun.append(step)
            grow(process(), AFTER)
        return made(self, *arguments, **named)

    beside = process()
    monkeypatch.setattr(Pending, step, overtaken)
    drain(beside, timeout_s=30)

    assert begun
    assert dict.fromkeys(names(), 1) == stored(beside)
    assert {} == in_partitions(one)
    assert 0 == sum(beside.store.letters.counts().values())


def test_a_write_that_waits_for_mongodb_is_persisted_meanwhile(one, process, monkeypatch):
    """Its document is looked for again where it is by then."""
    made, begun = Pending.record_sending, []

    def overtaken(self, *arguments, **named):
        if not begun:
            begun.append(1)
            grow(process(), AFTER)
        return made(self, *arguments, **named)

    monkeypatch.setattr(Pending, "record_sending", overtaken)
    written = process().collection("through").bulk([BulkOperation("put", name, {"n": 3}) for name in names()])

    assert begun
    assert {Durability.PERSISTED} == {each.durability for each in written}


def test_doctor_tells_of_it(halfway, process):
    """While the number grows, and where the settings have the former one."""
    (found,) = [each for each in examine(process()) if each.check == "partitions"]
    assert (Level.WARNING, "4 are becoming 16") == (found.level, found.found)
    grow(process(), AFTER)
    (found,) = [each for each in examine(process()) if each.check == "partitions"]
    assert (Level.WARNING, "set WRITEBEHIND_PARTITIONS=16") == (found.level, found.advice)
    (found,) = [each for each in examine(process(partitions=AFTER)) if each.check == "partitions"]
    assert Level.OK is found.level


def test_the_command(one, run, process):
    """It says what it did, for people and for programs; and what to do where it cannot."""
    with pytest.raises(ConfigurationError, match="run `writebehind drain` and `writebehind repartition 6`"):
        run("repartition", "--online", "6")
    said = run("repartition", "--online", str(AFTER), "--json")
    assert 0 == said.exit_code, said.output
    told = orjson.loads(said.stdout)
    assert (BEFORE, AFTER, BEFORE) == (told["before"], told["after"], told["divided"])
    again = run("repartition", "--online", str(AFTER))
    assert "Redis has 16 partitions already" in again.stdout
    assert {1} == read(process())


def test_nothing_is_written_while_the_last_is_copied(one, process, monkeypatch):
    """A write that was taken then would stay behind; plain reads are served."""
    beside, divide, refused = process(), Splitting._divide, []

    def meanwhile(self, freeze, replicas):
        beside.store.division.follow()
        beside.store._wire._servers._timeout_s = 0.05
        for name in names():
            if View(BEFORE).number(f"slow/s:{name}") == self._partition:
                assert {"_id": name, "n": 1} == beside.collection("slow").get(name)
                with pytest.raises(RedisUnavailableError, match="is being divided"):
                    beside.collection("slow").put(name, {"n": 2})
                refused.append(name)
                break
        return divide(self, freeze, replicas)

    monkeypatch.setattr(Splitting, "_divide", meanwhile)
    grow(process(), AFTER)
    assert BEFORE == len(refused)
    assert {1} == read(one)


def test_a_copy_that_was_left_is_not_read(one, process, monkeypatch):
    """By a process that takes the partition for undivided, until it is taken out."""
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    behind, beside, clean = sleep(process()), process(), Splitting.clean

    def late(self, *, thoroughly: bool) -> None:
        some = [each for each in names() if View(BEFORE).number(f"slow/s:{each}") == self._partition]
        write(beside, 2, some)
        assert self._partition not in behind.store.layout.view.divided
        assert {2} == {behind.collection("slow").get(each)["n"] for each in some}
        clean(self, thoroughly=thoroughly)

    monkeypatch.setattr(Splitting, "clean", late)
    assert BEFORE == grow(process(), AFTER).divided


def test_copies_that_were_left_in_new_partitions_are_taken_out(one, process, monkeypatch):
    """What is gone since, where they come from, does not come back."""
    with monkeypatch.context() as patch:
        patch.setattr(Splitting, "_finish", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            grow(process(), AFTER)
    name = next(
        each for each in names() if View(BEFORE).number(f"slow/s:{each}") == 0 != one.store.partition_of(each)
    )
    one.collection("slow").delete(name)
    drain(one, timeout_s=30)
    entries = [partition_keys(at).entry(f"slow/s:{each}") for each in names() for at in range(BEFORE)]
    one.store._wire.call("DEL", *entries)
    grow(process(), AFTER)

    assert {} == in_partitions(one)
    assert [] == one.store._wire.call("KEYS", "wb:{*}:entry:*")


def test_what_is_out_of_place_waits_until_all_are_divided(halfway, process):
    """A flusher that meets a stray would take it for a copy, or a copy for a stray."""
    asleep, beside = process(), process()
    asleep.store._wire._lookout.due = NEVER
    asleep.store.division.follow = lambda: None
    name = next(
        each
        for each in names()
        if View(BEFORE).number(f"slow/s:{each}") == 0 != View(AFTER).number(f"slow/s:{each}")
    )
    payload = halfway.store._wire.call("GET", halfway.store.layout.of(f"slow/s:{name}").entry(f"slow/s:{name}"))[
        16:
    ]
    asleep.store.commit_many([CommitRequest(f"slow/s:{name}", payload, delay_ms=0)])
    assert 2 == len(in_partitions(beside)[f"slow/s:{name}"])
    beside.flusher.drain(0, budget_s=10)

    assert {1} == read(beside)
    grow(process(), AFTER)
    drain(beside, timeout_s=30)
    assert {} == in_partitions(beside)
    assert dict.fromkeys(names(), 1) == stored(beside)


def test_a_division_that_replicas_do_not_have_is_taken_back(one, process, monkeypatch):
    """Only as long as nobody can have acted on it: while it is frozen."""
    with monkeypatch.context() as patch:
        patch.setattr(splitting, "_replicas", lambda _server: 1)  # which there is not
        patch.setattr(splitting, "MOST_FREEZES", 1)
        with pytest.raises(MoveError, match="changes too fast"):
            grow(process(), AFTER)
    assert [] == one.store._wire.call("KEYS", "wb:{*}:divided")
    assert {1} == read(one)

    wait = splitting.asked

    def late(server, commands):
        answers = wait(server, commands)
        if commands[-1][0] == "WAIT":
            wait(server, [("DEL", *(frozen_key(str(at)) for at in range(BEFORE)))])
        return answers

    with monkeypatch.context() as patch:
        patch.setattr(splitting, "_replicas", lambda _server: 1)
        patch.setattr(splitting, "asked", late)
        assert BEFORE == grow(process(), AFTER).divided
    assert {1} == read(one)


def create(pipeline: Pipeline, some: list[str] | None = None) -> dict[str, object]:
    """The ids of documents that were created once, by the names of the requests."""
    slow = pipeline.collection("slow")
    return {name: slow.create({"n": 1}, key=name).id for name in some or names()}


@pytest.mark.parametrize("when", ["before", "at its beginning", "halfway"])
def test_a_write_that_is_repeated_counts_once(one, process, monkeypatch, when):
    """Its receipt is where its document is by then, and that of a document with a new id where its key is."""
    slow, created = one.collection("slow"), {}
    if when != "before":
        one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    written = {name: slow.put(name, {"n": 1}, key=f"key of {name}").version for name in names()}
    made = Splitting.clean

    def meanwhile(self, *, thoroughly: bool) -> None:
        made(self, thoroughly=thoroughly)
        if self._partition == 1:
            created.update(create(behind))

    behind, idle = (sleep(process()) if when == "halfway" else one), [process() for _ in range(8)]
    if when == "halfway":
        monkeypatch.setattr(Splitting, "clean", meanwhile)
    else:
        created.update(create(one))
    grow(process(), AFTER)
    repeated = process()

    assert created == create(repeated)
    slow = repeated.collection("slow")
    assert written == {name: slow.put(name, {"n": 1}, key=f"key of {name}").version for name in names()}
    assert created == create(one)
    assert {BEFORE} == {each.store.partitions for each in idle}
    for each, name in zip(idle, names(), strict=False):
        assert {name: created[name]} == create(each, [name])
