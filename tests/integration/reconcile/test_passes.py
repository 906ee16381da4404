"""Passes of reconciling: small steps, in time, one at a time, and what they found is kept."""

from __future__ import annotations

import json
import time

import orjson
import pytest

from tests.integration.reconcile.conftest import fill
from tests.waiting import slowness, wait_until
from writebehind import Pipeline
from writebehind.documents.entry import Kind
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.dead_letters import DeadLetter, Reason
from writebehind.reconcile.findings import Pass
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script
from writebehind.sequences import slices


def spoil(stored, count: int = 1) -> None:
    """Let somebody else change so many documents."""
    stored.update_many({"_id": {"$in": [f"u{n}" for n in range(count)]}}, {"$set": {"n": -1}})


def go_on(pipeline: Pipeline) -> dict:
    """Runs of the task, until nothing more is due; the last one."""
    runs: list[dict] = []
    wait_until(
        lambda: runs.append(pipeline.maintenance.reconcile()) or runs[-1]["finished"] or not runs[-1]["keys"],
        "a part",
        60,
    )
    return runs[-1]


@pytest.mark.parametrize("count", [3, 300, 1_500])
def test_a_pass_takes_its_time(config, valkey_wire, mongo_client, users, stored, later, count):
    """However large the cache is, however often the task runs and in whatever process: all is done when due."""
    hour, spare = 3_600, 30  # seconds that a slow machine may take for a quarter

    def process() -> Pipeline:
        return Pipeline(config, wire=valkey_wire, client=mongo_client)

    fill(process(), count)
    spoil(stored)
    size = valkey_wire.call("DBSIZE")
    assert {"keys": 0, "finished": False, "found": {}} == process().maintenance.reconcile()
    for part in range(1, 5):
        later(hour / 4 - spare)
        for _ in range(5):  # two beats, and more
            go_on(process())
        looked_at = process().reconciler.history.current().keys
        late = spare * part + 20
        assert size * part / 4 - size / hour * late <= looked_at <= size * part / 4 + 50
        assert [] == process().reconciler.history.passes()
    later(4 * spare + 1)
    last = go_on(process())
    assert (True, {"stale-entry": 1}) == (last["finished"], last["found"])
    [one] = process().reconciler.history.passes()
    assert hour <= (one.ended_ms - one.started_ms) / 1000 <= hour + 60
    assert (count, count - 1) == (one.checked, one.equal)
    assert {"keys": 0, "finished": False, "found": {}} == process().maintenance.reconcile()
    told = process().status()["consistency"]
    assert {name: told[name] for name in ("checked", "equal", "ratio")} == {
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
    # A few keys may be looked at by the last run only, which waits for them: for less than its lease lasts.
    grace_s = 20.0
    monkeypatch.setattr("writebehind.reconcile.reconciler.GRACE_S", grace_s)
    fill(pipeline, 300)
    spoil(stored, 300)
    pipeline.maintenance.reconcile()
    later(3_599.9)
    began = time.monotonic()
    assert (False, {}) == ((run := pipeline.maintenance.reconcile())["finished"], run["found"])
    assert time.monotonic() - began < grace_s * slowness()
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
    for some in slices(pending + dead, 1_000):
        valkey_wire.call("MSET", *(part for one in some for part in (of.entry(one), "0000000000000001X")))
    for some in slices(pending, 1_000):
        valkey_wire.call("ZADD", of.pending, *(part for one in some for part in (due, one)))
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
    pipeline.store._wire.call("SET", keys.RECONCILE_LEASE, "somebody", "PX", 5_000)
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


PLACES = [
    *({"partition": one} for one in (-1, 1.5, True, 10**18)),
    *({"part": one} for one in (-1, 10**18)),
    *({name: one} for name in ("cursor", "inner") for one in ("9" * 23, "", "-1", "\u0663", "1\n", 5)),
    *({"aliases": one} for one in ([1], [None], "abc", [["a"]])),
    *({"letters": one} for one in ({"users": "a"}, {"users": None}, [], {"users": -1})),
    *({"suspects": one} for one in ({"users/s:a": 1}, {"users/s:a": None}, {"no member": "x"}, ["users/s:a"])),
    {"seen_ms": 10**18},
]


@pytest.mark.parametrize(
    "noted",
    [
        *({"place": one} for one in PLACES),
        *({name: one} for name in ("found", "repaired") for one in ({"stale-entry": "a"}, {"unscheduled": None})),
        *({"samples": one} for one in ({"stale-entry": 5}, {"unscheduled": [{}]}, [])),
        *({name: one} for name in ("keys", "checked", "equal") for one in (-1, 2**64 - 1, 10**30)),
    ],
    ids=repr,
)
def test_a_pass_that_other_hands_have_changed(pipeline, noted, later):
    """Whatever they have made of it, it is gone on with or begun anew, and comes to its end."""
    pipeline.store._wire.call("SET", keys.RECONCILE, json.dumps({"started_ms": 1} | noted))

    first = pipeline.maintenance.reconcile()
    later(3_600)

    assert first["finished"] or go_on(pipeline)["finished"]
    assert [] == [one.found for one in pipeline.reconciler.history.passes() if one.found]
