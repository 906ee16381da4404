"""The clock of Redis steps by minutes: what is due is flushed as ever, and ages stay true."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import fakeredis
import pytest

from tests.servers import RedisProgram
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import VERSION_END
from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.flushing.attempts import postpone
from writebehind.local.embedded import valkey_binary
from writebehind.maintenance.clock import ClockWatch
from writebehind.mongodb.outcomes import Outcome, Result, Write
from writebehind.redis.connections import connection_pool
from writebehind.redis.keys import BREAKER, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.shared.lease import Lease
from writebehind.redis.wire import Wire

#: What gives a process a clock of its own: as installed, or as `make faketime` has fetched it.
_PLACES = (Path("/usr/lib"), Path(__file__).parents[2] / ".faketime/usr/lib")
FAKETIME = next((one for place in _PLACES for one in place.glob("*/faketime/libfaketime.so.1")), None)
#: A real server's clock can be moved only where that is; fakeredis shares the clock of the test.
#: Debian's Redis does not start under it.
#: To a year in which microseconds are beyond all versions.
BEYOND_S = 94 * 365 * 86_400
KINDS = ["fakeredis", *(["valkey"] if FAKETIME else [])]
STEPS_S = [-600, -90, 90, 600]


def wrapper(directory: Path, binary: str | Path) -> tuple[Path, Callable[[int], object]]:
    """A server's binary under a clock of its own, and what moves that by seconds."""
    offset = directory / "offset"
    offset.write_text("+0\n")
    script = directory / "server"
    script.write_text(
        f'#!/bin/sh\nexport LD_PRELOAD="{FAKETIME}" FAKETIME_TIMESTAMP_FILE="{offset}" FAKETIME_NO_CACHE=1\n'
        f'export FAKETIME_DONT_FAKE_MONOTONIC=1\nexec "{binary}" "$@"\n'
    )
    script.chmod(0o755)
    return script, lambda seconds: offset.write_text(f"{seconds:+d}\n")


@pytest.fixture(params=KINDS)
def stepping(request, monkeypatch, tmp_path) -> Iterator[tuple[Wire, Callable[[int], object]]]:
    """A Redis, and what moves its clock away from the true time by seconds."""
    if request.param == "fakeredis":
        true, by = time.time, [0]
        monkeypatch.setattr(time, "time", lambda: true() + by[0])
        server = fakeredis.FakeServer(server_type="valkey", version=(7, 2))
        wire = Wire(fakeredis.FakeRedis(server=server, protocol=2).connection_pool)
        yield wire, lambda seconds: by.__setitem__(0, seconds)
        wire.close()
        return
    binary, move = wrapper(tmp_path, valkey_binary())
    with RedisProgram(tmp_path / "data", binary) as running:
        wire = Wire(connection_pool(running.url, 5_000))

        def moved(seconds: int) -> None:
            """The library reads the file now and then: so until the server has it."""
            move(seconds)
            wait_until(lambda: abs(wire.now_ms() / 1000 - time.time() - seconds) < 0.5, "the clock to step")

        yield wire, moved
        wire.close()


@pytest.fixture
def move(stepping):
    return stepping[1]


@pytest.fixture
def pipeline(settings, stepping, mongo_client, hints) -> Pipeline:
    return Pipeline(settings, hints=hints, wire=stepping[0], client=mongo_client)


@pytest.fixture(params=STEPS_S)
def step(request, pipeline, move):
    """Steps the clock; a process has seen it before."""
    pipeline.clock.look()
    return lambda: move(request.param)


def flush_what_is_due(pipeline: Pipeline) -> int:
    return sum(pipeline.flusher.flush(one).persisted for one in range(pipeline.settings.partitions))


def test_what_is_pending_is_due_although_nobody_has_seen_the_step(pipeline, users, step, stored):
    """A document that was due before a step back does not wait until the clock comes there again."""
    users.put("ada", {"n": 1})
    step()

    assert 1 == flush_what_is_due(pipeline)
    assert 1 == stored.find_one({"_id": "ada"})["n"]


def test_no_version_is_beyond_those_that_mongodb_compares(pipeline, users, move, stored):
    """Writes while the clock says 2120, and after it was set right, are newer than those before, and count."""
    versions = [users.put("ada", {"n": 0}).version]
    flush_what_is_due(pipeline)
    for n, seconds in enumerate((BEYOND_S, BEYOND_S, 0), start=1):
        move(seconds)
        versions.append(users.put("ada", {"n": n}).version)
        assert 1 == flush_what_is_due(pipeline)
        assert (n, versions[-1]) == tuple(stored.find_one({"_id": "ada"})[one] for one in ("n", "_v"))

    assert sorted(set(versions)) == versions
    assert versions[-1] < VERSION_END


