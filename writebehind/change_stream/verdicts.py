"""Whose change it is that MongoDB reports, as far as Redis can tell: our own, somebody else's, or nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import UnreadableDocumentError

#: By how much the clocks of Redis and MongoDB may differ without a late event being taken for somebody else's, ms.
CLOCKS_MS = 2_000


@dataclass(frozen=True, slots=True)
class OutsideChange:
    """One change that MongoDB reports.

    Attributes:
        id: the document.
        operation: `insert`, `update`, `replace` or `delete`.
        at_ms: when it happened by MongoDB's clock, ms since the epoch.
        after: the document as it was afterwards, or some time later; `None` where there is none or it is not told.
    """

    id: DocumentId
    operation: str
    at_ms: int
    after: Entry | None = None

    @property
    def has_version(self) -> bool:
        """Whether it may be a write of the pipeline, which never updates, and gives each document a version."""
        return self.operation != "update" and self.after is not None and self.after.version > 0


class Verdict(Enum):
    """The answer to a change."""

    OURS = auto()
    SEEN = auto()
    """Redis has it already, and yet it may be somebody else's."""
    OUTSIDE = auto()
    ASK = auto()
    """Redis has another version, and only what MongoDB has now tells whether it is a newer one."""
    OVERTAKEN = auto()
    """The write that is pending is newer, or the change may be a late one of our own."""
    CONFLICT = auto()
    """It is somebody else's, and came after the write that is pending."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The version of a pending document that MongoDB got last, without the body; since when, ms; `before` it."""

    entry: Entry
    at_ms: int
    before: Entry | None

    @classmethod
    def parse(cls, noted: bytes) -> Sent:
        """Read what Redis has of it."""
        header, at_ms, before, *_attempts = noted.split(b" ")
        return cls(Entry.parse(header), int(at_ms), Entry.parse(before) if before else None)

    @classmethod
    def read(cls, noted: bytes | None) -> Sent | None:
        """The same; `None` for nothing, or what other hands have put there."""
        try:
            return cls.parse(noted) if noted else None
        except (ValueError, IndexError, UnreadableDocumentError):
            return None

    @property
    def has_deletion(self) -> bool:
        """Whether a deletion was sent last, or before."""
        return Kind.DELETED in {self.entry.kind, self.before and self.before.kind}

    def contradicts(self, after: Entry) -> bool:
        """Whether it was other content that was sent with this version."""
        known = [one for one in (self.entry, self.before) if one is not None and one.version == after.version]
        return any(one.etag != after.etag for one in known)


@dataclass(frozen=True, slots=True)
class Known:
    """A document as Redis has it: its entry without the body, and whether it is pending.

    `deleted_ms` is when our last deletion was settled, 0 for never.
    """

    entry: Entry | None
    pending: bool
    sent: Sent | None = None
    deleted_ms: int = 0

    @property
    def version(self) -> int:
        """The version that readers see; 0 for none."""
        return self.entry.version if self.entry else 0

    @property
    def kind(self) -> Kind | None:
        """The kind of the entry; `None` where there is none."""
        return self.entry.kind if self.entry else None

    def is_like(self, entry: Entry) -> bool:
        """Whether Redis has the same content."""
        return self.entry is not None and self.entry.same_content(entry)

    def may_be_ours(self, change: OutsideChange) -> bool:
        """Whether a change to what is pending may be a late one of our own."""
        sent, after = self.sent, change.after
        if change.operation == "delete":
            was_sent = sent is not None and sent.has_deletion
            return was_sent or change.at_ms <= self.deleted_ms + CLOCKS_MS
        if after is None or not change.has_version or after.version >= self.version:
            return False
        return sent is None or not sent.contradicts(after)

    def will_be_overwritten(self, change: OutsideChange) -> bool:
        """Whether a change that may be ours came before MongoDB was given what is pending."""
        sent, after = self.sent, change.after
        if sent is None:
            return False
        was_before = after is not None and sent.before is not None and after.same_content(sent.before)
        return was_before or change.at_ms <= sent.at_ms


def judge(change: OutsideChange, known: Known) -> Verdict:
    """Whose change it is.

    The pipeline replaces and deletes, and never updates; what it replaces carries a version. A writer who puts a
    document back with the version that he read is told by its content, if Redis has that version, or MongoDB was
    given it last.
    """
    after, deletes = change.after, change.operation == "delete"
    if (deletes and known.kind in {Kind.DELETED, Kind.ABSENT}) or (after is not None and known.is_like(after)):
        is_ours = known.kind is Kind.DELETED if deletes else change.has_version
        return Verdict.OURS if is_ours else Verdict.SEEN
    if not known.pending:
        may_be_ours = known.kind is not None and (deletes or change.has_version)
        return Verdict.ASK if may_be_ours else Verdict.OUTSIDE
    if known.may_be_ours(change):
        return Verdict.OURS if known.will_be_overwritten(change) else Verdict.OVERTAKEN
    return Verdict.OVERTAKEN if is_later(known.version, change) else Verdict.CONFLICT


def is_later(version: int, change: OutsideChange) -> bool:
    """Whether a write was acknowledged after a change, by the clocks of Redis and MongoDB."""
    return version // 1000 > change.at_ms
