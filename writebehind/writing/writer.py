"""Writes to one collection: check, encode, commit to Redis, and where it is wanted wait for MongoDB."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from writebehind.deadline import left_s
from writebehind.documents.durability import Durability
from writebehind.documents.entry import Entry
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.ids import DocumentId, new_id
from writebehind.documents.large import LARGE_BYTES, bounded
from writebehind.errors import (
    ConflictError,
    DeadLetterError,
    DocumentTooLargeError,
    KeyReusedError,
    MongoUnavailableError,
    OverloadedError,
    PreconditionFailedError,
    Reason,
    RedisUnavailableError,
    UnreadableDocumentError,
    WritebehindError,
    without_frames,
)
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.flushing.flusher import Flusher
from writebehind.hooks import Hooks
from writebehind.querying.derived import Derived
from writebehind.reading.reader import Reader
from writebehind.redis.commits import ABSENT, Commit, CommitRequest, CommitStatus
from writebehind.redis.pending import Hint, HintSink
from writebehind.redis.reach import unreached
from writebehind.redis.receipts import Once, answer_of
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.tallies import families
from writebehind.tallies.meters import Meter
from writebehind.tallies.tallies import Tallies
from writebehind.tracing import spans
from writebehind.tracing.span import may_begin
from writebehind.writing.admission import Admission
from writebehind.writing.document_check import DocumentCheck
from writebehind.writing.turns import Turns
from writebehind.writing.written import Written, check_same, is_created, replayed

__all__ = ["ANY", "Writer", "WriterParts", "Written", "check_match"]

#: If-Match: any document will do, as long as there is one.
ANY = "*"
#: A change that others come before is given up after so many seconds and so many tries. A process that has hardly
#: run in that time has not tried.
CONFLICT_DEADLINE_S, CONFLICT_TRIES = 5.0, 20
#: Why a change finds no entry that it can be held against, although it was just loaded.
_NOT_KEPT = (
    "the document does not stay in Redis for as long as this change takes: MongoDB takes longer than "
    "load_timeout_ms to answer, or others change the document all the time"
)
_ETAG = re.compile(r"[0-9a-f]{32}")

#: What it takes to answer after a wait, seconds.
TO_ANSWER_S = 0.25


@dataclass(frozen=True, slots=True)
class WriterParts:
    """The pipeline's parts and limits, which the writers of all collections share."""

    store: Store
    reader: Reader
    derived: Derived
    flusher: Flusher
    admission: Admission
    hints: HintSink
    persist_timeout_ms: int
    max_document_bytes: int
    tallies: Tallies


