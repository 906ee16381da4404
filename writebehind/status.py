"""The figures of `/admin/status`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import version
from typing import Any, Generic, TypeVar

from writebehind.change_stream.listener_state import listener_status
from writebehind.consistency import tally
from writebehind.errors import MongoBusyError, MongoUnavailableError
from writebehind.flushing.dead_letters import DeadLetters
from writebehind.history import backlog as backlogs
from writebehind.history.attendants import of_beat, of_exporter
from writebehind.history.outlook import WINDOW_S, is_silent_to_all, lately, outlook
from writebehind.history.points import BREAKER, Point, depth, read
from writebehind.history.turns import Pace
from writebehind.mongodb.breaker import MongoBreaker
from writebehind.mongodb.lookout import Life
from writebehind.reading.reader import Reader
from writebehind.reconcile.findings import History
from writebehind.redis.reach import known, listed_away
from writebehind.redis.shared.attendance import Attendants, Outage
from writebehind.redis.shared.caps import Caps
from writebehind.redis.shared.load_sample import LoadSample
from writebehind.redis.shared.metrics import Activity, Run
from writebehind.redis.shared.pauses import Paused
from writebehind.redis.shared.totals import Totals
from writebehind.redis.store import Store
from writebehind.remedies import is_mongodb_away, remedies
from writebehind.settings.collection import CollectionSettings
from writebehind.settings.names import FLUSH_QUEUE, QUEUES
from writebehind.silence import is_missing, is_task_late, missing_and_awaited
from writebehind.tallies.apart import ToldApart

#: How long a sign of life of MongoDB is waited for, seconds; and where there was none in this process yet, as a
#: connection takes its time.
PATIENCE_S, FIRST_PATIENCE_S = 0.5, 2.0
#: Such an answer serves all who ask within so long, seconds.
ANSWER_SERVES_S = 1.0
#: What takes long to work out and changes slowly is worked out again after so long, seconds.
KEPT_S = 10.0
#: Once MongoDB is back, workers have taken up what waits after so long, seconds: they back off from an outage.
RECOVERS_S = 15.0
#: The last points of the history, which have those of the last seconds.
_LOOKED_AT = int(WINDOW_S) + 1

#: Figures of work that is done, and of who does it.
_OF_ACTIVITY = (
    *("flushed_per_second", "workers", "busy_workers", "silent_workers", "awaited_workers", "ended_workers"),
    *("consumers", "unconsumed", "periodic", "beat"),
)
#: Asked of files, and the same for as long as a process lives.
_version = cache(version)
T = TypeVar("T")


class Kept(Generic[T]):
    """A result that is kept for `KEPT_S`: many may ask, each second. Safe to share between threads."""

    def __init__(self, work_out: Callable[[], T]) -> None:
        """Work nothing out before it is asked for."""
        self._work_out = work_out
        self._latest: tuple[float, T] | None = None

    def look(self) -> T:
        """The latest; raises as working it out does."""
        latest, now = self._latest, time.monotonic()
        if latest is None or now - latest[0] >= KEPT_S:
            self._latest = latest = now, self._work_out()
        return latest[1]


class _Answers:
    """Answers of servers of which some may be away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Names of figures that no server knows which answers.
        self.unknown: list[str] = []

    def ask(self, look: Callable[[], T], *figures: str) -> T | None:
        """The answer to a question that these figures follow from; `None` where whoever knows it is away."""
        answer = known(self._store, lambda: (look(),), None)
        if answer is None:
            self.unknown += figures
            return None
        return answer[0]


