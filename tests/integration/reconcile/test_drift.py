"""Reconciling, on real servers: drift of every kind is found and repaired, and nothing else is touched."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import pytest
from bson import Int64

from tests.damage import damage
from tests.integration.conftest import flush_all
from tests.integration.reconcile.conftest import fill, member, of
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.documents.entry import Kind
from writebehind.flushing.dead_letters import DeadLetter, Filter, Reason
from writebehind.reconcile.findings import Drift, Pass
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys


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
    damage(pipeline, "u9")
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
        Drift.STALE_ENTRY: [member(name) for name in ("u0", "u2", "nobody")],
        Drift.VANISHED: [member("u1")],
        Drift.DAMAGED_ENTRY: [member("u9")],
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
    assert set(Drift) - {Drift.LOST} == set(planted)  # which failovers cause, and not a pass finds
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
    assert (5, 4) == (found.checked, found.equal)
    assert {Drift.DAMAGED_ENTRY: [in_partition]} == found.samples  # nobody could read it


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
