"""What stands in another partition than its own reaches MongoDB or the dead letters, and is nowhere lost."""

from __future__ import annotations

import json
from collections.abc import Callable

import bson
import pytest

from tests.commits import commit_one
from tests.integration.conftest import again
from tests.integration.test_between import changed_before
from writebehind import Pipeline
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.flushing.dead_letter import Filter
from writebehind.operations.drain import drain
from writebehind.operations.repartition import repartition
from writebehind.redis.keys import MOST_PARTITIONS, PARTITIONS, partition_keys
from writebehind.redis.store import CommitRequest

ADA = "users/s:ada"


@pytest.fixture
def home(pipeline) -> int:
    """The partition of the document."""
    return pipeline.store.partition_of(ADA)


@pytest.fixture
def elsewhere(pipeline, home) -> int:
    """Another one."""
    return (home + 1) % pipeline.settings.partitions


@pytest.fixture
def displace(pipeline, home, elsewhere) -> Callable[..., None]:
    """Moves a document by hand, as if a process that takes Redis to be divided otherwise had acknowledged it."""

    def move(*, entry: bool = True, mark: bool = True, to: int = elsewhere) -> None:
        wire, of, there = pipeline.store._wire, partition_keys(home), partition_keys(to)
        if entry:
            wire.call("RENAME", of.entry(ADA), there.entry(ADA))
        if mark:
            wire.call("ZADD", there.pending, wire.call("ZSCORE", of.pending, ADA), ADA)
            wire.call("ZREM", of.pending, ADA)
        wire.call("DEL", of.scheduled)  # which that process did not ask for

    return move


def put(pipeline: Pipeline, n: object) -> int:
    return pipeline.collection("users").put("ada", {"n": n}).version


def settle_all(pipeline: Pipeline) -> None:
    """Drain: all of it within the time that is promised, and nothing is left in another partition."""
    drained = drain(pipeline, timeout_s=10)
    assert (0, 0) == (drained.pending, pipeline.status()["pending"])
    wire = pipeline.store._wire
    for number in (*range(20), MOST_PARTITIONS - 1):
        of = partition_keys(number)
        if number != pipeline.store.partition_of(ADA):
            assert 0 == wire.call("EXISTS", of.pending, of.dead, of.entry(ADA), of.kept(ADA)), number


def reconcile(pipeline: Pipeline) -> dict[str, int]:
    return pipeline.reconciler.make_pass().found


def test_what_mongodb_takes_is_flushed(pipeline, users, stored, home, elsewhere, displace, hints):
    """It is brought home, where readers see it, a flush is asked for, and MongoDB gets it."""
    version = put(pipeline, 1)
    displace()
    hints.clear()

    pipeline.flusher.flush(elsewhere)

    assert [home] == [one.partition for one in hints]
    assert {"_id": "ada", "n": 1} == users.get("ada")
    settle_all(pipeline)
    assert [{"_id": "ada", "n": 1, "_v": version}] == list(stored.find())
    assert 0 == pipeline.status()["dead_letters"]


def test_what_mongodb_refuses_is_a_dead_letter(pipeline, users, stored, displace):
    """It does not turn for ever: it is a letter at home that can be replayed, with its document."""
    stored.create_index("n", unique=True)
    stored.insert_one({"_id": "bob", "n": 1})
    put(pipeline, 1)
    displace()

    settle_all(pipeline)

    [letter] = pipeline.dead_letters.all(Filter())
    assert ({"_id": "ada", "n": 1}, "refused") == (users.get("ada"), letter.letter.reason.value)
    stored.delete_one({"_id": "bob"})
    pipeline.dead_letters.replay([letter])
    settle_all(pipeline)
    assert ["ada"] == [one["_id"] for one in stored.find()]
    assert 0 == pipeline.dead_letters.count()


@pytest.mark.parametrize("settled", [False, True], ids=["pending", "settled"])
@pytest.mark.parametrize("deleted", [False, True], ids=["write", "deletion"])
def test_a_newer_write_at_home_stands(pipeline, users, stored, displace, settled, deleted):
    """The older one is forgotten, wherever it stands; a deleted document does not come back."""
    put(pipeline, "old")
    displace()
    if deleted:
        users.put("ada", {"n": "then"})
        users.delete("ada")
    else:
        put(pipeline, "new")
    if settled:
        pipeline.flusher.flush(pipeline.store.partition_of(ADA))
        if deleted:  # of which only the note of the audit tells, once its entry has expired
            pipeline.store._wire.call("DEL", pipeline.store.cache.key(ADA))

    settle_all(pipeline)

    assert ([] if deleted else ["new"]) == [one["n"] for one in stored.find()]
    assert (None if deleted else "new") == (users.get("ada") or {}).get("n")
    assert 0 == pipeline.dead_letters.count()


