"""Figures of an installation: backlog, counters, rates, and the runs of periodic tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.exceptions import ResponseError

from writebehind.errors import RedisFullError
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.reach import known
from writebehind.redis.scripts import Script, script
from writebehind.redis.shared import totals, workers
from writebehind.redis.shared.totals import Totals
from writebehind.redis.shared.workers import Crew
from writebehind.redis.strays import count, whole
from writebehind.redis.wire import Call, Wire
from writebehind.sequences import pairs

#: The flush rate is measured over this many slots of this many seconds.
RATE_SLOTS, RATE_SLOT_SECONDS = 6, 10
#: Of less than so many seconds no rate is told that something is to be foretold by.
LEAST_S = 10.0
#: No run of a task has taken longer.
_MOST_SECONDS = 1e9

_RECORD_RUN, _RECORD_PASS = script("record_run"), script("record_pass")
_COUNT_UNSETTLED = script("count_unsettled")


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition's backlog; `head` is the member due first, with the time it is due in ms."""

    partition: int
    pending: int
    dead: int
    head: tuple[str, float] | None


@dataclass(slots=True)
class Run:
    """The last run of a periodic task.

    Attributes:
        at_ms: when it ended, by the clock of Redis.
        seconds: how long it took.
        outcome: what it did, by name.
        error: why it failed, '' if it did not.
    """

    at_ms: int = 0
    seconds: float = 0.0
    outcome: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @classmethod
    def parse(cls, noted: bytes) -> Run | None:
        """Read what was recorded; `None` for what is no record."""
        at, _, text = noted.partition(b" ")
        try:
            told = orjson.loads(text)
        except ValueError:
            return None
        match told:
            case {"seconds": int() | float() as took, "outcome": dict() as outcome, "error": str() as error}:
                return cls(whole(at), took, outcome, error) if 0 <= took <= _MOST_SECONDS else None
        return None

    def as_dict(self, now_ms: int) -> dict[str, Any]:
        """For a status."""
        return {
            "seconds_ago": max(0.0, (now_ms - self.at_ms) / 1000),
            "seconds": self.seconds,
            "outcome": self.outcome,
            "error": self.error or None,
        }


@dataclass(frozen=True, slots=True)
class Activity:
    """Work that is done, and who does it.

    Attributes:
        crew: the workers.
        flushed_per_second: documents that were persisted, over the last 50 to 60 s.
        drain_rate: the same per second since the first of them; `None` where that is too short to tell.
        runs: the last run of each periodic task that has run, by name.
    """

    crew: Crew
    flushed_per_second: float
    drain_rate: float | None
    runs: dict[str, Run]


