"""Redis: its version, what it does with what it holds, and how it is divided."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from writebehind.documents.durability import Durability
from writebehind.errors import ConfigurationError, RedisNotReadyError, RedisUnavailableError, ReplicaError
from writebehind.operations.doctor import clocks, failover, servers
from writebehind.operations.doctor.findings import Finding, away, failure, of, ok, warning
from writebehind.operations.running_here import home_of_redis
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.redis.confirmation import replicas_needed
from writebehind.redis.reach import listed_away
from writebehind.redis.shared.partition_count import Division
from writebehind.remedies import of_not_ready, of_refusal, told_refusing

OLDEST = (7, 0)
MEMORY_WARNING_PERCENT = 75

_SEE_TO_IT = "see to that server first"

Facts = Mapping[str, str]


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Everything about Redis."""
    try:
        yield from _check(pipeline)
    except ReplicaError:
        yield _replica()
    except RedisNotReadyError as error:
        yield failure("redis", str(error), of_not_ready(error))
    except RedisUnavailableError as error:
        yield failure("redis", str(error), away(pipeline.settings, "redis", hangs=error.late, reason=error.inner))


def _check(pipeline: Pipeline) -> Iterator[Finding]:
    shared = list(servers.check(pipeline))
    yield from shared
    if any(one.fatal for one in shared):  # else nothing is known of what is on the others
        return
    ahead_s = clocks.ahead_s(pipeline)
    facts_of, policies = pipeline.store.facts(), pipeline.store.configured("appendfsync")
    directories, home = pipeline.store.directories(), home_of_redis(pipeline.settings)
    for server, facts in facts_of.items():
        lost = lost_files(directories.get(server), home)
        yield from (_named(one, server) for one in _check_one(facts, policies.get(server), lost, server))
    yield from writes(pipeline)
    if any(facts.get("cluster_enabled") == "1" for facts in facts_of.values()):
        yield coverage(pipeline.store.configured("cluster-require-full-coverage"))
    yield from durability(pipeline)
    yield from failover.check(pipeline)
    for server, ahead in ahead_s.items():
        yield _named(clocks.clock(ahead), server)
    yield _owner(pipeline)
    yield _partitions(pipeline)


def _check_one(facts: Facts, policy: str | None, lost: Finding | None, server: str) -> Iterator[Finding]:
    has_file = facts.get("aof_enabled") == "1"
    for one in fitness(facts, server):
        yield lost if lost and has_file and one.check == lost.check else one
    if facts:
        yield memory(facts)
    if has_file:
        yield fsync(policy, int(facts.get("connected_slaves", "0")))


def fitness_of_all(facts_of: Mapping[str, Facts]) -> Iterator[Finding]:
    """`fitness` of each server, by its name."""
    for server, facts in facts_of.items():
        yield from (_named(one, server) for one in fitness(facts, server))


def _named(finding: Finding, server: str) -> Finding:
    """A finding about one of several servers."""
    return replace(finding, found=f"{server}: {finding.found}") if server else finding


def fitness(facts: Facts, server: str = "") -> Iterator[Finding]:
    """Whether a Redis that says this of itself keeps what it acknowledges; `server` is its name among several."""
    if not facts:
        yield warning("redis", "INFO is refused, so nothing is known of it", "ACL SETUSER <its user> +info")
        return
    yield version(facts)
    yield eviction(facts)
    yield persistence(facts)
    yield role(facts)
    if facts.get("cluster_enabled") == "1" and not server:
        advice = "name the cluster in REDIS_URL, as redis+cluster://host,host"
        yield failure(
            "redis cluster",
            "this is a node of a Redis Cluster, and named as a server of its own",
            advice,
            fatal=True,
        )


def coverage(configured: Mapping[str, str | None]) -> Finding:
    """Nodes that go on while another one is away: by the setting of each."""
    if asking := [server for server, setting in configured.items() if setting == "yes"]:
        return warning(
            "redis cluster",
            f"{asking[0]}: while a node is away and nothing has taken its place, no other answers either",
            "CONFIG SET cluster-require-full-coverage no on each node; and the same in its configuration file",
        )
    return ok("redis cluster", "while a node is away, the others answer")


def version(facts: Facts) -> Finding:
    """New enough for the atomic steps."""
    if "valkey_version" in facts:
        return ok("redis version", f"Valkey {facts['valkey_version']}")
    found = facts.get("redis_version", "of no version")
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return failure("redis version", f"Redis {found}", f"use Redis {oldest} or newer, or Valkey", fatal=True)
    return ok("redis version", f"Redis {found}")