@pytest.mark.parametrize("before", ["pending", "settled", "refused", "deleted", "unreadable"])
def test_an_older_write_at_home_is_replaced(pipeline, users, stored, home, elsewhere, displace, before):
    """Whatever became of it: the last acknowledged write wins, with no letter of the older one left."""
    put(pipeline, "newer")
    displace()
    entry = pipeline.store._wire.call("GET", partition_keys(elsewhere).entry(ADA))
    version = put(pipeline, "older")
    if before == "refused":
        pipeline.store.pending.bury(ADA, f"{version:016d}", b"%016d{}" % version)
    elif before == "deleted":
        users.delete("ada")
    if before in {"settled", "deleted"}:
        pipeline.flusher.flush(home)
    elif before == "unreadable":
        pipeline.store._wire.call("SET", partition_keys(home).entry(ADA), "garbage")
    newer = b"%016d" % (int(entry[:16]) + 10_000_000)
    pipeline.store._wire.call("SETRANGE", partition_keys(elsewhere).entry(ADA), 0, newer)

    pipeline.flusher.drain(elsewhere, budget_s=5)  # before somebody makes a letter of what nobody can read
    settle_all(pipeline)

    assert ["newer"] == [one["n"] for one in stored.find()]
    assert "newer" == users.get("ada")["n"]
    assert (0, {}) == (pipeline.dead_letters.count(), pipeline.dead_letters.by_collection())


def test_a_letter_whose_document_is_lost_outlives_what_is_brought_home(pipeline, users, home, displace):
    """What is brought home knows nothing of it, so it is kept under its version, and still counted."""
    put(pipeline, 1)
    displace()
    pipeline.store._wire.call("HSET", partition_keys(home).dead, ADA, b"%016d{}" % 7)
    pipeline.store._wire.call("HSET", partition_keys(home).dead_counts, "users", 1)

    settle_all(pipeline)

    names = pipeline.store._wire.call("HKEYS", partition_keys(home).dead)
    assert [b"users@%016d/s:ada" % 7] == names
    assert {"users": 1} == pipeline.dead_letters.by_collection()


@pytest.mark.parametrize("step", ["adopt", "let_go"])
def test_whoever_dies_on_the_way_loses_nothing(pipeline, stored, elsewhere, displace, monkeypatch, step):
    """The steps before one are made, and the next flusher makes them once more: it is in MongoDB once."""
    put(pipeline, 1)
    displace()
    run = pipeline.store._wire.run

    def die(script, *arguments):
        if script.name == step:
            raise RuntimeError("killed")
        return run(script, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.store._wire, "run", die)
        with pytest.raises(RuntimeError, match="killed"):
            pipeline.flusher.drain(elsewhere, budget_s=5)
    pipeline.store._wire.call("DEL", partition_keys(elsewhere).lease)

    settle_all(pipeline)

    assert [1] == [one["n"] for one in stored.find()]
    assert 0 == pipeline.dead_letters.count()


def test_a_write_that_comes_there_meanwhile_is_brought_home_too(
    pipeline, stored, elsewhere, displace, monkeypatch
):
    """What is forgotten there is only what was taken over."""
    put(pipeline, 1)
    displace()
    run = pipeline.store._wire.run

    def write_before_it_is_let_go(script, *arguments):
        if script.name == "let_go":
            with monkeypatch.context() as patch:
                patch.setattr(pipeline.store._wire, "run", run)
                put(pipeline, 2)
                displace()
        return run(script, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.store._wire, "run", write_before_it_is_let_go)
        pipeline.flusher._homecoming.of_pending(elsewhere, [ADA])
    assert pipeline.store._wire.call("ZSCORE", partition_keys(elsewhere).pending, ADA) is not None

    settle_all(pipeline)

    assert [2] == [one["n"] for one in stored.find()]


