"""Writes to one collection: check, encode, commit to Redis, and where it is wanted wait for MongoDB."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
from writebehind.hooks import Hooks
from writebehind.redis.commits import ABSENT, CommitStatus
from writebehind.redis.receipts import Once, answer_of
from writebehind.redis.round_trip import RoundTrip
from writebehind.redis.unsettled import Fate
from writebehind.settings.collection import CollectionSettings
from writebehind.writing.committing import Committer, WriterParts
from writebehind.writing.document_check import DocumentCheck
from writebehind.writing.turns import Turns
from writebehind.writing.written import Written, check_same, replayed, too_many_receipts

__all__ = ["ANY", "Writer", "Written", "check_match"]

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
        self._committer = Committer(collection, settings, parts)

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
            commit = self._committer.commit(document_id, entry, durability, condition, once)
            if commit.status is CommitStatus.FAILED:
                raise PreconditionFailedError
            if commit.status is not CommitStatus.UNKNOWN:
                return self._committer.written(document_id, entry, commit, durability)
            if tries > 1 and time.monotonic() > deadline:
                break
            read(len(self._current(document_id).body))
        raise MongoUnavailableError(_NOT_KEPT, reason=Reason.MONGODB_LATE)

    def makes_trips(self) -> bool:
        """Whether `trip` makes one, as far as is known by now."""
        return self._committer.makes_trips()

    def trip(
        self,
        document_id: DocumentId,
        entry: Entry,
        key: IdempotencyKey | None,
        lost: Callable[[RedisUnavailableError], Any],
    ) -> RoundTrip[Written] | None:
        """`write` without a condition in two halves, as `Committer.trip`."""
        once = Once(key, answer_of(document_id.member, entry.etag)) if key else None
        return self._committer.trip(document_id, entry, once, lost)

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
            found = self._parts.store.receipts.of(document_id.member, key, confirmation)
            if found is None:
                raise
            answer = replayed(check_same(found.receipt, key), found)
            (refusal,) = self._parts.store.keep_repeated([(found.receipt, key)])
            if refusal:
                raise refusal from None
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
                commit = self._committer.commit(document_id, entry, durability, current.etag or ABSENT, once)
                if commit.receipt:
                    _replace(values, commit.receipt.values)
                if commit.status not in {CommitStatus.FAILED, CommitStatus.UNKNOWN}:
                    return self._committer.written(document_id, entry, commit, durability, created=is_new)
                missed = missed + 1 if commit.status is CommitStatus.UNKNOWN else 0
                if missed > 1 and time.monotonic() > deadline:
                    raise MongoUnavailableError(_NOT_KEPT, reason=Reason.MONGODB_LATE)
                if tries >= CONFLICT_TRIES and time.monotonic() > deadline:
                    break
                if commit.status is CommitStatus.FAILED:  # another process is at it: step aside
                    time.sleep(random.uniform(0, 0.005))  # noqa: S311 - no secret
        raise ConflictError

    def begin(self, request: IdempotencyKey) -> None:
        """Have a request for several writes known by its key, before any is made.

        Raises:
            KeyReusedError: another request is.
            TooManyReceiptsError: too many requests lately have keys.
            RedisUnavailableError: Redis does not answer.
        """
        status = self._parts.store.receipts.note_request(self._collection, request)
        if status.is_another:
            raise KeyReusedError
        if status.wait_ms:
            raise too_many_receipts(status.wait_ms)

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
        commits = self._committer.commit_all(writes, durability, "", once)
        results: list[Written | WritebehindError] = []
        for (document_id, entry), commit in zip(writes, commits, strict=True):
            try:
                results.append(self._committer.written(document_id, entry, commit, durability))
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
        # Of a write that was made long ago, perhaps, it says nothing that none of it waits.
        repeated = {one.member: versions[one.member] for one, made in written.items() if made.replayed}
        fates = self._parts.store.unsettled.fates(repeated) if repeated else {}
        became: dict[DocumentId, Written | DeadLetterError] = {}
        for document_id, one in written.items():
            letter = left.get(document_id.member)
            if document_id.member in fates:
                became[document_id] = self._became(document_id, one, *fates[document_id.member])
            elif letter is None:
                became[document_id] = replace(one, durability=Durability.PERSISTED)
            else:
                refusal = DeadLetter.read(letter)
                became[document_id] = refusal.error() if refusal else one
        return became

    def _became(
        self, document_id: DocumentId, one: Written, fate: Fate, letter: bytes
    ) -> Written | DeadLetterError:
        """A repeated write by its fate."""
        if fate is Fate.SETTLED:
            return replace(one, durability=Durability.PERSISTED)
        if fate is Fate.DISCARDED:
            return DeadLetterError(
                "MongoDB did not take this write, and its dead letter was discarded: with another idempotency "
                "key it is a new write",
                collection=self._collection,
                document_id=document_id.text,
                version=one.version,
            )
        refusal = DeadLetter.read(letter) if fate is Fate.DEAD else None
        return refusal.error() if refusal else one

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