def eviction(facts: Facts) -> Finding:
    """Spares what has no TTL: that is what MongoDB does not have."""
    policy = facts.get("maxmemory_policy", "unknown")
    found = f"maxmemory-policy is {policy}"
    if policy.startswith("allkeys"):
        return failure(
            "redis eviction",
            f"{found}, which evicts what MongoDB does not have yet",
            "CONFIG SET maxmemory-policy noeviction, or volatile-lru; and the same in its configuration file",
            fatal=True,
        )
    if policy.startswith("volatile"):
        return ok("redis eviction", f"{found}: when it is full it evicts only what MongoDB has")
    if policy == "noeviction":
        return ok("redis eviction", f"{found}: when it is full it refuses writes until something expires")
    return warning("redis eviction", found, "see that it is noeviction or volatile-*")


def persistence(facts: Facts) -> Finding:
    """Writes its append-only file."""
    if facts.get("aof_enabled") != "1":
        return warning(
            "redis persistence",
            "the append-only file is off: a crash of Redis loses what MongoDB does not have yet",
            "CONFIG SET appendonly yes; and the same in its configuration file",
        )
    if facts.get("aof_last_write_status", "ok") != "ok":
        return failure(
            "redis persistence",
            "Redis could not write its append-only file",
            "see its log; most likely its disk is full",
        )
    for fact, what in (("aof_last_bgrewrite_status", "rewrite its file"), ("rdb_last_bgsave_status", "save")):
        if facts.get(fact, "ok") != "ok":
            return warning(
                "redis persistence",
                f"the append-only file is on, but Redis could not {what} in the background lately",
                "see its log; most likely it is short of disk or memory",
            )
    return ok("redis persistence", "the append-only file is on")


def lost_files(directory: str | None, home: Path | None = None) -> Finding | None:
    """Files that its next start does not find: their directory was taken away under it. `None` where it has them.

    Args:
        directory: where it has them, as it says itself; '' where that was deleted, `None` where it does not say.
        home: where the next start looks, if that is known; the directory is in it.
    """
    if directory == "":
        return failure(
            "redis persistence",
            "the directory of its append-only file is not there any more: what it writes ends with its process",
            "do not stop it: `writebehind drain` brings what is pending to MongoDB; then start it in a directory",
        )
    if directory is not None and home is not None and not Path(directory).is_relative_to(home):
        return failure(
            "redis persistence",
            f"its append-only file was moved under it, and is in {directory}: its next start looks in {home}",
            f"move it back to {home}, with the directories in between, before anything stops",
        )
    return None


def role(facts: Facts) -> Finding:
    """Takes writes, and keeps them."""
    if facts.get("role") != "slave":
        return ok("redis role", f"primary with {counted(int(facts.get('connected_slaves', '0')), 'replica')}")
    return _replica()


def _replica() -> Finding:
    found = "this is a replica, from which nothing is read and to which nothing is written"
    return failure("redis role", found, "name its primary in REDIS_URL")


def memory(facts: Facts) -> Finding:
    """Has a limit, and is not near it."""
    used, limit = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    if not limit:
        # As the embedded one is started.
        filed = facts.get("config_file") != ""
        again = (
            "and the same in its configuration file"
            if filed
            else "and again after each start, as it has no configuration file (`writebehind up` starts its own so)"
        )
        return warning(
            "redis memory",
            f"{_mib(used)} in use, and no limit: without one Redis is killed before it refuses writes",
            f"CONFIG SET maxmemory to what its machine can spare; {again}",
        )
    percent = 100 * used / limit
    found = f"{_mib(used)} of {_mib(limit)} in use ({percent:.0f} %)"
    if percent >= MEMORY_WARNING_PERCENT and not facts.get("maxmemory_policy", "").startswith("volatile"):
        return warning("redis memory", found, "raise maxmemory, or use shorter TTLs")
    return ok("redis memory", found)


