"""Redis while the number of partitions grows: one after the other is divided, and nothing is done in a former one.

A process may know too little: a partition may have been divided since. So each step about one that it takes for
undivided is sent with a look at that, and each plain read has the same look after it. What is refused, or doubtful
then, is done again where the names in its keys belong by now. A step without a name in its keys, or with names of
several partitions by now, fails with `PartitionDividedError`: whoever wanted it begins anew.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from writebehind import forks
from writebehind.errors import RedisNotReadyError, RedisUnavailableError
from writebehind.logs.states import StateLog
from writebehind.redis.connections import Command, Connections, Greeting
from writebehind.redis.keys import Layout, Named, View, partition_keys
from writebehind.redis.reach import is_away
from writebehind.redis.topology.guard import frozen_key, place_of, reads, until_divided
from writebehind.redis.topology.routing import STEPS, Answered, Servers, Then, Way, in_order, keys_of

#: A partition that is just being divided is waited for so long, seconds.
WAITS_S = 1.5
#: While a partition is just being divided, who needs it looks again after this, seconds.
_SOON_S = 0.01
_REFUSED = "DIVIDED"
#: Commands about several keys, which are sent as one for each: the command, and what makes one answer of theirs.
_APART: dict[str, tuple[str, Callable[[list[Any]], Any]]] = {"MGET": ("GET", list), "DEL": ("DEL", sum)}
#: Commands that are right of what is left of a partition where no key of theirs has a name in it.
_STAYS = frozenset(("EXISTS", "PTTL", "ZCARD", "HLEN"))
_OF_PARTITION = re.compile(r"^wb:\{[0-9]+\}:")


class PartitionDividedError(RedisNotReadyError):
    """A partition was divided while something in it was to be done. It was not."""


class HasLayout(Protocol):
    """A part of the store that knows the layout."""

    _layout: Layout


S = TypeVar("S", bound=HasLayout)
P = ParamSpec("P")
T = TypeVar("T")


def steadily(look: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that changes nothing, made to look again where a partition was divided meanwhile."""

    @wraps(look)
    def looked(self: S, /, *arguments: P.args, **named: P.kwargs) -> T:
        while True:
            view = self._layout.view
            try:
                found: T = look(self, *arguments, **named)
            except PartitionDividedError:
                if self._layout.view is view:
                    raise
            else:
                if self._layout.view is view:
                    return found

    return looked


