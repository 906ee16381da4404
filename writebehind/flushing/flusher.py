"""From Redis to MongoDB: claim, write guarded by version, settle, release."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from uuid import uuid4

from opentelemetry.trace import SpanContext

from writebehind import forks
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import (
    ForeignRedisError,
    MistypedKeyError,
    MongoBusyError,
    MongoUnavailableError,
    RedisUnavailableError,
    UnavailableError,
)
from writebehind.flushing.attempts import is_late
from writebehind.flushing.batch_size import BatchSize
from writebehind.flushing.contention import Contention, is_contested
from writebehind.flushing.flush_summary import FlushSummary
from writebehind.flushing.homecoming import Homecoming
from writebehind.flushing.recorder import Recorder
from writebehind.hooks import Hooks
from writebehind.logs.fields import bound
from writebehind.mongodb.client import writes_sent
from writebehind.mongodb.outcomes import AllRefusedError, Outcome, Result, Write
from writebehind.mongodb.sink import Sink
from writebehind.mongodb.waiting import waits
from writebehind.outage_log import OutageLog
from writebehind.plurals import counted
from writebehind.querying.derived import Derived
from writebehind.redis.pending import Hint, HintSink
from writebehind.redis.reach import each_reached, is_away, unreached
from writebehind.redis.store import Store
from writebehind.sequences import grouped, slices
from writebehind.settings.collection import CollectionSettings
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies
from writebehind.tracing import spans
from writebehind.tracing.written import distinct, named

log = logging.getLogger(__name__)

#: Exponential backoff with full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
BACKOFF_BASE_MS, BACKOFF_CAP_MS = 200, 5_000
#: Steps between two looks at a partition that another flusher owns, seconds.
WAIT_FROM_S, WAIT_TO_S = 0.005, 0.02
#: Bodies that one batch holds in memory, bytes, as far as documents of that size come in slices of so many.
BATCH_BYTES, READ_SLICE = 32 << 20, 50
#: A document goes along with one that is due, this part of its flush delay earlier than it would go by itself.
EARLY_PART = 0.5


class FlushInterruptedError(MongoUnavailableError):
    """A batch was not taken. Nothing of it is settled; it is flushed again after `hint.delay_ms`."""

    def __init__(self, message: str, hint: Hint | None) -> None:
        """Take the hint that the caller must enqueue, if any."""
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class FlushLimits:
    """Limits of one flush.

    Attributes:
        batch_size: most documents in one bulk write; `least_batch` the least, however slow MongoDB is.
        lease_ms: how long it owns a partition without renewing.
        batch_target_s: how long one bulk write should take.
        soon_ms: how early documents may go along with one that is due, at most.
        budget_s: seconds after which it makes room for others.
    """

    batch_size: int
    lease_ms: int
    least_batch: int
    batch_target_s: float
    soon_ms: int
    budget_s: float = 20.0


@dataclass(frozen=True, slots=True)
class _Job:
    """The task of one flush: `wanted` versions by member, or all that is due; with `early` all that is pending."""

    summary: FlushSummary
    budget_s: float
    ticket: str = ""
    attempt: int = 0
    wanted: Mapping[str, int] = field(default_factory=dict)
    early: bool = False


class Flusher:
    """Brings pending documents to MongoDB. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        hints: HintSink,
        collection_settings: Callable[[str], CollectionSettings],
        limits: FlushLimits,
        *,
        derived: Derived,
        contention: Contention,
        hooks: Callable[[str], Hooks],
        tallies: Tallies,
    ) -> None:
        """Join the parts; `hints` takes the flush tasks that are wanted next, `hooks` are a collection's."""
        self._contention = contention
        self._homecoming = Homecoming(store, hints, derived, collection_settings)
        self._recorder = Recorder(
            store, sink, collection_settings, derived=derived, contention=contention, hooks=hooks, tallies=tallies
        )
        self._store = store
        self._sink = sink
        self._hints = hints
        self._settings = collection_settings
        self._limits = limits
        self._tallies = tallies
        self._outages = OutageLog(log, "write")
        self._batch = BatchSize(
            least=min(limits.least_batch, limits.batch_size),
            most=limits.batch_size,
            target_s=limits.batch_target_s,
        )
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Nobody has stopped it yet."""
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let running flushes end with their batch; what is left goes to others."""
        self._stopping.set()

    def flush(
        self,
        partition: int,
        *,
        ticket: str = "",
        attempt: int = 0,
    ) -> FlushSummary:
        """Flush what is due in a partition.

        Args:
            partition: its number.
            ticket: of the hint that led here, so that an overtaken one ends at once.
            attempt: how many times in a row MongoDB has failed.

        Raises:
            FlushInterruptedError: MongoDB did not take a batch, or other hands were in the way in Redis.
            ForeignRedisError: Redis belongs to another MongoDB database.
            RedisUnavailableError: Redis does not answer; the lease runs out and the sweep finds what is left.
        """
        summary, budget_s = FlushSummary(partition), self._limits.budget_s
        with bound(partition=partition, ticket=ticket):
            return self._run(_Job(summary, budget_s, ticket=ticket, attempt=attempt))

    def drain(self, partition: int, *, budget_s: float) -> FlushSummary:
        """Flush all that is pending in a partition, also what is not due yet, for at most `budget_s` seconds.

        Raises: as `flush`.
        """
        with bound(partition=partition):
            return self._run(_Job(FlushSummary(partition), budget_s, early=True))

    def persist(self, versions: Mapping[str, int], *, timeout_ms: int) -> dict[str, bytes]:
        """Bring these members to MongoDB now, at these versions or newer ones.

        Returns:
            Those that it does not have: each with the dead letter that this version is, b'' where it is not one.

        Raises:
            RedisUnavailableError: Redis does not answer, or no server that has any of them.
        """
        try:
            with waits():
                return self._persist(versions, time.monotonic() + timeout_ms / 1000)
        except MongoBusyError as error:
            log.debug("%s left to the tasks: %s", counted(len(versions), "write is", "writes are"), error)
            return dict.fromkeys(versions, b"")

    def _persist(self, versions: Mapping[str, int], deadline: float) -> dict[str, bytes]:
        left: dict[str, bytes] = {}
        by_partition = grouped(versions, self._store.partition_of)

        def persist(partition: int) -> None:
            wanted = {member: versions[member] for member in by_partition[partition]}
            left.update(self._persist_partition(partition, wanted, deadline))

        for partition in each_reached(by_partition, persist):
            left.update(dict.fromkeys(by_partition[partition], b""))
        return left

    def _persist_partition(self, partition: int, wanted: dict[str, int], deadline: float) -> dict[str, bytes]:
        missing, interrupted = dict(wanted), False
        refused: dict[str, bytes] = {}
        while missing and (remaining := deadline - time.monotonic()) > 0:
            summary = FlushSummary(partition)
            try:
                self._run(_Job(summary, remaining, wanted=missing))
            except FlushInterruptedError as error:
                self._outages.note("write-through", f"write-through of partition {partition} has to wait: {error}")
                if error.hint:
                    self._hints(error.hint)
                interrupted = True
            if summary.busy:
                time.sleep(random.uniform(WAIT_FROM_S, WAIT_TO_S))  # noqa: S311 - no secret
            missing = {member: version for member, version in missing.items() if not summary.has(member, version)}
            left = self._store.unsettled.unreached(missing)
            refused |= {member: letter for member, letter in left.items() if letter}
            missing = {member: version for member, version in missing.items() if left.get(member) == b""}
            if interrupted or not missing or self._stopping.is_set():
                break
            waits_on = summary.busy or summary.tried > 0
            # Settling an older version may have put them off; who is at work may bring them along.
            if not summary.tried and self._store.pending.bring_forward(partition, missing):
                waits_on = True
            if not waits_on:
                break  # nothing is due: what is missing is tried again later, or a newer version is a dead letter
        return refused | dict.fromkeys(missing, b"")

    def _run(self, job: _Job) -> FlushSummary:
        """Flush batches until nothing is due, all that is wanted is reached, or the time is over; then release."""
        partition, token = job.summary.partition, uuid4().hex
        deadline = time.monotonic() + job.budget_s
        with spans.Flush(partition) as span:
            return self._run_traced(job, token, deadline, span)

    def _run_traced(self, job: _Job, token: str, deadline: float, span: spans.Flush) -> FlushSummary:
        summary, partition = job.summary, job.summary.partition
        try:
            while not self._stopping.is_set() and time.monotonic() < deadline:
                lease_ends = time.monotonic() + self._limits.lease_ms / 1000  # early rather than late
                members = self._claim(job, token)
                if members is None:
                    summary.busy = True
                    return summary
                if not members:
                    break
                moved = self._flush_batch(span, members, summary, lease_ends)
                if job.early and not moved:  # what is left has to wait, and is not to be tried without a pause
                    break
                if job.wanted and all(summary.has(*pair) for pair in job.wanted.items()):
                    break
        except MongoUnavailableError as error:
            self._tallies.add(families.INTERRUPTED)
            self._count(summary, span)
            delay_ms = max(backoff_ms(job.attempt), math.ceil((error.retry_after_s or 0) * 1000))
            hint = self._store.pending.release(partition, token, least_delay_ms=delay_ms)
            raise FlushInterruptedError(str(error), hint) from error
        except MistypedKeyError as error:  # Redis answers: what is pending need not wait for the end of the lease
            self._tallies.add(families.INTERRUPTED)
            self._count(summary, span)
            hint = self._store.pending.release(partition, token, least_delay_ms=backoff_ms(job.attempt))
            raise FlushInterruptedError(str(error), hint) from error
        except ForeignRedisError:  # its own flushers need not wait for the end of the lease
            self._store.pending.give_back(partition, token)
            raise
        self._count(summary, span)
        if hint := self._store.pending.release(partition, token):
            self._hints(hint)
        return summary

    def _claim(self, job: _Job, token: str) -> list[str] | None:
        return self._store.pending.claim(
            job.summary.partition,
            token,
            lease_ms=self._limits.lease_ms,
            limit=self._batch.size,
            ticket=job.ticket,
            early=job.early,
            soon_ms=0 if job.wanted else self._limits.soon_ms,  # nobody waits for what others may want soon
            goes_along=self._goes_along,
        )

    def _goes_along(self, member: str, left_ms: int) -> bool:
        """Whether a document that is not due yet was coalesced for long enough to go along with one that is."""
        collection = DocumentId.from_member(member).collection
        return left_ms <= self._settings(collection).flush_delay_ms * EARLY_PART

    def _flush_batch(
        self, span: spans.Flush, members: Sequence[str], summary: FlushSummary, lease_ends: float
    ) -> bool:
        """Flush one batch; whether any of it is not pending here any more, or was overtaken.

        Raises:
            MongoUnavailableError: MongoDB did not take a batch, or refused all of it.
        """
        partition = summary.partition
        at_home = self._homecoming.of_pending(partition, members)
        if not at_home:
            return True
        summary.tried += 1
        sent = summary.operations
        try:
            return self._flush_at_home(span, at_home, summary, lease_ends) or len(at_home) < len(members)
        finally:
            summary.batches += summary.operations > sent

    def _flush_at_home(
        self, span: spans.Flush, members: Sequence[str], summary: FlushSummary, lease_ends: float
    ) -> bool:
        """Flush members of the partition; as `_flush_batch`."""
        done = summary.buried + summary.persisted
        writes = sorted(self._read(summary.partition, members, summary), key=_collection)
        moved, refused = summary.buried + summary.persisted > done, ""
        for _, group in groupby(writes, _collection):
            batch = list(group)
            late = self._flush_some(span, batch, summary, lease_ends)
            moved |= len(late) < len(batch)
            if len(late) == len(batch) > 1 and late[0].result is not Result.UNREACHED:
                refused = late[0].message
        if refused:  # only now: the others' collections need not wait
            raise MongoUnavailableError("MongoDB takes nothing of a batch", inner=refused)
        return moved

    def _flush_some(
        self, span: spans.Flush, batch: Sequence[Write], summary: FlushSummary, lease_ends: float
    ) -> list[Outcome]:
        """Flush documents of one collection; which of them are to be tried again.

        Whatever one of them makes raise keeps none of the others: that one is found by halves, and postponed.

        Raises:
            UnavailableError: MongoDB or Redis does not answer.
        """
        partition = summary.partition
        collection = batch[0].id.collection
        try:
            entries = {one.id.member: one.entry for one in batch}
            traces = self._store.pending.record_sending(partition, entries, traced=span.is_traced)
            links = distinct(one for some in traces.values() for one in some)
            batch = [_traced(one, traces) for one in batch] if traces else batch
            span.carries(links)
            # A flusher that was paused must not write what others may have overtaken since.
            outcomes = self._write(collection, batch, summary, lease_ends, links)
            sent = sum(outcome.attempts for outcome in outcomes)
            outcomes = self._resolve(partition, collection, outcomes, summary, lease_ends)
            return self._recorder.record(partition, collection, outcomes, summary, sent=sent)
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - of the driver, about a server's answer, or a fault of our own
            if len(batch) > 1:
                middle = len(batch) // 2
                halves = (batch[:middle], batch[middle:])
                return [one for half in halves for one in self._flush_some(span, half, summary, lease_ends)]
            line = f"{batch[0].id.member} cannot be written: {error!r}"
            self._outages.note("a fault in writing", line, level=logging.ERROR, event="fault", error=error)
            outcome = Outcome(batch[0], Result.UNCLEAR, 0, f"{type(error).__name__}: {error}")
            return self._recorder.postpone(partition, collection, [outcome], summary)

    def _resolve(
        self,
        partition: int,
        collection: str,
        outcomes: Sequence[Outcome],
        summary: FlushSummary,
        lease_ends: float,
    ) -> list[Outcome]:
        """See to documents that meet others in a unique value; those of other partitions are recorded here."""
        contention = self._contention
        if not contention.concerns(collection):
            return list(outcomes)
        became = {one.write.id.member: one for one in outcomes}
        for outcome in filter(is_contested, outcomes):
            if became[outcome.write.id.member] is not outcome:  # it was in the way of another
                continue
            try:
                resolved = contention.resolve(outcome, until=lease_ends)
            except MongoUnavailableError as error:  # the others are recorded all the same
                resolved = [replace(outcome, result=Result.DISTURBED, message=str(error))]
            except RedisUnavailableError as error:  # perhaps a server that has another document
                if not is_away(error):
                    raise
                resolved = [replace(outcome, result=Result.UNREACHED, message=str(error))]
            for one in resolved:
                number = self._store.partition_of(one.write.id.member)
                if number == partition:
                    became[one.write.id.member] = one
                else:
                    self._record_elsewhere(number, one, summary)
        return list(became.values())

    def _record_elsewhere(self, partition: int, outcome: Outcome, summary: FlushSummary) -> None:
        """Record what became of a document of another partition; its own flush does, while its server is away."""
        collection = outcome.write.id.collection
        unreached([outcome], lambda some: self._recorder.record(partition, collection, some, summary))

    def _read(self, partition: int, members: Sequence[str], summary: FlushSummary) -> Iterator[Write]:
        """The latest versions of members, as far as memory allows: the others wait for the next batch."""
        held = 0
        for some in slices(members, READ_SLICE):
            for member, entry in self._entries(partition, some, summary):
                if entry is None:
                    self._recorder.bury_lost(member, summary)
                    continue
                write = Write(DocumentId.from_member(member), entry)
                if entry.is_intact:
                    held += len(entry.body)
                    yield write
                else:
                    self._recorder.take_out_damaged(write, summary)
            if held > BATCH_BYTES:
                return

    def _entries(
        self, partition: int, members: Sequence[str], summary: FlushSummary
    ) -> list[tuple[str, Entry | None]]:
        """The entries of members; one that other hands have made unreadable becomes a dead letter."""
        try:
            return list(zip(members, self._store.pending.entries(partition, members), strict=True))
        except (ValueError, IndexError):
            if len(members) > 1:
                halves = (members[: len(members) // 2], members[len(members) // 2 :])
                return [one for half in halves for one in self._entries(partition, half, summary)]
            self._recorder.bury_lost(members[0], summary, self._store.pending.version_digits(members[0]))
            return []  # with the entry, which no reader can read either

    def _write(
        self,
        collection: str,
        batch: Sequence[Write],
        summary: FlushSummary,
        lease_ends: float,
        links: Sequence[SpanContext],
    ) -> list[Outcome]:
        began, before = time.monotonic(), writes_sent()
        sent = 0
        try:
            outcomes = self._sink.write(collection, batch, within_s=lease_ends - began, links=links)
            sent = sum(outcome.attempts for outcome in outcomes)
        except AllRefusedError as error:
            sent = sum(outcome.attempts for outcome in error.outcomes)
            if len(batch) > 1:  # one alone is rather at fault itself, and says nothing of how many fit
                self._batch.failed()
            return error.outcomes
        except MongoUnavailableError:
            self._batch.failed()
            if writes_sent() > before:  # not where the breaker is open, or no server is found
                sent = len(batch)
            raise
        finally:
            if sent:
                summary.operations += sent
                summary.in_vain += sent  # until it is settled
                self._tallies.observe(families.BATCH_TIMES, (collection,), time.monotonic() - began)
                self._tallies.observe(families.BATCH_SIZES, (collection,), len(batch))
        if len(outcomes) > 1 and all(map(is_late, outcomes)):  # throttled, and all the faster refused
            self._batch.failed()
        else:
            self._batch.took(len(batch), time.monotonic() - began)
        return outcomes

    def _count(self, summary: FlushSummary, span: spans.Flush) -> None:
        if summary.tried:
            span.counts(summary.outcomes())
            written = summary.persisted + summary.deleted
            self._store.metrics.count(summary.counts(), persisted=written)


def backoff_ms(attempt: int) -> int:
    """The pause after this many failures in a row, ms; never 0, so that a failure is never a busy loop."""
    ceiling = min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** min(attempt, 16))
    return random.randint(BACKOFF_BASE_MS // 2, ceiling)  # noqa: S311 - no secret


def _traced(write: Write, traces: Mapping[str, Sequence[SpanContext]]) -> Write:
    """A write with the trace of the last span that has written it, if any."""
    found = traces.get(write.id.member)
    return replace(write, trace_id=named(found[-1])["trace_id"]) if found else write


def _collection(write: Write) -> str:
    return write.id.collection
