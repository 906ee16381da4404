"""State of a worker process: its pipeline, the proof in Redis that it works, and its way to stop."""

from __future__ import annotations

import logging
import sys
import threading
from functools import cached_property
from typing import Any, Final

from celery import Celery, signals
from celery.worker import state
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from writebehind.alive import AliveFile
from writebehind.celery import broker_keys, refusing
from writebehind.celery.lost_hints import LostHints
from writebehind.celery.names import SWEEP
from writebehind.celery.pings import Pings
from writebehind.celery.publisher import publish, publish_warm
from writebehind.celery.work import Work
from writebehind.errors import ConfigurationError, UnavailableError, told
from writebehind.operations.doctor import check_start
from writebehind.outage_log import QUIET_S, OutageLog
from writebehind.pipeline import Pipeline, connect
from writebehind.redis.pending import Hint
from writebehind.redis.shared.attendance import BEAT
from writebehind.settings.installation import Settings

log = logging.getLogger(__name__)

#: What a broker raises that cannot be reached, where it is Redis.
_AWAY: Final = (OperationalError, RedisConnectionError, RedisTimeoutError, ConnectionError, TimeoutError)


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
        self._work: Work | None = None
        #: Of this worker: others are sent in their place as soon as Redis and the broker answer.
        self.lost_hints = LostHints()
        self._alive = AliveFile(settings.alive_file)
        # What fails at each run of a periodic task is one outage.
        longest_s = max(settings.sweep_interval, settings.reconcile_interval)
        self._outages = OutageLog(log, quiet_s=max(QUIET_S, 3 * longest_s))
        # Strong references: this object lives as long as the process.
        signals.worker_init.connect(self._start, weak=False)
        signals.beat_init.connect(self._start_beat, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.heartbeat_sent.connect(self._heartbeat, weak=False)
        signals.worker_shutting_down.connect(self._stop, weak=False)
        signals.worker_shutdown.connect(self._close, weak=False)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline of this process."""
        return connect(self.settings, hints=self.hint)

    def hint(self, hint: Hint) -> None:
        """Enqueue a flush task; if the broker does not take it, another is sent later, or the sweep will."""
        try:
            publish(self._publishing, hint)
            refusing.is_over()
        except OperationalError as error:
            self.lost_hints.note(hint.partition)
            self.note_broker(f"flush hint for partition {hint.partition} not sent: {told(error)}", error)

    def note(self, kind: str, line: str, error: Exception | None = None) -> None:
        """Log what failed because a server is away: the first of a kind, a count once a minute, and the end.

        Args:
            kind: what fails.
            line: says so.
            error: is why; where the log has it by now that this server is lost, it has no line.
        """
        if not getattr(error, "logged", False):
            self._outages.note(kind, line)

    def note_broker(self, line: str, error: object) -> None:
        """Log what failed because the broker is away, as `note`; what says so first speaks for all of this."""
        if isinstance(error, BaseException) and refusing.is_noted(error):
            return
        if self.settings.broker_url:
            self._outages.note("the broker", line)
        elif isinstance(error, _AWAY):  # both are one server, of which one line says that it is lost
            self.pipeline.redis_outage.begin(f"{line}; see that Redis runs and can be reached")
        elif not self.pipeline.redis_outage.lasts:
            self._outages.note("the broker", line)

    def _start(self, sender: Any = None, **_: Any) -> None:
        if sender.app != self._app:
            return
        self._is_worker = True
        self._check_or_exit()
        self._mend_broker()

    def _start_beat(self, sender: Any = None, **_: Any) -> None:
        if sender.app == self._app:
            self._check_or_exit()
            signals.before_task_publish.connect(self._note_beat, sender=SWEEP, weak=False)

    def _note_beat(self, **_: Any) -> None:
        """Note which process sends sweeps, so that one that is stopped can be named."""
        try:
            self.pipeline.store.attendance.note(BEAT)
        except UnavailableError as error:
            self.note("beat", f"beat is not noted to be at work: {error}", error)

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
        self._work = Work(
            sender, self.pipeline.store.workers, self._check_again, self._note_heartbeat, self._alive
        )
        self._work.start()
        self._prove(sender.hostname)
        try:
            publish_warm(self._publishing)
        except OperationalError as error:
            log.warning("warming has to wait for the next pass: %s", error)

    def _heartbeat(self, sender: Any = None, **_: Any) -> None:
        if sender.eventer.app == self._app:
            self._prove(sender.eventer.hostname)
            self._mend_broker()

    def _mend_broker(self) -> None:
        """Take out of the broker what other hands have put in the place of its keys."""
        try:
            channel = _open_channel(self._consumer)
            if channel is not None:
                self._mend_by(channel)
                return
            with self._publishing.connection_for_write() as connection:
                if connection.transport.driver_type == "redis":
                    self._mend_by(connection.channel())
        except Exception as error:  # noqa: BLE001 - a broker that is away fails with errors of many kinds
            self.note_broker(f"the broker's keys are not looked at: {told(error)}", error)

    def _mend_by(self, channel: Any) -> None:
        if refusing.see(channel):
            broker_keys.mend(channel)

    def _prove(self, name: str) -> None:
        """Let an idle worker prove that it works. Redis is not asked: what is to be consumed would wait."""
        self._name = name
        try:
            if self._work is None or not self._consumer.task_consumer or self._work.is_full():
                return
            if _open_channel(self._consumer) is None:  # its consumer connects anew, and says why
                self._work.excuse()
            else:
                self._pings.send_if_idle(self._consumer, self._name, self._work.proven_ago())
        except Exception as error:  # noqa: BLE001 - a broker that is away fails with errors of many kinds
            if self._work is not None:
                self._work.excuse()
            self.note_broker(f"this worker cannot prove that it works: {told(error)}", error)

    def _check_again(self) -> None:
        """See that this worker is in the right place: Redis may have been emptied, and be another's by now.

        Then have partitions flushed whose hint it may have lost meanwhile.

        Raises:
            UnavailableError: Redis does not answer.
        """
        try:
            if self._checked:
                self.pipeline.check()
            else:  # it did not answer when this worker started
                self._check()
            self.pipeline.store.attendance.note_seen()
        except ConfigurationError as error:
            if not state.should_stop:
                log.critical("writebehind: %s", error)
            state.should_stop = 1  # the status that the worker ends with
            raise
        except UnavailableError:
            self.lost_hints.note()  # of flush tasks that have met this
            raise
        self.pipeline.clock.look()
        if self.lost_hints.look_at(self._consumer) and not refusing.refusing.lasts:
            self.lost_hints.replace(self.pipeline.store.layout.in_use(), self.pipeline.maintenance.hand_over)

    def _note_heartbeat(self, error: Exception) -> None:
        self.note("heartbeats", f"heartbeat not recorded: {error}", error)

    def _stop(self, **_: Any) -> None:
        if not self._is_worker:
            return
        self.pipeline.flusher.stop()
        self.pipeline.warmer.stop()
        if self._work is not None:
            self._work.is_ending = True
        # Not here: this is a signal handler, and what it interrupted may hold a lock that is needed for this.
        threading.Thread(target=self._hand_over, name="hand-over").start()

    def _close(self, sender: Any = None, **_: Any) -> None:
        if sender.app != self._app:
            return
        self._hand_over()  # once more for what came in since
        if self._work is not None:
            self._work.stop()
        try:
            if self._name:
                self.pipeline.store.workers.gone(self._name)
        except UnavailableError as error:
            log.warning("the end of this worker is not recorded: %s", error)
        self.pipeline.close()

    def _hand_over(self) -> None:
        try:
            self.pipeline.maintenance.hand_over()
        except UnavailableError as error:
            log.warning("what is pending was not handed over, the sweep will find it: %s", error)


def _open_channel(consumer: Any) -> Any:
    """The channel to the broker by which a worker consumes; `None` where it has none, or a closed one."""
    channel = getattr(getattr(consumer, "task_consumer", None), "channel", None)
    return channel if getattr(channel, "connection", None) is not None else None
