"""Reconciling, on real servers: drift of every kind is planted by hand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import bson
import orjson
import pytest
from bson import Int64

from tests.integration.conftest import flush_all
from tests.waiting import slowness, wait_until
from writebehind import BulkOperation, Pipeline, Settings
from writebehind.documents.entry import Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.dead_letters import DeadLetter, Filter, Reason
from writebehind.reconcile.findings import Drift, Pass
from writebehind.reconcile.reconciler import is_current
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script


@pytest.fixture(autouse=True)
def grace(monkeypatch) -> None:
    """Nothing is on its way but what a test puts there."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.GRACE_S", 0.0)
    monkeypatch.setattr("writebehind.pipeline.GRACE_LEASES", -1)


@pytest.fixture
def config(settings) -> Settings:
    values = settings.model_dump() | {
        "collections": {"users": {"lookup": {"name": "string"}, "flush_delay_ms": 0}}
    }
    return Settings.model_validate(values | {"defaults": {}, "load_timeout_ms": 6_000})


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client, hints, grace) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client, hints=hints)


@pytest.fixture
def later(valkey_wire, monkeypatch) -> Callable[[float], None]:
    """Let so many seconds pass, by the clock that all times in Redis are made of."""
    now_ms, passed = valkey_wire.now_ms, []
    monkeypatch.setattr(valkey_wire, "now_ms", lambda: now_ms() + int(sum(passed) * 1000))
    return passed.append


@pytest.fixture
def planted(pipeline, users) -> Callable[[str], str]:
    """A document that is cached and in MongoDB, and the partition's keys."""

    def plant(name: str) -> str:
        users.put(name, {"name": name, "n": 1})
        flush_all(pipeline)
        return member(name)

    return plant


def member(name: str) -> str:
    return DocumentId.of("users", name).member


def of(pipeline: Pipeline, name: str):
    return partition_keys(pipeline.store.partition_of(member(name)))


def plant_all(pipeline: Pipeline, users, stored) -> dict[Drift, list[str]]:
    """One of each kind, or more; the names that a pass gives them."""
    wire, names = pipeline.store._wire, [f"u{n}" for n in range(12)]
    for name in names:
        users.put(name, {"name": name, "n": 1})
    for name in names:
        users.get(name)
    users.delete("u11")
    flush_all(pipeline)
    assert users.get("nobody") is None

    # MongoDB, by somebody else
    stored.update_one({"_id": "u0"}, {"$set": {"n": 2}})
    stored.delete_one({"_id": "u1"})
    stored.replace_one({"_id": "u2"}, {"n": 3, "_v": Int64(1 << 53)})
    stored.insert_one({"_id": "nobody", "n": 4})
    stored.update_one({"_id": "u3"}, {"$set": {"n": 0, "_v": Int64(5)}})  # it has lost our write
    stored.insert_one({"_id": "u11", "_v": Int64(5)})  # a late flusher
    # Redis
    users.put("u4", {"n": 5})
    wire.call("DEL", of(pipeline, "u4").entry(member("u4")))
    letter = DeadLetter(member("u5"), Reason.REFUSED, 121, "no", 5, Kind.DOCUMENT, 1, time.time())
    wire.call("HSET", of(pipeline, "u5").dead, member("u5"), letter.dump())
    wire.call("HSET", of(pipeline, "u5").dead_counts, "users", 7)
    wire.call("DEL", of(pipeline, "u5").entry(member("u5")))
    alias = "users/name=s:u6"
    wire.call("ZADD", partition_keys(pipeline.store.partition_of(alias)).alias_claims(alias), 5, member("u6"))
    tokens = [of(pipeline, "u7").load("users/s:x"), of(pipeline, "u8").load("users/s:y")]
    tokens = [partition_keys(pipeline.store.partition_of(f"users/s:{x}")).load(f"users/s:{x}") for x in "xy"]
    wire.call("SET", tokens[0], "t")
    wire.call("SET", tokens[1], "t", "PX", 10_000_000)
    leased = (pipeline.store.partition_of(member("u4")) + 1) % pipeline.settings.partitions
    wire.call("SET", partition_keys(leased).lease, "t")
    wire.call("SET", partition_keys(leased).scheduled, "t")
    wire.call("SET", keys.WARM_LEASE, "t")
    # u4 is overdue as well
    wire.call("ZADD", of(pipeline, "u4").pending, 0, member("u4"))
    wire.call("DEL", of(pipeline, "u4").scheduled)
    partition = pipeline.store.partition_of(member("u5"))
    return {
        Drift.STALE_ENTRY: [member(name) for name in ("u0", "u1", "u2", "nobody")],
        Drift.LOST_IN_MONGODB: [member("u3")],
        Drift.RESURRECTED: [member("u11")],
        Drift.LOST_ENTRY: [member("u4")],
        Drift.UNSCHEDULED: [f"partition {pipeline.store.partition_of(member('u4'))}"],
        Drift.ORPHANED_LETTER: [member("u5")],
        Drift.MISCOUNTED_LETTERS: [f"users in partition {partition}"],
        Drift.DANGLING_ALIAS: [alias],
        Drift.IMMORTAL_TOKEN: [
            *(*tokens, keys.WARM_LEASE),
            *(partition_keys(leased).lease, partition_keys(leased).scheduled),
        ],
    }


