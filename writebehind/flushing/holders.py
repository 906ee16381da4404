"""Documents that have a unique value in MongoDB, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import version_of
from writebehind.errors import MongoRefusesError
from writebehind.flushing.claims import Claim, claims_of
from writebehind.flushing.deletion_audit import delete_again
from writebehind.mongodb.outcomes import Write
from writebehind.mongodb.sink import Sink
from writebehind.redis.store import Store

#: Dead letters that are looked at, of those that wait for each other.
LONGEST_CIRCLE = 20


@dataclass(frozen=True, slots=True)
class Holder:
    """The document that has a value in MongoDB; `seen` is its `_v` there, and `id` is `None` for none of ours."""

    claim: Claim
    id: DocumentId | None
    seen: object


@dataclass(frozen=True, slots=True)
class Known:
    """A document as Redis has it: `None` for no entry, or one that nobody can read."""

    entry: Entry | None
    pending: bool
    dead: bool

    def keeps(self, claim: Claim) -> bool:
        """Whether it has a value by what was acknowledged; what nobody knows of has what it has in MongoDB."""
        return self.entry is None or claim.is_of(self.entry)

    @property
    def deleted(self) -> int:
        """The version of its deletion; 0 for none."""
        return self.entry.version if self.entry is not None and self.entry.kind is Kind.DELETED else 0


#: Nothing is known of a document.
_UNKNOWN = Known(None, pending=False, dead=False)


class Holders:
    """Finds who has unique values in MongoDB, and takes them from who need not have them there."""

    def __init__(self, store: Store, sink: Sink, fields: Callable[[str], Collection[str]]) -> None:
        """Join the parts; `fields` are those of a collection, by name, that are unique."""
        self._store = store
        self._sink = sink
        self._fields = fields

    def all_of(self, write: Write) -> Iterator[Holder]:
        """Other documents that have a document's unique values in MongoDB.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
        """
        for claim in claims_of(write.entry, self._fields(write.id.collection)):
            for stored_id, seen in self._sink.find_holders(write.id.collection, claim.field, claim.value):
                one = DocumentId.stored(write.id.collection, stored_id)
                if one is None or one.member != write.id.member:
                    yield Holder(claim, one, seen)

    def known(self, member: str) -> Known:
        """A document as Redis has it.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        value, pending, dead = self._store.unsettled.standing(member)
        try:
            entry = None if value is None else Entry.parse(value)
        except (ValueError, IndexError):  # of other hands: the flusher makes it a dead letter
            entry = None
        if entry is not None and not entry.is_intact:  # the same
            entry = None
        return Known(entry, pending, dead)

    def give_way(self, write: Write, holder: Holder, known: Known) -> bool:
        """Take a value from what MongoDB has of a dead letter, for a document; whether it is free then.

        Of one that has given the value up; or of one that keeps it, and waits in turn for this document: of those
        that wait for each other MongoDB takes one. Not while anything else is in the way of this one.

        Raises:
            UnavailableError: MongoDB or Redis does not answer.
        """
        if holder.id is None or known.entry is None or not known.dead:
            return False
        if known.keeps(holder.claim) and not self._is_in_circles_only(write):
            return False
        return self.unset(holder, known.entry)

    def unset(self, holder: Holder, newer: Entry) -> bool:
        """Take a value from what MongoDB has of a document that is a dead letter, or about to be; whether it did.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
        """
        below = newer.version
        return holder.id is not None and self._sink.unset(holder.id, holder.claim.field, holder.seen, below=below)

    def heal(self, holder: DocumentId, seen: object, clean: Entry) -> bool:
        """See to a document of which MongoDB and Redis have different states; whether it has gone.

        A late write has brought back what was deleted. Or others have changed it, and readers are to see that.

        Raises:
            UnavailableError: MongoDB or Redis does not answer.
        """
        if clean.kind is Kind.DELETED and self._delete_again(holder, clean.version):
            return True
        if not 0 < version_of(seen) < clean.version:  # else MongoDB has lost it, which is seen to by reconciling
            self._store.cache.drop(holder.member, clean.header.encode())
        return False

    def deleted_again(self, write: Write) -> int:
        """Delete a document again that was deleted before it was written; the version of its deletion, 0 for none.

        A deletion leaves no version in MongoDB. A partition's lease keeps a late write from it as a rule; but
        contention writes documents of any partition.

        Raises:
            UnavailableError: MongoDB or Redis does not answer.
        """
        [settled] = self._store.deletions.versions([write.id.member])
        deleted = max(settled or 0, self.known(write.id.member).deleted)
        return deleted if deleted > write.entry.version and self._delete_again(write.id, deleted) else 0

    def _delete_again(self, document_id: DocumentId, version: int) -> bool:
        try:
            return bool(delete_again(self._store, self._sink, document_id.collection, {document_id: version}))
        except MongoRefusesError:  # as it will refuse the audit, which says so
            return False

    def _is_in_circles_only(self, write: Write) -> bool:
        """Whether all that keep values of a document are dead letters that wait for it in turn."""
        for holder in self.all_of(write):
            known = _UNKNOWN if holder.id is None else self.known(holder.id.member)
            if known.keeps(holder.claim) and not self._waits_for(write, holder, known):
                return False
        return True

    def _waits_for(self, write: Write, holder: Holder, known: Known) -> bool:
        """Whether a dead letter waits for a document, be it by way of other dead letters."""
        looked_at: set[str] = set()
        ahead = [(holder, known)]
        while ahead and len(looked_at) < LONGEST_CIRCLE:
            one, known = ahead.pop()
            if one.id is None or known.entry is None or not known.dead or not known.keeps(one.claim):
                continue
            looked_at.add(one.id.member)
            for other in self.all_of(Write(one.id, known.entry)):
                if other.id is None or other.id.member in looked_at:
                    continue
                if other.id.member == write.id.member:
                    return True
                ahead.append((other, self.known(other.id.member)))
        return False
