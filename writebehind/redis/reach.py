"""Several servers of Redis, of which one may be away: its partitions wait, and the others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from writebehind.errors import (
    ForeignServerError,
    NoReplicasError,
    RedisNotReadyError,
    RedisUnavailableError,
    ReplicaError,
    UncoveredError,
)
from writebehind.plurals import counted

T = TypeVar("T")


class MaybeSeveral(Protocol):
    """Servers of Redis, or one."""

    @property
    def has_several(self) -> bool:
        """Whether one of them may be away while others are not."""


@dataclass(frozen=True, slots=True)
class Standing:
    """State of the servers of Redis.

    Attributes:
        away: the partitions of servers that do not answer while others do, by the names of these servers.
        refusing: the partitions of servers that answer and refuse whatever is written, while others take it.
        refuses: the words by which one of them does, where none takes anything; '' else.
    """

    away: Mapping[str, Sequence[int]]
    refusing: Mapping[str, Sequence[int]]
    refuses: str


_AWAY = frozenset(
    (
        RedisUnavailableError,
        RedisNotReadyError,
        NoReplicasError,
        ReplicaError,
        UncoveredError,
        ForeignServerError,
    )
)


def is_away(error: RedisUnavailableError) -> bool:
    """Whether an error says that a server does not answer, or cannot serve now, rather than anything else."""
    return type(error) in _AWAY


def known(servers: MaybeSeveral, look: Callable[[], T], otherwise: T) -> T:
    """The answer to a question, or `otherwise` where the server that knows it is away and others may not be.

    Raises:
        RedisUnavailableError: there is one server only, and it does not answer; or for another reason.
    """
    try:
        return look()
    except RedisUnavailableError as error:
        if not (is_away(error) and servers.has_several):
            raise
        return otherwise


def listed_away(away: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Servers that do not answer, or take no writes, while others do, with their partitions; for programs."""
    return [{"server": name, "partitions": [*partitions]} for name, partitions in away.items()]


def told_away(away: Mapping[str, Sequence[int]]) -> str:
    """Servers that do not answer while others do, by their names, and how many partitions each has; for people.

    '' is for all nodes of a cluster, where nobody is to be told their addresses, and for slots that no node has.
    """
    return "; ".join(
        f"{f'server {name}' if name else 'part of the cluster'} does not answer, which has "
        f"{counted(len(partitions), 'partition')}"
        for name, partitions in away.items()
    )


def each_reached(places: Iterable[T], do: Callable[[T], object]) -> list[T]:
    """Do something in each partition, or with each server, that answers; those that do not.

    Raises:
        RedisUnavailableError: none answers; or what `do` raises for another reason.
    """
    away: list[T] = []
    reached, failure = False, None
    for one in places:
        try:
            do(one)
            reached = True
        except RedisUnavailableError as error:
            if not is_away(error):
                raise
            away.append(one)
            failure = failure or error
    if failure and not reached:
        raise failure
    return away


def unreached(items: Sequence[T], do: Callable[[Sequence[T]], object]) -> list[tuple[T, RedisUnavailableError]]:
    """Do something with items, again with fewer where that needs a server which is away; those of which it fails.

    It may be done several times with an item.
    """
    try:
        do(items)
    except RedisUnavailableError as error:
        if not is_away(error):
            raise
        if len(items) == 1:
            return [(items[0], error)]
        middle = len(items) // 2
        return [one for half in (items[:middle], items[middle:]) for one in unreached(half, do)]
    return []