def everything(pipeline: Pipeline, stored) -> tuple[dict, list]:
    """All that Redis and MongoDB hold; TTLs only by whether there is one."""
    wire, found = pipeline.store._wire, {}
    for key in wire.call("KEYS", "*"):
        if b"drift" not in key and b"reconcile" not in key:
            found[key] = (wire.call("DUMP", key), wire.call("PTTL", key) == -1)
    return found, sorted(stored.find(), key=lambda one: one["_id"])


def test_every_kind_is_found_and_repaired(pipeline, users, stored):
    """One pass names and counts all that was planted, and puts it right; the next one finds nothing."""
    planted = plant_all(pipeline, users, stored)

    found = pipeline.reconciler.make_pass()

    assert {kind: sorted(names) for kind, names in planted.items()} == {
        kind: sorted(names) for kind, names in found.samples.items()
    }
    assert found.found == found.repaired == {kind: len(names) for kind, names in planted.items()}
    assert set(Drift) == set(planted)
    assert {"n": 2, "_id": "u0", "name": "u0"} == users.get("u0")
    assert (None, 3, 4) == (users.get("u1"), users.get("u2")["n"], users.get("nobody")["n"])
    assert {"lost"} == {one.letter.reason for one in pipeline.dead_letters.page(Filter()).letters}
    flush_all(pipeline)
    assert (1, None) == (stored.find_one({"_id": "u3"})["n"], stored.find_one({"_id": "u11"}))
    assert {} == pipeline.reconciler.make_pass().found


def test_a_dry_run_changes_nothing(pipeline, users, stored):
    """It finds the same, and leaves everything as it is."""
    planted = plant_all(pipeline, users, stored)
    before = everything(pipeline, stored)

    found = pipeline.reconciler.make_pass(repair=False)

    assert before == everything(pipeline, stored)
    assert {kind: len(names) for kind, names in planted.items()} == found.found
    assert {} == found.repaired


def test_a_clean_system_has_none(pipeline, users, stored):
    """Nothing is found where nothing is wrong: cached, pending, absent, deleted, dead and leased."""
    for n in range(50):
        users.put(f"u{n}", {"name": f"u{n}", "n": n})
    flush_all(pipeline)
    users.delete("u0")
    users.put("u1", {"name": "renamed"})
    flush_all(pipeline)
    users.put("u2", {"name": "pending"})
    users.delete("u3")
    assert users.get("nobody") is None
    assert users.look_up("name", "nobody")[0] is None
    stored.insert_one({"_id": "theirs", "n": 1})
    assert users.get("theirs")["n"] == 1
    pipeline.store.pending.claim(0, "flusher", lease_ms=5_000, limit=1)
    pipeline.store.loads.get_or_lease(member("loading"), "reader", life_ms=5_000)

    found = pipeline.reconciler.make_pass()

    assert ({}, 50) == (found.found, found.checked)
    assert found.equal == found.checked


