"""Documents that wait for MongoDB: how many, and for how long the oldest has waited."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from writebehind.redis.shared.metrics import PartitionStatus
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings


@dataclass(frozen=True, slots=True)
class Backlog:
    """Backlog of partitions, and by partition how long the member that is due first has waited, seconds."""

    partitions: Sequence[PartitionStatus]
    ages_s: Mapping[int, float]

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
    sent = store.metrics.sent_since({one.partition: one.head[0] for one in found if one.head})

    def age_s(head: tuple[str, float] | None, sent_ms: float) -> float:
        """The time since its start, as the flush delay of its collection tells it.

        One that MongoDB did not take is due later than it was at first: it has waited since it was sent.
        """
        if head is None:
            return 0.0
        member, due_ms = head
        delay_ms = settings(member.partition("/")[0]).flush_delay_ms
        return max(0.0, (now_ms - min(due_ms - delay_ms, sent_ms)) / 1000)

    return Backlog(found, {one.partition: age_s(one.head, sent.get(one.partition, now_ms)) for one in found})
