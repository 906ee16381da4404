"""Acknowledged writes, as their callers are told of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from writebehind.documents.durability import Confirmed, Durability
from writebehind.documents.entry import Kind
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.ids import DocumentId
from writebehind.errors import KeyReusedError, TooManyReceiptsError
from writebehind.redis.commits import Commit
from writebehind.redis.receipts import Found, Receipt

#: Kinds of entries that say that there is no document.
_NO_DOCUMENT = {Kind.DELETED, Kind.ABSENT}


@dataclass(frozen=True, slots=True)
class Written:
    """An acknowledged write.

    Attributes:
        id: the document's id, as in a URL.
        version: microseconds of the Redis clock; grows with every write to the document.
        etag: 32 hex characters, '' for a deletion.
        durability: the level that was reached, not the one that was asked for.
        created: whether the document is known not to have existed before.
        shared: other documents that have one of its unique values as last acknowledged, their ids by field, as far
            as Redis knows. MongoDB takes only one of them, until another one has given the value up.
        confirmed: what Redis has confirmed, of a write with durability `fsynced` or `replicated`; `None` where it
            was not asked.
        replayed: whether an earlier request with its idempotency key has made the write, and this one nothing.
    """

    id: str
    version: int
    etag: str
    durability: Durability
    created: bool
    shared: Mapping[str, str] = field(default_factory=dict)
    confirmed: Confirmed | None = None
    replayed: bool = False


def is_created(etag: str, previous: str, *, known: bool) -> bool:
    """Whether a write is known to have created a document; of a missing entry MongoDB may have one."""
    return bool(etag) and (known or previous in _NO_DOCUMENT)


def replayed(receipt: Receipt | None, found: Commit | Found) -> Written:
    """The answer to the first of equal requests, for who has repeated it.

    Args:
        receipt: of the first.
        found: the answer of the step that has found it.

    Raises:
        KeyReusedError: there is none that could be read.
    """
    if receipt is None:
        raise KeyReusedError
    return Written(
        DocumentId.from_member(receipt.member).text,
        receipt.version,
        receipt.etag,
        found.durability,
        is_created(receipt.etag, receipt.previous, known=receipt.created),
        found.shared if isinstance(found, Commit) else {},
        found.confirmed,
        replayed=True,
    )


def too_many_receipts(wait_ms: int) -> TooManyReceiptsError:
    """The refusal of a request with an idempotency key, for so long, ms."""
    return TooManyReceiptsError(
        "the last writes of this partition with idempotency keys have to be known for as long as they may "
        "be repeated: send the write again later, or raise WRITEBEHIND_IDEMPOTENCY_MOST",
        retry_after_s=max(1, math.ceil(wait_ms / 1000)),
    )


def check_same(receipt: Receipt, key: IdempotencyKey) -> Receipt:
    """The receipt, if it is of the same request.

    Raises:
        KeyReusedError: it is of another one.
    """
    if receipt.digest != key.digest:
        raise KeyReusedError
    return receipt
