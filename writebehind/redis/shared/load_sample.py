"""The figures that decide whether more writes can be taken: sampled, and never asked for by each request."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from writebehind import forks
from writebehind.errors import ConfigurationError, ForeignRedisError
from writebehind.redis import keys
from writebehind.redis.keys import Layout
from writebehind.redis.letters import added_up
from writebehind.redis.shared.metrics import RATE_SLOT_SECONDS, RATE_SLOTS
from writebehind.redis.shared.owner import Owner
from writebehind.redis.shared.partition_count import Division
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire

#: How old a sample may be, seconds.
SAMPLE_EVERY_S = 1.0
#: Part of its maxmemory that Redis uses when it is full. It evicts a little more than it needs.
NEARLY_ALL = 0.97
#: Part from which the rest is for what is hot: less by what may be filled before the next sample.
FOR_HOT = 0.9
#: Part of the keys that Redis must be able to evict to count as one that makes room by itself. Where these are
#: small and the others large this errs, and Redis refuses the write itself.
LEAST_EVICTABLE = 0.1
#: The name of a database in INFO.
_DATABASE = re.compile(r"db\d+")


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One sample.

    Attributes:
        misfit: why this process must neither read nor write here; '' where it may.
        recorded: whether it is recorded whose this Redis is, and into how many partitions it is divided.
        pending: documents that wait for MongoDB, by partition.
        dead: dead letters, by collection.
        used_memory: of Redis, bytes.
        max_memory: what it may use, bytes; 0 for no limit.
        evicts: whether it makes room by evicting what has a TTL.
        keys: how many it has.
        expiring: how many of them have a TTL: what MongoDB has as well, and little else.
        appendonly: whether it writes an append-only file.
        replicas: how many of its replicas are connected.
        waits_for_disk: whether it knows WAITAOF.
        drained_per_second: documents persisted, in the best ten seconds of the last minute.
        crowded: members of which so many documents are kept beside dead letters that no new write is taken.
        mongodb_is_away: whether the breaker before MongoDB is open.
    """

    misfit: str
    recorded: bool
    pending: tuple[int, ...]
    dead: Mapping[str, int]
    used_memory: int
    max_memory: int
    evicts: bool
    keys: int
    expiring: int
    appendonly: bool
    replicas: int
    waits_for_disk: bool
    drained_per_second: float
    crowded: frozenset[str] = frozenset()
    mongodb_is_away: bool = False

    def uses(self, part: float) -> bool:
        """Whether Redis uses this part of the memory that it may use."""
        return 0 < self.max_memory * part <= self.used_memory

    @property
    def room(self) -> int | None:
        """For about how many entries Redis has room; `None` when it has no limit, or never evicts.

        All that it uses is taken for entries, so that it is less than that as long as there are few.
        """
        if not self.evicts or not self.max_memory or not self.used_memory:
            return None
        return int(self.expiring * self.max_memory * NEARLY_ALL / self.used_memory)

    @property
    def makes_room(self) -> bool:
        """Whether Redis has enough that it can evict to count as one that makes room by itself."""
        return self.evicts and self.expiring > LEAST_EVICTABLE * self.keys

    @property
    def displaces(self) -> bool:
        """Whether an entry more means that another one is evicted."""
        return self.evicts and self.uses(NEARLY_ALL)

    @property
    def keeps_for_hot(self) -> bool:
        """Whether only what is hot may take up more."""
        return self.evicts and self.uses(FOR_HOT)

    def check(self) -> None:
        """See that this Redis holds the documents of this process's database, where this process looks for them.

        Raises:
            ForeignRedisError: it does not: since before this process started, or since then, or that is just
                about to change. Its `inner` says what to do.
        """
        if self.misfit:
            raise ForeignRedisError(inner=self.misfit)