class Status:
    """Tells how one installation is."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        *,
        breaker: MongoBreaker,
        dead_letters: DeadLetters,
        drift: History,
        caps: Caps,
        pace: Pace,
        periods: Mapping[str, float],
        life: Life,
        mongodb_pid: Callable[[], int | None],
        settings: Callable[[str], CollectionSettings],
        apart: ToldApart,
    ) -> None:
        """Join the parts that are asked.

        Args:
            store: Redis.
            reader: of this process.
            breaker: before MongoDB.
            dead_letters: what MongoDB refuses.
            drift: what was found to differ.
            caps: from which this process refuses new documents: what those that take writes have told comes first.
            pace: of flushes, while all is well.
            periods: of periodic tasks by name, seconds.
            life: is asked whether MongoDB gives a sign of life.
            mongodb_pid: tells the process of MongoDB, where `writebehind up` runs it here.
            settings: of a collection, by name.
            apart: knows which collections have figures of their own.
        """
        self._store = store
        self._observed = Kept(lambda: tally.recorded(store, apart))
        self._hit_ratio = Kept(reader.hit_ratio)
        self._breaker = breaker
        self._dead_letters = dead_letters
        self._drift = drift
        self._caps = caps
        self._pace = pace
        self._periods = periods
        self._life = life
        #: Whether MongoDB was away when it was last asked without Redis, and when that was.
        self._was_away: tuple[bool, float] = False, float("-inf")
        #: When Redis was first met that refuses writes, and has since, by the monotonic clock; infinity for never.
        self._refused_since = float("inf")
        self._mongodb_pid = mongodb_pid
        self._settings = settings

    def figures(self, *, partitions: bool = False, totals: Totals | None = None) -> dict[str, Any]:
        """All of them; each partition's too if asked for. `totals` are read unless they were just now.

        Where a server is away and others are not, sums are of what the others have, and what none of them knows
        is `None`: `away` and `unknown` say so.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        store, answers = self._store, _Answers(self._store)
        breaker = answers.ask(self._breaker.state, "breaker", "breaker_reason", "breaker_since")
        unanswered = None if breaker and breaker.reason else self.mongodb_error()  # first, as it may take its time
        now_ms = store.now_ms()
        sample, backlog = store.load(probes=True), backlogs.look(store, self._settings, now_ms)
        if unheard := {*store.layout.in_use()} - backlog.pending_in.keys():  # what is there is not known
            sample = sample.without(store.servers_of(unheard))
        activity = answers.ask(lambda: store.metrics.activity(now_ms), *_OF_ACTIVITY)
        is_silent = activity is None or is_silent_to_all(activity.persisted)
        mongodb_error = (breaker and breaker.reason) or (unanswered if is_silent else None)
        is_away = is_mongodb_away(mongodb_error, breaker.state if breaker else None)
        applied = answers.ask(lambda: store.caps.applied(self._caps, now_ms), "caps")
        totals = store.metrics.totals() if totals is None else totals
        paused = answers.ask(store.pauses.recorded, "paused")
        recorded = answers.ask(lambda: store.history.points(_LOOKED_AT), "broker", "exporter")
        attendants = answers.ask(lambda: store.attendance.look(now_ms)) or Attendants()
        refused_s = self._refused_s(sample.refuses, attendants.seen_s)
        if sample.refuses:  # so nobody can note a sign of life
            attendants = replace(attendants, outage=Outage(began_s=refused_s, ended_s=0.0))
        history = read(recorded or (), now_ms / 1000)
        points = lately(history, now_ms / 1000)
        is_unnoted = self._are_heartbeats_refused(sample)
        if sample.refusing and is_unnoted and activity:  # at work until then, for all that is known
            attendants = replace(attendants, outage=_since_last_heard(activity, refused_s))
        of_activity = self._of_activity(activity, attendants.outage, now_ms, is_unnoted=is_unnoted)
        is_worked = activity is None or FLUSH_QUEUE not in of_activity["unconsumed"]
        figures: dict[str, Any] = {
            "pending": backlog.pending,
            "pending_bytes": store.unsettled.pending_bytes(backlog.pending_in),
            "oldest_pending_seconds": backlog.oldest_s,
            "overdue_seconds": max(0.0, backlog.late_s),
            **outlook(
                points,
                sample,
                applied.caps if applied else self._caps,
                self._pace,
                backlog=backlog,
                breaker=breaker.state if breaker else "",
                mongodb_error=mongodb_error or "",
                is_worked=is_worked,
                persisted=activity.persisted if activity else None,
                swept_ago_s=activity.swept_ago_s(now_ms) if activity else 0.0,
                paused=paused or Paused(),
            ).as_dict(),
            "paused": None if paused is None else paused.as_list(),
            "full_partitions": _full(backlog.pending_in, applied.caps if applied else self._caps),
            "partitions_at_work": sum(one.is_at_work(self._pace) for one in backlog.waiting),
            "caps": applied and applied.as_dict(),
            "away": listed_away(sample.away),
            "unknown": answers.unknown,
            "refusing": listed_away(sample.refusing),
            "redis_refuses": sample.refuses or None,
            "redis_refuses_seconds": refused_s if sample.refuses else None,
            "heartbeats_refused": is_unnoted,
            "dead_letters": backlog.dead,
            "dead_letters_by_collection": self._dead_letters.by_collection(),
            "breaker": breaker.state if breaker else None,
            "breaker_reason": (breaker and breaker.reason) or None,
            "breaker_since": breaker.since if breaker else None,
            "mongodb_error": mongodb_error,
            "mongodb_ping_error": unanswered,
            **of_activity,
            "broker": None if recorded is None else _broker(points[-1:], now_ms / 1000),
            "exporter": None if recorded is None else of_exporter(history[-1:], attendants, now_ms / 1000),
            "beat": self._beat(activity, attendants, now_ms) if activity else None,
            "partitions": store.partitions,
            "consistency": answers.ask(lambda: self._consistency(now_ms, is_mongodb_away=is_away), "consistency"),
            "listener": answers.ask(lambda: listener_status(store, now_ms, outage=attendants.outage), "listener"),
            "totals": dict(totals.by_name),
            "hit_ratio": self._hit_ratio.look(),
            "version": _version("writebehind"),
        }
        still_s = min(backlog.late_s, activity.persisted.last_s) if activity else 0.0
        is_due = not (paused and paused.all) and bool(backlog.pending)
        is_stalled = is_due and is_missing(still_s, self._pace.overdue_s, attendants.outage)
        refuses = answers.ask(lambda: store.complaints.latest(now_ms), "mongodb_refuses") if is_stalled else None
        figures["mongodb_refuses"] = refuses or None
        late = [one for one in points if now_ms / 1000 - one.at < RECOVERS_S]
        to_do = remedies(
            figures,
            is_stalled=is_stalled,
            is_back=any(one.figures.get(BREAKER, "closed") != "closed" for one in late),
            could_evict=sample.could_make_room,
            file_fails=sample.file_fails,
            left_over=sample.left_over,
            mongodb_pid=self._mongodb_pid() if mongodb_error or refuses else None,
        )
        figures["to_do"] = [asdict(one) for one in to_do]
        if partitions:
            figures["by_partition"] = [
                {
                    "partition": one.partition,
                    "pending": one.pending,
                    "oldest_pending_seconds": backlog.ages_s[one.partition],
                    "dead_letters": one.dead,
                }
                for one in backlog.partitions
            ]
        return figures

    def _refused_s(self, words: str, seen_s: float | None) -> float:
        """For how long Redis has refused writes, at least, seconds: since then nobody has noted that it is seen.

        One whose memory is full takes such notes: then it is since this process has met it.
        """
        now_s = time.monotonic()
        self._refused_since = min(self._refused_since, now_s) if words else float("inf")
        return max(seen_s or 0.0, now_s - self._refused_since) if words else 0.0

    def _are_heartbeats_refused(self, sample: LoadSample) -> bool:
        """Whether a server refuses writes that has what workers tell of themselves."""
        if not sample.refusing:
            return bool(sample.refuses)
        of_workers: set[str] = known(self._store, self._store.workers.servers, set())
        return not of_workers.isdisjoint(sample.refusing)

    def _of_activity(
        self, activity: Activity | None, outage: Outage | None, now_ms: int, *, is_unnoted: bool
    ) -> dict[str, Any]:
        if activity is None:
            return dict.fromkeys(_OF_ACTIVITY)
        told = _of_activity(activity, now_ms, self._periods, outage)
        if is_unnoted and (told["workers"] or told["awaited_workers"]):
            told["unconsumed"] = []  # as nobody can note what it consumes
        return told

    def _beat(self, activity: Activity, attendants: Attendants, now_ms: int) -> dict[str, Any]:
        return of_beat(activity.swept_ago_s(now_ms), attendants, sweep_s=self._pace.sweep_s)

    def _consistency(self, now_ms: int, *, is_mongodb_away: bool) -> dict[str, Any]:
        """Figures of reconciling and of an observer; the time since one has looked, and if they are of now."""
        observed_s = self._store.samples.observed_s(now_ms)
        return {
            **self._drift.consistency(now_ms),
            **self._observed.look(),
            "observed_seconds_ago": observed_s,
            "is_observed": tally.is_observed(observed_s, is_mongodb_away=is_mongodb_away),
        }

    def mongodb_error(self) -> str | None:
        """Reason for which MongoDB does not answer this process: the breaker knows only after some failures."""
        try:
            self._life.ping(timeout_s=PATIENCE_S)
        except MongoBusyError:  # whose words are for whoever has sent a request
            return f"MongoDB does not answer: no connection to it came free within {PATIENCE_S:g} s"
        except MongoUnavailableError as error:
            return str(error)
        return None

    def is_mongodb_away(self) -> bool:
        """Whether MongoDB does not answer, where Redis is away: so nobody knows whether others have it persist.

        It is not known to be away where no connection to it came free.
        """
        is_away, asked_at = self._was_away
        if time.monotonic() - asked_at > ANSWER_SERVES_S:
            is_away = bool(self._life.unreachable()) or not self._gives_a_sign()
            self._was_away = is_away, time.monotonic()
        return is_away

    def _gives_a_sign(self) -> bool:
        try:
            self._life.ping(timeout_s=PATIENCE_S if self._life.round_trip_s() else FIRST_PATIENCE_S)
        except MongoBusyError:
            return True
        except MongoUnavailableError:
            return False
        return True


