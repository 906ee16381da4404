"""Plans: figures, each with its derivation, and warnings where one is not to be relied on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from writebehind.planning.constants import Constants
from writebehind.planning.load import Load
from writebehind.planning.sizing import (
    BUSY_PARTITION,
    FOR_EACH_SERVER,
    LEAST_CAP,
    LEAST_PARTITIONS,
    LEAST_WORKERS,
    MIB,
    OF_MAXMEMORY,
    REFUSED_FROM,
    Sizing,
)
from writebehind.planning.spread import fullest_server
from writebehind.plurals import counted
from writebehind.redis.keys import MOST_PARTITIONS

#: The most writes in a second for which a plan was held against a system that ran.
CHECKED_WRITES = 300
MINUTE_S = 60.0
_WHOLE_FROM = 100


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a plan.

    Attributes:
        name: as JSON has it, with its unit.
        title: the same in words.
        value: `None` where there is none, as what it tells of never happens.
        because: its derivation.
    """

    name: str
    title: str
    value: float | None
    because: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan for a load."""

    load: Load
    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]
    constants: Constants

    def value(self, name: str) -> float | None:
        """The value of a figure."""
        return next(one.value for one in self.figures if one.name == name)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return {
            "load": self.load.model_dump(),
            "plan": {one.name: one.value for one in self.figures},
            "because": {one.name: one.because for one in self.figures},
            "warnings": list(self.warnings),
            "measured": self.constants.measured.model_dump(),
        }


def make_plan(load: Load, constants: Constants) -> Plan:
    """A plan for a load, by what things cost.

    Raises:
        ConfigurationError: nothing is known of the allocator.
    """
    sizing = Sizing(load, constants)
    figures = (*_mongodb(sizing), *_redis(sizing), *_processes(sizing), *_outage(sizing))
    return Plan(load, figures, tuple(_warnings(sizing)), constants)


def _mongodb(of: Sizing) -> Iterator[Figure]:
    load, flushed = of.load, of.flushing
    part = flushed.operations / load.writes if load.writes else 0.0
    yield _figure(
        "mongodb_operations_per_second",
        "MongoDB: guarded writes/s",
        flushed.operations,
        f"writes to a document within {load.flush_delay_ms} ms are one operation: {part:.2f} operations per write "
        f"with skew {load.skew:g} over {load.documents:,} documents, {load.new:g} % of the writes to new ones",
    )
    yield _figure("operations_per_write", "MongoDB: operations per write", part, "the same", digits=3)
    yield _figure(
        "mongodb_reads_per_second",
        "MongoDB: documents read/s",
        of.misses,
        f"reads that miss, of {load.reads:,g}/s: documents stay for {load.ttl:g} s after their last write or load",
    )
    yield _figure(
        "bulk_writes_per_second",
        "MongoDB: bulk writes/s",
        flushed.batches,
        f"each of {counted(of.partitions, 'partition')} is flushed about twice in a flush delay, up to "
        f"{counted(load.batch_size, 'document')} at a time; as many again for each further collection, of "
        "fewer documents",
    )
    yield _figure(
        "documents_per_bulk_write",
        "MongoDB: documents in a bulk write",
        flushed.batch,
        "guarded writes / bulk writes",
    )


def _redis(of: Sizing) -> Iterator[Figure]:
    load, foot, servers = of.load, of.footprint, of.servers
    pending, cached = of.waiting(load.outage), of.accesses.cached()
    yield _figure(
        "redis_servers",
        "Redis: servers",
        servers,
        "given"
        if load.servers
        else f"a server runs commands on one core, and may be busy for {load.busy:g} % of the time"
        + ("; the broker is another one" if servers > 1 else ", also as the broker"),
    )
    yield _figure(
        "redis_cores_per_server",
        "Redis: cores, busiest server",
        of.redis_cores(servers, of.partitions),
        f"µs a PUT {_us(of.redis_s(of.constants.put))}, a GET {_us(of.redis_s(of.constants.get))}, a miss "
        f"{_us(of.redis_s(of.constants.miss))}, a document that is flushed {_us(of.redis_s(of.constants.flush))}"
        + (f"; the busiest has {_share(of)} of its share, and the most popular document" if servers > 1 else ""),
        digits=2,
    )
    yield _figure(
        "partitions",
        "setting: partitions",
        of.partitions,
        "given" if load.partitions else _why_partitions(of),
    )
    yield _figure(
        "waiting_documents",
        "Redis: documents that wait after the outage",
        pending,
        f"documents that are written in {_minutes(load.outage)} min, each counted once, and what is pending "
        f"at any time: {of.flushing.pending:,.0f}",
    )
    yield _figure(
        "bytes_per_pending_document",
        "Redis: bytes of a pending document",
        foot.pending,
        f"key, value, place in the sorted set; with what {load.allocator} adds, {load.lookups} unique fields",
    )
    yield _figure(
        "cached_documents",
        "Redis: cached documents",
        cached,
        f"written within {load.ttl:g} s, or loaded; before the outage, in which they leave or wait",
    )
    yield _figure("bytes_per_cached_document", "Redis: bytes of a cached document", foot.cached, "the same, clean")
    yield _figure(
        "maxmemory_mib_per_server",
        "Redis: maxmemory of a server, MiB",
        of.maxmemory / MIB,
        "given"
        if load.maxmemory_mib
        else f"{of.most_memory(load.outage) / MIB:,.0f} MiB on the fullest of {servers} in the outage "
        f"({_share(of)} of its share), / {OF_MAXMEMORY:g}; the machine needs more: see docs/how-to/size-redis.md",
    )
    every = servers * (1 + load.replicas)
    yield _figure(
        "redis_servers_with_replicas",
        "Redis: servers in all, with replicas",
        every,
        f"{_of_each(load.replicas)}; each on a machine of its own, with all that its primary has, also its file: "
        "see docs/how-to/fail-over.md"
        if load.replicas
        else "no replicas: while a server is lost, so is what only it has. See docs/how-to/fail-over.md",
    )
    yield _figure(
        "redis_mib_in_all",
        "Redis: memory of all servers, MiB",
        every * of.maxmemory / MIB,
        f"maxmemory of each, times {every}: a replica needs as much as its primary, whose place it takes",
    )
    yield _figure(
        "max_pending_per_partition",
        "setting: max_pending_per_partition",
        of.cap,
        "given"
        if load.max_pending_per_partition
        else f"the fullest partition after the outage and a tenth, at least the default, {LEAST_CAP:,}",
    )


def _processes(of: Sizing) -> Iterator[Figure]:
    load, constants = of.load, of.constants
    yield _figure(
        "web_processes",
        "processes: web",
        of.web,
        f"{of.web_cores:.2f} cores at {load.busy:g} %, of which each needs {constants.idle.web_cores:.3f} at "
        f"rest; µs a PUT {_us(of.process_s(constants.put))}, a GET {_us(of.process_s(constants.get))}, a miss "
        f"{_us(of.process_s(constants.miss))}",
    )
    yield _figure("web_cores", "processes: cores of web", of.web_cores, "the same", digits=2)
    yield _figure(
        "worker_processes",
        "processes: workers for the queue flush",
        of.workers,
        f"{of.worker_cores:.2f} cores at {load.busy:g} %, of which each needs {constants.idle.worker_cores:.3f} "
        f"at rest, at least {LEAST_WORKERS}; µs a document {_us(of.process_s(constants.flush))}, a task "
        f"{constants.task.worker_us:.0f}",
    )
    yield _figure("worker_cores", "processes: cores of workers", of.worker_cores, "the same", digits=2)
    yield _figure(
        "flush_tasks_per_second",
        "processes: flush tasks/s",
        of.flushing.tasks,
        "one for each flush of a partition",
    )


def _outage(of: Sizing) -> Iterator[Figure]:
    cap_s, full_s = of.until_cap_s(), of.until_full_s()
    times = {"partitions": cap_s, "memory": full_s}
    first = min((name for name in times if times[name] is not None), key=lambda name: times[name] or 0, default="")
    told = {
        "": f"never: all documents fit, below {of.cap:,} in a partition and {REFUSED_FROM:.0%} of maxmemory",
        "partitions": f"the fullest of {counted(of.partitions, 'partition')} has {of.cap:,}: writes to documents "
        "that are not pending yet are 503 from then on",
        "memory": f"{REFUSED_FROM:.0%} of maxmemory is in use: writes to documents that are not pending yet are "
        "503 from then on",
    }
    until_s = times.get(first)
    yield _figure(
        "minutes_until_cap",
        "outage: minutes until writes are refused",
        None if until_s is None else until_s / MINUTE_S,
        told[first],
        digits=1,
    )
    drain_s = of.drain_s()
    rate = f"{of.drained_per_second:,.0f}/s, of which {of.flushing.operations:,.0f} are new"
    yield _figure(
        "minutes_to_drain",
        "outage: minutes until MongoDB has all again",
        None if drain_s is None else drain_s / MINUTE_S,
        f"least of MongoDB {of.mongodb_writes:,.0f}/s, {counted(of.workers, 'worker')}, "
        f"{counted(of.partitions, 'partition')}: {rate}"
        if drain_s is not None
        else f"never: {rate}",
        digits=1,
    )


def _warnings(of: Sizing) -> Iterator[str]:
    load, constants = of.load, of.constants
    least, most = constants.sizes[0], constants.sizes[-1]
    if any(not least <= one.bytes <= most for one in load.sizes):
        yield f"CPU was measured for documents of {least} to {most:,} bytes: beyond them it is a guess on a line"
    if load.writes > CHECKED_WRITES:
        yield (
            f"plans were held against systems that ran up to {CHECKED_WRITES:,} writes/s: more follows from the "
            "same costs, and from simulated flushes up to 1,000,000 writes/s"
        )
    if load.mongodb_writes is None:
        yield (
            f"the speed of your MongoDB is not known: {of.mongodb_writes:,.0f} writes/s are those of "
            f"{constants.measured.mongodb}. Give --mongodb-writes"
        )
    if of.flushing.operations >= of.mongodb_writes:
        yield (
            f"MongoDB takes {of.mongodb_writes:,.0f} writes/s, and {of.flushing.operations:,.0f} are needed: what "
            "waits grows without end. A longer flush_delay_ms makes them fewer"
        )
    if of.hottest_cores > load.busy / 100:
        yield (
            f"the most popular document alone needs {of.hottest_cores:.2f} cores of its server with Redis, which "
            "uses one: no number of servers helps"
        )
    elif (cores := of.redis_cores(of.servers, of.partitions)) > load.busy / 100:
        yield f"the busiest server with Redis needs {cores:.2f} cores, more than {load.busy:g} % of one"
    if of.flushing.busy > BUSY_PARTITION:
        yield (
            f"a partition is being flushed for {of.flushing.busy:.0%} of the time, and does not keep up from "
            "100 % on: more partitions, or a faster MongoDB"
        )
    if of.servers > 1 and of.partitions < FOR_EACH_SERVER * of.servers:
        yield (
            f"{counted(of.partitions, 'partition is', 'partitions are')} few for {of.servers} servers: the "
            f"fullest has {_share(of)} of its share"
        )
    yield from _warnings_of_outage(of)


def _warnings_of_outage(of: Sizing) -> Iterator[str]:
    load = of.load
    if (cap_s := of.until_cap_s()) is not None and cap_s < load.outage:
        yield (f"max_pending_per_partition is reached after {_minutes(cap_s)} min, before the outage is over")
    if (full_s := of.until_full_s()) is not None and full_s < load.outage:
        yield f"Redis is short of memory after {_minutes(full_s)} min, before the outage is over"


def _of_each(replicas: int) -> str:
    """The replicas of each server, and what one more or less would mean."""
    left = (
        "none is left, and nothing is written until it is back"
        if replicas == 1
        else "writes go on, as one is left"
    )
    return f"{counted(replicas, 'replica')} of each, so that after a failover {left}"


def _why_partitions(of: Sizing) -> str:
    if of.partitions == MOST_PARTITIONS:
        return "the most there may be"
    if of.servers > 1:
        return f"{FOR_EACH_SERVER} for each server, so that none has much more than its share"
    if of.partitions == LEAST_PARTITIONS:
        return f"the default: each is being flushed for {of.flushing.busy:.0%} of the time"
    return f"each is being flushed for {of.flushing.busy:.0%} of the time, at most {BUSY_PARTITION:.0%}"


def _figure(name: str, title: str, value: float | None, because: str, *, digits: int = 0) -> Figure:
    if value is not None:
        value = round(value, digits) if digits else _rounded(value)
    return Figure(name, title, value, because)


def _rounded(value: float) -> float:
    """A whole number where it has three digits or more, else three digits."""
    if value >= _WHOLE_FROM or value == int(value):
        return round(value)
    return float(f"{value:.3g}")


def _share(of: Sizing) -> str:
    return f"{fullest_server(of.partitions, of.servers):.0%}"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / MINUTE_S:,.3g}"
