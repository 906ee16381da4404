"""MongoDB as the protocol writes it: guarded bulk writes that are safe to repeat.

Every write carries its version and is applied only where MongoDB has no version as new or newer. So it may be
retried, duplicated, delayed or reordered without an older document replacing a newer one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf

import pymongo
from bson import Int64, ObjectId
from bson.raw_bson import RawBSONDocument
from opentelemetry.trace import SpanContext
from pymongo import DeleteOne, UpdateOne

from writebehind.documents.elements import without
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import (
    RAW_OPTIONS,
    VERSION_FIELD,
    append_version,
    split_version,
    version_of,
)
from writebehind.documents.shard_key import address
from writebehind.errors import MongoRefusesError, MongoUnavailableError, UnavailableError
from writebehind.logs.events import FAULT
from writebehind.logs.quoting import quoted
from writebehind.mongodb import error_table, update_command
from writebehind.mongodb.columns import Columns
from writebehind.mongodb.error_table import Refusal, Verdict
from writebehind.mongodb.finder import MOST_IDS, Finder
from writebehind.mongodb.outcomes import (
    OVERTAKEN,
    AllRefusedError,
    CommandRefusedError,
    Outcome,
    RefusedError,
    Result,
    Write,
    commands,
    exactly,
    judge,
    operation,
    operation_over,
    send_alone,
)
from writebehind.plurals import counted
from writebehind.sequences import slices
from writebehind.tracing import spans

log = logging.getLogger(__name__)

#: A write that changes nothing even where it matches, and waits for the write concern. Every server knows it.
_NEVER = {VERSION_FIELD: "writebehind: no such version"}
_NOTHING = {"$set": _NEVER}
#: Outcomes of writes that are to be tried again.
_NOT_NOW = {Result.DISTURBED, Result.UNCLEAR, Result.MISPLACED}
#: How long MongoDB may take to show that it is there after a connection has broken, seconds.
PROBE_S = 1.0


class Sink(Finder):
    """The state in MongoDB, read and written. Safe to share between threads."""

    def write(
        self,
        collection: str,
        writes: Sequence[Write],
        *,
        within_s: float = inf,
        links: Sequence[SpanContext] = (),
    ) -> list[Outcome]:
        """Bring versions of one collection to MongoDB in one unordered bulk write.

        A document that MongoDB refuses is tried once more alone: it may have been in the way of another of the
        same batch, as when a unique value moves from one document to the next.

        Args:
            collection: its name.
            writes: no two to one document.
            within_s: seconds after which nothing may be sent any more: what is left of the caller's lease.
            links: the spans that have written them, as far as they are known.

        Returns:
            What became of each; nothing of `Columns` that are persisted as a whole.

        Raises:
            AllRefusedError: MongoDB does not take any of these writes, for no reason that is known.
            MongoUnavailableError: nothing is known of these writes. All of them may be sent again.
        """
        if within_s <= 0:
            raise MongoUnavailableError("there is no time left to write")
        with (
            spans.bulk_write(self._database.name, collection, len(writes), links) as span,
            self._guard(),
            pymongo.timeout(min(within_s, self._timeout_s)),
        ):
            outcomes = self._write(collection, writes)
            if span:
                span.set(_told(outcomes))
            if outcomes and all(outcome.result is Result.UNCLEAR for outcome in outcomes):
                raise AllRefusedError(outcomes)
            return outcomes

    def takes_writes(self, collection: str) -> bool:
        """Whether MongoDB takes a write that changes nothing.

        Raises:
            MongoUnavailableError: it does not answer.
        """
        with self._guard():
            return self._takes_writes(collection)

    def delete_older(self, collection: str, versions: Mapping[DocumentId, int]) -> int:
        """Delete documents that have an older version than this, and no others; how many there were.

        Raises:
            MongoRefusesError: MongoDB refuses to delete some of them. The others are deleted.
            MongoUnavailableError: MongoDB does not answer.
        """
        key = self._shard_key(collection)
        operations = [
            # Not `$not: {$gte: …}`: a document without a version was put there by somebody else since.
            DeleteOne({**address(one, key), VERSION_FIELD: {"$lt": Int64(version), "$gte": Int64(0)}})
            for one, version in versions.items()
        ]
        with self._guard():  # which is told of an answer
            try:
                with self._deadline():
                    return self._database[collection].bulk_write(operations, ordered=False).deleted_count
            except RefusedError as error:
                refusal = next(iter(error.refusals.values()))
                if refusal.verdict in {Verdict.OUTAGE, Verdict.BUSY, Verdict.SETTINGS}:
                    raise MongoUnavailableError("MongoDB cannot delete now", inner=refusal.message) from error
                raise MongoRefusesError("MongoDB refuses", inner=refusal.message) from error

    def _write(self, collection: str, writes: Sequence[Write]) -> list[Outcome]:
        outcomes = self._bulk(collection, writes)
        if len(writes) > 1 and any(outcome.result is Result.REFUSED for outcome in outcomes):
            outcomes = [
                self._bulk(collection, [outcome.write])[0]._replace(attempts=2)
                if outcome.result is Result.REFUSED
                else outcome
                for outcome in outcomes
            ]
        return outcomes

    def unset(
        self,
        document_id: DocumentId,
        field: str,
        seen: object,
        *,
        below: int,
        note: Callable[[Entry], bool] = lambda _: True,
    ) -> bool:
        """Take a field from the document whose `_v` was `seen`; false where that cannot be done.

        Its collection may require the field, or the field may be in documents of a list.

        What stands then has a version of its own, as whatever the pipeline writes: so it is known again when
        MongoDB reports it. The version is less than `below`, that of the write which is to replace it.

        Args:
            document_id: the document.
            field: its name, or a path.
            seen: what stood in its `_v`.
            below: a version.
            note: is told what will stand there, and says whether it may.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
        """
        where = {**self._where(document_id), VERSION_FIELD: exactly(seen)}
        try:
            with self._guard(), self._deadline(), commands():
                target = self._database[document_id.collection]
                found = target.find_one(where)
                if found is not None:
                    body, version = split_version(found.raw)
                    left = without(body, [name.encode() for name in field.split(".")])
                    if left == body:
                        return False
                    version = min(version + 1, max(below - 1, 0))
                    if note(Entry.loaded(left, version)):
                        target.replace_one(where, RawBSONDocument(append_version(left, version), RAW_OPTIONS))
        except CommandRefusedError as error:
            if error.refusal.verdict in {Verdict.BUSY, Verdict.SETTINGS}:
                raise MongoUnavailableError("MongoDB does not take it now", inner=error) from error
            return False
        return True

    def vacate(self, document_id: DocumentId, seen: object) -> bytes:
        """Delete the document whose `_v` was `seen`; what it was, b'' where there is none.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
        """
        where = {**self._where(document_id), VERSION_FIELD: exactly(seen)}
        with self._guard(), self._deadline():
            found = self._database[document_id.collection].find_one_and_delete(where)
        return b"" if found is None else found.raw

    def put_back(self, collection: str, raw: bytes) -> bool:
        """Store a document as it was before it was deleted; false where there is one by now, or it is refused.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
        """
        try:
            with self._guard(), self._deadline(), commands():
                self._database[collection].insert_one(RawBSONDocument(raw, RAW_OPTIONS))
        except CommandRefusedError:
            return False
        return True

    def _bulk(self, collection: str, writes: Sequence[Write], *, halve: bool = True) -> list[Outcome]:
        try:
            refused, looked = self._send(collection, writes)
        except CommandRefusedError as error:  # which does not say because of which document
            if len(writes) > 1:
                return self._after_refusal(collection, writes, error.refusal, halve=halve)
            refused, looked = _beside(writes, {0: error.refusal})
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - the driver did not send it, or cannot read the answer
            log.debug("of %s to %s nothing is known: %r", counted(len(writes), "write"), collection, error)
            unclear = Refusal(0, f"{type(error).__name__}: {error}", Verdict.UNCLEAR)
            return self._after_exception(collection, writes, unclear)
        if not refused and not looked:  # as a rule
            return [] if isinstance(writes, Columns) else [Outcome(write, Result.PERSISTED) for write in writes]
        if looked and refused and (refusal := self._await_majority(collection, looked)):
            return _all_refused(writes, refusal)
        try:
            there = self._versions(collection, [one.id for one in looked]) if looked else {}
        except MongoRefusesError:  # to tell: then what it says must do
            looked, there = [], {}
        known = {write.id.member for write in looked}
        outcomes = []
        for at, write in enumerate(writes):
            seen = there.get(write.id.member)
            present = None if seen is None else version_of(seen)
            outcome = judge(write, refused.get(at), present, looked=write.id.member in known)
            may_be_in_the_way = outcome.result is Result.DISTURBED or outcome.code == error_table.DUPLICATE_KEY
            outcomes.append(self._over(write, seen) if seen is not None and may_be_in_the_way else outcome)
        return outcomes

    def _after_refusal(
        self, collection: str, writes: Sequence[Write], refusal: Refusal, *, halve: bool
    ) -> list[Outcome]:
        """Find by halves because of which documents a command was refused; without `halve` it was because of all.

        Where it is not about a document, and of one half nothing is taken, the other is sent as it is: so MongoDB
        is not asked for each document while it is busy.
        """
        about_documents = refusal.verdict is Verdict.DOCUMENT
        is_busy = refusal.code == error_table.OUT_OF_TIME or not halve  # there is no time to look for it
        is_busy |= refusal.verdict is Verdict.SETTINGS  # and nothing to look for
        if not about_documents and (is_busy or not self._takes_writes(collection)):
            return _all_refused(writes, refusal)
        first, second = _halves(writes)
        outcomes = self._bulk(collection, first)
        some_taken = any(one.result not in _NOT_NOW for one in outcomes)
        try:
            return [*outcomes, *self._bulk(collection, second, halve=about_documents or some_taken)]
        except MongoUnavailableError as error:
            if not some_taken:
                raise
            # As a rule there was no time for them. What is known counts, so that fewer are left the next time.
            waiting = counted(len(second), "write has", "writes have")
            log.debug("of %s %s to wait: %s", collection, waiting, error)
            return [*outcomes, *_all_refused(second, Refusal(0, str(error), Verdict.BUSY))]

    def _after_exception(self, collection: str, writes: Sequence[Write], refusal: Refusal) -> list[Outcome]:
        """See which writes have happened, and find by halves because of which of the others nothing is known."""
        if refused := self._await_majority(collection, writes):
            return _all_refused(writes, refused)
        there = self._versions(collection, [one.id for one in writes])
        became: dict[str, Outcome] = {}
        for write in writes:
            seen = there.get(write.id.member)
            present = None if seen is None else version_of(seen)
            became[write.id.member] = judge(write, None, present, looked=True)
        left = [one.write for one in became.values() if one.result in _NOT_NOW]
        if len(writes) == 1 and left:
            return [self._alone(writes[0], refusal)]
        for half in filter(None, _halves(left)):
            became |= {one.write.id.member: one for one in self._bulk(collection, half)}
        return list(became.values())

    def _alone(self, write: Write, refusal: Refusal) -> Outcome:
        """Send one write in the form whose answer the driver reads otherwise: FerretDB's errors lack `nModified`.

        Where nothing is known of that either, it is `refusal` that keeps it from MongoDB.
        """
        try:
            with self._deadline(), commands():
                send_alone(self._database[write.id.collection], write, self._shard_key(write.id.collection))
        except CommandRefusedError as error:
            refusal = error.refusal
        except UnavailableError:
            raise
        except Exception:
            log.exception(
                "%s cannot be written, or the answer cannot be read", quoted(write.id.member), extra=FAULT
            )
            return judge(write, refusal, None, looked=False)
        seen = self._versions(write.id.collection, [write.id]).get(write.id.member)
        present = None if seen is None else version_of(seen)
        outcome = judge(write, None, present, looked=True)
        return judge(write, refusal, present, looked=True) if outcome.result in _NOT_NOW else outcome

    def _over(self, write: Write, seen: object) -> Outcome:
        """Write over the document whose `_v` was seen, and does not count as newer."""
        try:
            with self._deadline(), commands():
                target = self._database[write.id.collection]
                over = operation_over(write, self._shard_key(write.id.collection), seen)
                done = target.bulk_write([over], ordered=False)
            refusal = None if done.matched_count + done.deleted_count else OVERTAKEN
        except RefusedError as error:
            refusal = error.refusals[0]
        except CommandRefusedError as error:
            refusal = error.refusal
        return judge(write, refusal, None, looked=False)._replace(attempts=2)

    def _send(self, collection: str, writes: Sequence[Write]) -> tuple[Mapping[int, Refusal], list[Write]]:
        """Send one bulk write; what was refused, by position, and what is to be looked for all the same."""
        try:
            with self._deadline(), commands():
                target, key = self._database[collection], self._shard_key(collection)
                stored = None if key else self._stored(collection, writes)
                if stored is not None:
                    return {}, [] if stored == len(writes) else _not_seen(writes, 0, stored)
                done = target.bulk_write([operation(write, key) for write in writes], ordered=False)
                return {}, _not_seen(writes, done.deleted_count, done.matched_count + done.upserted_count)
        except RefusedError as error:
            passing = [one for one in error.refusals.values() if one.verdict is Verdict.OUTAGE]
            if len(passing) == len(writes):  # else one shard of several, or one document
                raise MongoUnavailableError(
                    "MongoDB cannot take writes now", inner=passing[0].message, outage=True
                ) from error
            return _beside(writes, error.refusals)
        except MongoUnavailableError as error:
            if not error_table.is_cut_off(error.__cause__):
                raise
            self.ping(timeout_s=PROBE_S)  # and no write: some servers read a whole collection for any condition
            # It is there, and closes the connection on which these documents come: a size, or what lies between.
            why = f"{error.public}: {error_table.without_server(error.inner)}"  # which clients may read
            raise CommandRefusedError(Refusal(0, why, Verdict.UNCLEAR)) from error

    def _stored(self, collection: str, writes: Sequence[Write]) -> int | None:
        """The number of documents that one command has stored; `None` where that is left to the driver."""
        made = writes.statements if isinstance(writes, Columns) else None
        statements = made or update_command.statements_of(writes)
        return update_command.send(self._database, collection, statements) if statements else None

    def _await_majority(self, collection: str, writes: Sequence[Write]) -> Refusal | None:
        """Wait until what MongoDB has of documents is durable, by a write that changes nothing; or why not."""
        target, key = self._database[collection], self._shard_key(collection)
        try:
            for some in slices(writes, MOST_IDS):
                with self._deadline(), commands():
                    if key is None:
                        target.update_many({"_id": {"$in": [one.id.value for one in some]}, **_NEVER}, _NOTHING)
                    else:  # each on its shard: a router sends one of several documents to all
                        nothing = [UpdateOne({**address(one.id, key), **_NEVER}, _NOTHING) for one in some]
                        target.bulk_write(nothing, ordered=False)
        except (CommandRefusedError, RefusedError) as error:
            refusal = error.refusal if isinstance(error, CommandRefusedError) else error.refusals.popitem()[1]
            kept = {Verdict.BUSY, Verdict.SETTINGS}
            return refusal if refusal.verdict in kept else replace(refusal, verdict=Verdict.UNCLEAR)
        return None

    def _takes_writes(self, collection: str) -> bool:
        try:
            with self._deadline(), commands():
                target, key = self._database[collection], self._shard_key(collection)
                if key is None:
                    target.update_many({"_id": ObjectId(), **_NEVER}, _NOTHING)
                else:
                    nobody = {"_id": ObjectId(), **{part.field: ObjectId() for part in key.parts}}
                    target.update_one({**nobody, **_NEVER}, _NOTHING)
        except (CommandRefusedError, RefusedError):
            return False
        return True


def _told(outcomes: Sequence[Outcome]) -> dict[str, str | int]:
    """The counts of outcomes by their kind, and MongoDB's code for the first that was refused, for a span."""
    about: dict[str, str | int] = {
        f"writebehind.{result.name.lower()}": count
        for result, count in Counter(one.result for one in outcomes).items()
    }
    if code := next((one.code for one in outcomes if one.code), 0):
        about["db.response.status_code"] = str(code)
    return about


