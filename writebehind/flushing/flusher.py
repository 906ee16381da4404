"""From Redis to MongoDB: claim, write guarded by version, settle, release."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

from writebehind import forks
from writebehind.deadline import endless
from writebehind.errors import (
    ForeignRedisError,
    MistypedKeyError,
    MongoBusyError,
    MongoUnavailableError,
    RedisUnavailableError,
)
from writebehind.flushing.batch_size import BatchSize
from writebehind.flushing.batches import Batches
from writebehind.flushing.contention import Contention
from writebehind.flushing.flush_summary import FlushSummary
from writebehind.flushing.homecoming import Homecoming
from writebehind.flushing.recorder import Recorder
from writebehind.hooks import Hooks
from writebehind.logs.fields import bound
from writebehind.logs.states import StateLog
from writebehind.mongodb.sink import Sink
from writebehind.mongodb.waiting import waits
from writebehind.outage_log import OutageLog
from writebehind.plurals import counted
from writebehind.querying.derived import Derived
from writebehind.redis.pending import PAUSED_MS, Hint, HintSink, Released, UntilNext
from writebehind.redis.reach import each_reached, is_away
from writebehind.redis.shared.pauses import Paused, told
from writebehind.redis.store import Store
from writebehind.redis.topology.dividing import PartitionDividedError
from writebehind.sequences import grouped
from writebehind.settings.collection import CollectionSettings
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies
from writebehind.tracing import spans

log = logging.getLogger(__name__)

#: Exponential backoff with full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
BACKOFF_BASE_MS, BACKOFF_CAP_MS = 200, 5_000
#: Steps between two looks at a partition that another flusher owns, seconds.
WAIT_FROM_S, WAIT_TO_S = 0.005, 0.02
#: A flusher that has lost Redis in the middle looks for so long whether it is back, and so often, seconds. Others
#: would wait for the end of the lease, and for the sweep after it.
LET_GO_WITHIN_S, LET_GO_EVERY_S = 3.0, 0.2
#: A document goes along with one that is due, this part of its flush delay earlier than it would go by itself.
EARLY_PART = 0.5
#: A flush that lasts tells this often how much it has persisted, seconds: present rates are made of it.
TOLD_EVERY_S = 1.0


#: Redis tells no more why nothing is paused.
_NO_LONGER_PAUSED = (
    "somebody has resumed it, or Redis has lost its data, the pause and what waited: `writebehind status` tells"
)


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
        self._store = store
        self._hints = hints
        self._settings = collection_settings
        self._limits = limits
        self._tallies = tallies
        self._outages = OutageLog(log, "write")
        self._paused = StateLog(log, "flushing_paused", "flushing_resumed", again_s=0)
        #: When what was paused last ends by itself, by the monotonic clock.
        self._paused_until = float("-inf")
        self._batches = Batches(
            store,
            sink,
            homecoming=Homecoming(store, hints, derived, collection_settings),
            recorder=Recorder(
                store,
                sink,
                collection_settings,
                derived=derived,
                contention=contention,
                hooks=hooks,
                tallies=tallies,
            ),
            contention=contention,
            size=BatchSize(
                least=min(limits.least_batch, limits.batch_size),
                most=limits.batch_size,
                target_s=limits.batch_target_s,
            ),
            tallies=tallies,
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
        """Flush what is due in a partition: nothing of what an operator has paused.

        Args:
            partition: its number.
            ticket: of the hint that led here, so that an overtaken one ends at once.
            attempt: how many times in a row MongoDB has failed.

        Raises:
            FlushInterruptedError: MongoDB did not take a batch, or other hands were in the way in Redis.
            ForeignRedisError: Redis belongs to another MongoDB database.
            RedisUnavailableError: Redis does not answer; unless it is back soon, the lease runs out and the sweep
                finds what is left.
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
            with waits(), endless():  # a batch that is broken off puts off all of its documents
                return self._persist(versions, time.monotonic() + timeout_ms / 1000)
        except MongoBusyError as error:
            log.debug("%s left to the tasks: %s", counted(len(versions), "write is", "writes are"), error)
            return dict.fromkeys(versions, b"")

    def _persist(self, versions: Mapping[str, int], deadline: float) -> dict[str, bytes]:
        left: dict[str, bytes] = {}
        view = self._store.layout.view
        by_partition = grouped(versions, self._store.partition_of)

        def persist(partition: int) -> None:
            wanted = {member: versions[member] for member in by_partition[partition]}
            left.update(self._persist_partition(partition, wanted, deadline))

        for partition in each_reached(by_partition, persist):
            left.update(dict.fromkeys(by_partition[partition], b""))
        missing = {member: versions[member] for member, letter in left.items() if not letter}
        if missing and self._store.layout.view is not view and time.monotonic() < deadline:
            done = self._persist(missing, deadline)  # they may be in other partitions by now
            left = {member: letter for member, letter in left.items() if letter} | done
        return left

    def _persist_partition(self, partition: int, wanted: dict[str, int], deadline: float) -> dict[str, bytes]:
        missing, interrupted = dict(wanted), False
        refused: dict[str, bytes] = {}
        while missing and (remaining := deadline - time.monotonic()) > 0:
            missing = self._not_paused(missing, refused)
            if not missing:
                break
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

    def _not_paused(self, missing: dict[str, int], refused: dict[str, bytes]) -> dict[str, int]:
        """Those of the members that are flushed now; the others are none that this can bring to MongoDB."""
        paused = self._see_pauses()
        held = [member for member in missing if paused and paused.covers(member.partition("/")[0])]
        if held:
            refused.update(dict.fromkeys(held, b""))
            waits = counted(len(held), "write has", "writes have")
            self._outages.note("paused", f"{waits} to wait for MongoDB: {told(paused.as_list())}")
        return {member: version for member, version in missing.items() if member not in refused or refused[member]}

    def _see_pauses(self) -> Paused:
        """The pauses in force; what has changed is logged."""
        paused = self._store.pauses.look()
        if paused:
            self._paused_until = time.monotonic() + paused.longest_s
            self._paused.begin(
                f"{told(paused.as_list())}: `writebehind resume` ends it, writes are taken up to caps"
            )
        elif self._paused.lasts:
            if time.monotonic() < self._paused_until:  # so it did not end by itself
                self._paused.end("flushing goes on", advice=_NO_LONGER_PAUSED)
            else:
                self._paused.end("flushing goes on")
        return paused

    def _run(self, job: _Job) -> FlushSummary:
        """Flush batches until nothing is due, all that is wanted is reached, or the time is over; then release."""
        partition, token = job.summary.partition, uuid4().hex
        deadline = time.monotonic() + job.budget_s
        with spans.Flush(partition) as span:
            try:
                return self._run_traced(job, token, deadline, span)
            except RedisUnavailableError as error:
                if job.summary.tried and is_away(error):
                    self._let_go(partition, token)
                raise

    def _run_traced(self, job: _Job, token: str, deadline: float, span: spans.Flush) -> FlushSummary:
        summary, partition = job.summary, job.summary.partition
        try:
            released = self._run_batches(job, token, deadline, span)
        except MongoUnavailableError as error:
            self._tallies.add(families.INTERRUPTED)
            self._count(summary, span)
            delay_ms = max(backoff_ms(job.attempt), math.ceil((error.retry_after_s or 0) * 1000))
            hint = self._store.pending.release(partition, token, UntilNext(delay_ms))
            raise FlushInterruptedError(str(error), hint) from error
        except (MistypedKeyError, PartitionDividedError) as error:  # Redis answers: nobody need wait for the lease
            self._tallies.add(families.INTERRUPTED)
            self._count(summary, span)
            hint = self._store.pending.release(partition, token, UntilNext(backoff_ms(job.attempt)))
            raise FlushInterruptedError(str(error), hint) from error
        except ForeignRedisError:  # its own flushers need not wait for the end of the lease
            self._store.pending.give_back(partition, token)
            raise
        if released.hint:
            self._hints(released.hint)
        self._count(summary, span)
        return summary

    def _run_batches(self, job: _Job, token: str, deadline: float, span: spans.Flush) -> Released:
        """As `_run`, up to the release: mostly that is the claim which finds nothing more that is due."""
        summary, paused = job.summary, Paused()
        while not self._stopping.is_set() and time.monotonic() < deadline:
            lease_ends = time.monotonic() + self._limits.lease_ms / 1000  # early rather than late
            paused = self._see_pauses()
            members = self._claim(job, token, paused)
            if members is None:
                summary.busy = True
                return Released(None)
            if isinstance(members, Released):
                return members
            if not members:
                break
            moved = self._batches.flush(span, members, summary, lease_ends)
            self._tell(summary)
            if job.early and not moved:  # what is left has to wait, and is not to be tried without a pause
                break
            if job.wanted and all(summary.has(*pair) for pair in job.wanted.items()):
                break
        return Released(self._store.pending.release(summary.partition, token, _until_next(paused)))

    def _let_go(self, partition: int, token: str) -> None:
        """Release a partition whose server was lost, if it comes back soon: else the lease has to run out."""
        until = time.monotonic() + LET_GO_WITHIN_S
        while time.monotonic() < until and not self._stopping.wait(LET_GO_EVERY_S):
            with suppress(RedisUnavailableError):
                if hint := self._store.pending.release(partition, token):
                    self._hints(hint)
                return

    def _claim(self, job: _Job, token: str, paused: Paused) -> list[str] | Released | None:
        return self._store.pending.claim(
            job.summary.partition,
            token,
            lease_ms=self._limits.lease_ms,
            limit=0 if paused.all else self._batches.size.size,  # so that the task counts, and nothing is taken
            ticket=job.ticket,
            early=job.early,
            soon_ms=0 if job.wanted else self._limits.soon_ms,  # nobody waits for what others may want soon
            goes_along=self._goes_along,
            paused=paused.collections,
            or_release=_until_next(paused),
        )

    def _goes_along(self, member: str, left_ms: int) -> bool:
        """Whether a document that is not due yet was coalesced for long enough to go along with one that is."""
        collection, _, _ = member.partition("/")
        return left_ms <= self._settings(collection).flush_delay_ms * EARLY_PART

    def _tell(self, summary: FlushSummary) -> None:
        """Tell of what is persisted so far, once in a while."""
        if time.monotonic() - summary.told_at >= TOLD_EVERY_S:
            self._store.metrics.count({}, persisted=summary.news())

    def _count(self, summary: FlushSummary, span: spans.Flush) -> None:
        if summary.tried:
            span.counts(summary.outcomes())
            self._store.metrics.count(summary.counts(), persisted=summary.news())


def _until_next(paused: Paused) -> UntilNext:
    """Bounds of the time until the next flush task: the end of a pause is to be noticed."""
    look_ms = PAUSED_MS if paused.shortest_ms is None else min(PAUSED_MS, paused.shortest_ms)
    is_all = paused.all is not None
    return UntilNext(look_ms if is_all else 0, look_ms, is_all)


def backoff_ms(attempt: int) -> int:
    """The pause after this many failures in a row, ms; never 0, so that a failure is never a busy loop."""
    ceiling = min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** min(attempt, 16))
    return random.randint(BACKOFF_BASE_MS // 2, ceiling)  # noqa: S311 - no secret
