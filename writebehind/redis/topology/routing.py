"""Commands to several servers: each goes where its first key is, and all of one round trip at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

from redis.exceptions import AskError, TryAgainError

from writebehind.errors import RedisUnavailableError, UncoveredError, without_frames
from writebehind.logs.states import StateLog
from writebehind.redis.connections import Command, Connections, Greeting
from writebehind.redis.topology.guard import reads

#: Answers of one of several servers that carried nothing out, as what that is about is elsewhere or on its way.
ELSEWHERE = (AskError, TryAgainError)  # MovedError is an AskError
#: What a server is sent after its commands, by its name.
Then = Callable[[str], Sequence[Command]]
#: The name of a server, and its answer to the last of these.
Answered = tuple[str, Any]


class Way(NamedTuple):
    """The way to what a key names, as far as is known.

    Attributes:
        server: that has it.
        epoch: of what is read there, as `RoundTrip` has it.
    """

    server: Connections
    epoch: bytes | None = None


class Servers(Protocol):
    """One server or several, as a wire speaks to them."""

    @property
    def names(self) -> Sequence[str]:
        """The names that the URL gives to servers of their own, in its order; empty where it gives none."""

    @property
    def outage(self) -> StateLog:
        """Whether Redis is away as a whole, for the log."""

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send one or more commands, each of which has a key or is for a single server, in one round trip.

        Returns:
            An answer for each; a `ResponseError` of one that is refused, and a `RedisUnavailableError` of one
            whose server does not answer while others do.

        Raises:
            RedisUnavailableError: none of them answers. Some of the commands may have been carried out.
        """

    def confirmed(self, commands: Sequence[Command], then: Then) -> tuple[list[Any], list[Answered | None]]:
        """`exchange`, and `then` after them on each connection, such as WAIT: the answer to its last for each."""

    def place(self, key: str) -> Connections:
        """The server that has a key."""

    def way(self, key: str) -> Way | None:
        """The way there without a wait; `None` where it takes a look. Something else may be there by now."""

    def servers(self) -> Sequence[Connections]:
        """Every server that has keys, for what is asked of each. Raises as `exchange`."""

    def known(self) -> Sequence[Connections]:
        """The servers that were spoken to so far."""

    def unguarded(self, name: str) -> Connections:
        """Connections to a server with a name that do not ask whether what is done belongs there."""

    def look_again(self) -> None:
        """Find out where everything is, after that was changed. Raises as `exchange`."""

    def greet(self, greeting: Greeting) -> None:
        """Greet each server so over each connection that is opened from now on."""

    def belongs_to(self, database: str) -> None:
        """Take a server with a name that belongs to another MongoDB database for away, from now on."""

    def record_by(self, record: Callable[[], object]) -> None:
        """Record so what is on a server with a name that has no record, before anything is done there.

        `record` raises a `RedisUnavailableError` where that cannot be told now.
        """

    def close(self) -> None:
        """Close the idle connections. They are opened anew when they are needed."""


class OneServer:
    """The server that has everything."""

    names = ()

    def __init__(self, connections: Connections) -> None:
        """Speak over these connections."""
        self._all = (connections,)
        self._way = Way(connections)
        self.outage = connections.outage
        self.exchange = connections.exchange
        self.close = connections.close

    def confirmed(self, commands: Sequence[Command], then: Then) -> tuple[list[Any], list[Answered | None]]:
        """As `Servers` says."""
        name = self._all[0].name
        answers = self.exchange([*commands, *then(name)])
        return answers[: len(commands)], [(name, answers[-1])] * len(commands)

    def place(self, _key: str) -> Connections:
        """As `Servers` says."""
        return self._all[0]

    def way(self, _key: str) -> Way:
        """As `Servers` says."""
        return self._way

    def servers(self) -> Sequence[Connections]:
        """As `Servers` says."""
        return self._all

    known = servers

    def greet(self, greeting: Greeting) -> None:
        """As `Servers` says."""
        self._all[0].greeting = greeting

    def unguarded(self, name: str) -> Connections:
        """As `Servers` says; but these have no names."""
        raise KeyError(name)

    def look_again(self) -> None:
        """As `Servers` says."""

    def belongs_to(self, database: str) -> None:
        """As `Servers` says."""

    def record_by(self, record: Callable[[], object]) -> None:
        """As `Servers` says."""


