"""A batch on its way from Redis to MongoDB: read, sent guarded by version, and recorded."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from opentelemetry.trace import SpanContext

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, RedisUnavailableError, UnavailableError
from writebehind.flushing.attempts import is_late
from writebehind.flushing.batch_size import BatchSize
from writebehind.flushing.contention import Contention, is_contested
from writebehind.flushing.flush_summary import FlushSummary
from writebehind.flushing.homecoming import Homecoming
from writebehind.flushing.recorder import Recorder
from writebehind.logs.quoting import quoted
from writebehind.mongodb.client import writes_sent
from writebehind.mongodb.columns import Columns, columns
from writebehind.mongodb.outcomes import AllRefusedError, Outcome, Result, Write
from writebehind.mongodb.sink import Sink
from writebehind.outage_log import OutageLog
from writebehind.redis.reach import is_away, unreached
from writebehind.redis.store import Store
from writebehind.sequences import grouped, slices
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies
from writebehind.tracing import spans
from writebehind.tracing.written import distinct, named

log = logging.getLogger(__name__)

#: Bodies that one batch holds in memory, bytes, as far as documents of that size come in slices of so many.
BATCH_BYTES, READ_SLICE = 32 << 20, 50


class Batches:
    """Flushes batches of claimed members. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        *,
        homecoming: Homecoming,
        recorder: Recorder,
        contention: Contention,
        size: BatchSize,
        tallies: Tallies,
    ) -> None:
        """Join the parts; `size` learns from each batch how many MongoDB takes in good time."""
        self.size = size
        self._store = store
        self._sink = sink
        self._homecoming = homecoming
        self._recorder = recorder
        self._contention = contention
        self._tallies = tallies
        self._outages = OutageLog(log, "write")

    def flush(self, span: spans.Flush, members: Sequence[str], summary: FlushSummary, lease_ends: float) -> bool:
        """Flush one batch of a partition; whether any of it is not pending here any more, or was overtaken.

        Raises:
            MongoUnavailableError: MongoDB did not take a batch, or refused all of it.
        """
        partition = summary.partition
        at_home = self._homecoming.of_pending(partition, members)
        # What cannot be brought home yet is put off: whoever tries it again at once would do nothing else.
        brought = len(at_home) < len(members) and not self._store.is_dividing
        if not at_home:
            return brought
        summary.tried += 1
        sent = summary.operations
        try:
            return self._at_home(span, at_home, summary, lease_ends) or brought
        finally:
            summary.batches += summary.operations > sent

    def _at_home(
        self, span: spans.Flush, members: Sequence[str], summary: FlushSummary, lease_ends: float
    ) -> bool:
        """Flush members of the partition; as `flush`."""
        done = summary.buried + summary.persisted
        moved = False
        late: dict[str, list[Outcome]] = {}
        counts: Counter[str] = Counter()
        for batch in self._read(summary, members, is_plain=not span.is_traced):
            some = self._some(span, batch, summary, lease_ends)
            moved |= len(some) < len(batch)
            late.setdefault(_collection(batch), []).extend(some)
            counts[_collection(batch)] += len(batch)
        for collection, outcomes in late.items():  # only now: the others' collections need not wait
            if len(outcomes) == counts[collection] > 1 and outcomes[0].result is not Result.UNREACHED:
                raise MongoUnavailableError("MongoDB takes nothing of a batch", inner=outcomes[0].message)
        return moved or summary.buried + summary.persisted > done

    def _some(
        self, span: spans.Flush, batch: Sequence[Write], summary: FlushSummary, lease_ends: float
    ) -> list[Outcome]:
        """Flush documents of one collection; which of them are to be tried again.

        Whatever one of them makes raise keeps none of the others: that one is found by halves, and postponed.

        Raises:
            UnavailableError: MongoDB or Redis does not answer.
        """
        partition = summary.partition
        collection = _collection(batch)
        try:
            batch, links = self._noted(span, partition, batch)
            # A flusher that was paused must not write what others may have overtaken since.
            outcomes = self._write(collection, batch, summary, lease_ends, links)
            if isinstance(batch, Columns) and not outcomes:  # as a rule
                return self._recorder.record_plain(partition, batch, summary)
            sent = sum(outcome.attempts for outcome in outcomes)
            outcomes = self._resolve(partition, collection, outcomes, summary, lease_ends)
            return self._recorder.record(partition, collection, outcomes, summary, sent=sent)
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - of the driver, about a server's answer, or a fault of our own
            if len(batch) > 1:
                middle = len(batch) // 2
                halves = (batch[:middle], batch[middle:])
                return [one for half in halves for one in self._some(span, half, summary, lease_ends)]
            line = f"{quoted(batch[0].id.member)} cannot be written: {error!r}"
            self._outages.note("a fault in writing", line, level=logging.ERROR, event="fault", error=error)
            outcome = Outcome(batch[0], Result.UNCLEAR, 0, f"{type(error).__name__}: {error}")
            return self._recorder.postpone(partition, collection, [outcome], summary)

    def _noted(
        self, span: spans.Flush, partition: int, batch: Sequence[Write]
    ) -> tuple[Sequence[Write], Sequence[SpanContext]]:
        """A batch, once it is noted that it is sent, with the traces of its writes; and the spans of these."""
        if isinstance(batch, Columns):
            pairs = zip(batch.members, batch.headers, strict=True)
            self._store.pending.note_sending(partition, [part for pair in pairs for part in pair])
            return batch, ()
        entries = {one.id.member: one.entry for one in batch}
        traces = self._store.pending.record_sending(partition, entries, traced=span.is_traced)
        links = distinct(one for some in traces.values() for one in some)
        span.carries(links)
        return [_traced(one, traces) for one in batch] if traces else batch, links

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
                resolved = [outcome._replace(result=Result.DISTURBED, message=str(error))]
            except RedisUnavailableError as error:  # perhaps a server that has another document
                if not is_away(error):
                    raise
                resolved = [outcome._replace(result=Result.UNREACHED, message=str(error))]
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

    def _read(self, summary: FlushSummary, members: Sequence[str], *, is_plain: bool) -> Iterator[Sequence[Write]]:
        """The latest versions of members in batches of a collection; where it may be, in columns what is plain."""
        left: list[str] = []
        for collection, some in grouped(members, lambda one: one[: one.index("/")]).items():
            if is_plain and not self._recorder.is_told(collection):
                yield from columns(collection, self._values(summary.partition, some), left)
            else:
                left += some
        writes = sorted(self._writes(summary.partition, left, summary), key=lambda one: one.id.collection)
        for _, group in groupby(writes, lambda one: one.id.collection):
            yield list(group)

    def _values(self, partition: int, members: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Members, and what stands in Redis of them."""
        for some in slices(members, READ_SLICE):
            yield from zip(some, self._store.pending.values(partition, some), strict=True)

    def _writes(self, partition: int, members: Sequence[str], summary: FlushSummary) -> Iterator[Write]:
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
            sent = sum(outcome.attempts for outcome in outcomes) or len(batch)
        except AllRefusedError as error:
            sent = sum(outcome.attempts for outcome in error.outcomes)
            if len(batch) > 1:  # one alone is rather at fault itself, and says nothing of how many fit
                self.size.failed()
            return error.outcomes
        except MongoUnavailableError:
            self.size.failed()
            if writes_sent() > before:  # not where the breaker is open, or no server is found
                sent = len(batch)
            raise
        finally:
            if sent:
                summary.sent(sent)
                self._tallies.observe(families.BATCH_TIMES, (collection,), time.monotonic() - began)
                self._tallies.observe(families.BATCH_SIZES, (collection,), len(batch))
        if len(outcomes) > 1 and all(map(is_late, outcomes)):  # throttled, and all the faster refused
            self.size.failed()
        else:
            self.size.took(len(batch), time.monotonic() - began)
        return outcomes


def _traced(write: Write, traces: Mapping[str, Sequence[SpanContext]]) -> Write:
    """A write with the trace of the last span that has written it, if any."""
    found = traces.get(write.id.member)
    return replace(write, trace_id=named(found[-1])["trace_id"]) if found else write


def _collection(batch: Sequence[Write]) -> str:
    return batch.collection if isinstance(batch, Columns) else batch[0].id.collection
