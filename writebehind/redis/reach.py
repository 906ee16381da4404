"""Several servers of Redis, of which one may be away: its partitions wait, and the others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from writebehind.errors import RedisUnavailableError


def is_away(error: RedisUnavailableError) -> bool:
    """Whether an error says that a server does not answer, rather than what it has answered."""
    return type(error) is RedisUnavailableError


def each_reached(partitions: Iterable[int], do: Callable[[int], object]) -> list[int]:
    """Do something in each partition whose server answers; those whose server does not.

    Raises:
        RedisUnavailableError: none answers; or what `do` raises for another reason.
    """
    away: list[int] = []
    reached, failure = False, None
    for partition in partitions:
        try:
            do(partition)
            reached = True
        except RedisUnavailableError as error:
            if not is_away(error):
                raise
            away.append(partition)
            failure = failure or error
    if failure and not reached:
        raise failure
    return away
