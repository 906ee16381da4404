"""Documents that stand in another partition than their own reach MongoDB or the dead letters, and are counted."""

from __future__ import annotations

import pytest

from tests.integration.conftest import again
from tests.integration.misplaced.conftest import ADA, put, reconcile, settle_all
from tests.integration.test_between import changed_before
from writebehind import Pipeline
from writebehind.flushing.dead_letter import Filter
from writebehind.operations.drain import drain
from writebehind.redis.keys import PARTITIONS, partition_keys


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
        pipeline.flusher._batches._homecoming.of_pending(elsewhere, [ADA])
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
