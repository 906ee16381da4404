"""The one module that owns Redis connections.

redis-py's `Redis.execute_command` costs about 88 µs of CPU a call, its bare `Connection` about 36 µs: see
`bench/connections.py`. The hot path is one round trip, so the pipeline speaks through `Connections`, a
thread-safe stack of bare ones.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from hiredis import pack_command
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.connection import DefaultParser, parse_url
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from writebehind import forks
from writebehind.deadline import about_to_wait
from writebehind.errors import (
    ForeignServerError,
    NoReplicasError,
    RedisNotReadyError,
    RedisUnavailableError,
    ReplicaError,
    told,
    without_frames,
)
from writebehind.logs.states import StateLog
from writebehind.redis.succession import Succession, Term
from writebehind.times import unasked

log = logging.getLogger(__name__)

Command = Sequence[Any]
#: Sends commands over a connection, and returns their answers; a `ResponseError` of one that is refused.
Ask = Callable[[Sequence[Command]], list[Any]]
#: Says of a command what takes its place: an error that is its answer, with which it is not sent; another command,
#: which only reads and is refused as this one would be; `None` where it is sent as it is.
Instead = Callable[[Command], "Exception | Command | None"]


class Greeted(NamedTuple):
    """Outcome of a greeting, by which a connection is used. Where it is to wait, the greeting raises an error.

    Attributes:
        term: of the primary that it leads to; an empty one where that is not known.
        is_kept: whether it may be used again; else it is used once.
        instead: what may not be sent over it; a connection for which there is such a thing is not kept.
    """

    term: Term = Term()
    is_kept: bool = True
    instead: Instead | None = None


#: Sees to a server over a connection, before that is used: takes what sends commands over it.
Greeting = Callable[[Ask], Greeted]
#: A connection over which commands were sent; when, by the steady clock; how many; and what takes the place of
#: some of them, if anything.
Sent = tuple[Any, float, int, "_Held | None"]

#: A connection that was used so lately is not looked at again before it is used, seconds.
CERTAIN_S = 0.1
#: A failure that took this long was a wait, seconds: a server that hangs, not one that is down.
WAIT_S = 0.25
#: After such a wait nobody else waits for this long, seconds; then one caller finds out.
PAUSE_S = 1.0

#: A primary that may not be used is looked at again after so long, seconds: Sentinels are asked each time.
NOT_READY_S = 0.25

#: A server is greeted again over a connection when that is this old, seconds: it may have become a replica and the
#: primary again meanwhile, and have missed writes as a replica.
GREETED_S = 1.0

#: A connection over which an answer of more bytes came is not kept.
MOST_BUFFERED = 1 << 20

#: What to do, for the log.
_ADVICE = "see that Redis runs, can be reached and takes this login"

_ADVICE_LOADING = "its log says how far it is"

#: The same by what the greeting says.
_ADVICE_NOT_READY: dict[type[RedisUnavailableError], str] = {
    NoReplicasError: "see that its replicas run and reach it",
    ForeignServerError: "see that REDIS_URL leads to the servers of this installation",
    ReplicaError: "name its primary in REDIS_URL, or see that it becomes that",
}

#: In the place of the system's words for it, which a person would take for a fault of the machine.
_LATE = "no answer came in time"
#: Another program at the address, such as one that speaks HTTP, answers nothing either.
_NO_ANSWER = (RedisConnectionError, RedisTimeoutError, OSError, InvalidResponse)


def parsed_error(text: str) -> Exception:
    """The error that a server refuses a command with."""
    error: Exception = _Parser.parse_error(text)
    return error


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]  # a variable of redis-py
    """Knows the errors of a cluster by their classes, which redis-py 5 keeps for its own client of clusters."""

    EXCEPTION_CLASSES: ClassVar[dict[str, Any]] = {
        **DefaultParser.EXCEPTION_CLASSES,
        "ASK": AskError,
        "CLUSTERDOWN": ClusterDownError,
        "CROSSSLOT": ClusterCrossSlotError,
        "MASTERDOWN": MasterDownError,
        "MOVED": MovedError,
        "TRYAGAIN": TryAgainError,
    }


def connection_pool(url: str, timeout_ms: int) -> ConnectionPool:
    """Describe how to connect to one server, as `connection_options`. Nothing is opened yet."""
    return ConnectionPool(**connection_options(url, timeout_ms))


def connection_options(url: str, timeout_ms: int) -> dict[str, Any]:
    """Arguments of a connection, as redis-py takes them. Nothing is ever retried behind the caller's back.

    What the URL says of time limits, retries, the protocol's version and decoding is not heeded.

    A commit whose answer was lost may have happened. Sent again, it would come after the writes of others
    that were acknowledged in between, and an increment would count twice.
    """

    def on_connect(connection: Any) -> None:
        limit_waits(connection._sock, timeout_ms)  # noqa: SLF001 - has no public name
        connection.on_connect()

    ours = {
        "redis_connect_func": on_connect,
        "socket_timeout": timeout_ms / 1000,  # of the TLS handshake too, which comes before `on_connect`
        "socket_connect_timeout": timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "protocol": 2,
        "parser_class": _Parser,
        "decode_responses": False,
    }
    return dict(parse_url(url)) | ours  # type: ignore[no-untyped-call]


def limit_waits(sock: socket.socket, timeout_ms: int) -> None:
    """Have the kernel bound each wait of a socket that is connected, where it can; else Python does.

    With a timeout of Python's, each send and receive would be two system calls, each of which gives the
    interpreter to another thread: a fifth of the throughput, see `bench/http.py`. Beneath TLS, and beneath
    gevent's sockets, the kernel's limit has no effect: they try again for as long as Python's allows.
    """
    sock.settimeout(timeout_ms / 1000)
    if isinstance(sock, ssl.SSLSocket):
        return
    sock.settimeout(None)
    if not os.get_blocking(sock.fileno()):
        sock.settimeout(timeout_ms / 1000)
        return
    limit = struct.pack("ll", timeout_ms // 1000, timeout_ms % 1000 * 1000)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, limit)


class Connections:
    """Connections to one Redis server, of which each exchange uses one. Safe to share between threads.

    Attributes:
        check: what the server is asked after reads, by whose answer they hold or not; `None` where they do anyway.
    """

    check: Command | None = None

    def __init__(self, pool: ConnectionPool, name: str = "") -> None:
        """Take the pool for its connection class and arguments only: its checkout costs more than a GET.

        `name` is that of the server, where there are several.
        """
        self.name = name
        self._title = f"Redis server {name}" if name else "Redis"
        #: How many partitions are on it, of how many, in words; '' where that is not known. It asks nobody.
        self.share: Callable[[], str] = str
        self._pool = pool
        #: Connections, each with the time since when it has been idle.
        self._idle: deque[tuple[Any, float]] = deque()
        #: What greets the server over each connection; when it did so; and those that are used once, as it says,
        #: with what may not be sent over them.
        self.greeting: Greeting | None = None
        self._greeted: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._passing: WeakKeyDictionary[Any, Instead | None] = WeakKeyDictionary()
        self._succession = Succession()
        #: All that were opened, also those in use.
        self._opened: WeakSet[Any] = WeakSet()
        self._pause_lock = forks.lock()
        #: Until when, and what is said meanwhile.
        self._paused_until = 0.0
        self._paused_by: type[RedisUnavailableError] = RedisUnavailableError
        self._paused_said = ""
        self._paused_inner: str | None = None
        #: Whether it is away, for the log.
        self.outage = StateLog(log, "redis_lost", "redis_back", is_outage=True)
        forks.begins_anew(self)

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send one or more commands in one round trip; one that is refused has its `ResponseError` as answer.

        Raises:
            RedisUnavailableError: Redis does not answer. Some of the commands may have been carried out.
        """
        return self.answers(self.send(commands))

    def prepared(self, commands: Sequence[Command]) -> Sequence[Command]:
        """Commands as they are sent to this server."""
        return commands

    def send(self, commands: Sequence[Command]) -> Sent:
        """Send commands, so that others may be sent elsewhere before `answers` waits. Raises as `exchange`."""
        about_to_wait()
        if self._paused_until:
            self._pause()
        began = time.monotonic()
        connection = None
        try:
            connection = self._take()
            held = None
            if self._passing and (instead := self._passing.get(connection)) is not None:
                held = _Held(commands, instead)
                commands = held.left
            # One buffer, so that it is one system call; packed by hiredis itself, at a third of redis-py's cost.
            packed = b"".join([pack_command(tuple(command)) for command in commands])
            connection.send_packed_command([packed], check_health=False)
        except BaseException as error:
            self._failed(connection, began, error)
            raise
        return connection, began, len(commands), held

    def answers(self, sent: Sent) -> list[Any]:
        """The answers to what was sent, which is to be called once for each `send`. Raises as `exchange`."""
        connection, began, count, held = sent
        try:
            answers = [_answer(connection) for _ in range(count)]
        except BaseException as error:
            self._failed(connection, began, error)
            raise
        if any(map(_ends, answers)) or (self._passing and connection in self._passing):
            connection.disconnect()  # what it has read into keeps the room for as long as the connection lives
        else:
            self._idle.append((connection, time.monotonic()))
        self._paused_until = 0.0
        self.answered()
        return answers if held is None else held.answers(answers)

    def _lacking(self, advice: str) -> str:
        """The part that is not served while it is away, and advice, for the log."""
        if not self.name:
            return f"writes are refused, and reads go to MongoDB: {advice}"
        return f"{self.share() or 'the partitions'} on it take no writes, and are read from MongoDB: {advice}"

    def _failed(self, connection: Any, began: float, error: BaseException) -> None:
        """See to the connections after an error.

        Raises:
            RedisUnavailableError: it says that Redis does not answer.
        """
        if isinstance(error, BusyLoadingError):  # which redis-py takes for a lost connection
            self.close()
            if connection is not None:
                connection.disconnect()
            self.outage.begin(
                f"{self._title} loads its data, and serves nobody until it has; {self._lacking(_ADVICE_LOADING)}"
            )
            raise _logged(RedisNotReadyError(f"{self._title} cannot serve now", inner=told(error))) from None
        if isinstance(error, _NO_ANSWER):
            # The others of the stack probably lead to the same dead server.
            self.close()
            why = reason(error)
            if time.monotonic() - began > WAIT_S:
                said, inner = ("did not answer in time", None) if _is_late(error) else ("does not answer", why)
                self._pause_for(PAUSE_S, RedisUnavailableError, f"{self._title} {said}", inner)
            self.outage.begin(f"{self._title} does not answer: {why}; {self._lacking(_ADVICE)}")
            lost = _logged(RedisUnavailableError(f"{self._title} does not answer", inner=why))
            lost.late = _is_late(error)
            raise lost from error
        if isinstance(error, RedisNotReadyError):  # said by the greeting
            self.close()
            self._pause_for(NOT_READY_S, type(error), error.public)
            advice = self._lacking(_ADVICE_NOT_READY.get(type(error), _ADVICE))
            self.outage.begin(f"{self._title}: {error}; {advice}", cause=type(error).__name__)
            _logged(error)
        if connection is not None:  # such as Celery's soft time limit, or Ctrl-C
            connection.disconnect()  # answers may be left in it
        if isinstance(error, ResponseError):  # to the login or the choice of the database: others are answers
            self.outage.begin(f"{self._title} refuses the connection: {told(error)}; {self._lacking(_ADVICE)}")
            raise _logged(
                RedisUnavailableError(f"{self._title} refuses the connection", inner=told(error))
            ) from None

    def opened(self) -> Any:
        """A connection that is the caller's own, who closes it. Raises as `exchange`."""
        about_to_wait()
        began = time.monotonic()
        try:
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.connect()
        except BaseException as error:
            self._failed(None, began, error)
            raise
        return connection

    def lend(self) -> tuple[Any, float] | None:
        """A connection for whoever sends many commands at once over it, without a thread: for `take_back`.

        It is good as long as `is_good` says so of the moment that comes with it, by the steady clock.
        `None` where it is of no use, as where the server takes no writes yet. Raises as `exchange`.
        """
        if self._paused_until:
            self._pause()
        began = time.monotonic()
        connection = None
        try:
            connection = self._take()
            if self._greeted.get(connection, 0.0) < began:
                self._greet(connection)
        except BaseException as error:
            self._failed(connection, began, error)
            raise
        if connection in self._passing or not isinstance(connection._sock, socket.socket):  # noqa: SLF001
            self.take_back(connection, is_kept=False)
            return None
        self._paused_until = 0.0
        return connection, self._greeted.get(connection, began)

    def is_good(self, lent_at: float) -> bool:
        """Whether a connection may still be used that was lent then: so lately the server was greeted over it."""
        return (
            lent_at > time.monotonic() - GREETED_S and lent_at >= self._succession.since and not self._paused_until
        )

    def take_back(self, connection: Any, *, is_kept: bool) -> None:
        """Take a connection back of which all answers were read."""
        if is_kept:
            self._idle.append((connection, 0.0))  # to be looked at before it is used
        else:
            connection.disconnect()

    def answered(self) -> None:
        """Note that the server answers, be it over a connection that is lent."""
        if self.outage.lasts:
            self.outage.end(f"{self._title} answers again")

    def lost(self, connection: Any, began: float, error: BaseException) -> RedisUnavailableError:
        """The error of whoever waits for answers over a connection that is lent, and broke; that is closed."""
        connection.disconnect()
        if not isinstance(error, _NO_ANSWER):  # such as what is no answer of a Redis
            error = RedisConnectionError(told(error))
        try:
            self._failed(connection, began, error)
        except RedisUnavailableError as lost:
            return without_frames(lost)
        return RedisUnavailableError(f"{self._title} does not answer", inner=told(error))

    @property
    def term(self) -> str:
        """The latest term of the primary that was met; '' where none is known."""
        return self._succession.latest

    def greet_again(self) -> None:
        """Have the server greeted over each connection before that is used the next time."""
        self._succession.since = time.monotonic()

    def close(self) -> None:
        """Close the idle connections. Others are opened when they are needed."""
        while self._idle:
            try:
                self._idle.pop()[0].disconnect()
            except IndexError:  # another thread was faster
                return

    def begin_anew(self) -> None:
        """Close the parent's connections in this process only: they go on in the other."""
        self._idle.clear()
        opened, self._opened = self._opened, WeakSet()
        for connection in opened:
            connection.disconnect()

    def _take(self) -> Any:
        if forks.process != os.getpid():  # forked by C code that did not tell Python, as uWSGI does by default
            forks.begin_anew(is_told=False)
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                connection = self._pool.connection_class(**self._pool.connection_kwargs)
                self._opened.add(connection)
                connection.connect()  # as only this asks Sentinels
                self._greet(connection)
                return connection
            # Readable while nothing was asked means: closed by the server. Better to see it before a commit is
            # sent than to answer "perhaps" to the client. No server restarts within a moment.
            try:
                certain = time.monotonic() - since < CERTAIN_S or not connection.can_read(timeout=0)
                if certain and self._greeted_lately(connection):
                    return connection
            except _NO_ANSWER as error:
                if _is_late(error):  # so would all others be, one after the other
                    raise
            connection.disconnect()

    def _greeted_lately(self, connection: Any) -> bool:
        """Greet over a connection where the last time was long ago; whether it may still be used."""
        oldest = max(time.monotonic() - GREETED_S, self._succession.since)
        if self.greeting is not None and self._greeted.get(connection, 0.0) <= oldest:
            self._greet(connection)
            return connection not in self._passing
        return True

    def _greet(self, connection: Any) -> None:
        if self.greeting is None:
            return
        try:
            term, is_kept, instead = self.greeting(lambda commands: self.over(connection, commands))
        except BaseException:
            connection.disconnect()
            raise
        is_latest = not term.id or self._succession.is_latest(term)
        if not (is_latest and is_kept and instead is None):
            self._passing[connection] = instead
        self._greeted[connection] = time.monotonic()
        if term.met is not None:
            term.met()

    def over(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        """Send commands over a connection, and return their answers as `exchange` does."""
        connection.send_packed_command([pack_command(tuple(one)) for one in commands], check_health=False)
        return [_answer(connection) for _ in commands]

    def _pause_for(
        self, seconds: float, by: type[RedisUnavailableError], said: str, inner: str | None = None
    ) -> None:
        self._paused_until, self._paused_by = time.monotonic() + seconds, by
        self._paused_said, self._paused_inner = said, inner

    def _pause(self) -> None:
        """Let one caller through when the pause is over: if Redis still hangs, one thread waits and not all.

        Raises:
            RedisUnavailableError: to the others.
        """
        with self._pause_lock:
            now = time.monotonic()
            if now < self._paused_until:
                left = self._paused_until - now
                self.outage.fails()
                said = f"{self._paused_said}{unasked(left)}"
                paused = _logged(self._paused_by(said, inner=self._paused_inner, retry_after_s=left))
                paused.late = not issubclass(self._paused_by, RedisNotReadyError) and self._paused_inner is None
                raise paused
            if self._paused_until:
                self._paused_until = now + PAUSE_S


class _Held:
    """Commands of which some may not be sent over a connection.

    Attributes:
        left: what is sent.
    """

    def __init__(self, commands: Sequence[Command], instead: Instead) -> None:
        """Ask of each what takes its place."""
        self._instead = [instead(one) for one in commands]
        self.left: list[Command] = []
        for command, other in zip(commands, self._instead, strict=True):
            if not isinstance(other, Exception):
                self.left.append(command if other is None else other)

    def answers(self, answers: Sequence[Any]) -> list[Any]:
        """The answers to all commands, from those to what was sent."""
        found = iter(answers)
        return [other if isinstance(other, Exception) else _own(other, next(found)) for other in self._instead]


def _own(other: Command | None, answer: Any) -> Any:
    """The answer to a command, by that to what was sent in its place, if anything."""
    if other is None or isinstance(answer, ResponseError):
        return answer
    return TryAgainError("it has just become the primary")  # nothing was done there


def _logged(error: RedisUnavailableError) -> RedisUnavailableError:
    error.logged = True
    return error


def reason(error: BaseException) -> str:
    """The reason why a server does not answer, by the error that was met."""
    if _is_late(error):
        return _LATE
    said = told(error).rstrip(".")
    return f"what is at its address is no Redis: {said}" if isinstance(error, InvalidResponse) else said


def _is_late(error: BaseException) -> bool:
    """Whether no answer came in time."""
    return isinstance(error, RedisTimeoutError) or isinstance(error.__context__, BlockingIOError)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return without_frames(error)


def _ends(answer: Any) -> bool:
    """Whether a connection is not kept after an answer: it, or a part of it, has much more bytes than others.

    Or the server has become a replica: only a new connection finds the primary, where Sentinels know it.
    """
    if type(answer) is bytes:
        return len(answer) > MOST_BUFFERED
    if type(answer) is list:
        return any(type(one) is bytes and len(one) > MOST_BUFFERED for one in answer)
    return type(answer) is ReadOnlyError
