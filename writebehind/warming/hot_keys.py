"""Which documents are read most: counted in each process, added up in Redis once a second, and decayed.

The heat of a document is the number of its reads, each halved for every half-life since: exponential decay, as in
Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay", ICDE 2009. A document that has been read evenly for long
has a heat of rate times half-life / ln 2.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from writebehind import forks
from writebehind.documents.ids import DocumentId
from writebehind.errors import RedisUnavailableError
from writebehind.logs.events import FAULT
from writebehind.redis.shared.load_sample import LoadSample
from writebehind.redis.store import Store

log = logging.getLogger(__name__)

#: The name of decaying among the periodic tasks.
DECAY = "decay"
#: Decaying so often in a half-life keeps rates within 2 % of what they would be if it were done all the time.
DECAYS_IN_HALF_LIFE = 20
#: Between two batches of a process, seconds.
SEND_EVERY_S = 1.0
#: A document is forgotten below this heat: a single read three half-lives ago.
LEAST_HEAT = 0.125
#: Counter of documents that were warmed, and of those of which a read was counted afterwards.
WARMED, WARMED_READ = "warmed", "warmed_read"


@dataclass(frozen=True, slots=True)
class HotKey:
    """A document that is read much, and how often: reads per second."""

    id: DocumentId
    partition: int
    rate: float


class HotKeys:
    """Counts reads in this process, and knows the counts of all. Safe to share between threads."""

    def __init__(self, store: Store, *, samples: int, most: int, half_life_s: float) -> None:
        """Bind it to a store; the first read starts a thread that sends what was counted.

        Args:
            store: where the counts are added up.
            samples: most reads that this process counts in a second. Of more, the first ones stand for all.
            most: how many documents are kept in each partition.
            half_life_s: seconds after which a read counts half.
        """
        self._store = store
        self._samples = samples
        self._most = most
        self._half_life_s = half_life_s
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Have counted nothing: the parent process sends what it has counted."""
        self._seen: list[str] = []
        self._reads = 0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def seen(self, member: str) -> None:
        """Count a read. Cheap, as every read pays for it: a count that two threads take at once may be lost."""
        self._reads += 1
        if len(self._seen) < self._samples:
            self._seen.append(member)
            if self._thread is None:
                self._start()

    def send(self) -> None:
        """Add what was counted to the counts of all, in one round trip.

        Raises:
            RedisUnavailableError: Redis does not answer. The counts are lost.
        """
        seen, self._seen = self._seen, []
        reads, self._reads = self._reads, 0
        if not seen:
            return
        weight = reads / len(seen) if len(seen) >= self._samples else 1.0
        reads_of = {member: count * weight for member, count in Counter(seen).items()}
        self._store.metrics.count({WARMED_READ: self._store.heat.add(reads_of, most=self._most)})

    def decay(self, vitals: LoadSample) -> dict[str, int]:
        """Let documents cool down, and see which are among those that a Redis that is full has room for.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        with self._store.metrics.record_run(DECAY) as outcome:
            room = math.ceil((vitals.room or 0) / self._store.partitions)
            kept = self._store.heat.decay(
                half_life_ms=int(self._half_life_s * 1000), most=self._most, room=room, least=LEAST_HEAT
            )
            outcome(kept=kept)
        return {"kept": kept}

    def by_partition(self, limit: int) -> list[list[HotKey]]:
        """The documents that are read most in each partition, the hottest first.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        now = self._store.now_ms()
        return [
            self._hot(partition, one.heat, max(1.0, (now - (one.since_ms or now)) / 1000))
            for partition, one in enumerate(self._store.heat.hottest(limit))
        ]

    def top(self, limit: int) -> list[HotKey]:
        """The documents that are read most of all, the hottest first.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return hottest(self.by_partition(limit), limit)

    def close(self) -> None:
        """Send what was counted, and end the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(SEND_EVERY_S)

    def _hot(self, partition: int, heat_of: Sequence[tuple[str, float]], counted_s: float) -> list[HotKey]:
        # What would be the heat of one read per second, counted for so long.
        one = self._half_life_s / math.log(2) * (1 - 0.5 ** (counted_s / self._half_life_s))
        return [HotKey(DocumentId.from_member(member), partition, heat / one) for member, heat in heat_of]

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hot-keys", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(SEND_EVERY_S)
            try:
                self.send()
            except RedisUnavailableError as error:
                log.debug("reads not counted: %s", error)
            except Exception:  # a batch must not end the counting of all later ones
                log.exception("reads not counted", extra=FAULT)


def hottest(by_partition: Sequence[Sequence[HotKey]], limit: int) -> list[HotKey]:
    """The hottest of all partitions."""
    return sorted((one for some in by_partition for one in some), key=lambda one: -one.rate)[:limit]
