"""Collections that MongoDB refuses to serve, while it serves others: a state of each, told once by a process."""

from __future__ import annotations

import logging
from typing import Final

from writebehind.errors import MongoUnavailableError
from writebehind.logs.states import StateLogs

log = logging.getLogger(__name__)

#: One that is refused now and then, as for single documents, is told of so often at most, seconds.
AGAIN_S: Final = 600.0


class RefusedCollections:
    """Logs which collections cannot be worked at. Safe to share between threads."""

    def __init__(self) -> None:
        """Know of none."""
        self._states = StateLogs(log, "collection_refused", "collection_served", again_s=AGAIN_S)

    def refused(self, collection: str, done: str, error: MongoUnavailableError) -> None:
        """Note that MongoDB refuses to let a collection be `done`, and serves others."""
        line = (
            f"MongoDB refuses it, and {collection} is not {done}: {error}; see to the rights of the user in "
            "MONGODB_URL, and to what the collection is"
        )
        self._states.begin(f"{collection} {done}", line, collection=collection)

    def served(self, collection: str, done: str) -> None:
        """Note that it is done."""
        self._states.end(f"{collection} {done}", f"{collection} is {done} again", collection=collection)