def test_it_raises_no_false_alarm_under_load(pipeline, users, monkeypatch):
    """While documents are written, deleted, flushed and read, nothing that is on its way counts as drift."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.GRACE_S", 0.5)
    over, errors = threading.Event(), []

    def work(seed: int) -> None:
        n = 0
        try:
            while not over.is_set():
                n += 1
                name = f"u{(n * 7 + seed) % 40}"
                if n % 5 == 0:
                    users.delete(name)
                else:
                    users.put(name, {"name": f"{name} {n % 3}", "n": n})
                users.get(f"u{n % 40}")
        except Exception as error:  # noqa: BLE001 - for the test's own thread to raise
            errors.append(error)

    def keep_flushing() -> None:
        while not over.is_set():
            for partition in range(pipeline.settings.partitions):
                pipeline.flusher.flush(partition)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    threads.append(threading.Thread(target=keep_flushing))
    for thread in threads:
        thread.start()
    try:
        passes: list[Pass] = []
        wait_until(lambda: passes.append(pipeline.reconciler.make_pass()) or checked(passes) >= 50, "50 looks", 30)
    finally:
        over.set()
        for thread in threads:
            thread.join(10)
    assert [] == errors
    assert [] == [one.samples for one in passes if one.found]


def checked(passes: list[Pass]) -> int:
    return sum(one.checked for one in passes)


def fill(pipeline: Pipeline, count: int) -> None:
    """So many documents that are cached and in MongoDB."""
    pipeline.collection("users").bulk([BulkOperation("put", f"u{n}", {"n": n}) for n in range(count)])
    flush_all(pipeline)


def spoil(stored, count: int = 1) -> None:
    """Let somebody else change so many documents."""
    stored.update_many({"_id": {"$in": [f"u{n}" for n in range(count)]}}, {"$set": {"n": -1}})


def go_on(pipeline: Pipeline) -> dict:
    """Runs of the task, until nothing more is due; the last one."""
    runs: list[dict] = []
    wait_until(
        lambda: runs.append(pipeline.maintenance.reconcile()) or runs[-1]["finished"] or not runs[-1]["keys"],
        "a part",
    )
    return runs[-1]


@pytest.mark.parametrize("count", [3, 300, 1_500])
def test_a_pass_takes_its_time(config, valkey_wire, mongo_client, users, stored, later, count):
    """However large the cache is, however often the task runs and in whatever process: all is done when due."""
    hour = 3_600

    def process() -> Pipeline:
        return Pipeline(config, wire=valkey_wire, client=mongo_client)

    fill(process(), count)
    spoil(stored)
    size = valkey_wire.call("DBSIZE")
    assert {"keys": 0, "finished": False, "found": {}} == process().maintenance.reconcile()
    for part in range(1, 5):
        later(hour / 4 - 1)
        for _ in range(5):  # two beats, and more
            go_on(process())
        looked_at = process().reconciler.history.current().keys
        assert size * part / 4 - size / hour * 20 <= looked_at <= size * part / 4 + 50
        assert [] == process().reconciler.history.passes()
    later(5)
    last = go_on(process())
    assert (True, {"stale-entry": 1}) == (last["finished"], last["found"])
    [one] = process().reconciler.history.passes()
    assert hour <= (one.ended_ms - one.started_ms) / 1000 <= hour + 60
    assert (count, count - 1) == (one.checked, one.equal)
    assert {"keys": 0, "finished": False, "found": {}} == process().maintenance.reconcile()
    assert process().status()["consistency"] == {
        "checked": count,
        "equal": count - 1,
        "ratio": (count - 1) / count,
    }


def test_a_run_ends_in_time(pipeline, users, stored, later, monkeypatch):
    """A run does one step more than there is time for, and the next one goes on there; it is on record."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.MOST_S", 0.0)
    monkeypatch.setattr("writebehind.reconcile.reconciler.SLICE", 50)
    fill(pipeline, 300)
    spoil(stored, 300)
    pipeline.maintenance.reconcile()
    later(3_600)
    runs = []
    while not runs or not runs[-1]["finished"]:
        runs.append(pipeline.maintenance.reconcile())
        assert pipeline.status()["periodic"]["reconcile"]["outcome"] == runs[-1]
        assert runs[-1]["keys"] <= 150
    assert {"stale-entry": 300} == runs[-1]["found"]
    [one] = pipeline.reconciler.history.passes()
    assert ({"stale-entry": 300}, 300, 0) == (one.repaired, one.checked, one.equal)


