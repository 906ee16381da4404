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
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, Final, TypeVar

from hiredis import Reader, pack_command
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from writebehind.deadline import NEVER_WAITS, WouldWaitError
from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import Connections, parsed_error
from writebehind.redis.round_trip import RoundTrip, UndecidedError

T = TypeVar("T")

#: Bytes that are read at a time.
_READ_BYTES: Final = 1 << 16
#: Seconds after which the next connection is fetched, before this one is not good any more.
_AHEAD_S: Final = 0.5
#: So many times as long as a server may say nothing the first of its answers may take, while it says others.
_TIMES: Final = 3
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
        self._tried_at = 0.0
        self._is_fetching = self._is_closed = False

    def begin(self, trip: RoundTrip[T]) -> asyncio.Future[T] | None:
        """Have a round trip made, as `Lanes` says."""
        now = time.monotonic()
        if now - self._tried_at > _AHEAD_S and not self._is_fetching and not self._is_closed:
            self._fetch(now)
        line = self._line
        return line.begin(trip, now) if line is not None and line.is_good() else None

    def close(self) -> None:
        """Close the connection."""
        self._is_closed = True
        if self._line is not None:
            self._line.close()

    def _fetch(self, now: float) -> None:
        """Fetch the next connection: to greet the server over it takes a thread."""
        self._tried_at = now
        with suppress(RuntimeError):  # there is no thread to be had, as when the process ends
            self._loop.run_in_executor(None, self._server.lend).add_done_callback(self._fetched)
            self._is_fetching = True

    def _fetched(self, lent: asyncio.Future[tuple[Any, float] | None]) -> None:
        self._is_fetching = False
        try:
            found = lent.result()
        except (RedisUnavailableError, asyncio.CancelledError):  # threads find out the same, and say it
            found = None
        before, self._line = self._line, None
        if before is not None:
            before.retire(
                is_kept=found is not None
            )  # where the server could not be greeted, it may be none to trust
        if found is None:
            return
        connection, lent_at = found
        if self._is_closed:
            connection.disconnect()
            return
        try:
            self._line = Line(self._server, connection, lent_at, self._loop, self._timeout_s)
        except NotImplementedError:  # a loop that looks at no sockets
            self._is_closed = True


class _Waiting:
    """A round trip under way."""

    __slots__ = ("answers", "began", "count", "future", "packed", "sent_at", "trip")

    def __init__(self, trip: RoundTrip[Any], future: asyncio.Future[Any], began: float) -> None:
        self.packed = b"".join([pack_command(tuple(one)) for one in trip.commands])
        self.count = len(trip.commands)
        self.trip = trip
        self.future = future
        self.began = began
        self.sent_at = 0.0
        self.answers: list[Any] = []

    def answered(self) -> None:
        """Conclude it, unless a check after it is to."""
        if self.trip.epoch is None:
            _settle(self)

    def fail(self, error: Exception) -> None:
        """Tell whoever waits."""
        _fail(self.future, error)


class _Check:
    """A question after all that was sent as one piece, of those in it that hold or not by its answer."""

    __slots__ = ("answers", "checked", "sent_at")
    count = 1

    def __init__(self, checked: Sequence[_Waiting], sent_at: float) -> None:
        self.checked = checked
        self.sent_at = sent_at
        self.answers: list[Any] = []

    def answered(self) -> None:
        """Conclude what holds by it, and leave the rest to threads."""
        (answer,) = self.answers
        for one in self.checked:
            if one.trip.epoch == answer:
                _settle(one)
            else:
                one.fail(UndecidedError())

    def fail(self, error: Exception) -> None:
        """Tell all who wait for it: of some the answers may have been there."""
        for one in self.checked:
            one.fail(copy(error))


