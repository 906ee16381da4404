"""Reconciling, on real servers: drift of every kind is planted by hand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest
from bson import Int64

from tests.integration.conftest import flush_all
from tests.waiting import wait_until
from writebehind import BulkOperation, Pipeline, Settings
from writebehind.dead_letters import DeadLetter, Filter, Reason
from writebehind.entry import Kind
from writebehind.errors import MongoUnavailableError
from writebehind.ids import DocumentId
from writebehind.keys import partition_keys
from writebehind.reconcile import Drift, Pass


@pytest.fixture(autouse=True)
def grace(monkeypatch) -> None:
    """Nothing is on its way but what a test puts there."""
    monkeypatch.setattr("writebehind.reconcile.GRACE_S", 0.0)
    monkeypatch.setattr("writebehind.pipeline.AUDIT_GRACE_LEASES", -1)


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
def users(pipeline):
    return pipeline.collection("users")


@pytest.fixture
def stored(pipeline, mongo_client):
    return mongo_client[pipeline.settings.mongodb_database]["users"]


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
    wire, names = pipeline.store.wire, [f"u{n}" for n in range(12)]
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
        Drift.IMMORTAL_TOKEN: [*tokens, partition_keys(leased).lease, partition_keys(leased).scheduled],
    }


def everything(pipeline: Pipeline, stored) -> tuple[dict, list]:
    """All that Redis and MongoDB hold; TTLs only by whether there is one."""
    wire, found = pipeline.store.wire, {}
    for key in wire.call("KEYS", "*"):
        if b"drift" not in key and b"reconcile" not in key:
            found[key] = (wire.call("DUMP", key), wire.call("PTTL", key) == -1)
    return found, sorted(stored.find(), key=lambda one: one["_id"])


def test_every_kind_is_found_and_repaired(pipeline, users, stored):
    """One pass names and counts all that was planted, and puts it right; the next one finds nothing."""
    planted = plant_all(pipeline, users, stored)

    found = pipeline.reconciler.run()

    assert {kind: sorted(names) for kind, names in planted.items()} == {
        kind: sorted(set(names)) for kind, names in found.samples.items()
    }
    assert found.found == found.repaired
    assert set(Drift) == set(planted)
    assert {"n": 2, "_id": "u0", "name": "u0"} == users.get("u0")
    assert (None, 3, 4) == (users.get("u1"), users.get("u2")["n"], users.get("nobody")["n"])
    assert {"lost"} == {one.letter.reason for one in pipeline.dead_letters.page(Filter()).letters}
    flush_all(pipeline)
    assert (1, None) == (stored.find_one({"_id": "u3"})["n"], stored.find_one({"_id": "u11"}))
    assert {} == pipeline.reconciler.run().found


def test_a_dry_run_changes_nothing(pipeline, users, stored):
    """It finds the same, and leaves everything as it is."""
    planted = plant_all(pipeline, users, stored)
    before = everything(pipeline, stored)

    found = pipeline.reconciler.run(repair=False)

    assert before == everything(pipeline, stored)
    assert (set(planted), {}) == (set(found.found), found.repaired)


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
    pipeline.store.claim(0, "flusher", lease_ms=5_000, limit=1)
    pipeline.store.lease_get(member("loading"), "reader", life_ms=5_000)

    found = pipeline.reconciler.run()

    assert ({}, 50) == (found.found, found.checked)
    assert found.equal == found.checked


def test_it_raises_no_false_alarm_under_load(pipeline, users, monkeypatch):
    """While documents are written, deleted, flushed and read, nothing that is on its way counts as drift."""
    monkeypatch.setattr("writebehind.reconcile.GRACE_S", 0.5)
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
        wait_until(lambda: passes.append(pipeline.reconciler.run()) or checked(passes) >= 50, "50 looks", 30)
    finally:
        over.set()
        for thread in threads:
            thread.join(10)
    assert [] == errors
    assert [] == [one.samples for one in passes if one.found]


def checked(passes: list[Pass]) -> int:
    return sum(one.checked for one in passes)


def test_a_pass_goes_on_where_it_was(config, valkey_wire, mongo_client, users, pipeline, stored):
    """Each run of the task does its part; a pass survives the process and is remembered."""
    users.bulk([BulkOperation("put", f"u{n}", {"n": n}) for n in range(1_500)])
    flush_all(pipeline)
    stored.update_one({"_id": "u700"}, {"$set": {"n": -1}})
    hourly = config.model_copy(update={"reconcile_pass_s": 30.0, "reconcile_interval": 10.0})
    runs = []
    while not runs or not runs[-1]["finished"]:
        again = Pipeline(hourly, wire=valkey_wire, client=mongo_client)  # a new process each time
        runs.append(again.reconcile())
        assert again.status()["periodic"]["reconcile"]["outcome"] == runs[-1]
    assert 2 <= len(runs) <= 4
    assert {"stale-entry": 1} == runs[-1]["found"]
    status = pipeline.status()["consistency"]
    assert (1_500, 1_499) == (status["checked"], status["equal"])
    [one] = pipeline.reconciler.history.passes()
    assert one.ended_ms >= one.started_ms > 0


def test_two_beats_do_no_harm(pipeline):
    """Whoever comes second does nothing."""
    pipeline.store.wire.call("SET", "wb:reconcile_lease", "somebody", "PX", 5_000)
    assert {"busy": True} == pipeline.reconcile()


def test_mongodb_away(pipeline, planted, monkeypatch):
    """The slice is looked at again when MongoDB is back; the failed run is on record."""
    planted("ada")

    def fail(_: object) -> None:
        raise MongoUnavailableError("no")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.sink, "find_many", fail)
        with pytest.raises(MongoUnavailableError):
            pipeline.reconcile()
    assert "no" in pipeline.status()["periodic"]["reconcile"]["error"]
    assert {"keys", "finished", "found"} == pipeline.reconcile().keys()
    assert 1 == pipeline.status()["consistency"]["checked"]


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
