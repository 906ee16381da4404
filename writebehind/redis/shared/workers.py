"""Workers, by what they do: what proves that one works, what it holds, and which queues it consumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from writebehind.process_identity import has_ended, is_here, is_stopped, mark, pid_of
from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

#: What was told of a worker counts for so long, ms.
WORKER_LIFE_MS = 15_000
#: For so long a worker is told of that has fallen silent, ms: a day.
SILENT_FOR_MS = 24 * 3_600_000
#: For so long one is told of whose process is known to have ended without a word, seconds.
ENDED_FOR_S = 600.0
#: And for so long where others consume its queues by now, seconds.
SUCCEEDED_FOR_S = 60.0
#: For so long it is remembered when a worker was last seen, ms: a week.
REMEMBERED_MS = 7 * 24 * 3_600_000

_RECORD = script("record_heartbeat")


@dataclass(frozen=True, slots=True)
class SilentWorker:
    """A worker of which nothing proves that it works.

    Attributes:
        worker: its name.
        queues: those that it consumed.
        seconds_ago: the time since it has proven anything, seconds.
        pid: the id of its process, among those of its machine or container; `None` where it has told none.
        is_here: whether that is the machine of who looks.
        is_stopped: whether it is stopped, as by SIGSTOP, which only who looks on its machine sees.
    """

    worker: str
    queues: Sequence[str]
    seconds_ago: float
    pid: int | None = None
    is_here: bool = False
    is_stopped: bool = False


@dataclass(frozen=True, slots=True)
class BusyWorker:
    """A worker whose pool has no place left, its queues, and since when, seconds ago: it cannot prove more."""

    worker: str
    queues: Sequence[str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers of an installation.

    Attributes:
        alive: those at work, sorted: they have proven it lately, or their pool is full.
        holding: those that hold a task, sorted, at work or not.
        consumers: those at work that consume each queue, sorted; only queues that have some.
        busy: those that have proven nothing lately as their pool is full, the last that became so first.
        silent: those that have proven nothing for long, are not busy, and have not ended; and those that are seen
            to be stopped, however short that is. Of the last day, the last first.
        ended: the same of those whose process is gone, as is seen on its own machine, at once: they were killed.
    """

    alive: list[str]
    holding: list[str]
    consumers: dict[str, list[str]]
    busy: list[BusyWorker]
    silent: list[SilentWorker]
    ended: list[SilentWorker] = field(default_factory=list)

    @property
    def ended_lately(self) -> list[SilentWorker]:
        """Those that are told of: the others are as good as forgotten, sooner where others do their work."""
        return [
            one
            for one in self.ended
            if one.seconds_ago <= (SUCCEEDED_FOR_S if self.are_consumed(one.queues) else ENDED_FOR_S)
        ]

    def are_consumed(self, queues: Sequence[str]) -> bool:
        """Whether some worker at work consumes each of the queues."""
        return all(self.consumers.get(queue) for queue in queues)