class Line:
    """One connection that is lent, and what is under way over it. All calls are made in one event loop."""

    def __init__(
        self,
        server: Connections,
        connection: Any,
        lent_at: float,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
    ) -> None:
        """Take the connection. Raises NotImplementedError where the loop cannot look at sockets."""
        self._server = server
        self._connection = connection
        self._lent_at = lent_at
        self._loop = loop
        self._timeout_s = timeout_s
        self._sock = connection._sock  # noqa: SLF001 - has no public name
        self._patience = self._sock.gettimeout()
        self._sock.settimeout(0)
        self._check = pack_command(tuple(server.check)) if server.check is not None else b""
        self._reader = Reader(protocolError=InvalidResponse, replyError=parsed_error)
        #: When the server was heard last, by the steady clock.
        self._heard_at = 0.0
        #: What waits to be sent, and what of it was begun and not taken as a whole.
        self._unsent: list[_Waiting] = []
        self._left = b""
        self._under_way: deque[_Waiting | _Check] = deque()
        self._is_watched = self._is_retired = self._is_full = False
        self._is_open = self._is_kept = True
        try:
            loop.add_reader(self._sock, self._read)
        except NotImplementedError:
            self._give_back(is_kept=False)
            raise

    def is_good(self) -> bool:
        """Whether something may be sent: so lately the server was greeted, and it was a primary."""
        return self._is_open and self._server.is_good(self._lent_at)

    def begin(self, trip: RoundTrip[T], now: float) -> asyncio.Future[T]:
        """Have a round trip made, with all others that are wanted by the end of this turn of the loop."""
        waiting = _Waiting(trip, self._loop.create_future(), now)
        if not self._unsent and not self._left:
            self._loop.call_soon(self._send)
        self._unsent.append(waiting)
        if not self._is_watched:
            self._is_watched = True
            self._loop.call_later(self._timeout_s, self._look)
        return waiting.future

    def retire(self, *, is_kept: bool) -> None:
        """Begin nothing more, and give the connection back when all is answered, for others if it is kept."""
        self._is_open = False
        self._is_retired = True
        self._is_kept = self._is_kept and is_kept
        self._end_if_over()

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        if self._connection is not None:
            connection = self._let_go()
            connection.disconnect()
            if not self._loop.is_closed():
                self._fail_all(RedisUnavailableError("the connection was closed here"))

    def _send(self) -> None:
        """Send what waits. What is not begun by then was not carried out."""
        if self._connection is None:
            return
        if self._unsent and not self._left:
            self._begin_unsent()
        try:
            sent = self._sock.send(self._left) if self._left else 0
        except ssl.SSLWantReadError:  # it goes on when something was read
            return
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
        self._end_if_over()

    def _begin_unsent(self) -> None:
        """Begin to send what waits, where that may still be: the loop may have stood still since it was made."""
        unsent, self._unsent = self._unsent, []
        now = time.monotonic()
        if not self.is_good() or now - unsent[0].began > _AHEAD_S:
            for one in unsent:
                _fail(one.future, UndecidedError())
            return
        for one in unsent:
            one.sent_at = now
        pieces = [one.packed for one in unsent]
        self._under_way += unsent
        if checked := [one for one in unsent if one.trip.epoch is not None]:
            pieces.append(self._check)
            self._under_way.append(_Check(checked, now))
        self._left = b"".join(pieces)

    def _read(self) -> None:
        """Read what has come."""
        try:
            while data := self._sock.recv(_READ_BYTES):
                self._heard_at = time.monotonic()
                self._reader.feed(data)
                self._conclude()
                if self._connection is None:
                    return
                if self._left and not self._is_full:
                    self._send()
                # What TLS has read ahead shows at no socket; others come in the next turn of the loop.
                if not isinstance(self._sock, ssl.SSLSocket):
                    return
        except _BLOCKS:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits must be told
            self._lose(error)
            return
        self._lose(RedisConnectionError("Connection closed by server"))

    def _conclude(self) -> None:
        """Conclude the round trips whose answers are there.

        Raises:
            RedisConnectionError: the server loads its data, asks for a login, or says what nobody has asked for.
        """
        while self._under_way:
            answer = self._reader.gets()
            if answer is False:
                break
            if isinstance(answer, RedisConnectionError):  # by which redis-py knows some answers
                raise answer
            waiting = self._under_way[0]
            waiting.answers.append(answer)
            if type(answer) is ReadOnlyError:  # only a new connection finds the primary
                self._is_open = self._is_kept = False
            if len(waiting.answers) == waiting.count:
                self._under_way.popleft()
                waiting.answered()
        if not self._under_way and self._reader.has_data():  # it would be taken for the next answer
            raise RedisConnectionError("an answer came that nobody has asked for")
        self._server.answered()
        self._end_if_over()

    def _look(self) -> None:
        """Look whether the server takes too long."""
        self._is_watched = False
        while self._connection is not None and self._left_s() <= 0:
            heard_at = self._heard_at
            self._read()  # the loop itself may have stood still, with the answers before it
            if self._heard_at == heard_at:
                break
        if self._connection is None or not (self._under_way or self._unsent):
            return
        if (left := self._left_s()) > 0:
            self._is_watched = True
            self._loop.call_later(left, self._look)
        else:
            self._lose(RedisTimeoutError("no answer came in time"))

    def _left_s(self) -> float:
        """The seconds that the server has left to say something; and to give the first of its answers."""
        if not self._under_way:
            return self._timeout_s
        sent_at = self._under_way[0].sent_at
        silent_until = max(sent_at, self._heard_at) + self._timeout_s
        return min(silent_until, sent_at + _TIMES * self._timeout_s) - time.monotonic()

    def _lose(self, error: BaseException) -> None:
        """Tell all whose answers will not come, and those who were not sent."""
        began = self._under_way[0].sent_at if self._under_way else time.monotonic()
        connection = self._let_go()
        lost = RedisUnavailableError()
        try:
            if self._under_way:
                lost = self._server.lost(connection, began, error)
            else:
                connection.disconnect()
        finally:
            self._fail_all(lost)

    def _fail_all(self, lost: RedisUnavailableError) -> None:
        under_way, unsent = list(self._under_way), self._unsent
        self._under_way.clear()
        self._unsent = []
        for one in under_way:
            one.fail(copy(lost))
        for one in unsent:
            one.fail(UndecidedError())

    def _end_if_over(self) -> None:
        if self._is_retired and self._connection is not None and not (self._under_way or self._unsent):
            self._give_back(is_kept=self._is_kept)

    def _give_back(self, *, is_kept: bool) -> None:
        connection = self._let_go()
        self._sock.settimeout(self._patience)
        self._server.take_back(connection, is_kept=is_kept)

    def _let_go(self) -> Any:
        """The connection, which is not looked at any more."""
        self._is_open = False
        connection, self._connection = self._connection, None
        if not self._loop.is_closed():
            with suppress(NotImplementedError):
                self._loop.remove_reader(self._sock)
                self._loop.remove_writer(self._sock)
        return connection


def _settle(waiting: _Waiting) -> None:
    """Conclude a round trip, whether or not anybody waits for it by now."""
    future, conclude, answers = waiting.future, waiting.trip.conclude, waiting.answers
    try:
        with NEVER_WAITS:
            result = conclude(answers)
    except WouldWaitError:
        _fail(future, UndecidedError(partial(conclude, answers)))
    except Exception as error:  # noqa: BLE001 - for whoever waits
        _fail(future, error)
    else:
        if not future.done():
            future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
