"""Commits of writes to one collection: one round trip to Redis, and what the answer to each of them says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from writebehind.documents.durability import Durability
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import KeyReusedError, RedisUnavailableError
from writebehind.flushing.flusher import Flusher
from writebehind.querying.derived import Derived
from writebehind.reading.reader import Reader
from writebehind.redis.commits import Commit, CommitRequest, CommitStatus
from writebehind.redis.pending import Hint, HintSink
from writebehind.redis.reach import unreached
from writebehind.redis.receipts import Once
from writebehind.redis.round_trip import RoundTrip, UndecidedError
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.tallies import families
from writebehind.tallies.meters import Meter
from writebehind.tallies.tallies import Tallies
from writebehind.tracing import spans
from writebehind.tracing.span import may_begin
from writebehind.writing.admission import Admission
from writebehind.writing.written import Written, is_created, replayed, too_many_receipts


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


class Committer:
    """Commits to one collection what was checked and encoded. Safe to share between threads."""

    def __init__(self, collection: str, settings: CollectionSettings, parts: WriterParts) -> None:
        """Bind it to its collection."""
        self._collection = collection
        self._settings = settings
        self._parts = parts
        self._is_one_trip = settings.wants(None) is Durability.BUFFERED and not settings.lookup
        self._taken = Meter(parts.tallies, families.WRITES, (collection,))

    def commit(
        self,
        document_id: DocumentId,
        entry: Entry,
        durability: Durability | None,
        condition: str,
        once: Once | None,
    ) -> Commit:
        """`commit_all` for one write."""
        return self.commit_all([(document_id, entry)], durability, condition, [once])[0]

    def commit_all(
        self,
        writes: Sequence[tuple[DocumentId, Entry]],
        durability: Durability | None,
        condition: str,
        once: Sequence[Once | None],
    ) -> list[Commit]:
        """Commit writes in one round trip, each with its receipt if it has one; each stands for itself.

        Args:
            writes: the documents, and what they become.
            durability: what to wait for; as the collection's settings say where it is `None`.
            condition: of each, as `CommitRequest` has it.
            once: for each write, if it has an idempotency key.

        Raises:
            DurabilityNotOfferedError: this Redis cannot promise that durability.
            RedisUnavailableError: Redis does not answer; the writes may or may not have happened.
        """
        self._parts.admission.check_offered(self._settings.wants(durability))
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
        requests = self._requests(writes, durability, condition, once, context)
        commits = parts.store.commit_many(requests, parts.admission.confirmation(self._settings.wants(durability)))
        if self._settings.lookup:  # before anybody is told that the write is acknowledged
            done = [
                (one, replace(entry, version=commit.version))
                for (one, entry), commit in zip(writes, commits, strict=True)
                if commit.status is CommitStatus.OK
            ]
            done += self._pending_of(writes, commits)
            commits = self._claimed(writes, commits, done)
        return commits

    def _requests(
        self,
        writes: Sequence[tuple[DocumentId, Entry]],
        durability: Durability | None,
        condition: str,
        once: Sequence[Once | None],
        context: str,
    ) -> list[CommitRequest]:
        admission = self._parts.admission
        cap, delay_ms = admission.cap(self._collection, self._settings), self._delay_ms(durability)
        crowded = admission.crowded()  # hardly ever any
        several = admission.has_several()
        return [
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

    def makes_trips(self) -> bool:
        """Whether a write without a condition is one round trip, as far as is known by now."""
        return self._is_one_trip and self._parts.store.is_direct()

    def trip(
        self,
        document_id: DocumentId,
        entry: Entry,
        once: Once | None,
        lost: Callable[[RedisUnavailableError], Any],
    ) -> RoundTrip[Written] | None:
        """A write that nothing is waited for after it, in two halves; `None` where it may take more.

        What is not taken is not decided: a thread finds out why, by another try.
        """
        if not self._is_one_trip or may_begin() or not self._parts.admission.is_known():
            return None
        (request,) = self._requests(((document_id, entry),), None, "", (once,), "")

        def conclude(commit: Commit) -> Written:
            if commit.status is CommitStatus.OK or commit.status is CommitStatus.REPEATED:
                return self.written(document_id, entry, commit, None)
            raise UndecidedError

        return self._parts.store.commit_trip(request, conclude, lost)

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
            commit._replace(status=CommitStatus.REFUSED, refusal=refusals[one.member])
            if one.member in refusals and commit.status in {CommitStatus.OK, CommitStatus.REPEATED}
            else commit._replace(shared=shared[one.member])
            if one.member in shared
            else commit
            for (one, _), commit in zip(writes, commits, strict=True)
        ]

    def written(
        self,
        document_id: DocumentId,
        entry: Entry,
        commit: Commit,
        durability: Durability | None,
        *,
        created: bool = False,
    ) -> Written:
        """The answer to a write that was committed; its flush task is sent. `created` is what is known beside it.

        Raises:
            KeyReusedError: another request with this idempotency key was committed.
            OverloadedError: the partition is full, or has too many receipts that must stay.
            RedisUnavailableError: its server does not answer.
        """
        if commit.refusal:
            if commit.ticket:  # the write stands, and nobody has been told so
                self._wanted(document_id, commit, durability)
            raise commit.refusal
        if commit.status is CommitStatus.ANOTHER:
            raise KeyReusedError
        if commit.status is CommitStatus.REPEATED:
            return replayed(commit.receipt, commit)
        if commit.status is CommitStatus.BUSY:
            raise too_many_receipts(commit.wait_ms)
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

    def _cap_of(self, member: str) -> int:
        """The cap of its partition, where Redis is several servers."""
        return self._parts.admission.cap(self._collection, self._settings, self._parts.store.partition_of(member))

    def _delay_ms(self, durability: Durability | None) -> int:
        return 0 if self._settings.wants(durability) is Durability.PERSISTED else self._settings.flush_delay_ms
