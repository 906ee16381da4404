"""Documents that wait for MongoDB: how many, and for how long the oldest has waited."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from writebehind.history.turns import Waiting
from writebehind.redis.shared.metrics import PartitionStatus
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings


@dataclass(frozen=True, slots=True)
class Backlog:
    """Backlog of partitions.

    Attributes:
        partitions: each that answers.
        ages_s: by partition how long the member has waited that has waited longest, seconds.
        late_s: for how long the one that is most overdue has been due, seconds; 0 where none is.
        due_within_s: the time until the last one is due, seconds; 0 where all are.
        aside: partitions in which members are set aside, as their collection is paused: they are in `ages_s`, and
            not late.
        waiting: of each partition that has any, who sees to it.
    """

    partitions: Sequence[PartitionStatus]
    ages_s: Mapping[int, float]
    late_s: float = 0.0
    due_within_s: float = 0.0
    waiting: Sequence[Waiting] = ()
    aside: int = 0

    @property
    def pending_in(self) -> dict[int, int]:
        """Documents that are pending, by partition."""
        return {one.partition: one.pending for one in self.partitions}

    @property
    def pending(self) -> int:
        """Documents that are pending."""
        return sum(one.pending for one in self.partitions)

    @property
    def dead(self) -> int:
        """Dead letters."""
        return sum(one.dead for one in self.partitions)

    @property
    def oldest_s(self) -> float:
        """The time that the oldest has waited; 0 where nothing is pending."""
        return max(self.ages_s.values(), default=0.0)


def look(store: Store, settings: Callable[[str], CollectionSettings], now_ms: int) -> Backlog:
    """Take it now, of the partitions whose server answers; `settings` are those of a collection, by name.

    Raises:
        RedisUnavailableError: none does.
    """
    found = store.metrics.backlog_answered()
    ages_s, waiting = {one.partition: 0.0 for one in found}, []
    for one in found:
        if one.aside is not None:
            member, due_ms = one.aside
            ages_s[one.partition] = max(
                0.0, (now_ms - due_ms + settings(_collection(member)).flush_delay_ms) / 1000
            )
        if one.head is None:
            continue
        member, due_ms = one.head
        # One that MongoDB did not take is due later than it was at first.
        delay_ms = settings(_collection(member)).flush_delay_ms
        waited_ms = now_ms - min(due_ms - delay_ms, now_ms if one.tried_ms is None else one.tried_ms)
        ages_s[one.partition] = max(ages_s[one.partition], waited_ms / 1000)
        waiting.append(
            Waiting(
                one.partition,
                (waited_ms - delay_ms) / 1000,
                None if one.claim_left_ms is None else one.claim_left_ms / 1000,
                None if one.ticket_ms is None else (one.ticket_ms - now_ms) / 1000,
                one.ticket_left_ms / 1000,
            )
        )
    late_s = max((one.late_s for one in waiting), default=0.0)
    last_ms = max((one.tail_ms for one in found if one.tail_ms is not None), default=0.0)
    ahead_ms = min(last_ms - now_ms, store.pending.longest_wait_ms)  # a clock that steps back leaves times ahead
    aside = sum(one.aside is not None for one in found)
    return Backlog(found, ages_s, max(0.0, late_s), max(0.0, ahead_ms / 1000), waiting, aside)


def _collection(member: str) -> str:
    return member.partition("/")[0]