class Metrics:
    """Figures in Redis that nothing of the protocol depends on. Safe to share between threads."""

    def __init__(self, wire: Wire, partitions: int) -> None:
        """Look at a server that is divided into so many partitions."""
        self._wire = wire
        self._partitions = partitions

    def backlog(self) -> list[PartitionStatus]:
        """Every partition's backlog, each at one moment, in one round trip; in two where nothing is pending.

        What is brought home between looks at two partitions is there at the second look.

        Raises:
            RedisUnavailableError: Redis does not answer, or one of several servers does not.
        """
        return self._look_twice(self._wire.run_many)

    def backlog_answered(self) -> list[PartitionStatus]:
        """`backlog` of the partitions whose server answers.

        Raises:
            RedisUnavailableError: none does.
        """
        return self._look_twice(self._wire.run_many_answered)

    def _look_twice(self, run_many: Callable[[Script, Sequence[Call]], list[Any]]) -> list[PartitionStatus]:
        found = self._look(run_many)
        return found if any(one.pending for one in found) else self._look(run_many)

    def _look(self, run_many: Callable[[Script, Sequence[Call]], list[Any]]) -> list[PartitionStatus]:
        of_all = map(partition_keys, range(self._partitions))
        counted = run_many(_COUNT_UNSETTLED, [((of.pending, of.dead), ()) for of in of_all])
        return [
            PartitionStatus(
                partition, pending, dead, (head[0].decode(errors="replace"), float(head[1])) if head else None
            )
            for partition, answer in enumerate(counted)
            if answer is not None
            for pending, dead, head in [answer]
        ]

    def sent_since(self, members: Mapping[int, str]) -> dict[int, float]:
        """Since when MongoDB was given what is pending of one member in each partition, ms; if it was."""
        commands = [("HGET", partition_keys(partition).sent, member) for partition, member in members.items()]
        answers = self._wire.calls_answered(commands) if commands else []
        return {
            partition: float(since)
            for partition, noted in zip(members, answers, strict=True)
            if noted and (since := whole([*noted.split(b" "), b""][1]))
        }

    def count(self, counters: Mapping[str, int], *, persisted: int = 0) -> None:
        """Add to the counters, and to the flush rate, as nothing depends on them.

        Not while Redis is full, or the server that has them is away while others are not.
        """
        known(self._wire, lambda: self._count(counters, persisted), None)

    def _count(self, counters: Mapping[str, int], persisted: int) -> None:
        commands: list[tuple[Any, ...]] = [
            ("HINCRBY", keys.COUNTERS, name, number) for name, number in counters.items() if number
        ]
        if persisted:
            slot = keys.flushed(self._wire.now_ms() // 1000 // RATE_SLOT_SECONDS)
            # With its TTL from the start: a connection that is cut in between leaves nothing for ever.
            made = ("SET", slot, 0, "EX", RATE_SLOTS * RATE_SLOT_SECONDS * 2, "NX")
            commands += (made, ("INCRBY", slot, persisted))
        if commands:
            with suppress(RedisFullError):
                answers = self._wire.calls(commands)
                for command, answer in zip(commands, answers, strict=True):
                    if isinstance(answer, ResponseError):  # other hands have made it no number: it begins anew
                        name, key, *field = command[:-1]
                        self._wire.call("HDEL" if name == "HINCRBY" else "DEL", key, *field)

    def counters(self) -> dict[str, int]:
        """The counters since the first start. Raises as `totals`."""
        return dict(self.totals().by_name)

    def totals(self) -> Totals:
        """The counters since the first start, and how long writes took until MongoDB had them.

        Those of a server that does not answer while others do are missing in them, which they say.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return totals.read(self._wire, self._partitions)

    def activity(self, now_ms: int | None = None) -> Activity:
        """Work that is done, in one round trip; with another one for the clock of Redis, where it is not given.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        now = self._wire.now_ms() if now_ms is None else now_ms
        slot = now // 1000 // RATE_SLOT_SECONDS
        runs, *answers = self._wire.calls(
            (
                ("HGETALL", keys.RUNS),
                *(("GET", keys.flushed(slot - back)) for back in range(RATE_SLOTS)),
                *workers.commands(now),
            )
        )
        counts, crew = list(map(count, answers[:RATE_SLOTS])), answers[RATE_SLOTS:]
        told = ((name, Run.parse(noted)) for name, noted in pairs(runs))
        return Activity(
            workers.read(crew, now),
            sum(counts) / _seconds(RATE_SLOTS, now),
            _drain_rate(counts, now),
            {task.decode(errors="replace"): run for task, run in told if run is not None},
        )

    @contextmanager
    def record_run(self, task: str) -> Iterator[Callable[..., None]]:
        """Record a run of a periodic task: how long it took, what it says that it did, or why it failed.

        Nothing is recorded while the server that has the record is away and others are not.

        Yields:
            What takes the figures of the outcome, by name.
        """
        run, began = Run(), time.monotonic()
        try:
            yield run.outcome.update
        except Exception as error:
            run.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            run.seconds = round(time.monotonic() - began, 3)
            self._record_run(task, run)

    def _record_run(self, task: str, run: Run) -> None:
        told = {"seconds": run.seconds, "outcome": run.outcome, "error": run.error}
        known(self._wire, lambda: self._wire.run(_RECORD_RUN, (keys.RUNS,), (task, orjson.dumps(told))), None)

    def runs(self) -> dict[str, Run]:
        """The last run of each periodic task that has run, by name."""
        return self.activity().runs

    def since_run(self, task: str) -> float | None:
        """The time since a periodic task last ran, seconds; `None` if it never has."""
        run = self.runs().get(task)
        return None if run is None else max(0.0, (self._wire.now_ms() - run.at_ms) / 1000)


def _drain_rate(counts: Sequence[int], now_ms: int) -> float | None:
    """Documents per second since the first of those that the slots have, of which the latest comes first."""
    slots = max((at + 1 for at, one in enumerate(counts) if one), default=len(counts))
    seconds = _seconds(slots, now_ms)
    return sum(counts) / seconds if seconds >= LEAST_S else None


def _seconds(slots: int, now_ms: int) -> float:
    """The time that the latest slots are about: the last one has only begun."""
    return (slots - 1) * RATE_SLOT_SECONDS + now_ms / 1000 % RATE_SLOT_SECONDS


class Journal:
    """Conflicts with other writers, and reconciling passes. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        self._wire = wire

    def add_conflict(self, conflict: bytes, *, most: int) -> None:
        """Add a conflict, and forget the oldest of more than `most`; not while Redis is full."""
        with suppress(RedisFullError):
            self._wire.calls([("LPUSH", keys.CONFLICTS, conflict), ("LTRIM", keys.CONFLICTS, 0, most - 1)])

    def conflicts(self, first: int, last: int) -> list[bytes]:
        """Conflicts, the last one being the first."""
        found: list[bytes] = self._wire.call("LRANGE", keys.CONFLICTS, first, last)
        return found

    def pass_under_way(self) -> bytes | None:
        """The reconciling pass under way, as it was noted."""
        noted: bytes | None = self._wire.call("GET", keys.RECONCILE)
        return noted

    def add_pass(self, told: bytes, *, drift: bool, most: int, remembered_ms: int, token: str) -> bool:
        """Add a pass to those that found drift, or did not.

        Args:
            told: the pass.
            drift: whether it found any.
            most: passes that are kept.
            remembered_ms: for so long.
            token: of whoever made the pass under way, which ends by this; '' for another pass.

        Returns:
            False when somebody else has the lease by now: then it is not remembered.
        """
        history = keys.DRIFT if drift else keys.DRIFT_FREE
        places = (history, keys.RECONCILE_LEASE, keys.RECONCILE)
        return bool(self._wire.run(_RECORD_PASS, places, (told, most, remembered_ms, token)))

    def passes(self, limit: int) -> list[bytes]:
        """The last passes that found drift, and as many that did not."""
        some = self._wire.calls([("LRANGE", one, 0, limit - 1) for one in (keys.DRIFT, keys.DRIFT_FREE)])
        return [one for history in some for one in history]