def test_writes_after_the_step_are_newer(pipeline, users, step, stored):
    """And are flushed at their time, with the delay that their collection has."""
    users.put("ada", {"n": 1})
    flush_what_is_due(pipeline)
    step()
    users.put("ada", {"n": 2})
    pipeline.collection("slow").put("bob", {})

    assert 1 == flush_what_is_due(pipeline)
    assert 2 == stored.find_one({"_id": "ada"})["n"]
    assert 1 == pipeline.status()["pending"]


def test_what_was_written_while_the_clock_was_behind_is_no_conflict(pipeline, users, move, stored):
    """The clock has come to the versions of before when it is flushed: MongoDB's are older all the same."""
    users.put("ada", {"n": 1})
    users.put("bob", {"n": 1})
    flush_what_is_due(pipeline)
    pipeline.store.cache.invalidate_many(
        ["users/s:ada", "users/s:bob"]
    )  # or a write would go above what is cached
    move(-3)
    users.put("ada", {"n": 2})
    users.delete("bob")
    move(0)
    flush_what_is_due(pipeline)

    assert [2] == [one["n"] for one in stored.find()]
    assert (0, 0) == tuple(pipeline.status()[one] for one in ("pending", "dead_letters"))


def test_the_next_task_is_wanted_in_time(pipeline, step, hints):
    """Releasing a partition asks for a task after the flush delay at most, and a sweep finds what was left."""
    pipeline.collection("slow").put("ada", {})
    partition = pipeline.store.partition_of("slow/s:ada")
    hints.clear()
    step()

    hint = pipeline.store.pending.release(partition, "t")
    assert 0 <= hint.delay_ms <= pipeline.store.pending.longest_wait_ms
    pipeline.store._wire.call("DEL", partition_keys(partition).scheduled)
    pipeline.store._wire.call("ZADD", partition_keys(partition).pending, "XX", "INCR", -200_000, "slow/s:ada")
    pipeline.maintenance.sweep()
    assert partition in {one.partition for one in hints}


def test_a_lease_does_not_outlive_the_step(pipeline, users, step):
    """Those who died with a lease keep nobody waiting for longer than it was taken for."""
    users.put("ada", {})
    partition = pipeline.store.partition_of("users/s:ada")
    assert pipeline.store.pending.claim(partition, "dead", lease_ms=500, limit=10)
    lease = Lease(pipeline.store._wire, "wb:some_lease", 500)
    assert lease.take()
    assert pipeline.store.loads.get_or_lease("users/s:bob", "dead", life_ms=500).may_load
    step()

    def taken() -> bool:
        other = Lease(pipeline.store._wire, "wb:some_lease", 500)
        loads = pipeline.store.loads.get_or_lease("users/s:bob", "t", life_ms=500).may_load
        claims = pipeline.store.pending.claim(partition, "t", lease_ms=500, limit=10) is not None
        return other.take() and loads and claims

    wait_until(taken, "the leases to run out", timeout=5)


def test_the_breaker_does_not_stay_open(pipeline, users, step):
    """One caller may find out after the longest interval, whatever the clock says."""
    for _ in range(3):
        with pytest.raises(MongoUnavailableError), pipeline.breaker.guard():
            raise MongoUnavailableError("down", outage=True)
    assert b"open" == pipeline.store._wire.call("HGET", BREAKER, "state")
    step()

    def closed() -> bool:
        try:
            with pipeline.breaker.guard():
                return True
        except MongoUnavailableError:
            return False

    wait_until(closed, "somebody to be let through", timeout=5)


@pytest.mark.parametrize("others", [0, 2])
def test_ages_are_true(pipeline, settings, stepping, mongo_client, step, others):
    """The status tells for how long the oldest document has waited, whoever sees the step, and however many do."""
    slow = pipeline.collection("slow")
    slow.put("ada", {})
    watching = [Pipeline(settings, wire=stepping[0], client=mongo_client) for _ in range(others)]
    for one in watching:
        one.status()
    began = time.monotonic()
    step()
    slow.put("bob", {})

    for one in (*watching, pipeline, *watching):
        age_s = one.status()["oldest_pending_seconds"]
        assert -0.1 <= age_s <= time.monotonic() - began + 3


