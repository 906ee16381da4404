"""Partitions that become more: what is in the old ones is in the new ones."""

from __future__ import annotations

import pytest

from tests.integration.conftest import stored
from tests.integration.topology.growth.conftest import (
    AFTER,
    BEFORE,
    DOCUMENTS,
    create,
    in_partitions,
    names,
    read,
    sleep,
    write,
)
from tests.topologies import EveryWire
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.errors import RedisUnavailableError
from writebehind.operations import growth, idle
from writebehind.operations.drain import drain
from writebehind.operations.growth import grow
from writebehind.redis.keys import View, partition_keys
from writebehind.redis.shared import pauses
from writebehind.redis.shared.partition_count import Division
from writebehind.redis.shared.pauses import ALL
from writebehind.redis.topology import splitting
from writebehind.redis.topology.confirming import Standing
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.topology.record import MoveError
from writebehind.redis.topology.splitting import Splitting
from writebehind.settings.collection import CollectionSettings
from writebehind.writing.receipts import ReceiptState


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


def test_what_is_about_to_expire_does_so(one, process, monkeypatch):
    """An entry, or receipts, with less than a millisecond left gets no life without an end where it goes."""
    drain(one, timeout_s=30)
    create(one)
    for at in range(BEFORE):
        one.store._wire.call("PEXPIRE", partition_keys(at).receipts, 50_000)
    ask_for = splitting.asked

    def nearly_over(server, commands):
        answers = ask_for(server, commands)
        return [0 if one[0] == "PTTL" and answers[at] > 0 else answers[at] for at, one in enumerate(commands)]

    monkeypatch.setattr(splitting, "asked", nearly_over)
    grow(process(), AFTER)
    new = [partition_keys(at) for at in range(BEFORE, AFTER)]
    copies = [key for of in new for key in (of.receipts, *(of.entry(f"slow/s:{name}") for name in names()))]
    wait_until(lambda: not one.store._wire.call("EXISTS", *copies), "copies to expire")


def test_versions_go_on_above_all_that_were_issued(one, process):
    """Also where the clock of Redis is behind them."""
    ahead = one.store.now_ms() * 1000 + 10**12
    for at in range(BEFORE):
        one.store._wire.call("SET", partition_keys(at).clock, ahead)
    grow(process(), AFTER)
    write(one, 2)

    clocks = [int(one.store._wire.call("GET", partition_keys(at).clock)) for at in range(AFTER)]
    assert all(clock > ahead for clock in clocks)


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
        of = Standing.of  # none has so many replicas
        patch.setattr(Standing, "of", lambda one, least=0: of(one, least if one.name == home else 9))
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


def states(pipeline: Pipeline) -> set[ReceiptState]:
    """What receipts of writes under keys after the names say."""
    return {pipeline.receipt(f"key of {one}", collections=["slow"]).state for one in names()}


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
    assert {ReceiptState.BUFFERED} == states(repeated)
    assert 0 == drain(repeated, timeout_s=30).pending
    assert {ReceiptState.PERSISTED} == states(repeated)
    assert created == create(one)
    assert {BEFORE} == {each.store.partitions for each in idle}
    for each, name in zip(idle, names(), strict=False):
        assert {name: created[name]} == create(each, [name])


@pytest.mark.parametrize("name", ["slow", ALL])
def test_what_is_paused_stays_so(one, process, monkeypatch, name):
    """Members of a paused collection are set aside in the new partitions as well, until it is resumed."""
    monkeypatch.setattr(pauses, "LOOK_EVERY_S", 0.0)
    old = process()
    one.store.pauses.begin(name, for_ms=None)
    assert 0 == flushed(one)
    grow(process(), AFTER)

    write(process(), 2, names()[: DOCUMENTS // 2])
    late = process(partitions=AFTER)
    assert [0, 0, 0] == [flushed(each) for each in (late, old, one)]
    assert DOCUMENTS == len(in_partitions(one))
    old.store.pauses.end([name])
    assert DOCUMENTS == sum(flushed(each) for each in (old, late))
    assert {} == in_partitions(one)
    assert {1, 2} == read(late)


def flushed(pipeline: Pipeline) -> int:
    """The number of documents that a process flushes of those in all partitions, whenever they are due."""
    pipeline.store.check()
    return sum(pipeline.flusher.drain(at, budget_s=30).persisted for at in range(pipeline.store.partitions))