def test_what_looks_like_drift_waits_for_the_next_run(pipeline, users, stored, later, monkeypatch):
    """A run does not wait: what may be on its way is looked at once more by the next one."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.GRACE_S", 60.0)
    fill(pipeline, 300)
    spoil(stored, 300)
    pipeline.maintenance.reconcile()
    later(3_599.9)
    began = time.monotonic()
    assert (False, {}) == ((run := pipeline.maintenance.reconcile())["finished"], run["found"])
    assert time.monotonic() - began < 30 * slowness()
    place = pipeline.reconciler.history.current().place
    assert place.waiting >= 290
    users.put("u0", {"n": 7})  # it is on its way
    later(61)
    run = go_on(pipeline)
    assert (True, {"stale-entry": 299}) == (run["finished"], run["found"])


def test_only_so_much_waits(pipeline, users, stored, monkeypatch):
    """Where everything differs, not all of it is kept in mind at once."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.MOST_SUSPECTS", 50)
    monkeypatch.setattr("writebehind.reconcile.reconciler.GRACE_S", 0.05)
    monkeypatch.setattr("writebehind.reconcile.reconciler.SLICE", 20)
    fill(pipeline, 200)
    spoil(stored, 200)
    waiting: list[int] = []
    found = pipeline.reconciler.make_pass(report=lambda one: waiting.append(one.place.waiting))
    assert {"stale-entry": 200} == found.found == found.repaired
    assert 20 <= max(waiting) <= 120


def test_each_step_is_small(settings, valkey_wire, mongo_client, later, monkeypatch):
    """Of a partition with 50,000 pending documents and 10,000 dead letters no step takes in more than a slice."""
    pipeline = Pipeline(settings.model_copy(update={"partitions": 1}), wire=valkey_wire, client=mongo_client)
    of, due = partition_keys(0), valkey_wire.now_ms() + 7_200_000
    pending, dead = (
        [f"users/s:{kind}{n}" for n in range(count)] for kind, count in (("p", 50_000), ("d", 10_000))
    )
    valkey_wire.call("MSET", *(part for one in pending + dead for part in (of.entry(one), "0000000000000001X")))
    valkey_wire.call("ZADD", of.pending, *(part for one in pending for part in (due, one)))
    letters = [DeadLetter(one, Reason.REFUSED, 0, "no" * 1_000, 1, Kind.DELETED, 1, 1.0) for one in dead]
    valkey_wire.call("HSET", of.dead, *(part for one in letters for part in (one.member, one.dump())))
    valkey_wire.call("HSET", of.dead_counts, "users", 10_000)
    valkey_wire.call("DEL", of.entry(pending[7]))
    sizes: list[int] = []
    calls = valkey_wire.exchange

    def spy(commands):
        answers = calls(commands)
        sizes.append(len(str(commands)) + len(str(answers)))
        return answers

    monkeypatch.setattr("writebehind.reconcile.reconciler.MOST_S", 0.0)
    monkeypatch.setattr(valkey_wire, "exchange", spy)
    calls_before, runs = 0, []
    while not runs or not runs[-1]["finished"]:
        runs.append(pipeline.maintenance.reconcile())
        assert len(sizes) - calls_before < 30
        calls_before = len(sizes)
        later(3_600 if len(runs) == 1 else 0)
    assert {"lost-entry": 1} == runs[-1]["found"]
    assert max(sizes) < 200_000  # bytes: some commands and answers for each of 200 keys, or a few more


def test_two_beats_do_no_harm(pipeline):
    """Whoever comes second does nothing."""
    pipeline.store._wire.call("SET", "wb:reconcile_lease", "somebody", "PX", 5_000)
    assert {"busy": True} == pipeline.maintenance.reconcile()


