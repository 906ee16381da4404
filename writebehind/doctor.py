"""Is this installation fit to keep what it acknowledges? Each check judges what it finds, and says what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import entry_points
from typing import Any

from writebehind import keys
from writebehind.errors import ConfigurationError, MongoUnavailableError, RedisUnavailableError
from writebehind.pipeline import SWEEP, Pipeline
from writebehind.rawbson import VERSION_FIELD
from writebehind.vitals import parse_info

#: Other packages add checks under this entry point: functions that take a pipeline and yield findings.
ENTRY_POINTS = "writebehind.doctor"
OLDEST_REDIS, OLDEST_MONGODB = (7, 0), (5, 0)
#: From which other clock or age an operator should know, seconds.
CLOCK_WARNING_S = 2.0
BEAT_MISSED = 4
MEMORY_WARNING_PERCENT = 75


class Level(IntEnum):
    """How bad a finding is; also the command's exit status for the worst of all."""

    OK = 0
    WARNING = 1
    FAILURE = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it; nothing where it is in order."""

    check: str
    level: Level
    found: str
    advice: str = ""


Check = Callable[[Pipeline], Iterator[Finding]]


def examine(pipeline: Pipeline) -> Iterator[Finding]:
    """Run every check, also those of other packages. A server that does not answer is a finding."""
    others: list[Check] = [point.load() for point in entry_points(group=ENTRY_POINTS)]
    for check in (redis, mongodb, processes, *others):
        yield from check(pipeline)


def check_start(pipeline: Pipeline) -> list[Finding]:
    """The part that a process runs when it starts: what Redis says of itself.

    Returns:
        The warnings.

    Raises:
        ConfigurationError: something would lose data, or Redis is divided differently.
        RedisUnavailableError: Redis does not answer.
    """
    pipeline.check()
    found = list(_redis_facts(_info(pipeline)))
    for one in found:
        if one.level is Level.FAILURE:
            raise ConfigurationError(f"{one.found}: {one.advice}")
    return [one for one in found if one.level is Level.WARNING]


# Redis ------------------------------------------------------------------------------------------------


def redis(pipeline: Pipeline) -> Iterator[Finding]:
    """Version, persistence, eviction, memory, role, clock, and the number of partitions."""
    try:
        before = time.time()
        now = pipeline.store.now_ms() / 1000
        after = time.time()
        facts = _info(pipeline)
    except RedisUnavailableError as error:
        yield Finding("redis", Level.FAILURE, str(error), "start it, or set REDIS_URL")
        return
    yield from _redis_facts(facts)
    yield _fsync(pipeline)
    yield _memory_in_use(facts)
    yield _clock(now - (before + after) / 2)
    yield _partitions(pipeline)


def _info(pipeline: Pipeline) -> Mapping[str, str]:
    # INFO and not CONFIG GET, which many providers forbid.
    return parse_info(pipeline.store.wire.call("INFO"))


def _redis_facts(facts: Mapping[str, str]) -> Iterator[Finding]:
    yield _redis_version(facts)
    yield _eviction(facts)
    yield _append_only_file(facts)
    yield _role(facts)


def _redis_version(facts: Mapping[str, str]) -> Finding:
    if "valkey_version" in facts:
        return Finding("redis version", Level.OK, f"Valkey {facts['valkey_version']}")
    version = facts.get("redis_version", "unknown")
    if _numbers(version) < OLDEST_REDIS:
        oldest = ".".join(map(str, OLDEST_REDIS))
        return Finding(
            "redis version", Level.FAILURE, f"Redis {version}", f"use Redis {oldest} or newer, or Valkey"
        )
    return Finding("redis version", Level.OK, f"Redis {version}")


def _eviction(facts: Mapping[str, str]) -> Finding:
    policy = facts.get("maxmemory_policy", "unknown")
    if policy.startswith("allkeys"):
        return Finding(
            "redis eviction",
            Level.FAILURE,
            f"maxmemory-policy is {policy}, which evicts what MongoDB does not have yet",
            "CONFIG SET maxmemory-policy noeviction, or volatile-lru; and the same in its configuration file",
        )
    return Finding("redis eviction", Level.OK, f"maxmemory-policy is {policy}")


def _append_only_file(facts: Mapping[str, str]) -> Finding:
    if facts.get("aof_enabled") != "1":
        return Finding(
            "redis persistence",
            Level.WARNING,
            "the append-only file is off: a crash of Redis loses what MongoDB does not have yet",
            "CONFIG SET appendonly yes; and the same in its configuration file",
        )
    if facts.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            "redis persistence",
            Level.FAILURE,
            "Redis could not write its append-only file",
            "see its log; most likely its disk is full",
        )
    return Finding("redis persistence", Level.OK, "the append-only file is on")


def _role(facts: Mapping[str, str]) -> Finding:
    role = facts.get("role", "unknown")
    if role == "slave":
        return Finding("redis role", Level.FAILURE, "this is a replica, which takes no writes", "name its primary")
    return Finding("redis role", Level.OK, f"{role} with {facts.get('connected_slaves', '0')} replicas")


def _fsync(pipeline: Pipeline) -> Finding:
    try:
        _, policy = pipeline.store.wire.call("CONFIG", "GET", "appendfsync")
    except Exception as error:  # noqa: BLE001 - providers forbid it in ways of their own
        return Finding("redis fsync", Level.OK, f"unknown, as CONFIG GET is not allowed: {error}")
    policy = policy.decode()
    if policy == "always":
        return Finding("redis fsync", Level.OK, "appendfsync is always: no acknowledged write is lost in a crash")
    if policy == "everysec":
        return Finding(
            "redis fsync",
            Level.OK,
            "appendfsync is everysec: a crash of its machine may lose the last second; "
            "durability=fsynced waits for the disk",
        )
    return Finding(
        "redis fsync",
        Level.WARNING,
        f"appendfsync is {policy}: a crash of its machine may lose many seconds",
        "CONFIG SET appendfsync everysec, or always",
    )


def _memory_in_use(facts: Mapping[str, str]) -> Finding:
    used, limit = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    if not limit:
        return Finding(
            "redis memory",
            Level.WARNING,
            f"{_mib(used)} in use, and no limit: without one Redis is killed before it refuses writes",
            "CONFIG SET maxmemory to what its machine can spare",
        )
    percent = 100 * used / limit
    found = f"{_mib(used)} of {_mib(limit)} in use ({percent:.0f} %)"
    if percent >= MEMORY_WARNING_PERCENT:
        return Finding("redis memory", Level.WARNING, found, "raise maxmemory, or use shorter TTLs")
    return Finding("redis memory", Level.OK, found)


def _clock(ahead_s: float) -> Finding:
    found = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s >= 0 else 'behind'} this machine's"
    if abs(ahead_s) > CLOCK_WARNING_S:
        advice = "synchronise both clocks: versions are made of Redis's, and the times that you are shown"
        return Finding("redis clock", Level.WARNING, found, advice)
    return Finding("redis clock", Level.OK, found)


def _partitions(pipeline: Pipeline) -> Finding:
    recorded = pipeline.store.wire.call("GET", keys.PARTITIONS)
    try:
        if recorded is not None:
            pipeline.store.check_partitions()
    except ConfigurationError as error:
        return Finding("partitions", Level.FAILURE, str(error), "or change it with `writebehind repartition`")
    known = f"{pipeline.settings.partitions}, as recorded" if recorded else "not recorded yet: nobody has written"
    return Finding("partitions", Level.OK, known)


# MongoDB ----------------------------------------------------------------------------------------------


def mongodb(pipeline: Pipeline) -> Iterator[Finding]:
    """Version, topology, write concern, change streams, and validators that would refuse `_v`."""
    try:
        version = pipeline.sink.command("buildInfo")["version"]
        hello = pipeline.sink.command("hello", admin=True)
        validators = pipeline.sink.validators()
    except MongoUnavailableError as error:
        yield Finding("mongodb", Level.FAILURE, str(error), "start it, or set MONGODB_URL")
        return
    yield _mongodb_version(version)
    yield _topology(hello)
    yield _write_concern(pipeline)
    for collection, schema in validators.items():
        if schema.get("additionalProperties") is False and VERSION_FIELD not in schema.get("properties", {}):
            yield Finding(
                "mongodb validator",
                Level.FAILURE,
                f"the validator of {collection} allows no field that it does not name, nor does it name "
                f"{VERSION_FIELD}: every document is refused",
                f'add "{VERSION_FIELD}": {{"bsonType": "long"}} to its properties',
            )


def _mongodb_version(version: str) -> Finding:
    if _numbers(version) < OLDEST_MONGODB:
        oldest = ".".join(map(str, OLDEST_MONGODB))
        return Finding("mongodb version", Level.WARNING, version, f"nothing below {oldest} is supported")
    return Finding("mongodb version", Level.OK, version)


def _topology(hello: Mapping[str, Any]) -> Finding:
    if hello.get("msg") == "isdbgrid":
        return Finding("mongodb topology", Level.OK, "sharded; has change streams")
    if "setName" not in hello:
        return Finding(
            "mongodb topology",
            Level.WARNING,
            "standalone: its failure is an outage, and it has no change streams",
            "make it a replica set, be it of one member: rs.initiate()",
        )
    members = len(hello.get("hosts", ()))
    return Finding("mongodb topology", Level.OK, f"replica set of {members}; has change streams")


def _write_concern(pipeline: Pipeline) -> Finding:
    try:
        pipeline.sink.try_write_concern()
    except MongoUnavailableError as error:
        advice = "see that a majority of the members is up, and journals"
        return Finding("mongodb write concern", Level.FAILURE, str(error), advice)
    return Finding("mongodb write concern", Level.OK, "a majority with journal acknowledges")


# The processes ----------------------------------------------------------------------------------------


def processes(pipeline: Pipeline) -> Iterator[Finding]:
    """Workers by their heartbeats, beat by the last sweep, and what waits."""
    try:
        workers = pipeline.store.workers()
        age_s = pipeline.store.since_ran(SWEEP)
        status = pipeline.status()
    except RedisUnavailableError:
        return  # is a finding already
    if workers:
        yield Finding("workers", Level.OK, ", ".join(sorted(workers)))
    else:
        yield Finding(
            "workers",
            Level.FAILURE,
            "none has sent a heartbeat lately: nothing is persisted",
            "start them as in the Procfile",
        )
    yield _beat(age_s, pipeline.settings.sweep_interval)
    yield _backlog(status)


def _beat(age_s: float | None, interval_s: float) -> Finding:
    if age_s is None or age_s > BEAT_MISSED * interval_s:
        found = "no sweep has ever run" if age_s is None else f"the last sweep was {age_s:.0f} s ago"
        advice = "start beat and the maintenance worker as in the Procfile: without them lost messages stay lost"
        return Finding("beat", Level.FAILURE, found, advice)
    return Finding("beat", Level.OK, f"the last sweep was {age_s:.0f} s ago")


def _backlog(status: Mapping[str, Any]) -> Finding:
    found = (
        f"{status['pending']} pending, the oldest for {status['oldest_pending_seconds']:.0f} s; "
        f"{status['dead_letters']} dead letters; breaker {status['breaker']}"
    )
    if status["breaker"] != "closed":
        return Finding("backlog", Level.WARNING, found, f"see to MongoDB: {status['breaker_reason']}")
    if status["dead_letters"]:
        return Finding("backlog", Level.WARNING, found, "see to them: writebehind dead-letters list")
    return Finding("backlog", Level.OK, found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"