class Dividing:
    """Servers, while the number of partitions grows. Safe to share between threads."""

    names: Sequence[str] = ()

    def __init__(self, inner: Servers, layout: Layout, *, timeout_s: float = WAITS_S) -> None:
        """Speak to servers; a partition that is just being divided is waited for so long, seconds."""
        #: Those that are spoken to when nothing changes any more.
        self.inner = inner
        self._layout = layout
        self._timeout_s = timeout_s
        self._lock = forks.lock()
        self.outage: StateLog = inner.outage

    def end(self, partitions: int) -> None:
        """Let nothing change any more."""
        with self._lock:
            self._layout.view = View(partitions)

    def learn(self, partitions: int, target: int, *, begins: bool = False) -> None:
        """Find out what is divided by now, unless nothing changes any more; or as a change `begins`.

        Of a partition whose server is away counts what was known: who needs it finds out when it is back.

        Raises:
            RedisUnavailableError: no server answers.
        """
        marks = [(partition_keys(one).divided, frozen_key(str(one))) for one in range(partitions)]
        commands: list[Command] = [one for mark, frozen in marks for one in (("GET", mark), ("EXISTS", frozen))]
        seen = self._layout.view
        known = seen.divided if (seen.partitions, seen.target) == (partitions, target) else frozenset[int]()
        answers = self.inner.exchange(commands)
        found = enumerate(zip(answers[::2], answers[1::2], strict=True))
        divided = (at for at, one in found if _is_divided(*one, target) or (at in known and is_away(one[0])))
        view = View(partitions, target, frozenset(divided))
        with self._lock:
            if view != self._layout.view and (begins or self._layout.view.target):
                self._layout.view = view

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """As `Servers` says."""
        return self.follow(commands, None, self._layout.view)[0]

    def confirmed(self, commands: Sequence[Command], then: Then) -> tuple[list[Any], list[Answered | None]]:
        """As `Servers` says."""
        return self.follow(commands, then, self._layout.view)

    def follow(
        self, commands: Sequence[Command], then: Then | None, first: View
    ) -> tuple[list[Any], list[Answered | None]]:
        """Exchange, `then` as `confirmed`, and do again what was refused, or is doubtful.

        Args:
            commands: with keys by the view `first`, or by one before it of the same number of partitions.
            then: as for `confirmed`, or nothing.
            first: a view.

        Raises:
            RedisUnavailableError: as `Servers.exchange`.
        """
        apart = [_apart(one) for one in commands]
        sending = _Sending([one for some in apart for one in some], first, self._layout.view, then)
        again: Sequence[int] = range(len(sending.commands))
        until = 0.0
        while again := sending.send(self.inner, again, view := self._layout.view):
            until = until or time.monotonic() + self._timeout_s
            if time.monotonic() > until:
                late = RedisUnavailableError("a partition is being divided, which takes long")
                sending.answers.update(dict.fromkeys(again, late))
                break
            again = sending.in_order(again)
            if view.target and not sending.unknown.issuperset(again):
                self.learn(view.partitions, view.target)
                if self._layout.view is view:
                    time.sleep(_SOON_S)
        ends = iter([sending.answers[at] for at in range(len(sending.commands))])
        answers = [_together(one, [next(ends) for _ in some]) for one, some in zip(commands, apart, strict=True)]
        return answers, [sending.confirmed.get(at) for at in range(len(commands))]

    # As the servers have it -------------------------------------------------------------------------

    def place(self, key: str) -> Connections:
        """As `Servers` says."""
        return self.inner.place(key)

    def way(self, _key: str) -> Way | None:
        """As `Servers` says: the key may be another one by then."""
        return None

    def servers(self) -> Sequence[Connections]:
        """As `Servers` says."""
        return self.inner.servers()

    def known(self) -> Sequence[Connections]:
        """As `Servers` says."""
        return self.inner.known()

    def unguarded(self, name: str) -> Connections:
        """As `Servers` says."""
        return self.inner.unguarded(name)

    def look_again(self) -> None:
        """As `Servers` says."""
        self.inner.look_again()

    def greet(self, greeting: Greeting) -> None:
        """As `Servers` says."""
        self.inner.greet(greeting)

    def belongs_to(self, database: str) -> None:
        """As `Servers` says."""
        self.inner.belongs_to(database)

    def record_by(self, record: Callable[[], object]) -> None:
        """As `Servers` says."""
        self.inner.record_by(record)

    def close(self) -> None:
        """As `Servers` says."""
        self.inner.close()


