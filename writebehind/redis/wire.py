"""Commands and atomic steps to Redis, and what its refusals mean: `Wire`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

from redis import ConnectionPool
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    ResponseError,
)

from writebehind.errors import (
    MistypedKeyError,
    RedisUnavailableError,
    UncoveredError,
    without_frames,
)
from writebehind.logs.events import OTHER_HANDS
from writebehind.redis.connections import Command, Connections, Greeting
from writebehind.redis.keys import COUNTERS, Layout, View, type_of
from writebehind.redis.reach import is_away
from writebehind.redis.refusals import check_served, forbidden, not_now, raise_refused
from writebehind.redis.round_trip import RoundTrip, UndecidedError
from writebehind.redis.scripts import Script, script
from writebehind.redis.topology.dividing import Dividing
from writebehind.redis.topology.lookout import Lookout
from writebehind.redis.topology.routing import ELSEWHERE, Answered, OneServer, Servers, Then, Way, exchange_at

log = logging.getLogger(__name__)

T = TypeVar("T")
#: The keys and the arguments of one step.
Call = tuple[Sequence[str], Sequence[Any]]

#: Answers of a server that has not carried a step out, as it does not know it, or has not what it is about.
_NOT_HERE = (NoScriptError, ClusterDownError, *ELSEWHERE)
#: So many characters of names are told.
_MOST_SHOWN = 500


class Wire:
    """Commands to one Redis server, or to several as if they were one. Safe to share between threads."""

    def __init__(self, servers: ConnectionPool | Servers) -> None:
        """Speak to these servers, or over connections to one as the pool describes them."""
        if isinstance(servers, ConnectionPool):
            servers = OneServer(Connections(servers))
        self._servers = servers
        #: Whether Redis is away as a whole, for the log.
        self.outage = servers.outage
        self._lookout = Lookout(Layout(1))

    def keep_up(self, layout: Layout, look: Callable[[], object]) -> None:
        """Let commands have a look before them how a layout is by now, where the last was long ago."""
        self._lookout = Lookout(layout, look)

    def see_division(self) -> None:
        """Have such a look where it is due, although nothing is sent. It fails in silence."""
        if time.monotonic() > self._lookout.due:
            self._lookout.look()

    def divide(self, layout: Layout, partitions: int, target: int) -> None:
        """Speak from now on as the number of partitions grows; see how far that has come. Raises as `calls`."""
        servers = self._servers
        if not isinstance(servers, Dividing):
            servers = Dividing(servers, layout)
        servers.learn(partitions, target, begins=True)
        self._servers = servers

    def divided(self, layout: Layout, partitions: int) -> None:
        """Speak to so many partitions, of which nothing changes any more."""
        if isinstance(self._servers, Dividing):
            self._servers.end(partitions)
            self._servers = self._servers.inner
        layout.view = View(partitions)

    @property
    def has_several(self) -> bool:
        """Whether Redis is several servers, of which one may be away. Raises as `on_each`."""
        return len(self._servers.servers()) > 1

    def on_each(self, commands: Sequence[Command]) -> dict[str, list[Any]]:
        """Send commands to each server that has keys, in one round trip; their answers by its name.

        Those of a server that does not answer while others do are `RedisUnavailableError`s.

        Raises:
            RedisUnavailableError: none answers.
        """
        self.see_division()
        servers, size = self._servers.servers(), len(commands)
        places = {one: range(at * size, (at + 1) * size) for at, one in enumerate(servers)}
        answers, _ = exchange_at(places, [*commands] * len(servers), None)
        return {one.name: [answers[at] for at in of_one] for one, of_one in places.items()}

    @property
    def names(self) -> Sequence[str]:
        """The names that the URL gives to servers of their own; empty where it gives none."""
        return self._servers.names

    def at(self, server: str, *command: Any) -> Any:
        """`call` on a server, by the name that `on_each` has for it."""
        of_name = next((one for one in self._servers.servers() if one.name == server), None)
        if of_name is None:
            raise UncoveredError
        (answer,) = of_name.exchange((command,))
        check_served((answer,))
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def unguarded(self, server: str) -> Connections:
        """Connections to a server with a name that do not ask whether what is done belongs there."""
        return self._servers.unguarded(server)

    def connections(self, key: str) -> Connections:
        """Connections to the server that has a key, which ask nothing before what is done. Raises as `on_each`."""
        return self._servers.place(key)

    def way(self, key: str) -> Way | None:
        """The way to what a key names, where it takes no look."""
        return None if time.monotonic() > self._lookout.due else self._servers.way(key)

    def read_trip(
        self, key: str, commands: Sequence[Command], conclude: Callable[[list[Any]], T]
    ) -> RoundTrip[T] | None:
        """Commands with that key which only read, in two halves; `None` where it may take more than a round trip.

        The second half gets the answers, errors too, and leaves to a thread what these do not decide.
        """
        way = self.way(key)
        return None if way is None else RoundTrip(way.server, commands, conclude, epoch=way.epoch)

    def step_trip(
        self, step: Script, call: Call, conclude: Callable[[Any], T], lost: Callable[[RedisUnavailableError], Any]
    ) -> RoundTrip[T] | None:
        """`run` in two halves, of which the second makes something of its answer; `lost` as `RoundTrip` has it.

        `None` where it may take more than a round trip.
        """
        way = self.way(call[0][0])
        if way is None:
            return None
        sent = _sent(step, call)

        def decide(answers: list[Any]) -> T:
            (answer,) = answers
            if isinstance(answer, _NOT_HERE):
                raise UndecidedError
            if isinstance(answer, ResponseError):
                raise UndecidedError(partial(self._raise_refusal, sent, answer))
            return conclude(answer)

        return RoundTrip(way.server, way.server.prepared((sent,)), decide, lost)

    def look_again(self) -> None:
        """Find out where everything is, after that was changed. Raises as `on_each`."""
        self._servers.look_again()

    def server_of(self, key: str) -> str:
        """The name of the server that has a key; '' where none has, of a cluster. Raises as `on_each`."""
        try:
            return self._servers.place(key).name
        except UncoveredError:
            return ""

    def scan(self, cursor: bytes, *, match: str, count: int) -> tuple[bytes, list[bytes]]:
        """About `count` keys from a cursor on, and the cursor of the next: b'0' after the last of the last server.

        Raises: as `call`.
        """
        servers = self._servers.servers()
        within, _, turn = cursor.partition(b"@")
        at = min(int(turn) if turn.isdigit() else 0, len(servers) - 1)
        (answer,) = servers[at].exchange((("SCAN", within, "MATCH", match, "COUNT", count),))
        check_served((answer,))
        if isinstance(answer, ResponseError):
            raise answer
        after, found = answer
        at += after == b"0"
        if at == len(servers):
            return b"0", found
        return (after + b"@%d" % at if at else after), found

    def call(self, *command: Any) -> Any:
        """Send one command and return its answer.

        Raises:
            RedisUnavailableError: Redis does not answer, or says that it cannot serve now.
        """
        answer = self.calls((command,))[0]
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def now_ms(self, key: str = COUNTERS) -> int:
        """The clock of the server that has a key, which all times beside it are made of, ms. Raises as `call`."""
        (answer,) = self._servers.place(key).exchange((("TIME",),))
        check_served((answer,))
        return time_ms(answer)

    def calls(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands in one round trip; a command that fails has its `ResponseError` as answer.

        Nothing is sent where there are none.

        Raises:
            RedisUnavailableError: as `call`. Some of the commands may have been carried out.
        """
        answers = self.exchange(commands)
        self._see_served(commands, answers)
        return answers

    def calls_answered(self, commands: Sequence[Command]) -> list[Any]:
        """`calls_each`, with `None` in the place of errors. Raises as `calls`."""
        return [None if isinstance(one, RedisUnavailableError) else one for one in self.calls_each(commands)]

    def calls_each(self, commands: Sequence[Command]) -> list[Any]:
        """`calls`, with an error as answer of a server that does not answer, or serve it now, while others do.

        The same of one that does not permit a command which others permit.

        Raises:
            RedisUnavailableError: none does; or one refuses a command for another reason.
        """
        answers = self.exchange(commands)
        if len(self._servers.known()) > 1:
            permitted = {
                one[0]
                for one, answer in zip(commands, answers, strict=True)
                if not isinstance(answer, (ResponseError, RedisUnavailableError))
            }
            answers = [
                not_now(answer) or (one[0] in permitted and forbidden(answer)) or answer
                for one, answer in zip(commands, answers, strict=True)
            ]
        missing = [one for one in answers if isinstance(one, RedisUnavailableError)]
        if missing and len(missing) == len(answers):
            raise missing[0]
        self._see_served(commands, [None if isinstance(one, RedisUnavailableError) else one for one in answers])
        return answers

    def run_many_answered(self, step: Script, calls: Sequence[Call]) -> list[Any]:
        """`run_many`, with `None` as answer of a server that does not answer while others do. Raises as it."""
        answers, _ = self.run_each(step, calls)
        missing = [one for one in answers if isinstance(one, RedisUnavailableError)]
        for one in missing:
            if not is_away(one) or len(missing) == len(answers):  # or it would seem that there is nothing
                raise one
        return [None if isinstance(one, RedisUnavailableError) else one for one in answers]

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """`calls`, in which a command that Redis cannot serve now has its `ResponseError` as answer too.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if not commands:
            return []
        if time.monotonic() > self._lookout.due:
            return self._up_to_date(commands, None)[0]
        return self._servers.exchange(commands)

    def _up_to_date(
        self, commands: Sequence[Command], then: Then | None
    ) -> tuple[list[Any], list[Answered | None]]:
        """Exchange, after a look how Redis is divided: the keys were made by what was known before it."""
        layout, before = self._lookout.layout, self._lookout.layout.view
        self._lookout.look()
        servers = self._servers
        if layout.view is not before:
            dividing = servers if isinstance(servers, Dividing) else Dividing(servers, layout)
            return dividing.follow(commands, then, before)
        return servers.confirmed(commands, then) if then else (servers.exchange(commands), [])

    def greet(self, greeting: Greeting) -> None:
        """Greet each server so over each connection that is opened from now on."""
        self._servers.greet(greeting)

    def belongs_to(self, database: str) -> None:
        """Speak from now on to no server with a name that belongs to another MongoDB database."""
        self._servers.belongs_to(database)

    def record_by(self, record: Callable[[], object]) -> None:
        """Record so what is on a server with a name that has no record; `record` as `Servers` has it."""
        self._servers.record_by(record)

    def close(self) -> None:
        """Close the idle connections. The wire stays usable."""
        self._servers.close()

    def run(self, step: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run one atomic step and return its answer.

        Raises:
            RedisUnavailableError: as `call`.
        """
        answer = self.calls((("EVALSHA", step.sha1, len(keys), *keys, *arguments),))[0]
        if isinstance(answer, NoScriptError):
            (answer,) = self._told(step, ((keys, arguments),), [answer])
        if isinstance(answer, ResponseError):
            raise_refused(answer)
        return answer

    def run_many(self, step: Script, calls: Sequence[Call]) -> list[Any]:
        """Run one atomic step for several sets of keys and arguments, in one round trip; for none, in none.

        Raises:
            RedisUnavailableError: as `calls`.
        """
        return self._run_many(step, calls)

    def run_many_after(
        self, commands: Sequence[Command], step: Script, calls: Sequence[Call]
    ) -> tuple[list[Any], list[Any]]:
        """`run_many` after some commands, which are sent once, in the same round trip.

        Returns:
            The answers of the commands, and those of the steps.

        Raises:
            RedisUnavailableError: as `calls`.
        """
        before: list[Any] = []
        answers = self._run_many(step, calls, commands, before)
        return before, answers

    def look_before(
        self, step: Script, calls: Sequence[Call], commands: Sequence[Command]
    ) -> tuple[list[Any], list[Any]]:
        """`run_many` of a step that changes nothing, and after it some commands that do not either.

        Returns:
            The answers of the steps, and those of the commands, which are never older.

        Raises:
            RedisUnavailableError: as `calls`.
        """
        answers = self.calls([*(_sent(step, call) for call in calls), *commands])
        if any(isinstance(answer, NoScriptError) for answer in answers):
            self._load(step, calls)
            # The commands too: their answers would be older. Whole, as one may be asked that was not told.
            answers = self.calls([*(_whole(step, call) for call in calls), *commands])
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise_refused(answer)
        return answers[: len(calls)], answers[len(calls) :]

    def run_before(self, step: Script, call: Call, commands: Sequence[Command]) -> list[Any]:
        """Run one atomic step, or raise as `run`, and commands after it, in one round trip. Answers as `calls`."""
        sent = _sent(step, call)
        answer, *answers = self.exchange((sent, *commands))
        if isinstance(answer, NoScriptError):
            self.run_many(step, (call,))
        elif isinstance(answer, RedisUnavailableError):
            raise answer
        elif isinstance(answer, ResponseError):
            raise self._refusal(sent, answer)
        self._see_served(commands, answers)
        return answers

    def run_each(
        self, step: Script, calls: Sequence[Call], then: Then | None = None
    ) -> tuple[list[Any], list[Answered | None]]:
        """`run_many`, in which each step stands for itself; `then` commands on the same connection, such as WAIT.

        Steps with the same first key are carried out in their order, or not at all.

        Returns:
            The answers of the steps, a `RedisUnavailableError` of one that was not carried out, or whose server
            did not answer while others did; and for each its server's name and the answer to the last command
            after it, a `ResponseError` when it was refused; `None` where there is none.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if not calls:
            return [], []
        steps = [_sent(step, call) for call in calls]
        answers, confirmed = self._each(steps, then)
        for form in (_sent, _whole):
            if not _unknown(answers):
                break
            _give_up_overtaken(calls, answers)
            unknown = _unknown(answers)
            if form is _sent:
                self._load(step, [calls[at] for at in unknown])
            for at, *found in zip(
                unknown, *self._each([form(step, calls[at]) for at in unknown], then), strict=True
            ):
                answers[at], confirmed[at] = found
        for at, answer in enumerate(answers):
            if isinstance(answer, ResponseError):
                answers[at] = self._refusal(steps[at], answer)
        return answers, confirmed

    def _each(self, steps: Sequence[Command], then: Then | None) -> tuple[list[Any], list[Answered | None]]:
        """Steps as they are sent, and `then` what comes after them, if anything."""
        if not (then and steps):
            return self.exchange(steps), [None] * len(steps)
        is_old = time.monotonic() > self._lookout.due
        return (self._up_to_date if is_old else self._servers.confirmed)(steps, then)

    def _run_many(
        self,
        step: Script,
        calls: Sequence[Call],
        first: Sequence[Command] = (),
        before: list[Any] | None = None,
    ) -> list[Any]:
        """The answers of the steps; those of what comes `first` go into `before`."""
        if not calls and not first:
            return []
        answers = self.calls([*first, *(_sent(step, call) for call in calls)])
        for answer in answers[: len(first)]:
            if isinstance(answer, ResponseError):
                raise_refused(answer)
        if before is not None:
            before += answers[: len(first)]
        answers = self._told(step, calls, answers[len(first) :])
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise_refused(answer)
        return answers

    def _told(self, step: Script, calls: Sequence[Call], answers: list[Any]) -> list[Any]:
        """The answers to steps, when those were sent again that a server did not know. Raises as `calls`.

        It is new or was restarted: none of these ran. The last time they are sent whole, as another server may
        have been asked than was told: one that a slot is on its way to.
        """
        for form in (_sent, _whole):
            if unknown := _unknown(answers):
                some = [calls[at] for at in unknown]
                if form is _sent:
                    self._load(step, some)
                for at, answer in zip(unknown, self.calls([form(step, one) for one in some]), strict=True):
                    answers[at] = answer
        return answers

    def _load(self, step: Script, calls: Sequence[Call]) -> None:
        """Tell the servers of calls what a step is. If one does not answer, that is met when it is asked next."""
        servers = {self._servers.place(keys[0]) for keys, _ in calls}
        loads = [("SCRIPT", "LOAD", step.source)] * len(servers)
        with suppress(RedisUnavailableError):
            exchange_at({one: (at,) for at, one in enumerate(servers)}, loads, None)

    def _see_served(self, commands: Sequence[Command], answers: Sequence[Any]) -> None:
        """See that no answer says that a command cannot be served. Raises as `calls`."""
        if mistyped := check_served(answers):
            self._take_out([commands[at] for at in mistyped])

    def _refusal(self, command: Command, answer: ResponseError) -> RedisUnavailableError:
        """An answer that says that a step was not carried out, as `calls` would raise it."""
        try:
            self._see_served([command], [answer])
            raise_refused(answer)
        except RedisUnavailableError as error:
            return without_frames(error)

    def _raise_refusal(self, command: Command, answer: ResponseError) -> NoReturn:
        raise self._refusal(command, answer)

    def _take_out(self, commands: Sequence[Command]) -> NoReturn:
        """Take out what is of another type than its key has, which only other hands can have put there.

        What was there before is gone already. A step may have been carried out in part, so nothing is sent again.

        Raises:
            MistypedKeyError: in any case.
        """
        typed = {key: kind for one in commands for key in _keys_of(one) if (kind := type_of(key)) is not None}
        dropped = self.run_many(script("drop_mistyped"), [((key,), (kind,)) for key, kind in typed.items()])
        names = ", ".join(key for key, was_dropped in zip(typed, dropped, strict=True) if was_dropped)
        if names:
            said = "other hands put something of another type into %s: it is taken out"
            log.critical(said, names[:_MOST_SHOWN], extra=OTHER_HANDS)
        raise MistypedKeyError(retry_after_s=1)


def time_ms(answer: Sequence[bytes]) -> int:
    """The answer to TIME, ms."""
    seconds, microseconds = answer
    return int(seconds) * 1000 + int(microseconds) // 1000


def _give_up_overtaken(calls: Sequence[Call], answers: list[Any]) -> None:
    """Let no step run after a later one of its first key: the script may have been loaded in between."""
    carried_out: set[str] = set()
    for at in reversed(range(len(calls))):
        key = calls[at][0][0]
        if not isinstance(answers[at], NoScriptError):
            carried_out.add(key)
        elif key in carried_out:
            answers[at] = RedisUnavailableError(
                "Redis did not know the script, and a later step has overtaken this one"
            )


def _unknown(answers: Sequence[Any]) -> list[int]:
    """Places of steps that a server did not know."""
    return [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]


def _whole(step: Script, call: Call) -> Command:
    """A step as it is sent to a server that may not know it, which knows it then."""
    keys, arguments = call
    return ("EVAL", step.source, len(keys), *keys, *arguments)


def _sent(step: Script, call: Call) -> Command:
    """A step as it is sent."""
    keys, arguments = call
    return ("EVALSHA", step.sha1, len(keys), *keys, *arguments)


def _keys_of(command: Command) -> Sequence[str]:
    """The keys of a command, or of a step."""
    if command[0] in {"EVALSHA", "EVAL"}:
        return [str(one) for one in command[3 : 3 + int(command[2])]]
    return [one for one in command[1:] if isinstance(one, str) and type_of(one) is not None]
