"""One dead letter: what it tells, and what it is called in Redis."""

from __future__ import annotations

import time
from base64 import b64encode
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

import orjson

from writebehind import times
from writebehind.documents import codec
from writebehind.documents.entry import VERSION_DIGITS, Entry, Kind, version_of
from writebehind.documents.ids import DocumentId
from writebehind.errors import DeadLetterError, UnreadableDocumentError
from writebehind.mongodb import error_table
from writebehind.redis.letters import RawLetter

_OPERATIONS = {Kind.DOCUMENT: "put", Kind.DELETED: "delete", Kind.ABSENT: None}


class Reason(StrEnum):
    """Reason for which a document is dead."""

    REFUSED = "refused"
    """MongoDB will not take it: a unique index, a validator, its size."""
    CONFLICT = "conflict"
    """MongoDB has a newer version, of which Redis knows nothing: it has lost a write, as in a failover."""
    DAMAGED = "damaged"
    """It was pending, and its body is not the one that was acknowledged: it was changed in Redis since."""
    LOST = "lost"
    """It was pending, but its entry is gone: somebody deleted or evicted it in Redis."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        member: the document's name in Redis.
        reason: why it is dead; `code` and `message` are MongoDB's.
        version: that was refused, in microseconds: the time at which it was acknowledged. Where that is not known,
            as its entry was gone: the time at which this was found.
        kind: what was to be written: a document or its deletion; `Kind.ABSENT` where it is not known.
        attempts: how often MongoDB was asked since it was written, or replayed last.
        failed_at: seconds since the epoch.
        body: BSON, where it was read; b'' elsewhere.
        over: the version that MongoDB had in its place; 0 for none, or where it is not known.
        trace_id: of the trace that the write is a part of; '' where it was not traced.
    """

    member: str
    reason: Reason
    code: int
    message: str
    version: int
    kind: Kind
    attempts: int
    failed_at: float
    body: bytes = b""
    over: int = 0
    trace_id: str = ""

    @property
    def id(self) -> DocumentId:
        """The document."""
        return DocumentId.from_member(self.member)

    @property
    def log_fields(self) -> dict[str, Any]:
        """The fields of a line about it, by which it is found with the request that wrote the document."""
        return {
            "event": "dead_letter",
            "collection": self.id.collection,
            "member": self.member,
            "version": self.version,
            "write_trace_id": self.trace_id,
        }

    @classmethod
    def refused(
        cls, member: str, entry: Entry, message: str, *, code: int, attempts: int, over: int, trace_id: str = ""
    ) -> DeadLetter:
        """The letter of a write that MongoDB does not take, in `attempts`; `over` is the version that it has."""
        about = (member, Reason.REFUSED, code, message, entry.version, entry.kind, attempts, time.time())
        return cls(*about, over=over, trace_id=trace_id)

    @classmethod
    def conflict(
        cls, member: str, entry: Entry, message: str, *, over: int, attempts: int = 0, trace_id: str = ""
    ) -> DeadLetter:
        """The letter of a write in whose place something else stands in MongoDB, of version `over`."""
        about = (member, Reason.CONFLICT, 0, message, entry.version, entry.kind, attempts, time.time())
        return cls(*about, over=over, trace_id=trace_id)

    @classmethod
    def damaged(cls, member: str, entry: Entry) -> DeadLetter:
        """The letter of a write that was pending, and whose body does not fit its ETag."""
        message = "its body was changed in Redis: it does not fit its ETag, so it is not what was acknowledged"
        return cls(member, Reason.DAMAGED, 0, message, entry.version, entry.kind, 0, time.time())

    @classmethod
    def lost(cls, member: str) -> DeadLetter:
        """The letter of a document that was pending, and whose entry is gone or unreadable."""
        message, now_ns = "the entry was deleted, evicted or made unreadable in Redis", time.time_ns()
        return cls(member, Reason.LOST, 0, message, now_ns // 1_000, Kind.ABSENT, 0, now_ns / 1e9)

    @classmethod
    def unreadable(cls, raw: RawLetter) -> DeadLetter:
        """The letter of a document that is kept, in the place of one that nobody can read."""
        message, version = "its letter was made unreadable in Redis", int(raw.kept_digits)
        return cls(raw.member, Reason.CONFLICT, 0, message, version, Kind.ABSENT, 0, time.time())

    def dump(self) -> bytes:
        """The letter as it stands in Redis: 16 digits of version, then JSON."""
        noted = asdict(self)
        del noted["version"], noted["body"]
        if not self.trace_id:  # as nearly always, and unknown to older processes
            del noted["trace_id"]
        return digits(self.version).encode() + orjson.dumps(noted)

    @classmethod
    def parse(cls, value: bytes) -> DeadLetter:
        """Read what `dump` wrote, here or in a newer release, which may have noted more."""
        noted = orjson.loads(value[VERSION_DIGITS:])
        told = {name: noted[name] for name in _NOTED & noted.keys()}
        told |= {"reason": Reason(noted["reason"]), "kind": Kind(noted["kind"])}
        return cls(**told, version=version_of(value))

    @classmethod
    def read(cls, value: bytes) -> DeadLetter | None:
        """The same; `None` for what other hands have put there."""
        try:
            letter = cls.parse(value)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        texts, numbers = (
            (letter.member, letter.message, letter.trace_id),
            (letter.code, letter.attempts, letter.over),
        )
        is_ours = (
            all(isinstance(one, str) for one in texts)
            and all(isinstance(one, int) for one in numbers)
            and isinstance(letter.failed_at, float)
            and not letter.body
        )
        return letter if is_ours else None

    def error(self) -> DeadLetterError:
        """The error for the writer, where that one waits for MongoDB."""
        why = self.message or self.reason.value
        return DeadLetterError(
            f"MongoDB did not take version {self.version}, which is a dead letter now: {why}",
            collection=self.id.collection,
            document_id=self.id.text,
            version=self.version,
        )

    def as_dict(self) -> dict[str, Any]:
        """For operators: all but the body; each time in seconds since the epoch, and as a text."""
        acknowledged_at = None if self.kind is Kind.ABSENT else self.version / 1_000_000
        return {
            "collection": self.id.collection,
            "id": self.id.text,
            "reason": self.reason.value,
            "code": self.code,
            "code_name": error_table.name_of(self.code),
            "message": self.message,
            "operation": _OPERATIONS[self.kind],
            "version": self.version,
            "acknowledged_at": acknowledged_at,
            "acknowledged": None if acknowledged_at is None else times.shown(acknowledged_at),
            "failed_at": self.failed_at,
            "failed": times.shown(self.failed_at),
            "attempts": self.attempts,
            "trace_id": self.trace_id or None,
        }


#: Fields of a letter that are in its JSON.
_NOTED = {one.name for one in fields(DeadLetter)} - {"version", "body"}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; `None` is any. Times are of the failure, in seconds since the epoch."""

    collection: str | None = None
    reason: str | None = None
    code: int | None = None
    after: float | None = None
    before: float | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant."""
        return (
            (self.collection is None or letter.member.startswith(f"{self.collection}/"))
            and (self.reason is None or letter.reason == self.reason)
            and (self.code is None or letter.code == self.code)
            and (self.after is None or letter.failed_at >= self.after)
            and (self.before is None or letter.failed_at < self.before)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter as it was found: `raw` is what must still stand in Redis when it is replayed or discarded.

    Where its document is the entry that readers see, the next write takes its place. Else its document is kept
    until somebody decides. `others` are the versions of other letters of the document, where one was asked for.
    """

    letter: DeadLetter
    raw: RawLetter
    others: tuple[int, ...] = ()

    @classmethod
    def parse(cls, raw: RawLetter) -> Found | None:
        """Take a letter as Redis has it; `None` for what is none of this document."""
        letter = DeadLetter.read(raw.value)
        return cls(letter, raw) if letter is not None and letter.member == raw.member else None

    @property
    def is_kept(self) -> bool:
        """Whether its document is kept beside it."""
        return self.raw.is_kept

    def as_json(self) -> bytes:
        """The letter with its document: in Extended JSON, and exactly as BSON in base64.

        Both are `null` for a deletion, or where the document is lost; the former also where it cannot be shown.
        """
        body = self.letter.body
        try:
            document = orjson.Fragment(codec.to_json(body)) if body else None
        except UnreadableDocumentError:
            document = None
        exactly = b64encode(body).decode() if body else None
        others = {"other_versions": self.others} if self.others else {}
        return orjson.dumps(self.letter.as_dict() | {"document": document, "bson": exactly} | others)


def digits(version: int) -> str:
    """A version as it stands in Redis."""
    return f"{version:0{VERSION_DIGITS}d}"
