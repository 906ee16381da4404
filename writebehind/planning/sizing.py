"""Sizes of an installation for a load: the numbers of a plan."""

from __future__ import annotations

import math
from functools import cached_property

from writebehind.errors import ConfigurationError
from writebehind.planning.constants import Constants, Costs
from writebehind.planning.flushes import Flushing, Pace, flushing
from writebehind.planning.load import Load
from writebehind.planning.memory import Footprint, Names
from writebehind.planning.occupancy import Accesses, when
from writebehind.planning.popularity import zipf
from writebehind.planning.spread import fullest_partition, fullest_server
from writebehind.redis.keys import MOST_PARTITIONS
from writebehind.settings.installation import Settings

#: The least number of partitions; and for each of several servers, so that none has much more than its share.
LEAST_PARTITIONS: int = Settings.model_fields["partitions"].default
FOR_EACH_SERVER = 64
#: Part of the time for which a partition may be flushed.
BUSY_PARTITION = 0.5
#: Part of `maxmemory` that is planned for, and from which writes are refused.
OF_MAXMEMORY, REFUSED_FROM = 0.85, Settings.model_fields["max_memory_percent"].default / 100
#: The least cap, and how much more than is needed; caps are told in steps.
LEAST_CAP: int = Settings.model_fields["max_pending_per_partition"].default
ROOM, STEP = 1.1, 1_000
#: Bytes of an empty server; and of a document that is counted for hot keys, of which a partition has so many.
EMPTY_BYTES, HOT_BYTES = 2 << 20, 100
HOT_KEYS: int = Settings.model_fields["hot_keys"].default
#: The part of the flush delay after which a document goes to MongoDB, on average.
OF_DELAY = 0.75
#: Workers at least: when one ends, another one goes on.
LEAST_WORKERS = 2
#: The longest outage that is looked at, seconds.
LONGEST_OUTAGE_S = 30 * 86_400.0
MIB, MICROSECOND = 1 << 20, 1e-6
#: The least part of a core that a process has for its work, however much it needs at rest.
_LEAST_BUSY = 0.01