def test_an_age_while_mongodb_does_not_take_it(pipeline, users):
    """A document that is postponed again and again is as old as it was."""
    users.put("ada", {})
    partition = pipeline.store.partition_of("users/s:ada")
    entry = users.read("ada").entry
    pipeline.store.pending.record_sending(partition, {"users/s:ada": entry})
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.3, "some age")
    outcome = late("users", "ada", entry)

    assert [1] == [one.attempts for one in postpone(pipeline.store, partition, [outcome], others=True)]
    assert pipeline.status()["oldest_pending_seconds"] >= 0.3


def test_an_age_after_a_pause(pipeline, users):
    """What MongoDB does not take when it is sent at last is as old as it was, and is seen behind later writes."""
    began = time.monotonic()
    users.put("ada", {})
    partition = pipeline.store.partition_of("users/s:ada")
    entry = users.read("ada").entry
    wait_until(lambda: time.monotonic() - began > 0.5, "some age, which no flush ends")
    sent_ms = pipeline.store.now_ms()
    pipeline.store.pending.record_sending(partition, {"users/s:ada": entry})
    postpone(pipeline.store, partition, [late("users", "ada", entry)], others=True)
    pending = partition_keys(partition).pending  # as if postponed often
    pipeline.store._wire.call(
        "ZADD", pending, "XX", pipeline.store.now_ms() + 60_000, "users/s:ada"
    )  # as if often
    for number in range(50 * pipeline.store.partitions):
        users.put(f"bob{number}", {})

    status = pipeline.status(partitions=True)
    age_s = status["by_partition"][partition]["oldest_pending_seconds"]
    assert age_s >= 0.5 + (pipeline.store.now_ms() - sent_ms) / 1000 - 0.2
    assert status["oldest_pending_seconds"] >= age_s - 0.2


def late(collection: str, name: str, entry):
    """A document that MongoDB did not take now."""
    return Outcome(Write(DocumentId.of(collection, name), entry), Result.UNCLEAR)