def test_a_run_that_lost_its_lease(pipeline, config, valkey_wire, mongo_client, stored, later, monkeypatch):
    """It stops, and leaves the pass to whoever has it by now; until then each step renews the lease."""
    fill(pipeline, 1_000)
    pipeline.maintenance.reconcile()
    later(3_600)
    lives, find_states = [], pipeline.sink.find_states
    other = Pipeline(config, wire=valkey_wire, client=mongo_client)

    def slowly(ids):
        lives.append(valkey_wire.call("PTTL", keys.RECONCILE_LEASE))
        valkey_wire.call("PEXPIRE", keys.RECONCILE_LEASE, 10_000)
        if len(lives) == 3:  # for longer than the lease
            valkey_wire.call("DEL", keys.RECONCILE_LEASE)
            assert other.maintenance.reconcile()["finished"]
        return find_states(ids)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.sink, "find_states", slowly)
        assert {"busy": True} == pipeline.maintenance.reconcile()
    assert lives[0] > 50_000 < max(lives[1:])  # a step may ask twice
    [one] = pipeline.reconciler.history.passes()
    assert 1_000 == one.checked
    assert 0 == pipeline.reconciler.history.current().keys


def test_mongodb_away(pipeline, users, stored, later, monkeypatch):
    """The step is made again when MongoDB is back; the failed run is on record, and what it has found."""
    fill(pipeline, 400)
    spoil(stored, 400)
    pipeline.maintenance.reconcile()
    later(3_600)
    asked, find_states = [], pipeline.sink.find_states

    def fail(ids):
        asked.append(ids)
        if len(asked) == 3:
            raise MongoUnavailableError("no")
        return find_states(ids)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.sink, "find_states", fail)
        with pytest.raises(MongoUnavailableError):
            pipeline.maintenance.reconcile()
    assert "no" in pipeline.status()["periodic"]["reconcile"]["error"]
    assert {"stale-entry": 400} == go_on(pipeline)["found"]
    assert 400 == pipeline.status()["consistency"]["checked"]


def test_findings_are_kept_for_a_week(pipeline, users, stored, later):
    """However many passes find nothing afterwards, those that found something are shown among the last ones."""
    history = pipeline.reconciler.history
    fill(pipeline, 10)
    spoil(stored, 2)
    found = pipeline.reconciler.make_pass()
    for n in range(1_010):
        history.finish(Pass(started_ms=n))
    later(6 * 24 * 3_600)
    passes = history.passes(20)
    assert [found.figures()] == [one.figures() for one in passes if one.found]
    assert (21, 201) == (len(passes), len(history.passes()))
    later(2 * 24 * 3_600)
    assert [] == history.passes()


HEADER = "0000000000000005D" + "e" * 32


@pytest.mark.parametrize(
    ("entry", "ttl_ms", "seen", "dropped"),
    [
        (HEADER, 5_000, HEADER, 1),
        (HEADER, 5_000, HEADER.replace("5", "4", 1), 0),
        (HEADER, -1, HEADER, 0),  # it is pending, or dead
        ("0000000000000000N", -1, "0000000000000000N", 1),  # which nobody ever wrote
    ],
)
def test_only_what_was_compared_is_dropped(valkey_wire, entry, ttl_ms, seen, dropped):
    """And only what MongoDB has as well; with it the right of whoever is loading it."""
    valkey_wire.call("MSET", "{k}:entry", entry, "{k}:load", "t")
    if ttl_ms > 0:
        valkey_wire.call("PEXPIRE", "{k}:entry", ttl_ms)

    assert dropped == valkey_wire.run(script("drop_unchanged"), ("{k}:entry", "{k}:load"), (seen,))

    assert 2 * (1 - dropped) == valkey_wire.call("EXISTS", "{k}:entry", "{k}:load")