def test_it_is_found_by_its_unique_value(settings, pipeline, mongo_client, elsewhere):
    """At home it claims its values, as when it is committed, so that readers find it before MongoDB has it."""
    users = {"lookup": {"n": "int"}, "flush_delay_ms": 60_000}
    found = settings.model_validate(settings.model_dump() | {"collections": {"users": users}})
    pipeline = Pipeline(found, wire=pipeline.store._wire, client=mongo_client)
    wrong = again(pipeline, 7)
    wrong.collection("users").put("ada", {"n": 7})
    pipeline.store._wire.call("SET", PARTITIONS, pipeline.settings.partitions)  # which that process recorded first
    partition = wrong.store.partition_of(ADA)
    assert partition != pipeline.store.partition_of(ADA)

    pipeline.flusher.drain(partition, budget_s=5)

    assert "ada" == pipeline.collection("users").look_up("n", "7")[0].text
    settle_all(pipeline)
    assert "ada" == pipeline.collection("users").look_up("n", "7")[0].text


def test_one_that_nobody_can_read_is_a_letter(pipeline, users, elsewhere, displace):
    """And where there is a document at home, that one stands."""
    put(pipeline, 1)
    displace()
    pipeline.store._wire.call("SET", partition_keys(elsewhere).entry(ADA), "garbage")

    settle_all(pipeline)
    assert ["lost"] == [one.letter.reason.value for one in pipeline.dead_letters.all(Filter())]

    put(pipeline, 2)
    pipeline.store._wire.call("SET", partition_keys(elsewhere).entry(ADA), "garbage")
    pipeline.store._wire.call("ZADD", partition_keys(elsewhere).pending, 0, ADA)
    settle_all(pipeline)
    assert 2 == users.get("ada")["n"]


def test_its_mark_alone(pipeline, stored, displace):
    """The entry at home is marked again, as nobody else has it."""
    put(pipeline, 1)
    displace(entry=False)

    settle_all(pipeline)

    assert [1] == [one["n"] for one in stored.find()]


@pytest.mark.parametrize("state", ["settled", "refused"])
def test_a_mark_of_what_is_settled_or_refused_marks_nothing(pipeline, home, elsewhere, state):
    """What MongoDB has, or has refused, is not pending because its name is somewhere."""
    version = put(pipeline, 1)
    if state == "settled":
        pipeline.flusher.flush(home)
    else:
        pipeline.store.pending.bury(ADA, f"{version:016d}", b"%016d{}" % version)
    pipeline.store._wire.call("ZADD", partition_keys(elsewhere).pending, 0, ADA)

    pipeline.flusher.drain(elsewhere, budget_s=5)

    assert 0 == pipeline.status()["pending"]


@pytest.mark.parametrize("mark", [False, True], ids=["alone", "with its mark"])
def test_an_entry_that_nobody_flushes_is_found_by_reconciling(pipeline, stored, displace, home, mark):
    """Without its mark where it stands, it is brought home all the same, and flushed."""
    put(pipeline, 1)
    displace(mark=mark)
    pipeline.store._wire.call("ZREM", partition_keys(home).pending, ADA)

    assert {"lost-in-mongodb": 1} == reconcile(pipeline)

    settle_all(pipeline)
    assert [1] == [one["n"] for one in stored.find()]


def test_a_dry_run_brings_nothing_home(pipeline, elsewhere, displace):
    """It says what there is to be mended."""
    put(pipeline, 1)
    displace()

    assert {"lost-in-mongodb": 1} == pipeline.reconciler.make_pass(repair=False).found
    assert 1 == pipeline.store._wire.call("EXISTS", partition_keys(elsewhere).entry(ADA))


# What is counted while it comes home --------------------------------------------------------------------


def test_what_comes_home_meanwhile_is_counted(pipeline, home, elsewhere, displace, monkeypatch):
    """Between any two commands of a look at what is pending it may move, and is in the figure all the same."""
    assert home < elsewhere  # which is looked at later, and left by then
    place = 0
    while True:
        put(pipeline, 1)
        displace()
        if not changed_before(
            *(pipeline, place, lambda _: pipeline.flusher.drain(elsewhere, budget_s=5)),
            *(lambda: sum(one.pending for one in pipeline.store.metrics.backlog()), monkeypatch),
        ):
            break
        place += 1
        settle_all(pipeline)
    assert place >= 2


