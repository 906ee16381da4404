"""Bounds of a bulk write: how much waits to be committed, and how much work its changes may be."""

from __future__ import annotations

import time
from collections.abc import Sequence

from writebehind.documents.durability import Durability
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import RedisUnavailableError, TooMuchWorkError, WritebehindError, without_frames
from writebehind.writing.writer import Writer, Written

#: Commits sent to Redis in one go, and about their bytes, so that a large bulk does not keep others waiting.
COMMITS_AT_ONCE, BYTES_AT_ONCE = 500, 4 << 20
#: Bytes of documents that the changes of a bulk may read and write: a patch of few bytes may change a large one.
MOST_CHANGED_BYTES = 32 << 20
#: After so many seconds no further operation of a bulk begins.
DEADLINE_S = 10.0


class Work:
    """How much has been done for one bulk."""

    def __init__(self) -> None:
        self._bytes = 0
        self._until = time.monotonic() + DEADLINE_S

    def done(self, count: int) -> None:
        """Count bytes of documents that were read or written for a change."""
        self._bytes += count

    def check(self) -> None:
        """See that there may be more.

        Raises:
            TooMuchWorkError: all the bytes or the time are used up.
        """
        if self._bytes >= MOST_CHANGED_BYTES:
            raise TooMuchWorkError(
                f"the changes before this one have taken {self._bytes} bytes of documents, and "
                f"{MOST_CHANGED_BYTES} are allowed in one request: send this one in another"
            )
        if time.monotonic() > self._until:
            raise TooMuchWorkError(
                f"the request has taken the {DEADLINE_S:.0f} seconds that are allowed: send this one in another"
            )


class Queue:
    """Writes that depend on nothing before them, which are committed together."""

    def __init__(
        self, writer: Writer, results: list[Written | WritebehindError], durability: Durability | None
    ) -> None:
        """Take what commits them, and where their results go, by their place."""
        self._writer = writer
        self._results = results
        self._durability = durability
        self._waiting: dict[int, tuple[DocumentId, Entry]] = {}
        self._bytes = 0

    def put(self, at: int, document_id: DocumentId, entry: Entry) -> None:
        """Add the write with this place; commit what there is where it is much."""
        self._waiting[at] = document_id, entry
        self._bytes += len(entry.body)
        if len(self._waiting) >= COMMITS_AT_ONCE or self._bytes >= BYTES_AT_ONCE:
            self.write()

    def write(self) -> None:
        """Commit what waits."""
        if not self._waiting:
            return
        try:
            written: Sequence[Written | WritebehindError] = self._writer.write_all(
                list(self._waiting.values()), self._durability
            )
        except RedisUnavailableError as error:
            written = [without_frames(error)] * len(self._waiting)
        for at, result in zip(self._waiting, written, strict=True):
            self._results[at] = result
        self._waiting.clear()
        self._bytes = 0