class Several(ABC):
    """Several servers, of which each has some of the keys. Safe to share between threads."""

    outage: StateLog
    names: Sequence[str] = ()

    @abstractmethod
    def place(self, key: str) -> Connections:
        """As `Servers` says."""

    @abstractmethod
    def way(self, key: str) -> Way | None:
        """As `Servers` says."""

    @abstractmethod
    def servers(self) -> Sequence[Connections]:
        """As `Servers` says."""

    @abstractmethod
    def known(self) -> Sequence[Connections]:
        """As `Servers` says."""

    def unguarded(self, name: str) -> Connections:
        """As `Servers` says; but these have no names."""
        raise KeyError(name)

    def look_again(self) -> None:  # noqa: B027 - not all of them have to
        """As `Servers` says."""

    def belongs_to(self, database: str) -> None:  # noqa: B027 - as above
        """As `Servers` says."""

    def record_by(self, record: Callable[[], object]) -> None:  # noqa: B027 - as above
        """As `Servers` says."""

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """As `Servers` says."""
        if len(commands) == 1:
            return self.place(key_of(commands[0])).exchange(commands)
        return self._exchange(commands, None)[0]

    def confirmed(self, commands: Sequence[Command], then: Then) -> tuple[list[Any], list[Answered | None]]:
        """As `Servers` says."""
        return self._exchange(commands, then)

    def _exchange(self, commands: Sequence[Command], then: Then | None) -> tuple[list[Any], list[Answered | None]]:
        by_place: dict[Connections, list[int]] = {}
        nowhere: dict[int, RedisUnavailableError] = {}
        for at, command in enumerate(commands):
            try:
                by_place.setdefault(self.place(key_of(command)), []).append(at)
            except UncoveredError as error:
                nowhere[at] = without_frames(error)
        return exchange_at(by_place, commands, then, nowhere)

    def greet(self, greeting: Greeting) -> None:
        """As `Servers` says."""
        for one in self.known():
            one.greeting = greeting

    def close(self) -> None:
        """As `Servers` says."""
        for one in self.known():
            one.close()


C = TypeVar("C", bound=Connections)


def exchange_at(
    by_place: Mapping[C, Sequence[int]],
    commands: Sequence[Command],
    then: Then | None,
    nowhere: Mapping[int, RedisUnavailableError] = MappingProxyType({}),
) -> tuple[list[Any], list[Answered | None]]:
    """Send commands to the places that are given, all before the first answer is waited for.

    Args:
        by_place: the places in `commands` of what each server is sent.
        commands: all of them.
        then: what each server is sent after its own, if anything.
        nowhere: the places in `commands` of what no server has, with the error that is the answer.

    Returns:
        The answers, and for each the answer to the last of `then`, as `Servers.confirmed`.

    Raises:
        RedisUnavailableError: none of the servers answers.
    """
    answers: list[Any] = [None] * len(commands)
    confirmed: list[Answered | None] = [None] * len(commands)
    _fill(answers, [*nowhere], [*nowhere.values()])
    under_way, failures = [], []
    try:
        for server, places in by_place.items():
            of_one = [*(commands[at] for at in places), *(then(server.name) if then else ())]
            try:
                under_way.append((server, places, server.send(of_one)))
            except RedisUnavailableError as error:
                failures.append(error)
                _fill(answers, places, [without_frames(error)] * len(places))
        while under_way:
            server, places, sent = under_way.pop(0)
            try:
                found = server.answers(sent)
            except RedisUnavailableError as error:
                failures.append(error)
                _fill(answers, places, [without_frames(error)] * len(places))
            else:
                _fill(answers, places, found[: len(places)])
                if then:
                    _fill(confirmed, places, [(server.name, found[-1])] * len(places))
    finally:
        for _, _, sent in under_way:  # after an interruption: their answers are left in the connections
            sent[0].disconnect()
    if len(failures) == len(by_place) and (failures or nowhere):
        raise next(iter((*failures, *nowhere.values())))
    return answers, confirmed


def in_order(commands: Sequence[Command], answers: list[Any], again: Sequence[int]) -> list[int]:
    """Places that are to be sent again, where some of the commands were not carried out, or read elsewhere.

    What reads after the first of them reads again, so that it is not older. Nothing is sent again of which a later
    command with the same key was carried out: in its place is an error that says so.
    """
    if not again:
        return []
    waiting, later, left = set(again), set[str](), []
    for at in reversed(range(len(commands))):
        if reads(commands[at]):
            if at >= again[0]:
                left.append(at)
        elif at not in waiting:
            later.add(key_of(commands[at]))
        elif key_of(commands[at]) in later:
            answers[at] = RedisUnavailableError("a later command of the same key has overtaken this one")
        else:
            left.append(at)
    return left[::-1]


def key_of(command: Command) -> str:
    """The key that says where a command goes: the first one.

    Raises:
        ValueError: it has none.
    """
    if command[0] in STEPS and command[2]:
        return _text(command[3])
    if command[0] not in KEYLESS and len(command) > 1:
        return _text(command[1])
    raise ValueError(f"{command[0]} has no key: it is for one server, or for each")


def keys_of(command: Command) -> list[str]:
    """The keys of partitions that a command, or a step, is about."""
    some = command[3 : 3 + int(command[2])] if command[0] in STEPS else command[1:]
    return [
        one for one in map(_text, (key for key in some if isinstance(key, str | bytes))) if one.startswith(_OURS)
    ]


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode(errors="replace")


def tag(key: str) -> str:
    """The part of a key by which it is placed: what is in its first braces, else all of it, as Redis Cluster does.

    Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    """
    start = key.find("{") + 1
    end = key.find("}", start) if start else -1
    return key[start:end] if end > start else key


def _fill(into: list[Any], places: Sequence[int], values: Sequence[Any]) -> None:
    for at, value in zip(places, values, strict=False):
        into[at] = value


#: The beginning of the keys of partitions.
_OURS = "wb:{"
#: Commands whose keys come after their number.
STEPS = frozenset(("EVALSHA", "EVAL"))
#: Commands that have no key.
KEYLESS = frozenset((*STEPS, "TIME", "INFO", "DBSIZE", "SCAN", "CONFIG", "COMMAND", "SCRIPT", "WAIT", "WAITAOF"))
