"""Receipts as callers see them: the fate of a write that has an idempotency key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from writebehind.documents.ids import DocumentId
from writebehind.redis.store import Store
from writebehind.redis.unsettled import Fate


class ReceiptState(StrEnum):
    """Fate of a write so far."""

    BUFFERED = "buffered"
    PERSISTED = "persisted"
    """MongoDB has had it, or a later one that was written over it."""
    DEAD_LETTER = "dead letter"
    DISCARDED = "discarded"
    """MongoDB refused it, and somebody has discarded the dead letter that it was in."""
    UNKNOWN = "unknown"
    """No write with this key is known, or nobody knows where it is."""


_STATES = {
    Fate.PENDING: ReceiptState.BUFFERED,
    Fate.SETTLED: ReceiptState.PERSISTED,
    Fate.DEAD: ReceiptState.DEAD_LETTER,
    Fate.DISCARDED: ReceiptState.DISCARDED,
    Fate.GONE: ReceiptState.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class KnownWrite:
    """A write as its key leads to it.

    Attributes:
        state: how far it has come; all else is '' and 0 where no write is known.
        collection: of the document.
        id: of the document.
        version: that was issued for the write.
        etag: of the document as it was written, '' for a deletion.
    """

    state: ReceiptState
    collection: str = ""
    id: str = ""
    version: int = 0
    etag: str = ""


def known_write(store: Store, key: str, collections: Iterable[str], owner: str) -> KnownWrite:
    """The last write with this key of an owner, of any document of these collections.

    Raises:
        RedisUnavailableError: Redis does not answer; where it is several servers, one of them.
    """
    receipt = store.receipts.find(key, collections, owner)
    if receipt is None:
        return KnownWrite(ReceiptState.UNKNOWN)
    fate, _ = store.unsettled.fates({receipt.member: receipt.version})[receipt.member]
    state = _STATES[fate]
    document_id = DocumentId.from_member(receipt.member)
    return KnownWrite(state, document_id.collection, document_id.text, receipt.version, receipt.etag)
