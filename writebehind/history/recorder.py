"""The recorder of the history: a point each second, by one process of an installation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from time import monotonic, thread_time
from typing import Any, Final

from writebehind import process_remedies
from writebehind.errors import UnavailableError
from writebehind.history import backlog as backlogs
from writebehind.history.attendants import of_beat
from writebehind.history.events import EventLog
from writebehind.history.latencies import Buckets, FiguresOfHost, between, nothing_known, percentile
from writebehind.history.points import (
    AWAY,
    BREAKER,
    COARSE_S,
    MOST_COARSE,
    MOST_FINE,
    PERCENTILES,
    READS,
    REDIS_AWAY,
    SOURCES,
    Figure,
    Point,
    depth,
    latency,
    read,
)
from writebehind.history.slow_figures import SlowFigures
from writebehind.last_known import LastKnown
from writebehind.mongodb.breaker import MongoBreaker
from writebehind.mongodb.deployment import Deployment
from writebehind.outage_log import OutageLog
from writebehind.reading.read import hit_ratio, of_ratio
from writebehind.redis import keys
from writebehind.redis.shared.attendance import EXPORTER
from writebehind.redis.shared.totals import Totals
from writebehind.redis.shared.workers import ENDED_FOR_S
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.silence import BEAT_MISSED, EXPORTER_SILENT_S, is_beat_away

log = logging.getLogger(__name__)

#: Between two points, seconds; and how much of a core recording may take.
EVERY_S: Final = 1.0
MOST_CPU: Final = 0.01
#: While it pauses for what a look has cost, it says so often that it is at work, seconds: who does not is missed.
KEEP_S: Final = 1.5
#: A pause of so many seconds, in which nothing is recorded, is told in the log.
LONG_PAUSE_S: Final = EXPORTER_SILENT_S / 3
#: Between two looks at the workers, seconds.
CREW_EVERY_S: Final = 3.0
#: After an outage of Redis workers have so long to tell that they work, seconds, before any counts as silent.
EXCUSED_FOR_S: Final = 30.0
#: For so long nobody else records, ms: so much is missing in the history after the recorder was killed.
LEASE_MS: Final = 5_000
#: What MongoDB counts of operations; not commands, which are mostly of those who watch it.
_OPERATIONS: Final = ("insert", "query", "update", "delete", "getmore")


@dataclass(frozen=True, slots=True)
class _Look:
    """The base of rates, which are differences: counts until a moment.

    Attributes:
        at: that moment by the clock of Redis, seconds since the epoch.
        steady: the same by a steady clock, as the other clock may step.
        totals: of the installation; what is `missing` in them does not count in rates either.
        evicted: keys that each server has evicted, by its name.
        reads: of this host.
    """

    at: float
    steady: float
    totals: Totals
    evicted: Mapping[str, int]
    reads: Mapping[str, Buckets]


class Recorder:
    """Records the figures of each second, while no other process does. For one thread."""

    def __init__(
        self,
        store: Store,
        *,
        mongodb: Deployment,
        breaker: MongoBreaker,
        settings: Callable[[str], CollectionSettings],
        last_known: LastKnown,
        sweep_s: float,
        figures_of_this_host: FiguresOfHost = nothing_known,
        depths: Callable[[], Mapping[str, int]] = dict,
        close_depths: Callable[[], object] = lambda: None,
    ) -> None:
        """Join the parts; nothing is asked before the first step.

        Args:
            store: where the figures come from, and go to.
            mongodb: is asked for its own figures.
            breaker: before it.
            settings: those of a collection, by name.
            last_known: takes what is at stake, for when Redis is away.
            sweep_s: between two sweeps, seconds.
            figures_of_this_host: the reads that processes of this host have counted.
            depths: messages that wait, by queue of the broker; asked in a thread of its own.
            close_depths: called by that thread when it asks no more, as another process records.
        """
        self._store = store
        self._mongodb = SlowFigures(lambda: self._ask(mongodb))
        self._depths = SlowFigures(depths, at_end=close_depths)
        self._breaker = breaker
        self._settings = settings
        self._last_known = last_known
        self._sweep_s = sweep_s
        self._reads = figures_of_this_host
        self._lease = store.lease(keys.HISTORY_LEASE, LEASE_MS)
        self._outages = OutageLog(log)
        self._last: _Look | None = None
        self._asked: tuple[float, Mapping[str, float]] | None = None
        self._rate_of_mongodb: float | None = None
        self._since: list[Point] = []
        self._events = EventLog()
        self._crew_seen = -inf
        #: Since when this process records, and since when Redis does not answer, by the steady clock.
        self._records_since = inf
        self._away_since: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Record until that is set; a Redis that does not answer is waited for."""
        while not stop.is_set():
            began, used = monotonic(), thread_time()
            try:
                self.step()
            except UnavailableError as error:
                self._lose(began, error)
            self._pause(stop, began, used)
        self.close()

    def _pause(self, stop: threading.Event, began: float, used: float) -> None:
        """Wait until the next look is due and this one is paid; meanwhile nobody else records."""
        is_told = False
        while True:
            pause_s = max(EVERY_S, (thread_time() - used) / MOST_CPU)
            if pause_s > LONG_PAUSE_S and not is_told:
                is_told = True
                log.warning(
                    "the history has no points for %.0f s: the last look took %.1f s of CPU, and recording "
                    "may take %.0f %% of a core",
                    pause_s,
                    pause_s * MOST_CPU,
                    MOST_CPU * 100,
                )
            left_s = began + pause_s - monotonic()
            if left_s <= 0 or stop.wait(min(KEEP_S, left_s)):
                return
            if left_s > KEEP_S:
                self._keep()

    def _keep(self) -> None:
        """Keep the right to record, and tell that this process is at work."""
        began = monotonic()
        try:
            if self._lease.take():
                self._store.attendance.note(EXPORTER)
        except UnavailableError as error:
            self._lose(began, error)

    def _lose(self, began: float, error: UnavailableError) -> None:
        """Know that Redis does not answer, at least since then."""
        self._last = None
        self._away_since = self._away_since or began
        self._crew_seen = monotonic() + EXCUSED_FOR_S  # they could not tell that they work either
        if not error.logged:
            self._outages.note("history", f"the history is not recorded: {error}")

    def step(self) -> bool:
        """Record a point; false where another process records.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if not self._lease.take():
            self._last, self._since, self._away_since = None, [], None
            self._records_since = inf
            self._events.begin_anew()
            return False
        look, figures = self._look()
        self._records_since = min(self._records_since, look.steady)
        self._log_events(look)
        away = {} if self._away_since is None else {REDIS_AWAY: look.steady - self._away_since}
        point = Point(look.at, {**figures, **self._rates(look), **away})
        if self._last is None:
            self._since = self._recorded(look.at)
        coarse = self._coarse(point)
        self._last = look
        if away:
            self._store.attendance.note_seen()
        added = self._store.history.add(self._lease, point.dump(), coarse, most=MOST_FINE, most_coarse=MOST_COARSE)
        self._away_since = None
        return added

    def close(self) -> None:
        """Let another process record."""
        self._mongodb.close()
        self._depths.close()
        try:
            self._lease.release()
        except UnavailableError as error:
            log.info("the right to record the history runs out: %s", error)

    def _look(self) -> tuple[_Look, dict[str, Figure]]:
        """The present: counts, and figures that are no rates."""
        now_ms = self._store.now_ms()
        in_use = len(self._store.layout.in_use())  # before: it may grow
        backlog = backlogs.look(self._store, self._settings, now_ms)
        facts_of = self._store.facts()
        facts = facts_of.values()
        look = _Look(
            now_ms / 1000,
            monotonic(),
            self._store.metrics.totals(),
            {server: _number(one.get("evicted_keys")) for server, one in facts_of.items()},
            self._reads(),
        )
        at_stake = {
            "pending": backlog.pending,
            "pending_bytes": self._store.unsettled.pending_bytes(backlog.pending_in),
            "dead_letters": backlog.dead,
        }
        away = max(0, in_use - len(backlog.partitions))
        if not away:
            self._last_known.note(**at_stake)
        return look, {
            **at_stake,
            "oldest_pending_seconds": backlog.oldest_s,
            AWAY: away,
            BREAKER: self._breaker.state().state,
            **({"used_memory": sum(_number(one.get("used_memory")) for one in facts)} if all(facts) else {}),
            **({"max_memory": sum(_number(one.get("maxmemory")) for one in facts)} if all(facts) else {}),
            **self._of_broker(),
            **self._of_mongodb(),
        }

    def _log_events(self, look: _Look) -> None:
        self._events.look_at_letters(look.totals)
        if look.steady - self._crew_seen >= CREW_EVERY_S:
            self._crew_seen = look.steady
            self._store.attendance.note(EXPORTER)
            now_ms = int(look.at * 1000)
            activity = self._store.metrics.activity(now_ms)
            crew = activity.crew
            self._events.look_at_workers(crew)
            attendants = self._store.attendance.look(now_ms)
            beat = of_beat(activity.swept_ago_s(now_ms), attendants, sweep_s=self._sweep_s)
            # As many are missing since this process began to look: the system may have begun with it.
            is_told = beat["is_stopped"] or look.steady - self._records_since > BEAT_MISSED * self._sweep_s
            is_away = is_told and beat["swept_seconds_ago"] is not None and beat["is_silent"]
            self._events.look_at_beat(
                process_remedies.of_beat(beat, crew.consumers) if is_away else None,
                is_at_work=not is_beat_away(beat, self._sweep_s),
            )
            for one in crew.ended:
                if one.seconds_ago > ENDED_FOR_S:
                    self._store.workers.gone(one.worker)

    def _rates(self, look: _Look) -> dict[str, Figure]:
        """The changes since the last look, per second; nothing is known at the first."""
        last = self._last
        if last is None or look.steady <= last.steady:
            return {}
        seconds = look.steady - last.steady

        def rate(*names: str) -> float | None:
            if look.totals.missing != last.totals.missing:
                return None
            now, before = look.totals.by_name, last.totals.by_name
            return max(0, sum(now.get(one, 0) - before.get(one, 0) for one in names)) / seconds

        reads = between(last.reads, look.reads)
        counts = {source: sum(buckets.values()) for source, buckets in reads.items()}
        return {
            "acknowledged_per_second": rate("acknowledged"),
            "persisted_per_second": rate("persisted", "deleted", "overtaken"),
            "operations_per_second": rate("operations"),
            "evictions_per_second": sum(
                max(0, count - last.evicted.get(server, count)) for server, count in look.evicted.items()
            )
            / seconds,
            "hit_ratio": hit_ratio(counts),
            READS: of_ratio(counts) / seconds,
            **{
                latency(source, percent): percentile(reads[source], percent)
                for source in SOURCES
                if source in reads
                for percent in PERCENTILES
            },
        }

    def _of_mongodb(self) -> dict[str, Figure]:
        """Figures of MongoDB, as it has told them last."""
        asked, before = self._mongodb.latest(), self._asked
        if asked is None:
            self._asked = None
            return {}
        if before is None or asked[0] > before[0]:
            self._asked, self._rate_of_mongodb = asked, _rate(before, asked)
        return {
            "mongodb_connections": asked[1].get("connections"),
            "mongodb_operations_per_second": self._rate_of_mongodb,
        }

    def _ask(self, mongodb: Deployment) -> dict[str, float]:
        """Ask MongoDB, also while the breaker is open: by this it learns of an outage, though nobody else asks."""
        with self._breaker.waits():
            return server_figures(mongodb)

    def _of_broker(self) -> dict[str, Figure]:
        latest = self._depths.latest()
        return {depth(queue): int(count) for queue, count in latest[1].items()} if latest else {}

    def _recorded(self, now: float) -> list[Point]:
        """The points of the longer time under way that another recorder has left."""
        noted = read(self._store.history.points(COARSE_S), now)
        return [one for one in noted if one.at // COARSE_S == now // COARSE_S]

    def _coarse(self, point: Point) -> bytes:
        """The point of the longer time that is over with this one; b'' for none."""
        before, self._since = self._since, [*self._since, point]
        if not before or before[-1].at // COARSE_S == point.at // COARSE_S:
            return b""
        self._since = [point]
        return Point.joined(before).dump()


def server_figures(mongodb: Deployment) -> dict[str, float]:
    """The operations that a server has carried out since its start, and its connections, as far as it tells.

    Raises:
        MongoUnavailableError: it does not answer, or refuses.
    """
    said: dict[str, Any] = mongodb.command("serverStatus", admin=True)
    counted, connections = said.get("opcounters"), said.get("connections")
    figures: dict[str, float] = {}
    if isinstance(counted, Mapping):
        figures["operations"] = sum(
            one for name in _OPERATIONS if isinstance(one := counted.get(name), int | float)
        )
    if isinstance(connections, Mapping) and isinstance(current := connections.get("current"), int | float):
        figures["connections"] = current
    return figures


def _rate(
    before: tuple[float, Mapping[str, float]] | None, now: tuple[float, Mapping[str, float]]
) -> float | None:
    """Operations per second between two answers; `None` where one has none, or the server has begun anew."""
    if before is None or "operations" not in before[1] or "operations" not in now[1]:
        return None
    came = now[1]["operations"] - before[1]["operations"]
    return came / (now[0] - before[0]) if came >= 0 else None


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
