"""Pages of the documents of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from writebehind.documents import codec
from writebehind.documents.ids import DocumentId
from writebehind.errors import UnreadableDocumentError
from writebehind.querying.answers import left_out
from writebehind.querying.cursors import Cursors
from writebehind.reading.read import Source


@dataclass(frozen=True, slots=True)
class Page:
    """Some documents of a collection, in the order of their ids.

    Attributes:
        ids: of the documents.
        bodies: the documents as BSON.
        after: the cursor of the next page; `None` on the last one.
        cursors: make that of a part of this page.
        source: `MISS`, as MongoDB was asked for what is not pending; or `BYPASS`, without what is.
        unsettled: how many of them are as was acknowledged last, and not as MongoDB has them.
        ttl_ms: -1, as a page is not kept.
        stored: False, for the same reason.
    """

    ids: Sequence[DocumentId]
    bodies: Sequence[bytes]
    after: str | None
    cursors: Cursors
    source: Source
    unsettled: int = 0
    ttl_ms: int = -1
    stored: bool = False

    def after_first(self, count: int) -> str | None:
        """The cursor of the page after the first documents of this one, at least one."""
        return self.after if count == len(self.ids) else self.cursors.after(self.ids[count - 1].value)

    def documents(self) -> list[dict[str, Any]]:
        """The documents as native values, without those that are no valid BSON: the log has their ids."""
        found: list[dict[str, Any]] = []
        for one, body in zip(self.ids, self.bodies, strict=True):
            try:
                found.append(codec.decode(body))
            except UnreadableDocumentError as error:
                left_out(one.member, error)
        return found
