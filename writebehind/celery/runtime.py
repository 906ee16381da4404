"""State of a worker process: its pipeline, the proof in Redis that it works, and its way to stop."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from celery import Celery, signals
from celery.exceptions import WorkerShutdown
from kombu.exceptions import OperationalError

from writebehind.celery import broker_keys
from writebehind.celery.names import QUEUES
from writebehind.celery.pings import Pings, Worked
from writebehind.celery.publisher import publish, publish_warm
from writebehind.errors import ConfigurationError, UnavailableError, told
from writebehind.operations.doctor import check_start
from writebehind.outage_log import QUIET_S, OutageLog
from writebehind.pipeline import Pipeline, connect
from writebehind.redis.pending import Hint
from writebehind.settings.installation import Settings

log = logging.getLogger(__name__)


class Runtime:
    """One for each worker process. Nothing is connected before the worker starts."""

    def __init__(self, app: Celery, settings: Settings, *, publishing: Celery) -> None:
        """Hook into the life of a worker of `app`; flush tasks go out by `publishing`, made by `create_app`."""
        self._app = app
        self._publishing = publishing
        self.settings = settings
        self._is_worker = False
        self._checked = False
        self._name = ""
        self._consumer: Any = None
        self._pings = Pings(publishing)
        self._worked = Worked()
        # What fails at each run of a periodic task is one outage.
        longest_s = max(settings.sweep_interval, settings.reconcile_interval)
        self._outages = OutageLog(log, quiet_s=max(QUIET_S, 3 * longest_s))
        # Strong references: this object lives as long as the process.
        signals.worker_init.connect(self._start, weak=False)
        signals.beat_init.connect(self._start_beat, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.heartbeat_sent.connect(self._heartbeat, weak=False)
        signals.task_postrun.connect(self._ended, weak=False)
        signals.worker_shutting_down.connect(self._stop, weak=False)
        signals.worker_shutdown.connect(self._close, weak=False)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline of this process."""
        return connect(self.settings, hints=self.hint)

    def hint(self, hint: Hint) -> None:
        """Enqueue a flush task; if the broker does not take it, the sweep will."""
        try:
            publish(self._publishing, hint)
        except OperationalError as error:
            self.note_broker(f"flush hint for partition {hint.partition} not sent: {told(error)}")

    def note(self, kind: str, line: str, *, logged: bool = False) -> None:
        """Log what failed because a server is away: the first of a kind, a count once a minute, and the end.

        Args:
            kind: what fails.
            line: says so.
            logged: whether the log has the reason by now.
        """
        self._outages.note(kind, line, logged=logged)

    def note_broker(self, line: str) -> None:
        """Log what failed because the broker is away, as `note`; what says so first speaks for all of this."""
        self.note("the broker", line, logged=not self.settings.broker_url and self.pipeline.redis_outage.lasts)

    def _start(self, sender: Any = None, **_: Any) -> None:
        if sender.app != self._app:
            return
        self._is_worker = True
        self._check_or_exit()
        self._mend_broker()

    def _start_beat(self, sender: Any = None, **_: Any) -> None:
        if sender.app == self._app:
            self._check_or_exit()

    def _check_or_exit(self) -> None:
        try:
            self._check()
        except ConfigurationError as error:
            sys.exit(f"writebehind: {error}")
        except UnavailableError as error:  # Celery waits for its broker too
            log.warning("cannot check Redis yet: %s", error)

    def _check(self) -> None:
        for one in check_start(self.pipeline):
            log.warning("%s: %s", one.found, one.advice)
        self._checked = True

    def _ready(self, sender: Any = None, **_: Any) -> None:
        """From now on tell what this worker consumes; ask for what was read much before it started."""
        if sender.app != self._app:
            return
        self._consumer = sender
        self._tell(sender.hostname)
        try:
            publish_warm(self._publishing)
        except OperationalError as error:
            log.warning("warming has to wait for the next pass: %s", error)

    def _heartbeat(self, sender: Any = None, **_: Any) -> None:
        if sender.eventer.app == self._app:
            self._tell(sender.eventer.hostname)
            self._mend_broker()

    def _mend_broker(self) -> None:
        """Take out of the broker what other hands have put in the place of its keys."""
        try:
            channel = getattr(getattr(self._consumer, "task_consumer", None), "channel", None)
            if channel is not None:
                broker_keys.mend(channel)
                return
            with self._publishing.connection_for_write() as connection:
                if connection.transport.driver_type == "redis":
                    broker_keys.mend(connection.channel())
        except Exception as error:  # noqa: BLE001 - a broker that is away fails with errors of many kinds
            self.note_broker(f"the broker's keys are not looked at: {told(error)}")

    def _tell(self, name: str) -> None:
        """See that this worker is in the right place, and let an idle one prove that it works."""
        self._name = name
        try:
            if self._checked:
                self.pipeline.check()  # again, as Redis may have been emptied, and be another's by now
            else:  # it did not answer when this worker started
                self._check()
            self.pipeline.clock.look()
            metrics, queues = self.pipeline.store.metrics, self._consumed()
            worked_s = metrics.worked_ago(self._name)
            if worked_s is not None:  # what its pool has done came by its consumer
                metrics.record_consumed(self._name, queues, ago_s=worked_s)
            if self._consumer is not None and self._consumer.task_consumer:
                self._pings.send_if_idle(self._consumer, self._name, queues, worked_s)
        except ConfigurationError as error:
            log.critical("writebehind: %s", error)
            raise WorkerShutdown(1) from error
        except UnavailableError as error:
            self._note_heartbeat(error)
        except Exception as error:  # noqa: BLE001 - a broker that is away fails with errors of many kinds
            self.note_broker(f"this worker cannot prove that it works: {told(error)}")

    def worked(self, worker: str | None) -> None:
        """Record that a worker has done something, if that was not recorded lately; `None` for no worker."""
        if worker and self._worked.is_due():
            self.proved(worker, ())

    def proved(self, worker: str, queues: Sequence[str]) -> None:
        """Record that a worker works, and consumes these queues."""
        try:
            self.pipeline.store.metrics.record_heartbeat(worker, queues)
        except UnavailableError as error:
            self._note_heartbeat(error)

    def _note_heartbeat(self, error: UnavailableError) -> None:
        self.note("heartbeats", f"heartbeat not recorded: {error}", logged=getattr(error, "logged", False))

    def _ended(self, sender: Any = None, **_: Any) -> None:
        """Record a task that has ended, in whichever process of the pool."""
        if sender.app == self._app:
            self.worked(sender.request.hostname)

    def _consumed(self) -> list[str]:
        """The queues of ours that this worker consumes now; none while it has no connection."""
        consuming: Any = getattr(self._consumer, "task_consumer", None)
        if not consuming:
            return []
        return [queue for queue in QUEUES if consuming.consuming_from(queue)]

    def _stop(self, **_: Any) -> None:
        if not self._is_worker:
            return
        self.pipeline.flusher.stop()
        self.pipeline.warmer.stop()
        # Not here: this is a signal handler, and what it interrupted may hold a lock that is needed for this.
        threading.Thread(target=self._hand_over, name="hand-over").start()

    def _close(self, sender: Any = None, **_: Any) -> None:
        if sender.app != self._app:
            return
        self._hand_over()  # once more for what came in since
        try:
            if self._name:
                self.pipeline.store.metrics.worker_gone(self._name)
        except UnavailableError as error:
            log.warning("the end of this worker is not recorded: %s", error)
        self.pipeline.close()

    def _hand_over(self) -> None:
        try:
            self.pipeline.maintenance.hand_over()
        except UnavailableError as error:
            log.warning("what is pending was not handed over, the sweep will find it: %s", error)