def test_draining_does_not_end_before_what_comes_home(pipeline, stored, displace, monkeypatch):
    """From a partition that should not be it is brought home after that partition, or before home is looked at."""
    put(pipeline, 1)
    displace(to=11)
    counted = pipeline.store.division.pending_in

    def bring_home_before(partitions: list[int]) -> dict[int, int]:
        assert [11] == partitions
        pipeline.flusher.drain(11, budget_s=5)
        return counted(partitions)

    monkeypatch.setattr(pipeline.store.division, "pending_in", bring_home_before)

    assert 0 == drain(pipeline, timeout_s=10).pending

    assert [1] == [one["n"] for one in stored.find()]


# Dead letters ------------------------------------------------------------------------------------------


@pytest.fixture
def wrong(pipeline) -> Pipeline:
    """A process that takes Redis to be divided in another way."""
    return again(pipeline, 7)


def bury(wrong: Pipeline, n: int, *, drop_entry: bool) -> None:
    """Make a dead letter in a partition of that division."""
    version = commit_one(wrong.store, CommitRequest(ADA, _payload(n), 0)).version
    letter = {"member": ADA, "version": version, "reason": "refused", "code": 1, "message": "no"}
    if drop_entry:
        letter |= {"reason": "conflict"}
    dump = f"{version:016d}{json.dumps(letter)}".encode()
    wrong.store.pending.bury(ADA, f"{version:016d}", dump, drop_entry=drop_entry)


def _payload(n: int) -> bytes:
    return Entry.loaded(bson.encode({"_id": "ada", "n": n}), 0).payload


def test_a_letter_of_another_partition_is_tried_again_at_home(pipeline, wrong, stored):
    """Reconciling brings it home, where MongoDB takes its document."""
    bury(wrong, 1, drop_entry=False)
    assert wrong.store.partition_of(ADA) != pipeline.store.partition_of(ADA)

    reconcile(pipeline)
    settle_all(pipeline)

    assert [1] == [one["n"] for one in stored.find()]
    assert (0, {}) == (pipeline.dead_letters.count(), pipeline.dead_letters.by_collection())


def test_what_is_kept_in_another_partition_can_be_replayed_at_home(pipeline, wrong, stored):
    """The letters of conflicts come home with what is kept, each once, and stay until a person decides."""
    for n in (1, 2):
        bury(wrong, n, drop_entry=True)

    for _ in range(2):
        reconcile(pipeline)
    settle_all(pipeline)

    letters = pipeline.dead_letters.of(DocumentId.from_member(ADA))
    assert [2, {"users": 2}] == [len(letters), pipeline.dead_letters.by_collection()]
    pipeline.dead_letters.replay(letters[:1], conflicts=True)
    settle_all(pipeline)
    assert [2] == [one["n"] for one in stored.find()]


def test_a_letter_without_its_document_says_so_at_home(pipeline, wrong):
    """Its document is lost, which the letter says from the next pass on."""
    bury(wrong, 1, drop_entry=False)
    partition = partition_keys(wrong.store.partition_of(ADA))
    pipeline.store._wire.call("DEL", partition.entry(ADA))

    for _ in range(2):
        reconcile(pipeline)
    settle_all(pipeline)

    assert ["lost"] == [one.letter.reason.value for one in pipeline.dead_letters.all(Filter())]


def test_draining_sees_to_partitions_that_should_not_be(pipeline, displace, stored, monkeypatch):
    """Documents and letters there are brought home, and Redis can be divided anew, as the message says."""
    for name in ("SAMPLE_EVERY_S", "_WAITS"):
        monkeypatch.setattr(f"writebehind.operations.idle.{name}", 0)
    pipeline.check()
    put(pipeline, 1)
    displace(to=11)
    beyond = partition_keys(MOST_PARTITIONS - 1)
    version = put(pipeline, 2)
    of = partition_keys(pipeline.store.partition_of(ADA))
    pipeline.store.pending.bury(ADA, f"{version:016d}", b"%016d{}" % version)
    for name in ("dead", "dead_counts"):
        pipeline.store._wire.call("RENAME", getattr(of, name), getattr(beyond, name))
    pipeline.store._wire.call("RENAME", of.entry(ADA), beyond.entry(ADA))

    settle_all(pipeline)

    assert [2] == [one["n"] for one in stored.find()]
    assert 6 == repartition(pipeline, 6).after