def _full(pending_in: Mapping[int, int], caps: Caps) -> list[int]:
    """The partitions that take no new document, as they have as many waiting as they may."""
    return sorted(partition for partition, pending in pending_in.items() if pending >= caps.max_pending)


def _since_last_heard(activity: Activity, refused_s: float) -> Outage:
    """The time since the last heartbeat that was taken, where heartbeats are refused, and others are not."""
    last_s = min((one.seconds_ago for one in activity.crew.silent), default=0.0)
    return Outage(began_s=max(refused_s, last_s), ended_s=0.0)


def _of_activity(
    activity: Activity, now_ms: int, periods: Mapping[str, float], outage: Outage | None
) -> dict[str, Any]:
    """Work that is done, and who does it: `_OF_ACTIVITY`."""
    crew = activity.crew
    consumers = {queue: crew.consumers.get(queue, []) for queue in QUEUES}
    silent, awaited = missing_and_awaited(crew.silent, outage)
    expected = {queue for one in awaited for queue in one.queues}
    return {
        "flushed_per_second": activity.persisted.per_second,
        "workers": len(crew.alive),
        "busy_workers": [asdict(one) for one in crew.busy],
        "silent_workers": [asdict(one) for one in silent],
        "awaited_workers": [asdict(one) for one in awaited],
        "ended_workers": [asdict(one) for one in crew.ended_lately],
        "consumers": consumers,
        "unconsumed": [queue for queue, names in consumers.items() if not names and queue not in expected],
        "periodic": {
            name: _of_run(run, now_ms, periods.get(name), outage) for name, run in sorted(activity.runs.items())
        },
    }


def _of_run(run: Run, now_ms: int, every_s: float | None, outage: Outage | None) -> dict[str, Any]:
    """The last run of a periodic task, and whether later ones are missing: it should run so often, seconds."""
    told = run.as_dict(now_ms)
    is_late = every_s is not None and is_task_late(told["seconds_ago"], run.seconds, every_s, outage)
    return told | {"every_seconds": every_s, "is_late": is_late}


def _broker(last: list[Point], now: float) -> dict[str, Any]:
    """Messages that wait in each queue, as was seen last; `None` where nobody has looked lately."""
    depths = {queue: last[0].figures.get(depth(queue)) if last else None for queue in QUEUES}
    known = any(one is not None for one in depths.values())
    return {"queues": depths, "seconds_ago": max(0.0, now - last[0].at) if known else None}
