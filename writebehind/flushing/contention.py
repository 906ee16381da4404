"""Order across documents that meet in a unique value.

Partitions are flushed in any order, and MongoDB refuses a document while another one has its value there. What was
acknowledged decides. If the other one has given the value up by then, its newer state is written first, however
long the chain is. If the chain leads back to the first, as when two documents exchange their values, one of them
is without its value in MongoDB for as long as it takes; readers see it in Redis. Only if the other has the value
as last acknowledged too, this is a conflict: the document becomes a dead letter, and is tried again when the other
one has changed. See docs/adr/0026-order-across-unique-values.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import pymongo

from writebehind.documents.entry import DELETED, Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import split_version
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.claims import claims_of, is_noted_of
from writebehind.flushing.dead_letters import DeadLetters
from writebehind.flushing.holders import Holder, Holders
from writebehind.logs.quoting import quoted
from writebehind.mongodb import error_table
from writebehind.mongodb.outcomes import Outcome, Result, Write
from writebehind.mongodb.sink import Sink
from writebehind.redis.store import Store

log = logging.getLogger(__name__)

#: How often one document is tried again, while others that stand in its way are seen to.
TRIES = 4
#: Documents that one may wait for in a row.
LONGEST_CHAIN = 100
#: Letters that are replayed at once when a value is given up, of which one can have it.
REPLAYED = 10
#: Documents that are waited for, and letters that wait for each, that one sweep of a partition looks at.
SWEPT_HOLDERS, SWEPT_LETTERS = 20, 3


@dataclass(slots=True)
class _Way:
    """One resolution: until when, what was written, what has left MongoDB, and holders that were waited for."""

    until: float
    done: dict[str, Outcome]
    left: dict[str, bytes] = field(default_factory=dict)
    waited: set[str] = field(default_factory=set)


class Contention:
    """Resolves what MongoDB refuses because of a unique value. Safe to share between threads."""

    def __init__(
        self, store: Store, sink: Sink, letters: DeadLetters, fields: Callable[[str], Collection[str]]
    ) -> None:
        """Join the parts; `fields` are those of a collection, by name, that are unique."""
        self._store = store
        self._sink = sink
        self._letters = letters
        self._fields = fields
        self._holders = Holders(store, sink, fields)

    def concerns(self, collection: str) -> bool:
        """Whether documents of a collection can meet in a unique value that is known to be one."""
        return bool(self._fields(collection))

    def resolve(self, refused: Outcome, *, until: float) -> list[Outcome]:
        """Bring a document to MongoDB that was refused because of a unique value; before it what is in its way.

        Args:
            refused: the document, and the words of MongoDB.
            until: by `time.monotonic()`, when nothing may be sent any more.

        Returns:
            What became of all documents that were written, the one that was refused last.

        Raises:
            MongoUnavailableError: MongoDB does not answer, or the time is over. What is not settled is pending.
            RedisUnavailableError: Redis does not answer.
        """
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise MongoUnavailableError("there is no time left to write")
        way = _Way(until, {})
        with pymongo.timeout(left_s):  # whatever is asked for on the way
            outcome = self._bring(refused, way, ())
        way.done.pop(outcome.write.id.member, None)
        return [one._replace(left=way.left.get(one.write.id.member, b"")) for one in (*way.done.values(), outcome)]

    def note(self, outcome: Outcome) -> None:
        """Note that a document waits for the one that has its value. To be called before the burial.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if outcome.holder:
            self._store.awaited.add_waiter(outcome.holder, outcome.write.id.member, outcome.claim)

    def look(self, outcome: Outcome) -> None:
        """See to a dead letter once more. To be called after the burial.

        What has left MongoDB to make room for others comes back there, if it can. And the letter is replayed at
        once, if the other document has changed meanwhile.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            RedisUnavailableError: Redis does not answer.
        """
        if outcome.left and self._sink.put_back(outcome.write.id.collection, outcome.left):
            before = Entry.loaded(*split_version(outcome.left))
            self._holders.deleted_again(replace(outcome.write, entry=before))
        if outcome.holder and self._blocker(outcome.write) is None:
            self._replay(outcome.write.id.member)

    def changed(self, members: Sequence[str]) -> int:
        """Try dead letters again that wait for values which documents have given up; how many.

        One of them can have the value, so a few are tried, and the sweep tries the others. Notes stay until the
        document that waits is in MongoDB: a flusher that was stopped may bury it once more.

        Args:
            members: documents that change in MongoDB, before that is settled, or that become dead letters.

        Raises:
            MongoUnavailableError: MongoDB does not answer; what changes is not settled, and is seen to again.
            RedisUnavailableError: Redis does not answer; the same.
        """
        return sum(self._given_up(member) for member in self._store.awaited.those_of(members))

    def sweep(self, partition: int) -> int:
        """Try dead letters again that wait for documents of a partition, and need not any more; how many.

        It finds what a flusher left that died between the burial and its last look, a few documents at a time.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            RedisUnavailableError: Redis does not answer.
        """
        replayed = 0
        for holder in self._store.awaited.some_in(partition, count=SWEPT_HOLDERS):
            for member in self._store.awaited.some_waiting(holder, count=SWEPT_LETTERS) or [""]:
                replayed += self._try_again(holder, member)
        return replayed

    # How --------------------------------------------------------------------------------------------

    def _given_up(self, holder: str) -> int:
        """Replay a few of those that wait for values which a document does not have any more."""
        entry = self._holders.known(holder).entry
        kept: dict[str, bool] = {}
        looks = replayed = 0
        for member, text in self._store.awaited.waiting(holder, about=REPLAYED * REPLAYED):
            if text not in kept:
                kept[text] = entry is not None and is_noted_of(text, entry)
            if not kept[text] and looks < REPLAYED:
                looks += 1
                replayed += self._try_again(holder, member)
        return replayed

    def _try_again(self, holder: str, member: str) -> int:
        """Replay a dead letter that has waited for a document; or have it wait for another one, or no more."""
        known = self._holders.known(member)
        if known.pending:  # a flusher that was stopped may bury it once more
            return 0
        if known.dead and known.entry is not None:
            write = Write(DocumentId.from_member(member), known.entry)
            blocker = self._blocker(write)
            if blocker is None:
                return self._replay(member)
            other = blocker.id.member if blocker.id else ""
            if other == holder:
                return 0
            if other:
                self._store.awaited.add_waiter(other, member, blocker.claim.text)
        self._store.awaited.remove_waiter(holder, member)
        return 0

    def _blocker(self, write: Write) -> Holder | None:
        """Another document that has one of a document's values in MongoDB and keeps it, as `_yields` judges.

        Else a dead letter that is replayed would be one again at once, without end.
        """
        for again in (False, True):
            holder = next(self._holders.all_of(write), None)
            if holder is None or holder.id is None:
                return holder
            known = self._holders.known(holder.id.member)
            if known.dead or known.entry is None or known.keeps(holder.claim):
                return None if self._holders.give_way(write, holder, known) else holder
            if known.pending or (again and self._holders.heal(holder.id, holder.seen, known.entry)):
                return None
        return holder

    def _bring(self, outcome: Outcome, way: _Way, path: tuple[str, ...]) -> Outcome:
        """Write a document that was refused, after what is in its way; those on `path` wait for it."""
        write, free = outcome.write, 0
        path = (*path, write.id.member)
        for _ in range(TRIES + len(claims_of(write.entry, self._fields(write.id.collection)))):
            if not is_contested(outcome):
                return outcome
            holder = next(self._holders.all_of(write), None)
            free = free + 1 if holder is None else 0
            if free > 1:  # it is another index that refuses it
                return outcome
            if holder is not None and not self._yields(write, holder, way, path):
                member = holder.id.member if holder.id else ""
                return outcome._replace(holder=member, claim=holder.claim.text)
            outcome = self._write(write, way)
            outcome = outcome._replace(attempts=outcome.attempts + 1)
        # Others are at it as well, and faster.
        return outcome._replace(result=Result.DISTURBED) if is_contested(outcome) else outcome

    def _yields(self, write: Write, holder: Holder, way: _Way, path: tuple[str, ...]) -> bool:
        """Have the holder of a value give it up in MongoDB, if it has done so by what was acknowledged."""
        if holder.id is None:
            return False
        known = self._holders.known(holder.id.member)
        if known.dead or known.entry is None or known.keeps(holder.claim):
            return self._holders.give_way(write, holder, known)
        if known.pending:
            return self._pass(holder, holder.id, known.entry, way, path)
        if holder.id.member in way.waited:
            return self._holders.heal(holder.id, holder.seen, known.entry)
        way.waited.add(holder.id.member)  # it was just settled
        return True

    def _pass(
        self, holder: Holder, document_id: DocumentId, pending: Entry, way: _Way, path: tuple[str, ...]
    ) -> bool:
        """Write a document first that has given a value up; whether the value is free then."""
        member = document_id.member
        if member in path or len(path) >= LONGEST_CHAIN:
            return self._make_room(holder, document_id, pending, way)
        outcome = self._write(Write(document_id, pending), way)
        outcome = self._bring(outcome, way, path)
        way.done[member] = outcome
        if outcome.result is Result.DISTURBED:
            raise MongoUnavailableError(f"{member} changes in MongoDB while it is being written")
        if outcome.result is Result.REFUSED:  # it stays as it is but for the value, which it has given up
            return self._holders.unset(holder, pending)
        return True

    def _make_room(self, holder: Holder, document_id: DocumentId, pending: Entry, way: _Way) -> bool:
        """Take the value from what MongoDB has of a document of a circle, which is about to be written there.

        Where its collection requires the field, the document leaves MongoDB for a moment. If a newer version is on
        its way there, it stays, and is looked at again.
        """

        def note(before: Entry) -> bool:
            return self._store.awaited.record_vacating(document_id.member, pending.header, before.header)

        field, seen = holder.claim.field, holder.seen
        if not self._sink.unset(document_id, field, seen, below=pending.version, note=note) and note(DELETED):
            way.left[document_id.member] = self._sink.vacate(document_id, seen)
        return True

    def _write(self, write: Write, way: _Way) -> Outcome:
        member = write.id.member
        self._store.pending.record_sending(self._store.partition_of(member), {member: write.entry})
        [outcome] = self._sink.write(write.id.collection, [write], within_s=way.until - time.monotonic())
        self._store.metrics.count({"operations": 1})
        is_there = outcome.result is Result.PERSISTED and write.entry.exists
        deleted = self._holders.deleted_again(write) if is_there else 0
        return outcome._replace(result=Result.SUPERSEDED, present=deleted) if deleted else outcome

    def _replay(self, member: str) -> int:
        refused = [
            one
            for one in self._letters.of(DocumentId.from_member(member))
            if not one.is_kept and one.letter.code == error_table.DUPLICATE_KEY
        ]
        if not refused:  # written or replayed since
            return 0
        replayed = self._letters.replay(refused)
        for one in (found.letter.id for found in refused if found.letter.member in replayed):
            log.info(
                "dead letter %s %s is tried again: the document that had its unique value has changed",
                quoted(one.collection),
                quoted(one.text),
                extra={"event": "letter_freed", "collection": one.collection, "member": member},
            )
        return len(replayed)


def is_contested(outcome: Outcome) -> bool:
    """Whether a document was refused because of a unique value."""
    return outcome.result is Result.REFUSED and outcome.code == error_table.DUPLICATE_KEY