def fsync(policy: str | None, replicas: int) -> Finding:
    """Says what a crash of its machine takes of what was acknowledged as `buffered`."""
    if policy is None:
        return ok("redis fsync", "unknown, as CONFIG GET is refused")
    if policy == "always":
        return ok("redis fsync", "appendfsync is always: no acknowledged write is lost in a crash")
    if policy == "everysec":
        kept = "" if replicas else ", which no replica has"
        found = f"a crash of its machine may lose the last second of writes that were answered as buffered{kept}"
        return ok("redis fsync", f"appendfsync is everysec: {found}; fsynced waits for the disk")
    return warning(
        "redis fsync",
        f"appendfsync is {policy or 'unknown'}: a crash of its machine may lose many seconds",
        "CONFIG SET appendfsync everysec, or always; and the same in its configuration file",
    )


def writes(pipeline: Pipeline) -> Iterator[Finding]:
    """Takes what is written: a write that writes nothing is tried."""
    sample = pipeline.store.load(probes=True)
    if sample.refuses:
        part = told_refusing(listed_away(sample.refusing), pipeline.store.partitions)
        yield of(of_refusal(sample.refuses, part=part), "redis writes")
    else:
        yield ok("redis writes", "it takes them")


def durability(pipeline: Pipeline) -> Iterator[Finding]:
    """Can promise what the collections' settings promise."""
    vitals = pipeline.store.load()
    fixed = pipeline.settings.confirm_replicas
    needs = {}
    if not (vitals.appendonly and vitals.waits_for_disk):
        needs[Durability.FSYNCED] = "WAITAOF and the append-only file"
    if vitals.replicas < replicas_needed(Durability.REPLICATED, vitals.replicas, fixed):
        needs[Durability.REPLICATED] = counted(max(1, fixed), "replica")
    wanted = {name: one.wants(None) for name, one in pipeline.settings.collections.items()}
    fsynced, replicated = (
        ", ".join(name for name, one in wanted.items() if one is level and level in needs)
        for level in (Durability.FSYNCED, Durability.REPLICATED)
    )
    if fsynced:
        yield failure(
            "redis durability",
            f"writes to {fsynced} are refused: durability fsynced needs {needs[Durability.FSYNCED]}",
            "use Redis 7.2 or newer, or Valkey, with appendonly yes; or another durability",
        )
    if replicated:
        yield warning(
            "redis durability",
            f"writes to {replicated} are answered as buffered: durability replicated needs "
            f"{needs[Durability.REPLICATED]}",
            "see that as many replicas are connected, or use another durability",
        )
    if not fsynced and not replicated:
        offered = ", ".join(sorted(set(Durability) - needs.keys()))
        lacks = "".join(f"; {level} needs {what}" for level, what in needs.items())
        yield ok("redis durability", f"it can promise {offered}{lacks}")


def _owner(pipeline: Pipeline) -> Finding:
    """It holds the documents of the database that the settings name."""
    try:
        owner = pipeline.store.owner.recorded()
    except RedisUnavailableError as error:
        return warning("database", f"not known: {error}", _SEE_TO_IT)
    if owner is None:
        return ok("database", "not recorded yet: nobody has written")
    try:
        owner.check(pipeline.store.database)
    except ConfigurationError as error:
        found, _, advice = str(error).removeprefix("MONGODB_DATABASE: ").partition(": ")
        return failure("database", found, advice, fatal=True)
    return ok("database", f"{owner.database}, as recorded")


def _partitions(pipeline: Pipeline) -> Finding:
    try:
        division = pipeline.store.division.recorded()
    except RedisUnavailableError as error:
        return warning("partitions", f"not known: {error}", _SEE_TO_IT)
    if division is None:
        return ok("partitions", "not recorded yet: nobody has written")
    known = pipeline.store.partitions  # as the record was followed
    try:
        division.check(known)
    except ConfigurationError as error:
        found, _, advice = str(error).removeprefix("partitions: ").rpartition(": ")
        return failure("partitions", found, f"{advice}, or change it: writebehind repartition {known}")
    if outside := pipeline.store.division.astray(known):
        return failure(
            "partitions",
            f"something is pending or dead in partition {outside[0]}, where nobody looks",
            "a process with another number of partitions wrote it: stop that, and run writebehind drain",
        )
    return _growth(division, pipeline.settings.partitions, known)


def _growth(division: Division, before: int, known: int) -> Finding:
    """Whether the number grows, or has, while it was used."""
    if division.online:
        return warning(
            "partitions",
            f"{division.partitions} are becoming {division.target}",
            f"if nothing does that any more: writebehind repartition --online {division.target}",
        )
    if before != known:
        return warning("partitions", f"{before} have become {known}", f"set WRITEBEHIND_PARTITIONS={known}")
    return ok("partitions", f"{known}, as recorded")


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"