def _beside(writes: Sequence[Write], refused: Mapping[int, Refusal]) -> tuple[Mapping[int, Refusal], list[Write]]:
    """Refusals by position, and the writes of which only what MongoDB has tells what became of them.

    Beside an error, routers before MongoDB 7.1 keep back that the other writes are not durable.
    """
    others = [write for at, write in enumerate(writes) if at not in refused]
    repeated = [writes[at] for at, one in refused.items() if one.may_have_happened]
    return refused, others + repeated


def _not_seen(writes: Sequence[Write], removed: int, stored: int) -> list[Write]:
    """The same where all is well: deletions that met what is absent, or newer, and what nothing says was done."""
    deletions = sum(write.entry.kind is Kind.DELETED for write in writes)
    if removed >= deletions and stored >= len(writes) - deletions:  # as a rule
        return []
    kinds = (
        (removed, [write for write in writes if write.entry.kind is Kind.DELETED]),
        (stored, [write for write in writes if write.entry.kind is not Kind.DELETED]),
    )
    return [write for done, some in kinds if done < len(some) for write in some]


def _all_refused(writes: Sequence[Write], refusal: Refusal) -> list[Outcome]:
    """The outcomes of writes that were refused by one error."""
    together = len(writes) > 1
    return [judge(one, refusal, None, looked=False)._replace(together=together) for one in writes]


def _halves(writes: Sequence[Write]) -> tuple[Sequence[Write], Sequence[Write]]:
    middle = len(writes) // 2
    return writes[:middle], writes[middle:]