@pytest.mark.parametrize("otherwise", ["", "another entry", "pending", "dead"])
def test_only_what_was_compared_is_pending_again(valkey_wire, otherwise):
    """Without a TTL, and with no refresh on its way; what is pending or dead stays as it is."""
    names = ("{k}:entry", "{k}:pending", "{k}:load", "{k}:dead")
    valkey_wire.call("SET", "{k}:entry", HEADER, "PX", 50_000)
    valkey_wire.call("SET", "{k}:load", "refresh:t")
    if otherwise == "pending":
        valkey_wire.call("ZADD", "{k}:pending", 1, "users/s:a")
    if otherwise == "dead":
        valkey_wire.call("HSET", "{k}:dead", "users/s:a", "0000000000000005{}")
    seen = HEADER.replace("5", "4", 1) if otherwise == "another entry" else HEADER

    remarked = valkey_wire.run(script("mark_pending"), names, ("users/s:a", seen, 1_000))

    due, ttl_ms = valkey_wire.call("ZSCORE", "{k}:pending", "users/s:a"), valkey_wire.call("PTTL", "{k}:entry")
    loading = valkey_wire.call("EXISTS", "{k}:load")
    if otherwise:
        assert (0, b"1" if otherwise == "pending" else None, True, 1) == (remarked, due, ttl_ms > 0, loading)
    else:
        assert (1, -1, 0) == (remarked, ttl_ms, loading)
        assert 0 < float(due) - valkey_wire.now_ms() <= 1_000


def test_what_was_settled_meanwhile_is_not_lost(valkey_wire):
    """Its entry may have expired since."""
    valkey_wire.call("ZADD", "{k}:pending", 1, "users/s:a", 1, "users/s:b")
    valkey_wire.call("SET", "{k}:b", "there")
    names = ("{k}:pending", "{k}:a", "{k}:b", "{k}:c")

    assert [b"users/s:a"] == valkey_wire.run(
        script("find_entryless"), names, ("users/s:a", "users/s:b", "users/s:c")
    )


def test_who_has_lost_the_lease_ends_no_pass_of_another(valkey_wire):
    """Nor is its pass remembered; any other is, for a while."""
    names, step = ("{k}:history", "{k}:lease", "{k}:pass"), script("record_pass")
    valkey_wire.call("MSET", "{k}:lease", "other", "{k}:pass", "of the other")

    assert 0 == valkey_wire.run(step, names, ("{}", 5, 60_000, "mine"))
    assert [b"of the other", 0] == [valkey_wire.call("GET", "{k}:pass"), valkey_wire.call("EXISTS", "{k}:history")]

    assert 1 == valkey_wire.run(step, names, ("{}", 5, 60_000, "other"))
    assert 0 == valkey_wire.call("EXISTS", "{k}:pass")
    assert 0 < valkey_wire.call("PTTL", "{k}:history") <= 60_000


