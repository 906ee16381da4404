"""The figures of `/admin/status`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from writebehind.change_stream.listener_state import listener_status
from writebehind.flushing.dead_letters import DeadLetters
from writebehind.mongodb.breaker import MongoBreaker
from writebehind.reading.reader import Reader
from writebehind.reconcile.findings import History
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.settings.names import QUEUES


class Status:
    """Tells how one installation is."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        *,
        breaker: MongoBreaker,
        dead_letters: DeadLetters,
        history: History,
        settings: Callable[[str], CollectionSettings],
    ) -> None:
        """Join the parts that are asked; `settings` are those of a collection, by name."""
        self._store = store
        self._reader = reader
        self._breaker = breaker
        self._dead_letters = dead_letters
        self._history = history
        self._settings = settings

    def figures(self, *, partitions: bool = False) -> dict[str, Any]:
        """All of them; each partition's too if asked for.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        watch, now = self._store.metrics, self._store.now_ms()
        backlog = watch.backlog()
        sent = watch.sent_since({one.partition: one.head[0] for one in backlog if one.head})
        ages = {one.partition: self._age_s(one.head, now, sent.get(one.partition, now)) for one in backlog}
        reads = self._reader.hits + self._reader.misses
        breaker = self._breaker.state()
        alive = watch.consumers()
        consumers = {queue: alive.get(queue, []) for queue in QUEUES}
        figures: dict[str, Any] = {
            "pending": sum(one.pending for one in backlog),
            "oldest_pending_seconds": max(ages.values()),
            "dead_letters": sum(one.dead for one in backlog),
            "dead_letters_by_collection": self._dead_letters.by_collection(),
            "breaker": breaker.state,
            "breaker_reason": breaker.reason or None,
            "breaker_since": breaker.since,
            "flushed_per_second": watch.flush_rate(),
            "workers": len(watch.workers()),
            "consumers": consumers,
            "unconsumed": [queue for queue, workers in consumers.items() if not workers],
            "partitions": self._store.partitions,
            "periodic": {name: run.as_dict(now) for name, run in sorted(watch.runs().items())},
            "consistency": self._history.consistency(),
            "listener": listener_status(self._store),
            "totals": watch.counters(),
            "hit_ratio": self._reader.hits / reads if reads else None,
            "version": version("writebehind"),
        }
        if partitions:
            figures["by_partition"] = [
                {
                    "partition": one.partition,
                    "pending": one.pending,
                    "oldest_pending_seconds": ages[one.partition],
                    "dead_letters": one.dead,
                }
                for one in backlog
            ]
        return figures

    def _age_s(self, head: tuple[str, float] | None, now_ms: int, sent_ms: float) -> float:
        """The time that the member due first has waited, from what its collection's flush delay says of its start.

        One that MongoDB did not take is due later than it was at first: it has waited since it was sent.
        """
        if head is None:
            return 0.0
        member, due_ms = head
        delay_ms = self._settings(member.partition("/")[0]).flush_delay_ms
        return max(0.0, (now_ms - min(due_ms - delay_ms, sent_ms)) / 1000)
