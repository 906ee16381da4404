"""Writes that a failover of Redis has lost: each process commits those again that it has acknowledged.

A replica that becomes the primary has all that it was sent up to some moment. So of each partition it knows the
last version, and what was issued above it, until versions leapt, is lost there. That tells exactly which of the
recent writes of this process are.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from writebehind import forks
from writebehind.errors import RedisUnavailableError
from writebehind.logs.events import FAULT
from writebehind.reconcile.findings import History
from writebehind.reconcile.losses import Losses
from writebehind.reconcile.recommits import Lost, Recommits
from writebehind.redis.recent import Recent
from writebehind.redis.recovery import Lapse, Replication
from writebehind.redis.store import Store
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: Between two looks at what replicas have, and at a Redis that does not answer, seconds.
LOOK_S: Final = 1.0
AWAY_S: Final = 0.25
#: A write is kept for so long where its replicas are away, seconds: by then MongoDB has it, as a rule.
MOST_AGE_S: Final = 60.0
#: The thread ends when there was nothing to look after for so long, seconds.
LINGERS_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """A position, when it was taken, by the steady clock, and what each server had written then, by its term."""

    position: int
    at: float
    offsets: Mapping[str, int]


class LostWrites:
    """Looks after the recent writes of this process. Safe to share between threads.

    A thread forgets those that replicas have, and sees to those that a failover has lost. It begins with the
    first write, and ends when there is none.
    """

    def __init__(
        self,
        store: Store,
        recommits: Recommits,
        history: History,
        *,
        tallies: Tallies,
        answer_ms: int,
    ) -> None:
        """Join the parts.

        Args:
            store: its recent writes.
            recommits: commits again what was lost.
            history: takes what was lost, as a pass that has found it.
            tallies: to count them.
            answer_ms: how long Redis may take to answer.
        """
        self._store = store
        self._recommits = recommits
        self._history = history
        self._tallies = tallies
        self._answer_s = answer_ms / 1000
        self._lock = forks.lock()
        store.recent.begun = self._begin
        #: Terms in which versions have leapt. A child knows of them by its parent, as it does not meet them again.
        self._terms_met: set[str] = set()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """See to nothing of the parent process."""
        self._wake = threading.Event()
        self._is_closed = False
        #: The failovers that this process has met, and has seen to; and the position before that by partitions.
        self._met = self._seen_to = 0
        self._met_at: dict[int, int] = {}
        #: The same for terms that are not met yet.
        self._approached: dict[str, int] = {}
        #: Positions before this one were seen to; answers from before the failover may come until then.
        self._judged = 0
        self._late_until = float("-inf")
        #: The last lapse of each partition that this process knows, by its number.
        self._known: dict[int, Lapse | None] = {}
        self._marks: deque[_Mark] = deque()
        self._terms: set[str] = set()
        self._had_replicas: set[str] = set()
        self._needed = 0.0
        self._thread: threading.Thread | None = None

    def approach(self, term: str) -> None:
        """Note that a replica has become the primary, before anything is written to it."""
        with self._lock:
            self._approached.setdefault(term, self._store.recent.position)

    def meet(self, term: str, partitions: Collection[int]) -> None:
        """Note that its versions have leapt, in the partitions that it has: from now on it says what was lost."""
        with self._lock:
            self._met += 1
            self._terms_met.add(term)
            position = self._approached.pop(term, self._store.recent.position)
            for one in partitions:
                self._met_at.setdefault(one, position)
        self._wake.set()

    def close(self) -> None:
        """End the thread, and wait for the look that is under way, if it does not take too long."""
        self._is_closed = True
        self._wake.set()
        if (thread := self._thread) is not None and thread is not threading.current_thread():
            thread.join(self._answer_s)

    def look(self) -> float | None:
        """Look once; the time until the next look, seconds, or `None` where none is needed."""
        self._wake.clear()
        if self._is_closed:
            return None
        recent, now = self._store.recent, time.monotonic()
        position = recent.position
        try:
            states = self._store.recovery.replication()
            if not self._known:
                self._know(self._store.recovery.lapses())
            answered = [one for one in states.values() if one is not None]
            known = [one for one in answered if one.is_used]
            # Until versions have leapt there, a primary does not say what it has lost, whatever its replicas have.
            is_told = all(one.term in self._terms_met for one in known if one.was_replica)
            is_seen_to = self._see_to_failovers(now, is_told=is_told)
        except RedisUnavailableError as error:
            log.debug("recent writes are not looked after: %s", error)
            return AWAY_S
        if not is_seen_to:
            return AWAY_S
        if is_told and len(answered) == len(states):
            self._release(position, now, known)
        if not recent.is_empty or now < self._late_until:
            self._needed = now
        elif now - self._needed > LINGERS_S and recent.unwatch():
            return None
        return LOOK_S

    # What replicas have -----------------------------------------------------------------------------

    def _release(self, position: int, now: float, states: Sequence[Replication]) -> None:
        """Forget what replicas have, or what is too old."""
        terms = {one.term for one in states}
        if terms != self._terms:  # an offset means nothing in another term
            self._terms = terms
            self._marks.clear()
        self._had_replicas &= terms
        self._had_replicas |= {one.term for one in states if one.had_replicas or one.replicated is not None}
        replicated = {
            one.term: -1 if one.replicated is None else one.replicated
            for one in states
            if one.term in self._had_replicas
        }
        self._marks.append(_Mark(position, now, {one.term: one.offset for one in states}))
        while self._marks:
            mark = self._marks[0]
            if all(mark.offsets[term] <= offset for term, offset in replicated.items()):
                self._store.recent.release(mark.position)
            elif now - mark.at > MOST_AGE_S:
                self._store.recent.drop(mark.position)
            else:
                break
            self._marks.popleft()

    # What is lost -----------------------------------------------------------------------------------

    def _see_to_failovers(self, now: float, *, is_told: bool) -> bool:
        """See to the writes that were lost since the last look; whether all of them were.

        Args:
            now: by the steady clock.
            is_told: whether each server that answers says what it has lost.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        with self._lock:
            met, met_at = self._met, dict(self._met_at)
        is_new = met != self._seen_to
        if not is_new and now > self._late_until:
            return True
        lapses = self._store.recovery.lapses()
        writes, after = self._store.recent.since(0 if is_new else self._judged)
        lost = self._newest(self._lost(writes, lapses, met_at if is_new else {}))
        losses = Losses()
        try:
            is_complete = self._recommits.commit(lost, losses, is_wanted=lambda: not self._is_closed)
            # Where a server does not answer, nobody knows whether it has failed over: the next one would be
            # taken to have lost what is written to its partitions from now on.
            is_complete = is_complete and is_told and None not in lapses
            if is_complete and is_new:
                self._count_dropped(lapses, met_at, losses)
        finally:
            losses.tell(self._store, self._history, self._tallies)
        if not is_complete:
            return False
        self._judged = after
        if is_new:
            self._know(lapses)
            self._late_until = now + 2 * self._answer_s
            with self._lock:
                self._seen_to = met
                if self._met == met:
                    self._met_at = {}
        return True

    def _know(self, lapses: Sequence[Sequence[Lapse] | None]) -> None:
        self._known |= {at: next(iter(some), None) for at, some in enumerate(lapses) if some is not None}

    def _lost(
        self,
        writes: Sequence[tuple[int, Recent]],
        lapses: Sequence[Sequence[Lapse] | None],
        met_at: Mapping[int, int],
    ) -> Iterator[Lost]:
        """Those of some writes that were lost; `met_at` are the positions at which new primaries were met."""
        for at, one in writes:
            partition = self._store.partition_of(one.member)
            some = lapses[partition] if partition < len(lapses) else None  # there are more by now
            if not some or one.again_after == some[0].leapt:
                continue  # its server does not answer, or it was committed again since
            if lapse := self._lapse_of(one.version, partition, some, is_before=at < met_at.get(partition, 0)):
                yield Lost(at, one, lapse, some[0].leapt)

    def _lapse_of(
        self, version: int, partition: int, lapses: Sequence[Lapse] | None, *, is_before: bool
    ) -> Lapse | None:
        """The lapse that a version fell into, if any."""
        if not lapses:
            return None
        # A primary that is cut off may go on until it issues versions beyond those that the new one has leapt to.
        last = lapses[0]
        if is_before and version > last.leapt and last != self._known.get(partition):
            return last
        return next((one for one in lapses if version in one), None)

    def _newest(self, lost: Iterator[Lost]) -> list[Lost]:
        """The last one of each document; of those before it only their receipts are of account, which it gets."""
        newest: dict[str, Lost] = {}
        kept: dict[int, Recent | None] = {}
        for one in lost:
            before = newest.get(one.write.member)
            last = one
            if before is not None:
                earlier, last = sorted((before, one), key=lambda two: two.write.version)
                receipts = earlier.write.receipts + last.write.receipts
                last = last._replace(write=last.write._replace(receipts=receipts))
                kept |= {earlier.position: None, last.position: last.write}
            newest[one.write.member] = last
        self._store.recent.replace(kept)
        return list(newest.values())

    def _count_dropped(
        self, lapses: Sequence[Sequence[Lapse] | None], met_at: Mapping[int, int], losses: Losses
    ) -> None:
        """Count the writes that were dropped from memory and may be lost."""
        for partition, dropped in self._store.recent.take_dropped().items():
            if self._lapse_of(dropped.version, partition, lapses[partition], is_before=partition in met_at):
                losses.add_unknown(partition, dropped.count)

    def _begin(self) -> None:
        """Begin the thread."""
        self._needed = time.monotonic()
        thread = threading.Thread(
            target=_run, args=(weakref.ref(self), self._wake), name="lost-writes", daemon=True
        )
        thread.start()
        self._thread = thread


def _run(lost_writes: weakref.ref[LostWrites], wake: threading.Event) -> None:
    """Look until nobody needs it, or it is gone with its owner."""
    while (one := lost_writes()) is not None:
        try:
            pause_s = one.look()
        except Exception:  # one look must not end all later ones
            log.exception("recent writes are not looked after", extra=FAULT)
            pause_s = LOOK_S
        del one
        if pause_s is None:
            return
        wake.wait(pause_s)