def test_findings_are_kept_in_a_full_redis(pipeline, users, stored, later):
    """A pass goes on, repairs and is remembered while Redis takes no new data."""
    fill(pipeline, 20)
    spoil(stored, 20)
    pipeline.maintenance.reconcile()
    later(3_600)
    wire = pipeline.store._wire
    policy = wire.call("CONFIG", "GET", "maxmemory-policy")[1]
    try:
        wire.call("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 1)
        assert {"stale-entry": 20} == pipeline.maintenance.reconcile()["found"]
    finally:
        wire.call("CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", 0)
    assert {"stale-entry": 20} == pipeline.reconciler.history.passes()[0].repaired


@pytest.mark.parametrize("noted", [b"{", b"[]", b'{"keys": "many", "place": 7, "new": 1}', b'{"started_ms": 1e3}'])
def test_what_another_release_noted(pipeline, noted):
    """A pass that this release cannot read begins anew; of those in the history it shows what it understands."""
    wire = pipeline.store._wire
    wire.call("SET", keys.RECONCILE, noted)
    now_ms = wire.now_ms()
    later_release = orjson.dumps(Pass(ended_ms=now_ms, found={"stale-entry": 1}).figures() | {"new": {"a": 1}})
    wire.call("LPUSH", keys.DRIFT, noted, later_release, noted)

    assert {"keys": 0, "finished": False, "found": {}} == pipeline.maintenance.reconcile()
    assert (0, None) == ((status := pipeline.status()["consistency"])["checked"], status["ratio"])
    assert now_ms <= pipeline.reconciler.history.current().started_ms
    assert [{"stale-entry": 1}] == [one.found for one in pipeline.reconciler.history.passes()]


def test_a_write_that_lost_its_mark(pipeline, users, stored):
    """An acknowledged write or deletion that is neither pending nor dead, as somebody deleted the mark: found."""
    fill(pipeline, 2)
    users.put("u0", {"n": 7})
    users.delete("u1")
    for one in ("u0", "u1"):
        pipeline.store._wire.call("DEL", of(pipeline, one).pending)
    dry = pipeline.reconciler.make_pass(repair=False)
    assert ({"lost-in-mongodb": 2}, {}, (2, 0)) == (dry.found, dry.repaired, (dry.checked, dry.equal))
    assert {"lost-in-mongodb": 2} == pipeline.reconciler.make_pass().repaired
    flush_all(pipeline)
    assert [7] == [one["n"] for one in stored.find()]
    assert {} == pipeline.reconciler.make_pass().found


@pytest.mark.parametrize("settled_at", ["9e15", "inf", "-inf", "0", None])
def test_a_deletion_at_a_time_that_other_hands_made_up(pipeline, users, stored, settled_at, monkeypatch):
    """It is audited all the same, and what a late flusher has brought back is deleted again."""
    monkeypatch.setattr("writebehind.flushing.deletion_audit.GRACE_LEASES", -1)
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    late = stored.find_one()
    users.delete("ada")
    flush_all(pipeline)
    keys_of, wire = of(pipeline, "ada"), pipeline.store._wire
    wire.call("ZREM", keys_of.deleted_at, member("ada"))
    if settled_at is not None:
        wire.call("ZADD", keys_of.deleted_at, settled_at, member("ada"))
    stored.insert_one(late)

    pipeline.reconciler.make_pass()
    pipeline.maintenance.audit_deletions()

    assert stored.find_one() is None
    assert [0, 0] == [wire.call("ZCARD", key) for key in (keys_of.deleted, keys_of.deleted_at)]


def test_an_absent_document_without_ttl(pipeline, users, stored):
    """It is no write that could be brought to MongoDB, so the entry is dropped."""
    assert users.get("nobody") is None
    pipeline.store._wire.call("PERSIST", of(pipeline, "nobody").entry(member("nobody")))
    assert {"stale-entry": 1} == pipeline.reconciler.make_pass().repaired
    assert {} == pipeline.reconciler.make_pass().found


def test_every_letter_is_looked_at(pipeline):
    """They are looked at in slices, however many one partition has."""
    wire, of, count = pipeline.store._wire, partition_keys(0), 600
    members = [one for n in range(8 * count) if pipeline.store.partition_of(one := member(f"u{n}")) == 0][:count]
    letter = DeadLetter(members[0], Reason.REFUSED, 121, "no", 5, Kind.DOCUMENT, 1, time.time())
    wire.call("HSET", of.dead, *(text for one in members for text in (one, replace(letter, member=one).dump())))
    wire.call("HSET", of.dead_counts, "users", count)

    assert {"orphaned-letter": count} == pipeline.reconciler.make_pass(repair=False).found


def put_back(pipeline: Pipeline, users, stored) -> dict:
    """Somebody restores a document from a backup, with its version."""
    users.put("ada", {"name": "old", "n": 1})
    flush_all(pipeline)
    backup = stored.find_one()
    users.put("ada", {"name": "new", "n": 2})
    flush_all(pipeline)
    stored.replace_one({"_id": "ada"}, backup)
    return backup


def test_an_older_version_in_mongodb_with_ours(pipeline, users, stored):
    """Where nobody listens it may be a restore: ours goes to MongoDB, and the log of conflicts has both."""
    put_back(pipeline, users, stored)
    assert {"lost-in-mongodb": 1} == pipeline.reconciler.make_pass().repaired
    flush_all(pipeline)
    assert 2 == stored.find_one()["n"]
    [conflict] = pipeline.conflicts.latest()
    documents = [conflict[side]["document"]["n"] for side in ("ours", "theirs")]
    assert ("ours", [2, 1]) == (conflict["policy"], documents)


@pytest.fixture
def theirs(config, valkey_wire, mongo_client, hints) -> Pipeline:
    values = config.model_dump()
    values["collections"]["users"]["on_conflict"] = "theirs"
    return Pipeline(Settings.model_validate(values), hints=hints, wire=valkey_wire, client=mongo_client)


def test_an_older_version_in_mongodb_with_theirs(theirs, stored):
    """Where nobody listens what MongoDB has stands, and ours becomes a dead letter with its body."""
    users = theirs.collection("users")
    backup = put_back(theirs, users, stored)
    assert {"lost-in-mongodb": 1} == theirs.reconciler.make_pass().repaired
    flush_all(theirs)
    assert (backup, 1) == (stored.find_one(), users.get("ada")["n"])
    [one] = theirs.dead_letters.page(Filter()).letters
    assert ("conflict", "new") == (one.letter.reason, bson.decode(one.letter.body)["name"])
    assert {} == theirs.reconciler.make_pass().found


def test_an_older_version_in_mongodb_while_somebody_listens(theirs, stored, monkeypatch):
    """A restore would have been seen, so MongoDB has lost a write, whatever the policy: it is pending again."""
    users = theirs.collection("users")
    put_back(theirs, users, stored)
    told = {"seconds_ago": 0.2, "lag_s": 0.1, "error": None}
    monkeypatch.setattr("writebehind.pipeline.listener_status", lambda _: told)
    assert {"lost-in-mongodb": 1} == theirs.reconciler.make_pass().repaired
    flush_all(theirs)
    assert (2, []) == (stored.find_one()["n"], theirs.conflicts.latest())


@pytest.mark.parametrize(
    "listener", [None, {"seconds_ago": 60.0}, {"lag_s": 600.0}, {"error": "no replica set"}], ids=str
)
def test_a_listener_that_is_not_current(listener):
    """Nobody knows what others have written where none runs, or it is late or failing."""
    well = {"seconds_ago": 0.2, "lag_s": 0.0, "error": None}
    assert not is_current(listener and well | listener)
    assert is_current(well)


def test_keys_of_others(pipeline, users):
    """What somebody else has put among the pipeline's keys does not stop a pass."""
    fill(pipeline, 3)
    wire = pipeline.store._wire
    in_partition = next(f"users/s:x{n}" for n in range(99) if pipeline.store.partition_of(f"users/s:x{n}") == 0)
    strange = next(n for n in range(999) if pipeline.store.partition_of(f"garbage{n}") == 0)
    wire.call("SET", f"wb:{{0}}:entry:garbage{strange}", "0000000000000001X", "PX", 100_000)
    wire.call("SET", f"wb:{{0}}:entry:{in_partition}", "garbage", "PX", 100_000)
    wire.call("SET", of(pipeline, "odd").entry(member("odd")), b"0000000000000001N\xff", "PX", 100_000)
    wire.call("SET", "wb:{1}:entry:garbage", "0000000000000001X", "PX", 100_000)
    wire.call("SET", b"wb:{0}:entry:users/s:\xff", "0000000000000001X", "PX", 100_000)
    wire.call("RPUSH", partition_keys(0).load("garbage"), "x")
    found = pipeline.reconciler.make_pass()
    assert (4, 4) == (found.checked, found.equal)


def test_samples_are_bounded():
    """Counts go on, examples do not."""
    found = Pass()
    for n in range(100):
        found.note(Drift.STALE_ENTRY, f"{n}", repaired=n % 2 == 0)
    assert {"stale-entry": 100} == found.found
    assert {"stale-entry": 50} == found.repaired
    assert 10 == len(found.samples["stale-entry"])


def test_the_command(run, pipeline, users, stored, monkeypatch):
    """`writebehind reconcile`: its part, a whole pass, a dry run; the exit status tells of drift."""
    monkeypatch.setenv("WRITEBEHIND_COLLECTIONS__users__lookup__name", "string")
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    assert 0 == run("reconcile").exit_code
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    dry = run("reconcile", "--all", "--dry-run", "--json")
    assert (1, {"stale-entry": 1}, {}) == (
        dry.exit_code,
        (told := json.loads(dry.stdout))["found"],
        told["repaired"],
    )
    shown = run("reconcile", "--all", "--collection", "users")
    assert (1, True) == (shown.exit_code, "stale-entry" in shown.stdout)
    clean = run("reconcile", "--all")
    assert (0, True) == (clean.exit_code, "keys looked at" in clean.stdout)
    assert 2 == run("reconcile", "--dry-run").exit_code
    assert 2 == run("reconcile", "--all", "--collection", "nope").exit_code
