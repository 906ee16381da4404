"""Bodies of entries, compared with their ETags: who changes one in Redis by hand leaves the ETag as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from writebehind.documents.entry import BODY_AT, Entry, is_intact
from writebehind.documents.raw_bson import etag_of
from writebehind.redis.keys import Layout
from writebehind.redis.wire import Wire

#: Entries are read as a whole up to this size, and so much at once; larger ones in such parts. Bytes.
PART, MOST_TOGETHER = 1 << 20, 4 << 20


class Bodies:
    """The bodies in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind it to a server."""
        self._wire = wire
        self._layout = layout

    def damaged(self, members: Sequence[str]) -> set[str]:
        """Those of the members that have an entry, and no body that its ETag is of; one MiB of each is held.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        keys = {member: self._layout.of(member).entry(member) for member in members}
        sizes = dict(zip(keys, self._wire.calls([("STRLEN", key) for key in keys.values()]), strict=True))
        found = set()
        for some in _portions({member: size for member, size in sizes.items() if 0 < size <= PART}):
            values = self._wire.calls([("GET", keys[member]) for member in some])
            for member, value in zip(some, values, strict=True):
                if value and not is_intact(value):
                    found.add(member)
        return found | {member for member, size in sizes.items() if size > PART and self._is_damaged(keys[member])}

    def _is_damaged(self, key: str) -> bool:
        """Whether an entry that is read in parts is damaged; not if it becomes another one meanwhile."""
        before = self._state(key)
        try:
            entry = Entry.parse(before[0])
        except (ValueError, IndexError):
            return True
        places = range(BODY_AT, before[1], PART)
        tag = etag_of(self._wire.call("GETRANGE", key, at, at + PART - 1) for at in places)
        return entry.exists and tag != entry.etag and self._state(key) == before

    def _state(self, key: str) -> tuple[bytes, int]:
        header, size = self._wire.calls((("GETRANGE", key, 0, BODY_AT - 1), ("STRLEN", key)))
        return header, size


def _portions(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The members, as many at a time as take `MOST_TOGETHER`."""
    some: list[str] = []
    taken = 0
    for member, size in sizes.items():
        if some and taken + size > MOST_TOGETHER:
            yield some
            some, taken = [], 0
        some.append(member)
        taken += size
    if some:
        yield some
