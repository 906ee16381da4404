"""The periodic tasks, each of which records its run; and what a worker does before it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from writebehind import process_remedies
from writebehind.change_stream.listener_state import listener_status
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.contention import Contention
from writebehind.flushing.deletion_audit import AUDIT, DeletionAudit
from writebehind.history.attendants import of_exporter
from writebehind.history.events import EventLog
from writebehind.history.points import read
from writebehind.maintenance.clock import ClockWatch
from writebehind.outage_log import QUIET_S, OutageLog
from writebehind.reconcile.reconciler import RECONCILE, Reconciler
from writebehind.redis.pending import HintSink, UntilNext
from writebehind.redis.reach import each_reached, known
from writebehind.redis.shared.load_sample import Sampler
from writebehind.redis.shared.metrics import SWEEP
from writebehind.redis.store import Store
from writebehind.settings.installation import Settings
from writebehind.silence import is_exporter_away
from writebehind.warming.hot_keys import HotKeys
from writebehind.warming.warmer import WARM, Warmer

log = logging.getLogger(__name__)


class Maintenance:
    """Keeps one installation in order. Each task may run in any process, and in several.

    None does anything in a Redis that belongs to another MongoDB database, or is divided differently.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        hints: HintSink,
        *,
        clock: ClockWatch,
        sampler: Sampler,
        contention: Contention,
        reconciler: Reconciler,
        warmer: Warmer,
        hot_keys: HotKeys,
        audit: DeletionAudit,
    ) -> None:
        """Join the parts; `hints` takes the flush tasks that are wanted."""
        self._settings = settings
        self._store = store
        self._hints = hints
        self._clock = clock
        self._sampler = sampler
        self._contention = contention
        self._reconciler = reconciler
        self._warmer = warmer
        self._hot_keys = hot_keys
        self._audit = audit
        # The sweeps of an outage that lasts are one.
        self._events = EventLog()
        self._outages = OutageLog(log, "sweep", quiet_s=max(QUIET_S, 3 * settings.sweep_interval))

    def sweep(self) -> dict[str, int]:
        """Enqueue a flush of every partition that has overdue documents and no flush task on its way.

        Of several servers of Redis those are looked at that answer; `away` says of how many partitions others are.

        Raises:
            RedisUnavailableError: Redis does not answer, or belongs to another MongoDB database.
        """
        self._sampler.look().check()
        self._clock.look()
        found = {"pending": 0, "enqueued": 0}

        def sweep(partition: int) -> None:
            count, hint = self._store.pending.sweep(partition, overdue_ms=self._settings.overdue_ms)
            found["pending"] += count
            if hint is not None:
                found["enqueued"] += 1
                self._hints(hint)

        self._store.attendance.note_seen()  # before the exporter is judged
        with self._store.metrics.record_run(SWEEP) as outcome:
            if away := each_reached(self._store.layout.in_use(), sweep):
                found["away"] = len(away)
            outcome(**found)
        self._sweep_letters()
        self._look_at_exporter()
        self._look_at_listener()
        return found

    def _look_at_exporter(self) -> None:
        """Log that the exporter is frozen, which it cannot itself."""
        store, now_ms = self._store, self._store.now_ms()
        found = known(store, lambda: (store.history.points(1), store.attendance.look(now_ms)), None)
        if found is None:
            return
        told = of_exporter(read(found[0], now_ms / 1000), found[1], now_ms / 1000)
        self._events.look_at_exporter(
            process_remedies.of_exporter(told) if told["is_silent"] else None,
            is_at_work=not is_exporter_away(told),
        )

    def _look_at_listener(self) -> None:
        """Log that the listener is frozen, which it cannot itself; one that is started anew has time."""
        told = known(self._store, lambda: listener_status(self._store), None)
        if told is None:
            return
        is_long = told["is_stopped"] or told["alive_seconds_ago"] > process_remedies.LISTENER_SILENT_S
        self._events.look_at_listener(
            process_remedies.of_listener(told) if told["is_silent"] and is_long else None,
            is_at_work=not told["is_silent"],
        )

    def audit_deletions(self) -> dict[str, int]:
        """Delete again what a late flusher brought back after its deletion; and forget receipts that are over.

        While flushing is paused nothing is deleted.

        Raises:
            UnavailableError: Redis or MongoDB does not answer; the rest is audited next time.
        """
        self._sampler.look().check()
        self._store.receipts.forget_old()
        if self._store.pauses.look():
            with self._store.metrics.record_run(AUDIT) as outcome:
                outcome(paused=True)
            return {}
        return self._audit.audit()

    def reconcile(self) -> dict[str, Any]:
        """Do as much of a reconciling pass as is due.

        Raises:
            UnavailableError: Redis or MongoDB does not answer; the slice is looked at again next time.
        """
        self._sampler.look().check()
        with self._store.metrics.record_run(RECONCILE) as outcome:
            done = self._reconciler.go_on()
            outcome(**done)
            return done

    def decay(self) -> dict[str, int]:
        """Let hot keys cool down.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        sample = self._sampler.look()
        sample.check()
        return self._hot_keys.decay(sample)

    def warm(self) -> dict[str, Any]:
        """Load what is read much and is missing, or is about to expire.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        self._sampler.look().check()
        with self._store.metrics.record_run(WARM) as outcome:
            done = self._warmer.warm()
            found = {"busy": True} if done is None else done.as_dict()
            outcome(**found)
            return found

    def hand_over(self, partitions: Iterable[int] | None = None) -> None:
        """Ask others to flush pending documents that no flusher has claimed, whatever tasks are on their way.

        For the end of a pause, and a process that is about to end: the flush tasks that it holds come back only
        when the broker misses it, and new tickets overtake them. By default those of all partitions.

        Raises:
            RedisUnavailableError: Redis does not answer; the sweep will find what is left.
        """
        self._sampler.look().check()

        def hand_over(partition: int) -> None:
            if hint := self._store.pending.release(partition, uuid4().hex, UntilNext(paused_ms=0)):
                self._hints(hint)

        each_reached(self._store.layout.in_use() if partitions is None else partitions, hand_over)

    def _sweep_letters(self) -> None:
        """Try dead letters again whose unique value is free by now, if any collection has such values."""
        try:
            each_reached(self._store.layout.in_use() if self._settings.has_lookups else (), self._contention.sweep)
        except MongoUnavailableError as error:  # the next sweep looks
            self._outages.note("unique values", f"dead letters of unique values were not looked at: {error}")
