"""Order across documents that meet in a unique value.

Partitions are flushed in any order, and MongoDB refuses a document while another one has its value there. What was
acknowledged decides. If the other one has given the value up by then, its newer state is written first, however
long the chain is. If the chain leads back to the first, as when two documents exchange their values, one of them
leaves MongoDB for as long as it takes; readers see it in Redis. Only if the other has the value as last
acknowledged too, this is a conflict: the document becomes a dead letter, and is tried again when the other one has
changed. See docs/adr/0026-order-across-unique-values.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from bson.raw_bson import RawBSONDocument

from writebehind import mongo_errors
from writebehind.connections import script
from writebehind.dead_letters import DeadLetters
from writebehind.entry import Entry, Kind
from writebehind.errors import MongoUnavailableError
from writebehind.ids import DocumentId
from writebehind.keys import partition_keys
from writebehind.matching import compile_filter
from writebehind.outcomes import Outcome, Result, Write
from writebehind.rawbson import RAW_OPTIONS
from writebehind.sink import Sink
from writebehind.store import Store

log = logging.getLogger(__name__)

#: How often one document is tried again, while others that stand in its way are seen to.
TRIES = 4
#: Documents that one may wait for in a row.
LONGEST_CHAIN = 100

_AWAIT, _UNAWAIT, _VACATING = script("await"), script("unawait"), script("vacating")


@dataclass(frozen=True, slots=True)
class _Claim:
    """A unique value that a document is given."""

    field: str
    value: object

    def is_of(self, entry: Entry) -> bool:
        """Whether a document has the value."""
        return entry.exists and compile_filter({self.field: {"$eq": self.value}})(entry.body)


@dataclass(frozen=True, slots=True)
class _Holder:
    """The document that has a value in MongoDB; `seen` is its `_v` there, and `id` is `None` for none of ours."""

    claim: _Claim
    id: DocumentId | None
    seen: object


@dataclass(frozen=True, slots=True)
class _Known:
    """What Redis has of a document; `header` is '' where it has nothing."""

    entry: Entry | None
    pending: bool
    dead: bool

    @property
    def header(self) -> str:
        """Version, kind and ETag."""
        return self.entry.header if self.entry is not None else ""


class Contention:
    """Resolves what MongoDB refuses because of a unique value. Safe to share between threads."""

    def __init__(self, store: Store, sink: Sink, letters: DeadLetters) -> None:
        """Join the parts."""
        self._store = store
        self._sink = sink
        self._letters = letters

    def resolve(self, refused: Outcome, fields: Collection[str], *, until: float) -> list[Outcome]:
        """Bring a document to MongoDB that was refused because of a unique value; before it what is in its way.

        Args:
            refused: the document, and the words of MongoDB.
            fields: those that are unique.
            until: by `time.monotonic()`, when nothing may be sent any more.

        Returns:
            What became of all documents that were written, the one that was refused last.

        Raises:
            MongoUnavailableError: MongoDB does not answer, or the time is over. What is not settled is pending.
            RedisUnavailableError: Redis does not answer.
        """
        done: dict[str, Outcome] = {}
        outcome = self._bring(refused, fields, [], done, until)
        done.pop(outcome.write.id.member, None)
        return [*done.values(), outcome]

    def note(self, outcome: Outcome) -> None:
        """Note that a document waits for the one that has its value. To be called before the burial.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if outcome.holder:
            of = partition_keys(self._store.partition_of(outcome.holder))
            noted = (outcome.holder, outcome.write.id.member, outcome.holder_header)
            self._store.wire.run(_AWAIT, (of.awaited,), noted)

    def look(self, outcome: Outcome, fields: Collection[str]) -> None:
        """Replay a dead letter at once, if the other one has changed meanwhile. To be called after the burial.

        Args:
            outcome: the burial's.
            fields: those that are unique.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            RedisUnavailableError: Redis does not answer.
        """
        if outcome.holder and (
            self._known(outcome.holder).header != outcome.holder_header
            or self._holder(outcome.write, fields) is None
        ):
            self._replay(outcome.write.id.member)

    def changed(self, members: Sequence[str]) -> int:
        """Try the dead letters again that wait for documents which change in MongoDB; how many.

        Notes stay until the document that waits is in MongoDB: a flusher that was stopped may bury it once more.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        by_partition: dict[int, list[str]] = {}
        for member in members:
            by_partition.setdefault(self._store.partition_of(member), []).append(member)
        replayed = 0
        for partition, some in by_partition.items():
            awaited = partition_keys(partition).awaited
            for member, noted in zip(some, self._store.wire.call("HMGET", awaited, *some), strict=True):
                if noted:
                    replayed += self._try_again(partition, member, orjson.loads(noted))
        return replayed

    def sweep(self, partition: int) -> int:
        """Try the dead letters again that wait for documents of a partition which have changed; how many.

        It finds what a flusher left that died between the burial and its last look.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        flat = self._store.wire.call("HGETALL", partition_keys(partition).awaited)
        replayed = 0
        for member, noted in zip(flat[::2], flat[1::2], strict=True):
            header = self._known(member.decode()).header
            waiting = {one: seen for one, seen in orjson.loads(noted).items() if seen != header}
            replayed += self._try_again(partition, member.decode(), waiting)
        return replayed

    def _try_again(self, partition: int, holder: str, waiting: Collection[str]) -> int:
        """Replay those that are dead letters; forget those that are neither that nor pending."""
        replayed, done = 0, []
        for member in waiting:
            known = self._known(member)
            if known.dead:
                replayed += self._replay(member)
            elif not known.pending:
                done.append(member)
        if done:
            self._store.wire.run(_UNAWAIT, (partition_keys(partition).awaited,), (holder, *done))
        return replayed

    # How --------------------------------------------------------------------------------------------

    def _bring(
        self,
        outcome: Outcome,
        fields: Collection[str],
        path: list[str],
        done: dict[str, Outcome],
        until: float,
    ) -> Outcome:
        """Write a document that was refused, after what is in its way; those on `path` wait for it."""
        write = outcome.write
        path = [*path, write.id.member]
        for _ in range(TRIES + len(fields)):
            if not is_contested(outcome):
                return outcome
            holder = self._holder(write, fields)
            if holder is not None and not self._yields(holder, fields, path, done, until):
                member = holder.id.member if holder.id else ""
                return replace(outcome, holder=member, holder_header=self._known(member).header if member else "")
            [outcome] = self._write([write], until)
            outcome = replace(outcome, attempts=outcome.attempts + 1)
        # Others are at it as well, and faster.
        return replace(outcome, result=Result.DISTURBED) if is_contested(outcome) else outcome

    def _holder(self, write: Write, fields: Collection[str]) -> _Holder | None:
        """Another document that has one of a document's unique values in MongoDB."""
        for claim in _claims(write.entry, fields):
            for stored_id, seen in self._sink.find_holders(write.id.collection, claim.field, claim.value):
                one = DocumentId.stored(write.id.collection, stored_id)
                if one is None or one.member != write.id.member:
                    return _Holder(claim, one, seen)
        return None

    def _yields(
        self, holder: _Holder, fields: Collection[str], path: list[str], done: dict[str, Outcome], until: float
    ) -> bool:
        """Have the holder of a value give it up in MongoDB, if it has done so by what was acknowledged."""
        if holder.id is None:
            return False
        known = self._known(holder.id.member)
        if known.entry is None or holder.claim.is_of(known.entry):
            return False
        if not known.pending:
            # Refused for another reason, it has given the value up all the same. Else it was just settled.
            return not known.dead or self._sink.unset(holder.id, holder.claim.field, holder.seen)
        if holder.id.member in path or len(path) >= LONGEST_CHAIN:
            return self._vacate(holder, known.entry)
        write = Write(holder.id, known.entry)
        [outcome] = self._write([write], until)
        outcome = self._bring(outcome, fields, path, done, until)
        done[holder.id.member] = outcome
        if outcome.result is Result.DISTURBED:
            raise MongoUnavailableError(f"{holder.id.member} changes in MongoDB while it is being written")
        if outcome.result is Result.REFUSED:  # it stays as it is but for the value, which it has given up
            return self._sink.unset(holder.id, holder.claim.field, holder.seen)
        return True

    def _vacate(self, holder: _Holder, pending: Entry) -> bool:
        """Take the document of a circle out of MongoDB, which is about to be written there."""
        if holder.id is None:
            return False
        of = partition_keys(self._store.partition_of(holder.id.member))
        deletion = f"{max(pending.version - 1, 0):016d}{Kind.DELETED.value}"
        self._store.wire.run(_VACATING, (of.sent,), (holder.id.member, pending.header, deletion))
        self._sink.vacate(holder.id, holder.seen)
        return True

    def _write(self, writes: Sequence[Write], until: float) -> list[Outcome]:
        for one in writes:
            self._store.sending(self._store.partition_of(one.id.member), {one.id.member: one.entry})
        return self._sink.write(writes[0].id.collection, writes, within_s=until - time.monotonic())

    def _known(self, member: str) -> _Known:
        of = partition_keys(self._store.partition_of(member))
        value, due, letter = self._store.wire.calls(
            (("GET", of.entry(member)), ("ZSCORE", of.pending, member), ("HEXISTS", of.dead, member))
        )
        return _Known(None if value is None else Entry.parse(value), due is not None, bool(letter))

    def _replay(self, member: str) -> int:
        refused = [
            one
            for one in self._letters.of(DocumentId.from_member(member))
            if not one.is_kept and one.letter.code == mongo_errors.DUPLICATE_KEY
        ]
        if not refused:  # written or replayed since
            return 0
        log.info("%s is tried again: the document that had its unique value has changed", member)
        return len(self._letters.replay(refused))


def is_contested(outcome: Outcome) -> bool:
    """Whether a document was refused because of a unique value."""
    return outcome.result is Result.REFUSED and outcome.code == mongo_errors.DUPLICATE_KEY


def _claims(entry: Entry, fields: Collection[str]) -> list[_Claim]:
    """The unique values of a document; a list has none, as it may have many."""
    found: list[_Claim] = []
    if entry.exists:
        document = RawBSONDocument(entry.body, RAW_OPTIONS)
        for field in fields:
            value: Any = document
            for name in field.split("."):
                value = value.get(name) if isinstance(value, RawBSONDocument) else None
            if value is not None and not isinstance(value, list):
                found.append(_Claim(field, value))
    return found
