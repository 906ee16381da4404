"""Names of no document, and numbers that are none, which only other hands can have put into Redis."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from writebehind.documents.ids import named
from writebehind.plurals import counted
from writebehind.redis.keys import Layout, partition_keys
from writebehind.redis.wire import Wire

log = logging.getLogger(__name__)

#: They are told up to so many bytes each, and characters in all.
_SHOWN_BYTES, _SHOWN_CHARACTERS = 60, 200
_WHOLE = re.compile(rb"-?[0-9]{1,19}")
#: Neither MongoDB nor Redis has such whole numbers.
_TOO_LARGE = 1 << 63


def whole(field: bytes | None) -> int:
    """A whole number as it stands in Redis, also as a score; 0 where there is none, or one that cannot be read."""
    try:
        number = int(field or 0) if field is None or _WHOLE.fullmatch(field) else int(float(field))
    except (ValueError, OverflowError):
        return 0
    return number if abs(number) < _TOO_LARGE else 0


def without_strays(
    wire: Wire,
    layout: Layout,
    members: Sequence[bytes],
    held: Sequence[str],
    *,
    of_partition: int | None = None,
    take: str = "ZREM",
) -> list[bytes]:
    """Members, of a partition where it is given; what is none is taken out of the sorted sets that hold it.

    Where no sorted sets hold it, another command is to `take` it out.

    No write was ever acknowledged under such a name.
    """
    strays = _strays(wire, layout, members, of_partition)
    if strays:
        names = ", ".join(repr(one[:_SHOWN_BYTES]) for one in sorted(strays))[:_SHOWN_CHARACTERS]
        log.critical(
            "other hands put %s of no document into %s, such as %s", counted(len(strays), "name"), held[0], names
        )
        wire.calls([(take, key, *strays) for key in held])
    return [one for one in members if one not in strays]


def _strays(wire: Wire, layout: Layout, members: Sequence[bytes], of_partition: int | None) -> set[bytes]:
    strays, elsewhere = set(), []
    for one in members:
        document_id = named(one)
        if document_id is None:
            strays.add(one)
        elif of_partition not in {None, layout.number(document_id.member)}:
            elsewhere.append(one)
    if of_partition is not None and elsewhere:
        # A process that takes Redis to be divided in another way may have acknowledged it here: then it has an
        # entry here, and nowhere else.
        of = partition_keys(of_partition)
        there = wire.calls([("EXISTS", of.entry(one.decode())) for one in elsewhere])
        strays.update(one for one, exists in zip(elsewhere, there, strict=True) if not exists)
    return strays
