"""Names of no document, and numbers that are none, which only other hands can have put into Redis."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from writebehind.documents.ids import is_named
from writebehind.logs.events import OTHER_HANDS
from writebehind.plurals import counted
from writebehind.redis.wire import Wire

log = logging.getLogger(__name__)

#: They are told up to so many bytes each, and characters in all.
_SHOWN_BYTES, _SHOWN_CHARACTERS = 60, 200
_WHOLE = re.compile(rb"-?[0-9]{1,19}")
#: Neither MongoDB nor Redis has such whole numbers.
_TOO_LARGE = 1 << 63
#: No installation counts so much of anything: a million a second, for thirty years.
MOST_COUNT = 10**15


def whole(field: bytes | None) -> int:
    """A whole number as it stands in Redis, also as a score; 0 where there is none, or one that cannot be read."""
    try:
        number = int(field or 0) if field is None or _WHOLE.fullmatch(field) else int(float(field))
    except (ValueError, OverflowError):
        return 0
    return number if abs(number) < _TOO_LARGE else 0


def count(field: bytes | None) -> int:
    """A count as it stands in Redis; 0 where there is none, or one that no installation has counted."""
    number = whole(field)
    return number if 0 <= number <= MOST_COUNT else 0


def without_strays(
    wire: Wire, members: Sequence[bytes], held: Sequence[str], *, take: str = "ZREM"
) -> list[bytes]:
    """The members; what names no document is taken out of the sorted sets that hold it.

    Where no sorted sets hold it, another command is to `take` it out.

    No write was ever acknowledged under such a name.
    """
    strays = {one for one in members if not is_named(one)}
    if not strays:  # as a rule
        return list(members)
    names = ", ".join(repr(one[:_SHOWN_BYTES]) for one in sorted(strays))[:_SHOWN_CHARACTERS]
    log.critical(
        "other hands put %s of no document into %s, such as %s",
        *(counted(len(strays), "name"), held[0], names),
        extra=OTHER_HANDS,
    )
    wire.calls([(take, key, *strays) for key in held])
    return [one for one in members if one not in strays]