class Workers:
    """Workers, as they tell of themselves. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Look at a server."""
        self._wire = wire

    def record_proof(self, name: str, queues: Sequence[str] = ()) -> None:
        """Note that a worker has done something, and which queues that proves to be consumed."""
        calls = [((keys.WORKERS,), (name, REMEMBERED_MS, 0))]
        if process := mark():
            calls.append(((keys.PROCESSES,), (f"{name} {process}", SILENT_FOR_MS, 0)))
        self._wire.run_many(_RECORD, calls)
        self.record_consumed(name, queues)

    def record_consumed(self, name: str, queues: Sequence[str], *, ago_s: float = 0.0) -> None:
        """Note which queues a worker consumes of which something told so long ago, seconds."""
        calls = [((keys.CONSUMERS,), (f"{name} {queue}", REMEMBERED_MS, round(ago_s * 1000))) for queue in queues]
        self._wire.run_many(_RECORD, calls)

    def record_held(self, name: str, *, full_s: float | None) -> None:
        """Note that a worker holds a task now.

        Args:
            name: the worker's.
            full_s: for how long its pool has had no place left, seconds; `None` where it has one.
        """
        calls = [((keys.HOLDING,), (name, REMEMBERED_MS, 0))]
        if full_s is None:
            self._wire.call("ZREM", keys.FULL, name)
        else:
            calls.insert(0, ((keys.FULL,), (name, REMEMBERED_MS, round(full_s * 1000))))
        self._wire.run_many(_RECORD, calls)

    def record_free(self, name: str) -> None:
        """Note that a worker holds no task any more."""
        self._wire.calls([("ZREM", key, name) for key in (keys.HOLDING, keys.FULL)])

    def gone(self, name: str) -> None:
        """Note that a worker has ended: what it told does not count any more."""
        consumed = [f"{name} {queue}" for queue, workers in self.consumers().items() if name in workers]
        calls = [("ZREM", keys.CONSUMERS, *consumed)] if consumed else []
        marked = [
            one for one in self._wire.call("ZRANGE", keys.PROCESSES, 0, -1) if _parted(_text(one))[0] == name
        ]
        calls += [("ZREM", keys.PROCESSES, *marked)] if marked else []
        self._wire.calls([*calls, *(("ZREM", key, name) for key in (keys.WORKERS, keys.HOLDING, keys.FULL))])

    def look(self) -> Crew:
        """All workers, at one moment.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        now = self._wire.now_ms()
        return read(self._wire.calls(commands(now)), now)

    def servers(self) -> set[str]:
        """The names of the servers that have what workers tell of themselves. Raises as `look`."""
        return {self._wire.server_of(key) for key in (keys.WORKERS, keys.PROCESSES, keys.CONSUMERS)}

    def alive(self) -> list[str]:
        """The workers that are at work: they have proven it lately, or their pool is full. Raises as `look`."""
        return self.look().alive

    def consumers(self) -> dict[str, list[str]]:
        """The workers that are at work and consume each queue. Raises as `look`."""
        return self.look().consumers


def commands(now: int) -> list[tuple[Any, ...]]:
    """Commands whose answers `read` takes."""
    # What lies ahead is from before a clock stepped back, and says nothing.
    lately = (now - WORKER_LIFE_MS, now + WORKER_LIFE_MS)
    return [
        ("ZRANGEBYSCORE", keys.WORKERS, *lately, "WITHSCORES"),
        ("ZRANGEBYSCORE", keys.HOLDING, *lately),
        ("ZRANGEBYSCORE", keys.CONSUMERS, *lately),
        ("ZRANGE", keys.FULL, 0, -1, "WITHSCORES"),
        ("ZRANGE", keys.WORKERS, now - WORKER_LIFE_MS, now - SILENT_FOR_MS, "BYSCORE", "REV", "WITHSCORES"),
        ("ZRANGE", keys.CONSUMERS, 0, -1),
        ("ZRANGE", keys.PROCESSES, 0, -1),
    ]


def read(answers: Sequence[Any], now: int) -> Crew:
    """The workers, by the answers to `commands`, at the time of these, ms."""
    proven = {_text(name): max(0.0, (now - whole(score)) / 1000) for name, score in pairs(answers[0])}
    holding, consumed = (sorted(map(_text, names)) for names in answers[1:3])
    since = {_text(name): max(0.0, (now - whole(score)) / 1000) for name, score in pairs(answers[3])}
    long_ago = {_text(name): (now - whole(score)) / 1000 for name, score in pairs(answers[4])}
    processes = dict(_parted(_text(one)) for one in answers[6])  # of each name the last one
    full = {name: seconds for name, seconds in since.items() if name in holding}
    at_work = {*proven, *full}
    lost = {
        name
        for name in at_work
        if is_stopped(process := processes.get(name, "")) or has_ended(process)  # which is seen at once
    }
    queues: dict[str, list[str]] = {}
    for worker, queue in map(_parted, sorted(map(_text, answers[5]))):
        queues.setdefault(worker, []).append(queue)
    consumers: dict[str, list[str]] = {}
    for worker, queue in map(_parted, consumed):
        if worker not in lost:
            consumers.setdefault(queue, []).append(worker)
    busy = sorted((seconds, name) for name, seconds in full.items() if name not in {*proven, *lost})
    quiet = [
        _silent(name, queues.get(name, ()), seconds, processes.get(name, ""))
        for name, seconds in sorted((proven | long_ago).items(), key=lambda one: one[1])
        if name in lost or name not in at_work
    ]
    gone = {one.worker for one in quiet if has_ended(processes.get(one.worker, ""))}
    return Crew(
        alive=sorted(at_work - lost),
        holding=holding,
        consumers=consumers,
        busy=[BusyWorker(name, tuple(queues.get(name, ())), seconds) for seconds, name in busy],
        silent=[one for one in quiet if one.worker not in gone],
        ended=[one for one in quiet if one.worker in gone],
    )


def _silent(name: str, queues: Sequence[str], seconds: float, process: str) -> SilentWorker:
    """A worker that is silent, by the mark of its process."""
    return SilentWorker(name, tuple(queues), seconds, pid_of(process), is_here(process), is_stopped(process))


def _parted(told: str) -> tuple[str, str]:
    """A worker, and what stands after its name."""
    worker, _, rest = told.rpartition(" ")
    return worker, rest


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