class Steady:
    """A steady clock in the place of this process's, which a process that stands still finds further on."""

    def __init__(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        self.s, self.redis_ms, self.frozen_s = 1_000.0, 1_795_667_550_000, (0.0, 0.0)
        # In that module alone: all that waits for something, such as a server to end, needs the real one.
        monkeypatch.setattr("writebehind.maintenance.clock.time", SimpleNamespace(monotonic=lambda: self.s))
        monkeypatch.setattr(pipeline.store, "clocks_ms", lambda: {"": self._answer()})

    def pass_by(self, seconds: float) -> None:
        self.s += seconds
        self.redis_ms += round(seconds * 1000)

    def _answer(self) -> int:
        """The answer of Redis; the process stands still for so long before it is asked, and before it is seen."""
        before, after = self.frozen_s
        self.pass_by(before)
        answer = self.redis_ms
        self.pass_by(after)
        return answer


@pytest.mark.parametrize("last", [(0.0, 0.0), (60.0, 0.0), (0.0, 60.0)])
@pytest.mark.parametrize("this", [(0.0, 0.0), (60.0, 0.0), (0.0, 60.0)])
@pytest.mark.parametrize("step_s", [0, -600, 600])
def test_an_answer_that_comes_late_is_no_step(pipeline, monkeypatch, last, this, step_s):
    """A process that stood still, now or at its last look, moves nothing; a real step it sees all the same."""
    steady = Steady(pipeline, monkeypatch)
    looks = []
    for frozen_s, stepped_s in ((last, 0), (this, step_s), ((0.0, 0.0), 0)):
        steady.frozen_s = frozen_s
        steady.pass_by(1)
        steady.redis_ms += stepped_s * 1000
        looks.append(pipeline.clock.look())

    assert (0, 0) == (looks[0], looks[2])
    assert step_s * 1000 == pytest.approx(looks[1], abs=60_000 if step_s else 0)


def test_what_redis_kept_from_moving_moves_later(pipeline, step, monkeypatch):
    """Where Redis fails in the midst of it, the next look moves what is left, nothing twice, and nothing new."""
    monkeypatch.setattr(pipeline.clock, "look", lambda: 0)  # nor at whatever else is done
    clock, wire, slow = ClockWatch(pipeline.store), pipeline.store._wire, pipeline.collection("slow")
    clock.look()
    names = [f"u{n}" for n in range(20)]
    for name in names:
        slow.put(name, {})
    assert {0, 1, 2, 3} == {pipeline.store.partition_of(f"slow/s:{name}") for name in names}
    before = scores(pipeline)
    step()
    real, done = wire.run, []

    def run(script, keys, arguments):
        if script.name == "move_times" and len(done) == 4:  # two calls for each partition
            raise RedisUnavailableError("gone")
        done.extend([keys] if script.name == "move_times" else [])
        return real(script, keys, arguments)

    def fails() -> bool:
        try:
            clock.look()
        except RedisUnavailableError:
            return True
        return False

    with monkeypatch.context() as patch:
        patch.setattr(wire, "run", run)
        wait_until(fails, "the step to be seen")  # a server may tell a time that it has noted before
    moved = sum(before[one] != at for one, at in scores(pipeline).items())
    assert 0 < moved < len(names)
    slow.put("late", {})
    late = scores(pipeline)["slow/s:late"]
    for _ in range(2):
        clock.look()

    after = scores(pipeline)
    assert late == after.pop("slow/s:late")
    [by] = {round((after[one] - before[one]) / 10_000) for one in before}
    assert by


@pytest.mark.parametrize("fails", [False, True], ids=["whole", "interrupted"])
def test_many_times_move_in_slices(pipeline, step, monkeypatch, fails):
    """However many times there are, a call looks at some; each moves once, also where another goes on."""
    monkeypatch.setattr(pipeline.clock, "look", lambda: 0)
    monkeypatch.setattr("writebehind.maintenance.clock.SLICE", 7)
    wire, of = pipeline.store._wire, partition_keys(0)
    now = wire.now_ms()
    before = {f"slow/s:{n}": now - 100_000 - 10_000 * (n // 3) for n in range(60)}  # three have the same
    for key in (of.pending, of.deleted_at):
        wire.call("ZADD", key, *[word for member, at in before.items() for word in (at, member)])
    clocks = [ClockWatch(pipeline.store) for _ in range(2)]
    for clock in clocks:
        clock.look()
    step()
    wire.call("ZADD", of.deleted_at, late := wire.now_ms(), "slow/s:late")
    real, moved = wire.run, []

    def run(script, keys, arguments):
        answer = real(script, keys, arguments)
        if script.name == "move_times":
            moved.append(int(answer[0]))
            if fails and len(moved) == 5:
                raise RedisUnavailableError("gone")
        return answer

    monkeypatch.setattr(wire, "run", run)

    def seen(clock: ClockWatch) -> bool:
        try:
            clock.look()
        except RedisUnavailableError:
            return True
        return bool(moved)

    wait_until(lambda: seen(clocks[0]), "the step to be seen")
    clocks[1].look()
    clocks[0].look()

    assert (120, True) == (sum(moved), max(moved) <= 9)
    after = [dict(zip(flat[::2], map(float, flat[1::2]), strict=True)) for flat in all_times(wire, of)]
    assert late == after[1].pop(b"slow/s:late")
    [by] = {round((times[one.encode()] - at) / 10_000) for times in after for one, at in before.items()}
    assert by


def test_the_same_step_later_is_seen_to_as_well(valkey_wire):
    """A clock may step by as much again, after a time in which it did not."""
    now = valkey_wire.now_ms()
    valkey_wire.call("SET", "{k}:stepped", f"{now - 50_000} {now - 40_000} 30000")
    valkey_wire.call("ZADD", "{k}:pending", now - 100_000, "users/s:a")

    moved, _ = valkey_wire.run(
        script("move_times"),
        ("{k}:stepped", "{k}:pending", "{k}:deleted_at"),
        (now - 10, now, 30_000, 60_000, 60_000, 100),
    )

    assert (1, now - 70_000) == (moved, int(valkey_wire.call("ZSCORE", "{k}:pending", "users/s:a")))


def all_times(wire: Wire, of) -> list[list[bytes]]:
    """What is pending in a partition, and which deletions await their audit, with their times."""
    return [wire.call("ZRANGE", key, 0, -1, "WITHSCORES") for key in (of.pending, of.deleted_at)]


def scores(pipeline: Pipeline) -> dict[str, float]:
    """When each document is due, ms."""
    flat = [
        pipeline.store._wire.call("ZRANGE", partition_keys(one).pending, 0, -1, "WITHSCORES")
        for one in range(pipeline.settings.partitions)
    ]
    return {some[at].decode(): float(some[at + 1]) for some in flat for at in range(0, len(some), 2)}