def test_reconciling_sees_to_partitions_that_should_not_be(pipeline, displace, hints):
    """Once in a pass somebody looks there, and asks for a flush."""
    put(pipeline, 1)
    displace(to=11)
    pipeline.store._wire.call("PEXPIRE", partition_keys(11).entry(ADA), 60_000)  # or it is found as an entry
    hints.clear()

    assert {"unscheduled": 1} == reconcile(pipeline)

    assert [11] == [one.partition for one in hints]


# The atomic steps, on each kind of Redis ---------------------------------------------------------------


def test_what_comes_home_is_due_at_once_and_ends_loads(pipeline, home, elsewhere, displace, hints):
    """A reader that loads what MongoDB has may not put it in its place, and what was noted of it there goes."""
    put(pipeline, 1)
    displace()
    wire, of, there = pipeline.store._wire, partition_keys(home), partition_keys(elsewhere)
    wire.call("SET", of.load(ADA), "token")
    wire.call("HSET", there.sent, ADA, "noted")

    pipeline.flusher.drain(elsewhere, budget_s=5)

    assert [0, 0] == wire.calls((("EXISTS", of.load(ADA)), ("EXISTS", there.sent)))
    assert float(wire.call("ZSCORE", of.pending, ADA)) <= pipeline.store.now_ms()


@pytest.mark.parametrize(("by_us", "follows"), [(-1_000, True), (10**12, False)], ids=["before now", "ahead"])
def test_the_clock_at_home_follows_what_comes(pipeline, home, elsewhere, displace, by_us, follows):
    """So that no number is issued twice; but not one that no clock has come to, which would date all others."""
    put(pipeline, 1)
    displace()
    wire, of = pipeline.store._wire, partition_keys(home)
    version = b"%016d" % (pipeline.store.now_ms() * 1000 + by_us)
    wire.call("SETRANGE", partition_keys(elsewhere).entry(ADA), 0, version)
    wire.call("SET", of.clock, 7)

    pipeline.flusher.drain(elsewhere, budget_s=5)

    assert (version if follows else b"7") == wire.call("GET", of.clock)


def test_the_clock_at_home_does_not_step_back(pipeline, home, elsewhere, displace):
    """What comes home may be older than what was issued there since."""
    put(pipeline, 1)
    displace()
    wire, of = pipeline.store._wire, partition_keys(home)
    later = b"%016d" % (pipeline.store.now_ms() * 1000 + 10**6)
    wire.call("SET", of.clock, later)

    pipeline.flusher.drain(elsewhere, budget_s=5)

    assert later == wire.call("GET", of.clock)


def test_a_name_somewhere_brings_nothing_forward(pipeline, home, elsewhere):
    """What is pending at home is flushed when it is due there."""
    pipeline.collection("slow").put("ada", {})
    home = pipeline.store.partition_of("slow/s:ada")
    wire = pipeline.store._wire
    due = wire.call("ZSCORE", partition_keys(home).pending, "slow/s:ada")
    other = (home + 1) % pipeline.settings.partitions
    wire.call("ZADD", partition_keys(other).pending, 0, "slow/s:ada")

    pipeline.flusher.drain(other, budget_s=5)

    assert due == wire.call("ZSCORE", partition_keys(home).pending, "slow/s:ada")


def test_so_many_letters_come_home_that_no_write_is_taken(pipeline, wrong, home, monkeypatch):
    """What is kept of a document stays bounded, wherever its letters were, and they are counted at home."""
    monkeypatch.setattr("writebehind.redis.misplaced.MOST_KEPT", 2)
    for n in (1, 2):
        bury(wrong, n, drop_entry=True)

    pipeline.homecoming.of_all_letters(wrong.store.partition_of(ADA))

    assert {"users": 2} == pipeline.dead_letters.by_collection()
    assert 1 == pipeline.store._wire.call("SISMEMBER", partition_keys(home).crowded, ADA)


def test_notes_of_who_waits_elsewhere_are_forgotten(pipeline, wrong):
    """Nobody finds the letters by them, and the sweep would look at them for ever; those at home stay."""
    wrong.store.awaited.add_waiter(ADA, "users/s:bob", "")
    pipeline.store.awaited.add_waiter(ADA, "users/s:eve", "")
    there = wrong.store.partition_of(ADA)

    assert [] == pipeline.store.awaited.some_in(there, count=9)

    of = partition_keys(there)
    assert 0 == pipeline.store._wire.call("EXISTS", of.awaited, of.waiting(ADA))
    assert [ADA] == pipeline.store.awaited.some_in(pipeline.store.partition_of(ADA), count=9)
