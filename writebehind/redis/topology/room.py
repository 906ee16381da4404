"""Room that a server has for what is to move there: `see_room`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from writebehind.redis.connections import Connections
from writebehind.redis.info import parse_info
from writebehind.redis.topology.confirming import asked
from writebehind.redis.topology.record import MoveError

_MIB = 1 << 20
#: By this policy a full server refuses writes; by any other it may evict something first.
_KEEPS_ALL = "noeviction"


def see_room(
    source: Connections, target: Connections, place: str, keys: Iterable[Sequence[bytes]], most: float
) -> None:
    """See that there is room for a partition, where the server has a limit and evicts nothing.

    Args:
        source: where it is; without guard, as is `target`.
        target: where it goes.
        place: the partition, or `HOME`.
        keys: of it, some at a time.
        most: the part of its limit from which a server refuses writes.

    Raises:
        MoveError: there is not; or a server refuses what that needs.
        RedisUnavailableError: a server does not answer.
    """
    facts = parse_info(asked(target, [("INFO", "memory")])[0])
    limit = int(facts.get("maxmemory", 0))
    if not limit or facts.get("maxmemory_policy") != _KEEPS_ALL:
        return
    sizes = (asked(source, [("MEMORY", "USAGE", key) for key in some]) for some in keys if some)
    needed = sum(size or 0 for found in sizes for size in found)
    used = int(facts.get("used_memory", 0)) - int(facts.get("mem_not_counted_for_evict", 0))
    if (missing := used + needed - limit * most) > 0:
        raise MoveError(
            f"server {target.name} lacks {missing / _MIB:.1f} MiB for partition {place}, which needs "
            f"{needed / _MIB:.1f} MiB: {used / _MIB:.1f} of its {limit / _MIB:.1f} MiB are in use, and from "
            f"{most:.0%} on it would refuse writes. Raise its maxmemory, add a server, or do without it ("
            f"--without {target.name}), and start this again"
        )
