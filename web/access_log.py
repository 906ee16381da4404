"""The access log: a line for each request that was answered, written by a thread of its own.

The server is wrapped only where the log is on, so that it costs nothing where it is off.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Awaitable, Callable
from queue import Full, Queue
from threading import Thread
from time import monotonic, sleep
from typing import Any, Final
from urllib.parse import quote_from_bytes
from uuid import uuid4

from writebehind.flask.problems import NOTED
from writebehind.logs.quoting import quoted
from writebehind.logs.setup import ACCESS
from writebehind.plurals import counted

#: Lines that wait to be written, of a log that nobody reads; more are left out, and counted.
MOST_WAITING: Final = 10_000
#: How long a process that ends writes what waits, seconds.
_LAST_S: Final = 1.0
_ID: Final = b"x-request-id"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

log = logging.getLogger(ACCESS)


class AccessLog:
    """An ASGI application that logs each request of another one. Each has a request id then."""

    def __init__(self, application: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """Log the requests of this one."""
        self._application = application
        self._waiting: Queue[dict[str, Any]] = Queue(MOST_WAITING)
        self._left_out = 0
        Thread(target=self._write, name="access-log", daemon=True).start()
        atexit.register(self.finish)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and have it logged when that is over."""
        began = monotonic()
        headers = scope["headers"]
        given = next((value for name, value in headers if name == _ID), None)
        if given is None:
            given = uuid4().hex.encode()
            headers = [*headers, (_ID, given)]
        noted: dict[str, Any] = {}
        scope = scope | {"headers": headers, NOTED: noted}
        status, size = None, 0

        async def counting(message: dict[str, Any]) -> None:
            nonlocal status, size, given
            if message["type"] == "http.response.start":
                status = message["status"]
                given = next((value for name, value in message["headers"] if name == _ID), given)
            await send(message)
            size += len(message.get("body", b""))

        try:
            await self._application(scope, receive, counting)
        finally:
            self._note(
                {
                    "method": scope["method"],
                    "path": quote_from_bytes(scope["raw_path"], safe="/:%"),
                    "status": status,
                    "ms": round(1000 * (monotonic() - began), 2),
                    "bytes": size,
                    "request_id": given.decode("latin-1"),
                    "client": str(scope["client"][0]),
                }
                | noted
            )

    def finish(self) -> None:
        """Wait until all is written, but not for long."""
        until = monotonic() + _LAST_S
        while self._waiting.unfinished_tasks and monotonic() < until:
            sleep(0.01)

    def _note(self, fields: dict[str, Any]) -> None:
        try:
            self._waiting.put_nowait(fields)
        except Full:
            self._left_out += 1

    def _write(self) -> None:
        while True:
            fields = self._waiting.get()
            answer = "no answer" if fields["status"] is None else f"{fields['status']}"
            log.info(
                "%s %s %s %.2f ms %d bytes to %s [%s]",
                *(fields["method"], fields["path"], answer, fields["ms"], fields["bytes"]),
                *(fields["client"], quoted(fields["request_id"])),
                extra={"event": "request", **fields},
            )
            if (left_out := self._left_out) and self._waiting.empty():
                self._left_out -= left_out
                such = counted(left_out, "request is", "requests are")
                log.warning("%s left out, as nobody has read in time", such, extra={"event": "requests_left_out"})
            self._waiting.task_done()
