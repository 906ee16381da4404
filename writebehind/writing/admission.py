"""Admission of writes, and what Redis is to confirm of them.

What waits for MongoDB stays bounded, because a write too many is refused, not dropped.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from threading import Event
from time import monotonic

from writebehind.deadline import may_wait
from writebehind.documents.durability import Durability
from writebehind.errors import (
    DurabilityNotOfferedError,
    MemoryPressureError,
    OverloadedError,
    PartitionFullError,
    TooManyDeadLettersError,
    UnavailableError,
)
from writebehind.last_known import DUE_S
from writebehind.logs.states import StateLog
from writebehind.plurals import counted
from writebehind.redis.confirmation import Confirmation
from writebehind.redis.letters import MOST_KEPT
from writebehind.redis.shared.caps import TELL_EVERY_S, Caps
from writebehind.redis.shared.load_sample import SAMPLE_EVERY_S, LoadSample, Sampler
from writebehind.settings.collection import CollectionSettings

log = logging.getLogger(__name__)

#: So many times the cap may wait in a partition for a new document to be taken that is written through.
THROUGH = 2
#: A client that was refused comes back when about this part of what waits now has been persisted.
ROOM = 0.1
#: Part of a cap below which it is over, for the log: around the cap it comes and goes.
NO_LONGER = 0.9
#: Bounds of what clients are told to wait, seconds; the longest also when nothing is being persisted at all.
SHORTEST_S, LONGEST_S = 1, 30


class Admission:
    """Says how many pending documents a write may find, and why it was refused. Safe to share between threads."""

    def __init__(
        self,
        sampler: Sampler,
        caps: Caps,
        tell: Callable[[Caps], object] = lambda _: None,
        *,
        confirm_replicas: int = 0,
        confirm_timeout_ms: int = 0,
    ) -> None:
        """Take the limits, as the settings describe them; others are told of the caps, again and again."""
        self._sampler = sampler
        self._max_pending = caps.max_pending
        self._max_memory = caps.max_memory
        self._tell = partial(tell, caps)
        self._told_at = float("-inf")
        self._confirm_replicas, self._confirm_timeout_ms = confirm_replicas, confirm_timeout_ms
        self._seen: LoadSample | None = None
        self._full = StateLog(log, "backpressure_on", "backpressure_off")
        self._short = StateLog(log, "backpressure_on", "backpressure_off")
        #: By collection: whether it has too many dead letters, and from how many on that is so.
        self._dead: dict[str, tuple[StateLog, int]] = {}

    def cap(self, collection: str, settings: CollectionSettings, partition: int | None = None) -> int:
        """The number of documents that may be pending in a partition for a new one to be taken; 0 lets none in.

        A write to a document that is pending already is always taken: it needs no room. Where Redis is several
        servers, the `partition` says whose memory counts; without one it is that of the fullest.

        Raises:
            RedisUnavailableError: Redis does not answer, belongs to another MongoDB database, or is divided in
                another way than this process knows.
        """
        vitals = self._look()
        if (dead := vitals.dead.get(collection, 0)) >= settings.max_dead_letters:
            self._see_dead(collection, dead, settings.max_dead_letters)
            return 0
        is_short = self._short_of_memory(vitals if partition is None else vitals.of(partition))
        if settings.write == "behind" or vitals.mongodb_is_away or vitals.paused.covers(collection):
            return 0 if is_short else self._max_pending
        # Such a document does not wait as a rule: what others have left there does not stop it.
        return self._max_pending * (1 if is_short else THROUGH)

    def is_known(self) -> bool:
        """Whether all of this can be said without asking Redis, which takes this process's writes."""
        if not self._sampler.is_fresh():
            return False
        vitals = self._sampler.look()
        return vitals is self._seen and not vitals.misfit

    def watch(self, stop: Event, also: Callable[[LoadSample], object] = lambda _: None) -> None:
        """See to it until `stop` is set that others know the caps, and the log what they do, though nobody writes.

        Something is `also` done with each sample, so often that the last known figures stay known. A Redis that
        does not answer, or is another's, is waited for: that is told elsewhere.
        """
        while not stop.is_set():
            with suppress(UnavailableError):
                also(self._look())
            lasts = any(
                one.lasts for one in (self._full, self._short, *(one for one, _ in self._dead.copy().values()))
            )
            stop.wait(SAMPLE_EVERY_S if lasts else DUE_S)

    def _look(self) -> LoadSample:
        """The latest sample, of a Redis that is ours. Raises as `cap`."""
        vitals = self._sampler.look()
        vitals.check()
        if vitals is not self._seen:
            self._see(vitals)
            if may_wait() and (now := monotonic()) - self._told_at >= TELL_EVERY_S:
                self._told_at = now
                self._tell()
        return vitals

    def has_several(self) -> bool:
        """Whether Redis is several servers, so that `cap` differs by partition. Raises as `crowded`."""
        return bool(self._sampler.look().servers)

    def crowded(self) -> Collection[str]:
        """Members of which so many documents stand in dead letters that no new write is taken.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return self._sampler.look().crowded

    def refusal(self, collection: str, settings: CollectionSettings, member: str = "") -> OverloadedError:
        """The reason why there was no room for a document, and when there may be."""
        vitals = self._sampler.look()
        found = self._refusal(vitals, collection, settings, member)
        if isinstance(found, PartitionFullError):  # which the sample may have been too early for
            self._begin_full(max(vitals.pending, default=0))
        found.logged = member not in vitals.crowded
        return found

    def _refusal(
        self, vitals: LoadSample, collection: str, settings: CollectionSettings, member: str
    ) -> OverloadedError:
        dead = vitals.dead.get(collection, 0)
        if dead >= settings.max_dead_letters:
            return TooManyDeadLettersError(
                f"MongoDB has refused {counted(dead, 'document')} of {collection}, and "
                f"{settings.max_dead_letters} may stand in its dead letters: "
                "see to them with `writebehind dead-letters`",
                retry_after_s=LONGEST_S,
            )
        if member in vitals.crowded:
            return TooManyDeadLettersError(
                f"this document of {collection} has {counted(MOST_KEPT, 'dead letter')} or more, "
                "which nobody else has: see to them with `writebehind dead-letters`",
                retry_after_s=LONGEST_S,
            )
        if self._short_of_memory(vitals):
            waiting = sum(vitals.pending)
            return MemoryPressureError(
                f"Redis uses {vitals.used_memory} of {vitals.max_memory} bytes; from "
                f"{100 * self._max_memory:g} % on only documents that are pending already are taken: "
                f"send the write again later, or raise maxmemory",
                retry_after_s=_time_for_room(waiting, vitals.drained_per_second),
            )
        return PartitionFullError(
            retry_after_s=_time_for_room(max(vitals.pending) * len(vitals.pending), vitals.drained_per_second)
        )

    def check_offered(self, durability: Durability) -> None:
        """See that Redis can promise this much.

        Raises:
            DurabilityNotOfferedError: it cannot.
            RedisUnavailableError: it does not answer.
        """
        if durability is not Durability.FSYNCED:
            return
        vitals = self._sampler.look()
        if not vitals.waits_for_disk:
            raise DurabilityNotOfferedError(
                "durability=fsynced needs WAITAOF, which this Redis server does not know: "
                "use Redis 7.2 or newer, or Valkey, or another durability"
            )
        if not vitals.appendonly:
            raise DurabilityNotOfferedError(
                "durability=fsynced needs Redis's append-only file: "
                "set `appendonly yes`, or use another durability"
            )

    def confirmation(self, durability: Durability) -> Confirmation | None:
        """Confirmation that a write waits for which is to be that durable; `None` for none.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if durability not in {Durability.FSYNCED, Durability.REPLICATED}:
            return None
        vitals = self._sampler.look()
        if durability is Durability.REPLICATED and not vitals.has_replicas:
            return None  # nobody is there to wait for; the answer will say so
        return Confirmation(durability, self._confirm_replicas, vitals, self._confirm_timeout_ms)

    def _see(self, vitals: LoadSample) -> None:
        """Log what a new sample says of the caps, where that has changed."""
        self._seen = vitals
        most = max(vitals.pending, default=0)
        if most >= self._max_pending:
            self._begin_full(most)
        elif self._full.lasts and most < NO_LONGER * self._max_pending:
            self._full.end("new documents are taken again: fewer wait for MongoDB", cap="pending")
        if self._short_of_memory(vitals):
            self._short.begin(
                f"new documents are refused: Redis uses {vitals.used_memory} of {vitals.max_memory} bytes: "
                "`writebehind drain` brings what waits to MongoDB, as workers may not where this Redis is their "
                "broker; raise maxmemory, or let it evict (volatile-lru)",
                cap="memory",
            )
        elif self._short.lasts:
            self._short.end("new documents are taken again: Redis has memory", cap="memory")
        for collection, (state, most_dead) in self._dead.copy().items():
            if state.lasts and vitals.dead.get(collection, 0) < most_dead:
                state.end(
                    f"new documents of {collection} are taken again: it has fewer dead letters",
                    cap="dead-letters",
                    collection=collection,
                )

    def _begin_full(self, most: int) -> None:
        """Log that a partition is full, as a sample or a refusal says; so many wait in the fullest one."""
        self._full.begin(
            f"new documents are refused: {max(most, self._max_pending)} wait for MongoDB in one partition, and "
            f"{self._max_pending} may: see that MongoDB is up and that workers run, or add workers",
            cap="pending",
        )

    def _see_dead(self, collection: str, dead: int, most: int) -> None:
        known = self._dead.get(collection)
        state = StateLog(log, "backpressure_on", "backpressure_off") if known is None else known[0]
        self._dead[collection] = state, most
        if not state.lasts:
            state.begin(
                f"new documents of {collection} are refused: it has {counted(dead, 'dead letter')}: "
                "see to them with `writebehind dead-letters`",
                cap="dead-letters",
                collection=collection,
            )

    def _short_of_memory(self, vitals: LoadSample) -> bool:
        """Whether Redis is nearly full; where it makes room by itself, of what it cannot evict."""
        return not vitals.makes_room and vitals.uses(self._max_memory)


def _time_for_room(waiting: int, drained_per_second: float) -> float:
    """The time until a part of what waits is persisted, seconds; jittered, so that not all come back at once."""
    needed = ROOM * waiting / drained_per_second if drained_per_second else LONGEST_S
    jitter = random.uniform(1, 1.25)  # noqa: S311 - no secret
    return float(min(LONGEST_S, max(SHORTEST_S, math.ceil(needed * jitter))))