class Writer:
    """Commits to one collection. Safe to share between threads."""

    def __init__(self, collection: str, settings: CollectionSettings, parts: WriterParts, hooks: Hooks) -> None:
        """Bind a writer to its collection.

        Raises:
            ConfigurationError: the collection's schema file is not a JSON Schema.
        """
        self._collection = collection
        self._settings = settings
        self._parts = parts
        self._check = DocumentCheck(collection, settings, hooks, max_bytes=parts.max_document_bytes)
        self._turns = Turns()
        self._taken = Meter(parts.tallies, families.WRITES, (collection,))

    def id(self, given: object) -> DocumentId:
        """The document that a caller names, by native id or by its text.

        Raises:
            InvalidIdError: it does not fit the collection's id type.
        """
        return self._check.id(given)

    def entry(self, document_id: DocumentId, document: object) -> Entry:
        """Check a document and encode it.

        Raises:
            InvalidDocumentError: it cannot be stored.
            DocumentTooLargeError: it is larger than the settings allow.
        """
        return self._check.entry(document_id, document)

    def new_id(self, key: IdempotencyKey | None) -> DocumentId:
        """An id that no document has: in the partition of the key, where whoever repeats the write looks for it.

        Raises:
            InvalidIdError: the collection has ids that cannot be made up.
        """
        partition_of, wanted = self._parts.store.final_partition_of, None
        if key is not None:
            self._parts.store.see_division()
            wanted = partition_of(key.text)
        while True:
            drawn = DocumentId.of(self._collection, new_id(self._settings.id))
            if wanted is None or partition_of(drawn.member) == wanted:
                return drawn

    def check_changeable(self, entry: Entry) -> None:
        """See that a document may become values, which take many times its bytes.

        Raises:
            DocumentTooLargeError: others wrote it, and larger than any client may.
        """
        most = max(2 * self._parts.max_document_bytes, LARGE_BYTES)
        if len(entry.body) > most:
            raise DocumentTooLargeError(
                f"others wrote this document, and it takes {len(entry.body)} bytes: changes are made to documents "
                f"of up to {most}; replace it as a whole"
            )

    def write(
        self,
        document_id: DocumentId,
        entry: Entry,
        durability: Durability | None = None,
        *,
        if_match: Sequence[str] = (),
        if_absent: bool = False,
        key: IdempotencyKey | None = None,
        read: Callable[[int], None] = lambda _: None,
    ) -> Written:
        """Commit a document or a deletion, if the condition holds, in one round trip to Redis.

        Where the condition needs the document itself, `read` is told how many bytes that takes. Where the same
        request was committed before, by its `key`, nothing is, and this is its answer.

        Raises:
            KeyReusedError: another request with this key was.
            PreconditionFailedError: the condition does not hold.
            ConflictError: others changed the document again and again meanwhile.
            MongoUnavailableError: the document cannot be kept in Redis for the comparison.
            UnavailableError: as `commit_all`.
        """
        if if_match and not (len(if_match) == 1 and _ETAG.fullmatch(if_match[0])):
            # One comparison in Redis cannot decide this; and what is no ETag could mean something else there.

            def step(current: Entry) -> Entry:
                read(len(current.body))
                check_match(current, if_match)
                return entry

            return self.change(document_id, step, durability, key=key)
        condition = ABSENT if if_absent else "".join(if_match)
        once = Once(key, answer_of(document_id.member, entry.etag)) if key else None
        deadline = time.monotonic() + CONFLICT_DEADLINE_S
        for tries in count(1):
            commit = self._commit(document_id, entry, durability, condition, once)
            if commit.status is CommitStatus.FAILED:
                raise PreconditionFailedError
            if commit.status is not CommitStatus.UNKNOWN:
                return self._written(document_id, entry, commit, durability)
            if tries > 1 and time.monotonic() > deadline:
                break
            read(len(self._current(document_id).body))
        raise MongoUnavailableError(_NOT_KEPT, reason=Reason.MONGODB_LATE)

    def change(
        self,
        document_id: DocumentId,
        step: Callable[[Entry], Entry],
        durability: Durability | None = None,
        *,
        key: IdempotencyKey | None = None,
        values: dict[str, Any] | None = None,
    ) -> Written:
        """Read, change and write back on the condition that nothing changed meanwhile; if it did, again.

        Args:
            document_id: of what is changed.
            step: makes the entry that it becomes.
            durability: what to wait for.
            key: by which the same request is known; it is not carried out once more.
            values: of the answer, which `step` has put there, or then those of that request.

        Raises:
            KeyReusedError: another request with this key was committed.
            ConflictError: others changed the document again and again meanwhile.
            UnreadableDocumentError: its body was changed in Redis, and MongoDB has not got it yet.
            MongoUnavailableError: the document cannot be kept in Redis for the comparison.
            UnavailableError: as `commit_all`.
        """
        values = {} if values is None else values
        try:
            return self._changed(document_id, step, durability, key, values)
        except WritebehindError:
            # What has been done may be in the way of doing it once more, or not be known to have been done.
            if key is None:
                raise
            confirmation = self._parts.admission.confirmation(self.wants(durability))
            found = self._parts.store.receipts.of(document_id.member, key.text, confirmation)
            if found is None:
                raise
            answer = replayed(check_same(found.receipt, key), found)
            _replace(values, found.receipt.values)
            return answer

    def _changed(
        self,
        document_id: DocumentId,
        step: Callable[[Entry], Entry],
        durability: Durability | None,
        key: IdempotencyKey | None,
        values: dict[str, Any],
    ) -> Written:
        self._current(document_id)  # nobody should wait for a load from MongoDB
        with self._turns.of(document_id.member):
            deadline = time.monotonic() + CONFLICT_DEADLINE_S  # from here on only other processes come before it
            missed = 0
            for tries in count(1):
                current = self._intact(document_id)
                entry = step(current)
                is_new = not current.exists
                answer = answer_of(document_id.member, entry.etag, values, created=is_new) if key else b""
                once = Once(key, answer) if key else None
                commit = self._commit(document_id, entry, durability, current.etag or ABSENT, once)
                if commit.receipt:
                    _replace(values, commit.receipt.values)
                if commit.status not in {CommitStatus.FAILED, CommitStatus.UNKNOWN}:
                    return self._written(document_id, entry, commit, durability, created=is_new)
                missed = missed + 1 if commit.status is CommitStatus.UNKNOWN else 0
                if missed > 1 and time.monotonic() > deadline:
                    raise MongoUnavailableError(_NOT_KEPT, reason=Reason.MONGODB_LATE)
                if tries >= CONFLICT_TRIES and time.monotonic() > deadline:
                    break
                if commit.status is CommitStatus.FAILED:  # another process is at it: step aside
                    time.sleep(random.uniform(0, 0.005))  # noqa: S311 - no secret
        raise ConflictError

    def write_all(
        self,
        writes: Sequence[tuple[DocumentId, Entry]],
        durability: Durability | None,
        keys: Sequence[IdempotencyKey | None],
    ) -> list[Written | WritebehindError]:
        """Commit several writes in one round trip, each with its key if it has one; each stands for itself.

        Raises:
            RedisUnavailableError: Redis does not answer. Any of the writes may have happened.
        """
        once = [
            Once(key, answer_of(one.member, entry.etag)) if key else None
            for (one, entry), key in zip(writes, keys, strict=True)
        ]
        commits = self._commit_all(writes, durability, "", once)
        results: list[Written | WritebehindError] = []
        for (document_id, entry), commit in zip(writes, commits, strict=True):
            try:
                results.append(self._written(document_id, entry, commit, durability))
            except (KeyReusedError, OverloadedError, RedisUnavailableError) as error:
                results.append(without_frames(error))
        return results

    def check_offered(self, durability: Durability | None) -> None:
        """See that Redis can promise what a write would wait for.

        Raises:
            DurabilityNotOfferedError: it cannot.
        """
        self._parts.admission.check_offered(self.wants(durability))

    def wants(self, durability: Durability | None) -> Durability:
        """The durability that a write waits for, by what was asked for and by the collection's settings."""
        return self._settings.wants(durability)

    def persisted(self, written: Mapping[DocumentId, Written]) -> dict[DocumentId, Written | DeadLetterError]:
        """The same writes, once MongoDB has them or the time to wait is over, with the level that each reached.

        In the place of one that has become a dead letter is the error that says so.

        Raises:
            RedisUnavailableError: Redis does not answer. The writes stand.
        """
        versions = {document_id.member: one.version for document_id, one in written.items()}
        with bounded():  # what is committed must not begin anew for the size of a document in its way
            left = self._parts.flusher.persist(versions, timeout_ms=self._patience_ms())
        became: dict[DocumentId, Written | DeadLetterError] = {}
        for document_id, one in written.items():
            letter = left.get(document_id.member)
            if letter is None:
                became[document_id] = replace(one, durability=Durability.PERSISTED)
            else:
                refusal = DeadLetter.read(letter)
                became[document_id] = refusal.error() if refusal else one
        return became

    def _patience_ms(self) -> int:
        """The time to wait for MongoDB, ms: so much less than the thread has that what was reached can be told."""
        within_s = left_s(self._parts.persist_timeout_ms / 1000 + TO_ANSWER_S) - TO_ANSWER_S
        return max(0, int(within_s * 1000))

    def _current(self, document_id: DocumentId) -> Entry:
        """The entry that a condition is held against: in Redis afterwards, whatever it displaces."""
        return self._parts.reader.look(document_id, self._settings, keep=True).entry

    def _intact(self, document_id: DocumentId) -> Entry:
        """The same with a body that its ETag is of: the change of any other would be a write of what nobody wrote.

        One that MongoDB has is read from there anew. One that it has not is for a flush to take out.

        Raises:
            UnreadableDocumentError: it has not, or the body is changed again and again.
        """
        current = self._current(document_id)
        if current.is_intact:
            return current
        self._parts.store.cache.drop(document_id.member, current.header.encode())
        current = self._current(document_id)
        if not current.is_intact:
            raise UnreadableDocumentError(
                "others changed the document's body in Redis before MongoDB had it: it becomes a dead letter, and "
                "then the change applies to what MongoDB has; or replace the document as a whole"
            )
        return current

    def _commit(
        self,
        document_id: DocumentId,
        entry: Entry,
        durability: Durability | None,
        condition: str,
        once: Once | None,
    ) -> Commit:
        return self._commit_all([(document_id, entry)], durability, condition, [once])[0]

    def _commit_all(
        self,
        writes: Sequence[tuple[DocumentId, Entry]],
        durability: Durability | None,
        condition: str,
        once: Sequence[Once | None],
    ) -> list[Commit]:
        parts, wanted = self._parts, self.wants(durability)
        parts.admission.check_offered(wanted)
        if not may_begin():
            return self._commit_traced(writes, durability, condition, once, "")
        with spans.commit(self._collection, len(writes)) as span:
            commits = self._commit_traced(writes, durability, condition, once, span.context)
            if span:
                span.set({"writebehind.status": ",".join(sorted({one.status for one in commits}))})
            return commits

    def _commit_traced(
        self,
        writes: Sequence[tuple[DocumentId, Entry]],
        durability: Durability | None,
        condition: str,
        once: Sequence[Once | None],
        context: str,
    ) -> list[Commit]:
        parts = self._parts
        cap, delay_ms = parts.admission.cap(self._collection, self._settings), self._delay_ms(durability)
        crowded = parts.admission.crowded()  # hardly ever any
        several = parts.admission.has_several()
        requests = [
            CommitRequest(
                one.member,
                entry.payload,
                delay_ms,
                condition,
                0 if crowded and one.member in crowded else self._cap_of(one.member) if several else cap,
                context,
                its_key,
            )
            for (one, entry), its_key in zip(writes, once, strict=True)
        ]
        commits = parts.store.commit_many(requests, parts.admission.confirmation(self.wants(durability)))
        if self._settings.lookup:  # before anybody is told that the write is acknowledged
            done = [
                (one, replace(entry, version=commit.version))
                for (one, entry), commit in zip(writes, commits, strict=True)
                if commit.status is CommitStatus.OK
            ]
            done += self._pending_of(writes, commits)
            commits = self._claimed(writes, commits, done)
        return commits

    def _pending_of(
        self, writes: Sequence[tuple[DocumentId, Entry]], commits: Sequence[Commit]
    ) -> list[tuple[DocumentId, Entry]]:
        """Documents of repeated writes as they wait for MongoDB: who wrote one may have died before it claimed."""
        found = (
            (one, *self._parts.store.cache.get(one.member))
            for (one, _), commit in zip(writes, commits, strict=True)
            if commit.status is CommitStatus.REPEATED
        )
        return [(one, entry) for one, entry, ttl_ms in found if entry is not None and ttl_ms == -1]

    def _claimed(
        self,
        writes: Sequence[tuple[DocumentId, Entry]],
        commits: Sequence[Commit],
        done: Sequence[tuple[DocumentId, Entry]],
    ) -> list[Commit]:
        """The commits, once the values of what was `done` are claimed; one whose server is away is not told."""
        shared: dict[str, Mapping[str, str]] = {}

        def claim(some: Sequence[tuple[DocumentId, Entry]]) -> None:
            if found := self._parts.derived.committed(some, self._settings):
                shared.update(found)

        away = unreached(done, claim)
        refusals = {one.member: error for (one, _), error in away}
        return [
            replace(commit, status=CommitStatus.REFUSED, refusal=refusals[one.member])
            if one.member in refusals and commit.status in {CommitStatus.OK, CommitStatus.REPEATED}
            else replace(commit, shared=shared[one.member])
            if one.member in shared
            else commit
            for (one, _), commit in zip(writes, commits, strict=True)
        ]

    def _cap_of(self, member: str) -> int:
        """The cap of its partition, where Redis is several servers."""
        return self._parts.admission.cap(self._collection, self._settings, self._parts.store.partition_of(member))

    def _delay_ms(self, durability: Durability | None) -> int:
        return 0 if self.wants(durability) is Durability.PERSISTED else self._settings.flush_delay_ms

    def _written(
        self,
        document_id: DocumentId,
        entry: Entry,
        commit: Commit,
        durability: Durability | None,
        *,
        created: bool = False,
    ) -> Written:
        if commit.refusal:
            if commit.ticket:  # the write stands, and nobody has been told so
                self._wanted(document_id, commit, durability)
            raise commit.refusal
        if commit.status is CommitStatus.ANOTHER:
            raise KeyReusedError
        if commit.status is CommitStatus.REPEATED:
            return replayed(commit.receipt, commit)
        if commit.status is CommitStatus.FULL:
            raise self._parts.admission.refusal(self._collection, self._settings, document_id.member)
        self._taken.add()
        if commit.ticket:
            self._wanted(document_id, commit, durability)
        return Written(
            document_id.text,
            commit.version,
            entry.etag,
            commit.durability,
            is_created(entry.etag, commit.previous, known=created),
            commit.shared,
            commit.confirmed,
        )

    def _wanted(self, document_id: DocumentId, commit: Commit, durability: Durability | None) -> None:
        """Have the flush task sent that a commit has issued a ticket for."""
        partition = self._parts.store.partition_of(document_id.member)
        self._parts.hints(Hint(partition, commit.ticket, self._delay_ms(durability)))


def _replace(values: dict[str, Any], new: Mapping[str, Any]) -> None:
    values.clear()
    values.update(new)


def check_match(entry: Entry, if_match: Sequence[str]) -> None:
    """See that the document has one of these ETags, where there are any.

    Raises:
        PreconditionFailedError: it has not, or it does not exist.
    """
    if if_match and not (entry.exists and (entry.etag in if_match or ANY in if_match)):
        raise PreconditionFailedError
