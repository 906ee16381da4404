"""Commits of writes: what they ask for, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from writebehind.documents.durability import Confirmed, Durability
from writebehind.errors import RedisUnavailableError
from writebehind.redis.receipts import Once, Receipt

#: Condition of a commit: the document must not exist. Any other non-empty condition is the ETag it must have.
ABSENT = "*"
_NOTHING: Mapping[str, str] = {}


class CommitStatus(StrEnum):
    """Outcome of a commit."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    FULL = "full"
    REPEATED = "repeated"
    """The same request was committed before: its receipt has the answer."""
    ANOTHER = "another"
    """Another request with the same idempotency key was."""
    BUSY = "busy"
    """So many writes have idempotency keys that the last ones cannot all be known with this one."""
    REFUSED = "refused"
    """Redis did not carry it out, as for lack of memory."""


#: By the word with which the step says it.
_STATUSES = {one.encode(): one for one in CommitStatus}


class Commit(NamedTuple):
    """The answer to a commit.

    Attributes:
        status: only `OK` means that the write is acknowledged.
        version: the version issued, microseconds; 0 unless `OK`.
        previous: kind letter of the entry before, '' when there was none.
        ticket: of the flush task that the caller must enqueue, '' when one is on its way.
        durability: how far it has come.
        confirmed: what Redis has confirmed of it, where that was waited for.
        shared: other documents that have one of its unique values as last acknowledged, their ids by field.
        refusal: why Redis did not carry it out, of one that is `REFUSED`.
        receipt: of the first of equal requests, of one that is `REPEATED`; `None` for a spoilt one.
        wait_ms: until there may be room, of one that is `BUSY`.
    """

    status: CommitStatus
    version: int
    previous: str
    ticket: str
    durability: Durability = Durability.BUFFERED
    confirmed: Confirmed | None = None
    shared: Mapping[str, str] = _NOTHING
    refusal: RedisUnavailableError | None = None
    receipt: Receipt | None = None
    wait_ms: int = 0


class CommitRequest(NamedTuple):
    """One write to commit.

    Attributes:
        member: the document.
        payload: its entry, after the version.
        delay_ms: until it may be flushed.
        condition: '' for none.
        cap: for pending members of its partition, the store's own by default.
        context: of the span that writes it, as `writebehind.tracing` notes it; '' where it is not traced.
        once: its idempotency key, if it has one.
    """

    member: str
    payload: bytes
    delay_ms: int
    condition: str = ""
    cap: int | None = None
    context: str = ""
    once: Once | None = None


def commit_answer(
    answer: list[bytes] | RedisUnavailableError,
    reached: Durability = Durability.BUFFERED,
    confirmed: Confirmed | None = None,
) -> Commit:
    """Read the answer of the step, and what was confirmed after it."""
    if isinstance(answer, RedisUnavailableError):
        return Commit(CommitStatus.REFUSED, 0, "", "", refusal=answer)
    name, version, previous, ticket = answer
    status = _STATUSES[name]
    if status is CommitStatus.REPEATED:
        receipt = Receipt.parse(previous)
        kind = receipt.previous if receipt else ""
        return Commit(status, int(version), kind, "", reached, confirmed, receipt=receipt)
    if status is CommitStatus.BUSY:
        return Commit(status, 0, "", "", wait_ms=int(version))
    return Commit(status, int(version or 0), previous.decode(), ticket.decode(), reached, confirmed)