class Sizing:
    """Sizes of an installation."""

    def __init__(self, load: Load, constants: Constants) -> None:
        """Take the load, and what each thing costs.

        Raises:
            ConfigurationError: the allocator was not measured.
        """
        if load.allocator not in constants.memory:
            raise ConfigurationError(f"the constants have nothing of the allocator {load.allocator}")
        self.load, self.constants = load, constants
        self._groups = zipf(load.documents, load.skew)
        stays = load.ttl + load.delay_s * OF_DELAY  # after a write
        self.accesses = Accesses(self._groups, load.rewritten, load.reads, load.created, stays)
        self.footprint = Footprint.of(
            constants.memory[load.allocator], load.allocator, load.sizes, Names.of(load.id_length), load.lookups
        )
        self.pace = Pace(
            delay_s=load.delay_s,
            latency_s=constants.times.latency_s,
            batch_s=constants.times.batch_s,
            document_s=self._mean(constants.times.document_us),
            batch_size=load.batch_size,
        )
        self._flushings: dict[int, Flushing] = {}
        self.servers, self.partitions = self._divide()
        self.flushing = self._flushing(self.partitions)

    # What is given, or needed -----------------------------------------------------------------------

    def _divide(self) -> tuple[int, int]:
        """Servers, and partitions, that are given, or that suffice."""
        load = self.load
        servers = load.servers or 1
        while True:
            partitions = load.partitions or self._partitions(servers)
            busy = self.redis_cores(servers, partitions) - self.hottest_cores
            enough = busy <= max(load.busy / 100 - self.hottest_cores, load.busy / 200)
            if load.servers or enough or servers >= MOST_PARTITIONS:
                return servers, partitions
            servers = min(max(servers + 1, math.ceil(servers * 1.02)), MOST_PARTITIONS)

    def _partitions(self, servers: int) -> int:
        least = LEAST_PARTITIONS if servers == 1 else FOR_EACH_SERVER * servers
        partitions = min(1 << (least - 1).bit_length(), MOST_PARTITIONS)
        while partitions < MOST_PARTITIONS and self._flushing(partitions).busy > BUSY_PARTITION:
            partitions *= 2
        return partitions

    # MongoDB ----------------------------------------------------------------------------------------

    def _flushing(self, partitions: int) -> Flushing:
        if partitions not in self._flushings:
            found = flushing(self._groups, self.load.rewritten, self.load.created, partitions, self.pace)
            self._flushings[partitions] = found
        return self._flushings[partitions]

    @cached_property
    def misses(self) -> float:
        """Reads in a second that Redis does not have the document of."""
        return self.accesses.misses()

    @property
    def mongodb_writes(self) -> float:
        """Guarded writes that MongoDB takes in a second."""
        return self.load.mongodb_writes or 1 / self.pace.document_s

    # CPU --------------------------------------------------------------------------------------------

    def _mean(self, values: list[float]) -> float:
        """Seconds, of µs by the size of a document."""
        return MICROSECOND * sum(one.part * self.constants.at(values, one.bytes) for one in self.load.sizes)

    def process_s(self, costs: Costs) -> float:
        """CPU seconds of our process for a document."""
        return self._mean(costs.process_us)

    def redis_s(self, costs: Costs) -> float:
        """CPU seconds of Redis for a document."""
        return self._mean(costs.redis_us)

    @property
    def web_cores(self) -> float:
        """Cores that web processes need for requests; each needs `idle.web_cores` besides."""
        constants, load = self.constants, self.load
        hits = load.reads - self.misses
        found = load.writes * self.process_s(constants.put) + hits * self.process_s(constants.get)
        return found + self.misses * self.process_s(constants.miss)

    @property
    def worker_cores(self) -> float:
        """Cores that workers need for flushes; each needs `idle.worker_cores` besides."""
        tasks = self.flushing.tasks * self.constants.task.worker_us * MICROSECOND
        return self.flushing.operations * self.process_s(self.constants.flush) + tasks

    @property
    def hottest_cores(self) -> float:
        """Cores of Redis that requests for the most popular document need: they have one server."""
        load, part = self.load, self._groups[0].part
        writes = part * load.rewritten * self.redis_s(self.constants.put)
        return writes + part * load.reads * self.redis_s(self.constants.get)

    def redis_cores(self, servers: int, partitions: int) -> float:
        """Cores that the busiest server with Redis needs."""
        constants, load, flushed = self.constants, self.load, self._flushing(partitions)
        every = load.writes * self.redis_s(constants.put) + (load.reads - self.misses) * self.redis_s(
            constants.get
        )
        every += self.misses * self.redis_s(constants.miss) + flushed.operations * self.redis_s(constants.flush)
        if servers == 1:  # which is the broker too
            tasks = flushed.tasks * constants.task.redis_us * MICROSECOND
            idle = constants.idle.web_redis_cores * self.web + constants.idle.worker_redis_cores * LEAST_WORKERS
            return every + tasks + idle
        others = (every - self.hottest_cores) / servers * fullest_server(partitions, servers)
        return others + self.hottest_cores

    def processes(self, cores: float, idle: float) -> int:
        """Processes for so many cores: each has one, of which it needs a part when it has nothing to do."""
        return max(1, math.ceil(cores / max(self.load.busy / 100 - idle, _LEAST_BUSY)))

    @property
    def web(self) -> int:
        """Web processes."""
        return self.processes(self.web_cores, self.constants.idle.web_cores)

    @property
    def workers(self) -> int:
        """Worker processes."""
        return max(LEAST_WORKERS, self.processes(self.worker_cores, self.constants.idle.worker_cores))

    # Memory -----------------------------------------------------------------------------------------

    def waiting(self, outage_s: float) -> float:
        """Documents that wait after an outage of MongoDB: those that were written in it, or waited before."""
        operations = self.flushing.operations
        return self.accesses.waiting(outage_s + (self.flushing.pending / operations if operations else 0))

    def memory(self, outage_s: float) -> float:
        """Bytes of the fullest server with Redis after an outage."""
        pending = self.waiting(outage_s) * self.footprint.pending
        every = pending + self.accesses.cached(outage_s) * self.footprint.cached + self.hot_bytes
        return EMPTY_BYTES + every / self.servers * fullest_server(self.partitions, self.servers)

    def most_memory(self, outage_s: float) -> float:
        """The most bytes of it in an outage, in which what is cached leaves, and what waits comes."""
        return max(self.memory(0), self.memory(outage_s))

    @property
    def hot_bytes(self) -> float:
        """Bytes of what is known of hot keys."""
        return HOT_BYTES * min(self.load.documents, HOT_KEYS * self.partitions) if self.load.reads else 0

    @property
    def maxmemory(self) -> float:
        """`maxmemory` of each server, as it is given or needed, bytes."""
        given = self.load.maxmemory_mib
        return given * MIB if given else self.most_memory(self.load.outage) / OF_MAXMEMORY

    @property
    def cap(self) -> int:
        """`max_pending_per_partition`, as it is given or needed."""
        if self.load.max_pending_per_partition:
            return self.load.max_pending_per_partition
        needed = fullest_partition(self.waiting(self.load.outage), self.partitions) * ROOM
        return max(LEAST_CAP, math.ceil(needed / STEP) * STEP)

    # Outage -----------------------------------------------------------------------------------------

    def until_cap_s(self) -> float | None:
        """Seconds of an outage after which a partition has as many pending documents as it may, if ever."""

        def fullest(seconds: float) -> float:
            return fullest_partition(self.waiting(seconds), self.partitions)

        return when(fullest, self.cap, LONGEST_OUTAGE_S)

    def until_full_s(self) -> float | None:
        """Seconds of an outage after which a server with Redis is short of memory, if ever."""
        return when(self.most_memory, self.maxmemory * REFUSED_FROM, LONGEST_OUTAGE_S)

    @property
    def drained_per_second(self) -> float:
        """Documents that are brought to MongoDB in a second after an outage, at most."""
        of_workers = self.workers / self.process_s(self.constants.flush)
        return min(self.mongodb_writes, of_workers, self.partitions * self.pace.most_per_second())

    def drain_s(self) -> float | None:
        """Seconds in which what waits after the outage is in MongoDB, while writes go on; `None` for never."""
        spare = self.drained_per_second - self.flushing.operations
        return self.waiting(self.load.outage) / spare if spare > 0 else None
