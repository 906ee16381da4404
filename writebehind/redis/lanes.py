"""Round trips of an event loop: those of all callers go over one connection to each server, many at a time.

A thread that waits for Redis costs more than what it asks for: to begin it, to let it wait and to wake it. So the
loop sends what its callers want by then as one piece, and reads what has come as one. No caller waits for another
but as Redis itself does one thing after the other.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from contextlib import suppress
from copy import copy
from typing import Any, Final, TypeVar

from hiredis import Reader, pack_command
from redis.exceptions import BusyLoadingError, InvalidResponse, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from writebehind.deadline import NEVER_WAITS
from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import Connections, parsed_error
from writebehind.redis.round_trip import RoundTrip, UndecidedError

T = TypeVar("T")

#: Bytes that are read at a time.
_READ_BYTES: Final = 1 << 16
#: Part of the time for which a connection is good after which the next one is fetched.
_AHEAD_S: Final = 0.5
_BLOCKS = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Lanes:
    """The lanes of one event loop at a time, by server. All calls are made in it."""

    def __init__(self, timeout_ms: int) -> None:
        """Let a server take so long to answer."""
        self._timeout_s = timeout_ms / 1000
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: dict[Connections, Lane] = {}

    def begin(self, trip: RoundTrip[T]) -> asyncio.Future[T] | None:
        """Have a round trip made. `None` where that takes a thread, as no connection is at hand.

        Returns:
            The result; or `RedisUnavailableError`, where the server does not answer, or what `conclude` raises.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.close()
            self._loop = loop
        lane = self._lanes.get(trip.server)
        if lane is None:
            lane = self._lanes[trip.server] = Lane(trip.server, loop, self._timeout_s)
        return lane.begin(trip)

    def close(self) -> None:
        """Close all connections."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()


class Lane:
    """Round trips to one server. All calls are made in one event loop."""

    def __init__(self, server: Connections, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        """Begin with no connection; the first call has one fetched."""
        self._server = server
        self._loop = loop
        self._timeout_s = timeout_s
        self._line: Line | None = None
        self._lent_at = 0.0
        self._is_fetching = self._is_closed = False

    def begin(self, trip: RoundTrip[T]) -> asyncio.Future[T] | None:
        """Have a round trip made, as `Lanes` says."""
        now = time.monotonic()
        if now - self._lent_at > _AHEAD_S and not self._is_fetching:
            self._fetch()
        line = self._line
        if line is None or not line.is_open or not self._server.is_good(self._lent_at):
            return None
        return line.begin(trip)

    def close(self) -> None:
        """Close the connection."""
        self._is_closed = True
        if self._line is not None:
            self._line.close()

    def _fetch(self) -> None:
        """Fetch the next connection: to greet the server over it takes a thread."""
        self._is_fetching = True
        with suppress(RuntimeError):  # the process ends
            self._loop.run_in_executor(None, self._server.lend).add_done_callback(self._fetched)

    def _fetched(self, lent: asyncio.Future[tuple[Any, float] | None]) -> None:
        self._is_fetching = False
        try:
            found = lent.result()
        except (RedisUnavailableError, asyncio.CancelledError):  # threads find out the same, and say it
            self._lent_at = time.monotonic()
            return
        if found is None:
            self._lent_at = time.monotonic()
            return
        connection, self._lent_at = found
        before, self._line = self._line, None
        if before is not None:
            before.retire()
        if self._is_closed:
            connection.disconnect()
            return
        with suppress(NotImplementedError):  # a loop that looks at no sockets
            self._line = Line(self._server, connection, self._loop, self._timeout_s)


class _Waiting:
    """A round trip under way."""

    __slots__ = ("answers", "future", "sent_at", "trip")

    def __init__(self, trip: RoundTrip[Any], future: asyncio.Future[Any]) -> None:
        self.trip = trip
        self.future = future
        self.sent_at = 0.0
        self.answers: list[Any] = []


class Line:
    """One connection that is lent, and what is under way over it. All calls are made in one event loop."""

    def __init__(
        self, server: Connections, connection: Any, loop: asyncio.AbstractEventLoop, timeout_s: float
    ) -> None:
        """Take the connection. Raises NotImplementedError where the loop cannot look at sockets."""
        self._server = server
        self._connection = connection
        self._loop = loop
        self._timeout_s = timeout_s
        self._sock = connection._sock  # noqa: SLF001 - has no public name
        self._patience = self._sock.gettimeout()
        self._sock.settimeout(0)
        self._reader = Reader(protocolError=InvalidResponse, replyError=parsed_error)
        #: When the server was heard last, by the steady clock.
        self._heard_at = 0.0
        #: What waits to be sent, and what of it was begun and not taken as a whole.
        self._unsent: list[_Waiting] = []
        self._left = b""
        self._under_way: deque[_Waiting] = deque()
        self._is_watched = self._is_retired = self._is_full = False
        #: Whether more may begin.
        self.is_open = True
        try:
            loop.add_reader(self._sock, self._read)
        except NotImplementedError:
            self._give_back(is_kept=False)
            raise

    def begin(self, trip: RoundTrip[T]) -> asyncio.Future[T]:
        """Have a round trip made, with all others that are wanted by the end of this turn of the loop."""
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._unsent and not self._left:
            self._loop.call_soon(self._send)
        self._unsent.append(_Waiting(trip, future))
        if not self._is_watched:
            self._is_watched = True
            self._loop.call_later(self._timeout_s, self._look)
        return future

    def retire(self) -> None:
        """Begin nothing more, and give the connection back when all is answered."""
        self.is_open = False
        self._is_retired = True
        self._end_if_over()

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        if self._connection is not None:
            self._lose(RedisConnectionError("closed here"))

    def _send(self) -> None:
        """Send what waits. What is not begun by then was not carried out."""
        if self._connection is None:
            return
        if self._unsent and not self._left:
            now, packed = time.monotonic(), []
            for waiting in self._unsent:
                waiting.sent_at = now
                packed += [pack_command(tuple(one)) for one in waiting.trip.commands]
            self._left = b"".join(packed)
            self._under_way += self._unsent
            self._unsent.clear()
        try:
            sent = self._sock.send(self._left)
        except _BLOCKS:
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        self._left = self._left[sent:]
        if self._left or self._unsent:
            self._is_full = True
            self._loop.add_writer(self._sock, self._send)
        elif self._is_full:
            self._is_full = False
            self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        """Read what has come."""
        try:
            while data := self._sock.recv(_READ_BYTES):
                self._heard_at = time.monotonic()
                self._reader.feed(data)
                self._conclude()
                # What TLS has read ahead shows at no socket; others come in the next turn of the loop.
                if self._connection is None or not isinstance(self._sock, ssl.SSLSocket):
                    return
        except _BLOCKS:
            return
        except (OSError, InvalidResponse, BusyLoadingError) as error:
            self._lose(error)
            return
        self._lose(RedisConnectionError("Connection closed by server"))

    def _conclude(self) -> None:
        """Conclude the round trips whose answers are there. Raises as Redis where it loads its data."""
        while self._under_way:
            answer = self._reader.gets()
            if answer is False:
                break
            if isinstance(answer, BusyLoadingError):  # which redis-py takes for a lost connection
                raise answer
            waiting = self._under_way[0]
            waiting.answers.append(answer)
            if type(answer) is ReadOnlyError:  # only a new connection finds the primary
                self.is_open = False
            if len(waiting.answers) == len(waiting.trip.commands):
                self._under_way.popleft()
                _settle(waiting)
        self._server.answered()
        self._end_if_over()

    def _look(self) -> None:
        """Look whether the server takes too long."""
        self._is_watched = False
        if self._left_s() <= 0:
            self._read()  # the loop itself may have stood still, with the answers before it
        if self._connection is None or not (self._under_way or self._unsent):
            return
        if (left := self._left_s()) > 0:
            self._is_watched = True
            self._loop.call_later(left, self._look)
        else:
            self._lose(RedisTimeoutError("no answer came in time"))

    def _left_s(self) -> float:
        """The seconds that the server has left until it says something."""
        if self._connection is None or not self._under_way:
            return self._timeout_s
        return max(self._under_way[0].sent_at, self._heard_at) + self._timeout_s - time.monotonic()

    def _lose(self, error: BaseException) -> None:
        """Tell all whose answers will not come, and those who were not sent."""
        self.is_open = False
        began = self._under_way[0].sent_at if self._under_way else 0.0
        self._unwatch()
        connection, self._connection = self._connection, None
        under_way, unsent = list(self._under_way), self._unsent
        self._under_way.clear()
        self._unsent = []
        if under_way:
            lost = self._server.lost(connection, began, error)
            for one in under_way:
                _fail(one.future, copy(lost))
        else:
            connection.disconnect()
        for one in unsent:
            _fail(one.future, UndecidedError())

    def _end_if_over(self) -> None:
        if self._is_retired and self._connection is not None and not (self._under_way or self._unsent):
            self._unwatch()
            self._give_back(is_kept=True)

    def _unwatch(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)

    def _give_back(self, *, is_kept: bool) -> None:
        connection, self._connection = self._connection, None
        self._sock.settimeout(self._patience)
        self._server.take_back(connection, is_kept=is_kept)


def _settle(waiting: _Waiting) -> None:
    """Conclude a round trip, whether or not anybody waits for it by now."""
    future, conclude = waiting.future, waiting.trip.conclude
    try:
        with NEVER_WAITS:
            result = conclude(waiting.answers)
    except Exception as error:  # noqa: BLE001 - for whoever waits
        _fail(future, error)
    else:
        if not future.done():
            future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
