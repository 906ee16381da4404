"""The one seam through which other processes ask for a flush, or a refresh."""

from __future__ import annotations

import logging
import threading
from typing import Any

from kombu.exceptions import OperationalError

from writebehind import forks
from writebehind.celery.broker_keys import again
from writebehind.celery.configuration import CONFIRMED_WITHIN_S, create_app
from writebehind.celery.delays import headers
from writebehind.celery.names import FLUSH, FLUSH_QUEUE, MAINTENANCE_QUEUE, REFRESH, REFRESH_QUEUE, WARM
from writebehind.errors import told
from writebehind.logs.events import FAULT
from writebehind.outage_log import OutageLog
from writebehind.plurals import counted
from writebehind.redis.cache import Refresh
from writebehind.redis.pending import Hint
from writebehind.settings.installation import Settings

log = logging.getLogger(__name__)

#: Hints that may wait for the broker; what is more is left to the sweep.
MOST_WAITING = 10_000
#: Between two tries while the broker is away, seconds. The first is made at once: a connection may have been old.
RETRY_EVERY_S = 1.0


class FlushPublisher:
    """Publishes flush tasks from a thread of its own: a write is acknowledged whether or not the broker answers.

    Publishing costs about 1 ms of CPU, so there is one message per partition and window, never one per write.
    While the broker is away the last hint of each partition waits for it, as its ticket keeps others from asking.
    A hint that is lost with this process is found by the sweep.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare to publish to the broker of the settings; nothing is connected before the first hint."""
        self._app = create_app(settings)
        self._outages = OutageLog(log)
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Have nothing to publish: the parent process publishes what it was given, by its own connection."""
        self._waiting: list[Hint | Refresh] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def __call__(self, hint: Hint | Refresh) -> None:
        """Take a hint, or a refresh that no reader should wait for; neither blocks nor raises."""
        with self._wake:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(hint)
            if self._thread is None:
                self._thread = threading.Thread(target=self._publish, name="flush-hints", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self, timeout_s: float = 2.0) -> None:
        """Publish what waits, for at most `timeout_s`, and close the connection."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._app.close()

    def _publish(self) -> None:
        over, failures = False, 0
        while not over:
            if failures > 1:
                self._pause()
            failures += 1
            try:
                with self._app.connection_for_write() as connection:
                    over, is_sent = self._publish_over(connection)
                failures = 0 if is_sent else failures
            except Exception:  # what the transport fails with must not end the publishing of all later hints
                log.exception("flush hints not sent, the sweep will find them", extra=FAULT)

    def _pause(self) -> None:
        """Wait before the next try, or for the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing, RETRY_EVERY_S)

    def _keep(self, hints: list[Hint | Refresh]) -> None:
        """Let hints wait that the broker did not take, the last of each partition. A refresh would be too late."""
        with self._wake:
            if not self._closing:
                last = {one.partition: one for one in [*hints, *self._waiting] if isinstance(one, Hint)}
                refreshes = [one for one in self._waiting if isinstance(one, Refresh)]
                self._waiting = [*last.values(), *refreshes]

    def _publish_over(self, connection: Any) -> tuple[bool, bool]:
        """Publish over a connection; whether that was all, and whether it took any before it was of no use."""
        is_sent = False
        producer = self._app.amqp.Producer(connection)
        while (hints := self._take()) is not None:
            sent = 0
            try:
                for hint in hints:
                    if isinstance(hint, Refresh):
                        self._publish_refresh(hint, producer)
                    else:
                        publish(self._app, hint, producer=producer)
                    sent += 1
            except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
                line = f"{counted(len(hints) - sent, 'flush hint')} not sent, and tried again: {told(error)}"
                self._outages.note("broker", line)
                self._keep(hints[sent:])
                return False, is_sent or sent > 0
            is_sent = True
        return True, is_sent

    def _publish_refresh(self, wanted: Refresh, producer: Any) -> None:
        self._app.send_task(
            REFRESH,
            args=(wanted.member, wanted.token, wanted.seen),
            queue=REFRESH_QUEUE,
            retry=False,
            ignore_result=True,
            argsrepr="",
            kwargsrepr="",
            confirm_timeout=CONFIRMED_WITHIN_S,
            producer=producer,
        )

    def _take(self) -> list[Hint | Refresh] | None:
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            hints, self._waiting = self._waiting, []
            return hints or None


def publish(app: Any, hint: Hint, producer: Any = None) -> None:
    """Enqueue one flush task, by a producer that is there or one of the application's.

    Raises:
        OperationalError: the broker does not take it.
    """
    with app.producer_or_acquire(producer) as one:
        again(
            lambda: one.channel,
            app.send_task,
            FLUSH,
            args=(hint.partition, hint.ticket),
            headers=headers(hint.delay_ms),
            queue=FLUSH_QUEUE,
            retry=False,
            ignore_result=True,
            argsrepr="",
            kwargsrepr="",
            confirm_timeout=CONFIRMED_WITHIN_S,
            producer=one,
        )


def publish_warm(app: Any) -> None:
    """Enqueue one pass of warming.

    Raises:
        OperationalError: the broker does not take it.
    """
    app.send_task(
        WARM, queue=MAINTENANCE_QUEUE, retry=False, ignore_result=True, confirm_timeout=CONFIRMED_WITHIN_S
    )
