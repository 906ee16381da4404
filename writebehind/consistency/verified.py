"""Entries that were seen to be what MongoDB has, and of which MongoDB has reported no change since."""

from __future__ import annotations

from array import array

#: Places for entries: 8 MiB. Each entry may take two of them, so that few displace others.
PLACES = 1 << 20
#: Bits of a hash that say which the second one is.
_SECOND = 24

#: What was remembered where a document may be.
Known = tuple[int, int]


class Verified:
    """Remembers them by hashes of 64 bits, so that MongoDB is not asked again for what nobody has changed.

    Attributes:
        cleared: how often all was forgotten.
    """

    def __init__(self, places: int = PLACES) -> None:
        """Remember nothing yet; `places` is a power of two."""
        self._places = array("q", bytes(8 * places))
        self._mask = places - 1
        self.cleared = 0

    def add(self, member: str, header: bytes) -> None:
        """Remember that MongoDB has what stands there."""
        places, name, known = self._places, hash(member), hash((member, header))
        first, second = name & self._mask, name >> _SECOND & self._mask
        if places[first] and places[first] != known and (not places[second] or known & 1):
            first = second
        places[first] = known

    def has(self, member: str, header: bytes) -> bool:
        """Whether that is remembered of this header."""
        name, known = hash(member), hash((member, header))
        return self._places[name & self._mask] == known or self._places[name >> _SECOND & self._mask] == known

    def take(self, member: str) -> Known:
        """Forget a document; what was remembered, for `is_of`."""
        places, name = self._places, hash(member)
        first, second = name & self._mask, name >> _SECOND & self._mask
        known = places[first], places[second]
        places[first] = places[second] = 0
        return known

    def clear(self) -> None:
        """Forget all, as changes may have been missed."""
        self._places = array("q", bytes(8 * (self._mask + 1)))
        self.cleared += 1


#: Of a document of which nothing was remembered.
NOTHING_KNOWN: Known = (0, 0)


def is_of(known: Known, member: str, header: bytes) -> bool:
    """Whether what was remembered was of this header."""
    return hash((member, header)) in known