class _Sending:
    """Commands of one exchange, and what was answered so far."""

    def __init__(self, commands: Sequence[Command], first: View, began: View, then: Then | None) -> None:
        """Take the commands, the view by which their keys were made, that of now, and what is sent after them."""
        self.commands = commands
        self.answers: dict[int, Any] = {}
        self.confirmed: dict[int, Answered | None] = {}
        #: Which of them are steps that a server did not know.
        self.unknown: set[int] = set()
        self._first = first
        self._began = began
        self._then = then

    def in_order(self, again: Sequence[int]) -> list[int]:
        """Those that are to be sent again, as `routing.in_order` says."""
        answers = [self.answers[at] for at in range(len(self.commands))]
        left = in_order(self.commands, answers, again)
        self.answers.update(enumerate(answers))
        return left

    def send(self, servers: Servers, which: Sequence[int], view: View) -> list[int]:
        """Send some of them where they belong by a view; those that have to be sent again."""
        guard = until_divided(view.target)
        sent: dict[int, Command] = {}
        asking: dict[int, int] = {}
        for at in which:
            command = self.commands[at]
            if (partition := _undivided(command, view)) is not None:
                asking[at] = partition
                sent[at] = (guard.whole if at in self.unknown else guard.command)(command)
            elif routed := _routed(command, self._first, view, is_new=view is self._began):
                sent[at] = routed
            else:
                self.answers[at] = PartitionDividedError("a partition was divided meanwhile: try again")
        read = sorted({partition for at, partition in asking.items() if reads(self.commands[at])})
        looks: list[Command] = [
            one
            for partition in read
            for one in (("GET", partition_keys(partition).divided), ("EXISTS", frozen_key(str(partition))))
        ]
        if not sent:
            return []
        found = self._exchanged(servers, sent, looks)
        doubtful = {
            partition
            for at, partition in enumerate(read)
            if _is_divided(found[2 * at], found[2 * at + 1], view.target)
        }
        self.unknown = {at for at in asking if isinstance(self.answers[at], NoScriptError)}
        return [
            at
            for at, partition in asking.items()
            if at in self.unknown
            or _is_refused(self.answers[at])
            or (partition in doubtful and reads(self.commands[at]))
        ]

    def _exchanged(self, servers: Servers, sent: dict[int, Command], looks: Sequence[Command]) -> list[Any]:
        """Note the answers to commands; those to the looks after them."""
        together = [*sent.values(), *looks]
        if self._then:
            answers, confirmed = servers.confirmed(together, self._then)
            self.confirmed.update(zip(sent, confirmed, strict=False))
        else:
            answers = servers.exchange(together)
        self.answers.update(zip(sent, answers, strict=False))
        return answers[len(sent) :]


def _partition(command: Command) -> int | None:
    """The partition that a command is about."""
    keys = keys_of(command)
    place = place_of(keys[0]) if keys else ""
    return int(place) if place.isdecimal() else None


def _undivided(command: Command, view: View) -> int | None:
    """The partition that a command is about, where that is still to be divided."""
    partition = _partition(command) if view.target else None
    if partition is None or partition >= view.partitions or partition in view.divided:
        return None
    return partition


def _routed(command: Command, first: View, view: View, *, is_new: bool) -> Command | None:
    """A command where it belongs by a view, if its keys were made by an earlier one; `None` where nobody knows.

    One that `is_new` is about what is in the partition by now, where no key of it has a name.
    """
    partition = _partition(command)
    if partition is None or partition >= first.partitions:
        return command
    names = {one.name for key in keys_of(command) if (one := Named.parse(key.encode())) is not None}
    former = View(first.partitions)
    homes = {view.number(one) for one in names if former.number(one) == partition}  # others stand elsewhere anyway
    if homes <= {partition}:
        return command if names or is_new or command[0] in _STAYS else None
    return _in_partition(command, homes.pop()) if len(homes) == len(names) == 1 else None


def _in_partition(command: Command, partition: int) -> Command:
    """A command with its keys in another partition."""
    start, end = (3, 3 + int(command[2])) if command[0] in STEPS else (1, len(command))
    moved = f"wb:{{{partition}}}:"
    keys = [_OF_PARTITION.sub(moved, one, count=1) if isinstance(one, str) else one for one in command[start:end]]
    return (*command[:start], *keys, *command[end:])


def _apart(command: Command) -> list[Command]:
    """A command about several keys as one for each of them."""
    if command[0] in _APART:
        return [(_APART[command[0]][0], key) for key in command[1:]]
    return [command]


def _together(command: Command, answers: list[Any]) -> Any:
    """The answer to a command that was sent as several."""
    if command[0] not in _APART:
        return answers[0]
    failures = (one for one in answers if isinstance(one, Exception))
    return next(failures, None) or _APART[command[0]][1](answers)


def _is_refused(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and str(answer).startswith(_REFUSED)


def _is_divided(mark: Any, is_frozen: Any, target: int) -> bool:
    """Whether a partition is divided: not before it is thawed, as until then that may be taken back."""
    return mark == str(target).encode() and not is_frozen