class Sampler:
    """Takes a sample when the last one is too old. Safe to share between threads."""

    def __init__(self, take: Callable[[], LoadSample], also: Callable[[], object]) -> None:
        """Take samples by `Store.load`, from the first look on, and do something `also` with each."""
        self._take = take
        self._also = also
        self._lock = forks.lock()
        self._vitals: LoadSample | None = None
        self._taken = 0.0

    def look(self) -> LoadSample:
        """The latest sample. One caller a second waits for a new one, and the others never.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        vitals = self._vitals
        if vitals is not None and time.monotonic() - self._taken < SAMPLE_EVERY_S:
            return vitals
        if not self._lock.acquire(blocking=vitals is None):
            return vitals  # type: ignore[return-value]  # it blocks while there is none
        try:
            if self._vitals is None or self._vitals is vitals:
                self._vitals = self._take()
                self._also()
                self._taken = time.monotonic()
            return self._vitals
        finally:
            self._lock.release()


def take(wire: Wire, layout: Layout, database: str) -> LoadSample:
    """Take a sample, in two round trips, for a process that looks for documents of a database in a layout.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    slot = wire.now_ms() // 1000 // RATE_SLOT_SECONDS
    partitions = layout.all()
    owned, divided, breaker, info, command, rates, *counts = wire.calls(
        [
            ("GET", keys.DATABASE),
            ("GET", keys.PARTITIONS),
            ("HGET", keys.BREAKER, "state"),
            ("INFO",),
            ("COMMAND", "INFO", "WAITAOF"),
            ("MGET", *(keys.flushed(slot - back) for back in range(RATE_SLOTS))),
            *(("ZCARD", of.pending) for of in partitions),
            *(("HGETALL", of.dead_counts) for of in partitions),
            *(("HLEN", of.dead) for of in partitions),
            *(("SMEMBERS", of.crowded) for of in partitions),
        ]
    )
    size = len(partitions)
    owner, division = Owner.parse(owned), Division.parse(divided)
    facts = {} if isinstance(info, ResponseError) else parse_info(info)
    keys_of = [dict(_numbers(one)) for name, one in facts.items() if _DATABASE.fullmatch(name)]
    return LoadSample(
        misfit=_misfit(owner, database, division, size),
        recorded=owner is not None and division is not None,
        pending=tuple(counts[:size]),
        dead=added_up(counts[size : 2 * size], counts[2 * size : 3 * size]),
        used_memory=int(facts.get("used_memory", 0)),
        max_memory=int(facts.get("maxmemory", 0)),
        evicts=facts.get("maxmemory_policy", "").startswith("volatile"),
        keys=sum(one.get("keys", 0) for one in keys_of),
        expiring=sum(one.get("expires", 0) for one in keys_of),
        appendonly=facts.get("aof_enabled") == "1",
        replicas=int(facts.get("connected_slaves", 0)),
        waits_for_disk=_knows(command),
        drained_per_second=max(map(whole, rates)) / RATE_SLOT_SECONDS,
        crowded=frozenset(one.decode(errors="replace") for some in counts[3 * size :] for one in some),
        mongodb_is_away=breaker is not None,
    )


def _misfit(owner: Owner | None, database: str, division: Division | None, partitions: int) -> str:
    try:
        if owner is not None:
            owner.check(database)
        if division is not None:
            division.check(partitions)
    except ConfigurationError as error:
        return f"{error}, and restart this process"
    return ""


def _numbers(text: str) -> Iterator[tuple[str, int]]:
    """The numbers that INFO has for a database: `keys=2,expires=1,avg_ttl=0`."""
    for part in text.split(","):
        name, _, number = part.partition("=")
        if number.isdecimal():
            yield name, int(number)


def _knows(answer: Any) -> bool:
    return isinstance(answer, list) and bool(answer and answer[0])


def parse_info(answer: bytes) -> Mapping[str, str]:
    """The facts of INFO's answer."""
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines() if ":" in line)
    return {name: value for name, _, value in lines}
