"""Redis's replicas, and who chooses among them: what a failover keeps of what was acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from redis.exceptions import ResponseError

from writebehind.documents.durability import Durability
from writebehind.errors import RedisUnavailableError
from writebehind.operations.doctor.clocks import behind_s
from writebehind.operations.doctor.findings import Finding, failure, ok, warning
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.redis.confirmation import replicas_needed
from writebehind.redis.info import parse_info
from writebehind.redis.terms import CLOCKS_DIFFER_S
from writebehind.redis.topology.peers import Peers, Place, peers_of, replicas_of
from writebehind.redis.wire import time_ms

#: From which time until a failover begins an operator should know that writes are refused for it, ms.
LONG_MS = 10_000
#: Time until a primary counts as gone, where nothing says otherwise, ms.
DOWN_AFTER_MS = 5_000
#: Time until all have seen that no replica keeps up, s: replicas and primaries tell once a second.
SEEN_S = 2
#: Sentinels of which one may be away.
FEWEST_SENTINELS = 3

_FENCE = "redis failover"
_MIN_REPLICAS, _MAX_LAG, _STALE = "min-replicas-to-write", "min-replicas-max-lag", "replica-serve-stale-data"
_ON_ALL = "on each server, and the same in its configuration file: `writebehind doctor --config` prints it"


@dataclass(frozen=True, slots=True)
class Group:
    """A server that takes writes, and its replicas.

    Attributes:
        name: of the server, '' where there is only one.
        facts: what it says of itself.
        config: settings of it; `None` for one that it does not tell.
        replicas: where they are.
    """

    name: str
    facts: Mapping[str, str]
    config: Mapping[str, str | None]
    replicas: Sequence[Place]

    @property
    def is_clustered(self) -> bool:
        """Whether it is a node of a Redis Cluster, which stops by itself when it is cut off."""
        return self.facts.get("cluster_enabled") == "1"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Everything about failovers, where there is anything to fail over to."""
    of_all = peers_of(pipeline.settings.redis_url)
    watched_of = {name: peers.sentinels() for name, peers in of_all.items()}
    for watched in watched_of.values():
        yield from sentinels(watched)
    for group in groups(pipeline):
        name = group.name if group.name in of_all else ""
        peers, watched = of_all[name], watched_of[name]
        if group.replicas or watched or group.config[_MIN_REPLICAS] not in {None, "", "0"}:
            yield from fence(group, needed(group, pipeline.settings.confirm_replicas), down_after_ms(watched))
        if watched:
            yield from by_hand(group, needed(group, pipeline.settings.confirm_replicas))
        for place in group.replicas:
            yield replica(peers, place, clock_ms=partial(_clock_ms, pipeline, group.name))


def groups(pipeline: Pipeline) -> Iterator[Group]:
    """Each server that answers, with its replicas."""
    names = (_MIN_REPLICAS, _MAX_LAG, _STALE, "cluster-node-timeout", "appendfsync", "maxmemory-policy")
    configs = {name: pipeline.store.configured(name) for name in names}
    for server, facts in pipeline.store.facts().items():
        config = {name: of_server.get(server) for name, of_server in configs.items()}
        yield Group(server, facts, config, [*replicas_of(facts)])


def needed(group: Group, fixed: int) -> int:
    """The number of replicas that a server should have to take a write."""
    return replicas_needed(Durability.REPLICATED, len(group.replicas), fixed)


def down_after_ms(watched: Mapping[str, Mapping[str, str] | RedisUnavailableError]) -> int | None:
    """The time after which Sentinels take a server for gone, ms; `None` where none says so."""
    said = [one.get("down-after-milliseconds", "") for one in watched.values() if isinstance(one, Mapping)]
    return min((int(one) for one in said if one.isdecimal()), default=None)


def fence(group: Group, replicas: int, down_ms: int | None) -> Iterator[Finding]:
    """Stops to take writes when it is cut off from its replicas, before one of them takes its place."""
    server = f"{group.name}: " if group.name else ""
    least = group.config[_MIN_REPLICAS]
    if least is None:
        yield ok(_FENCE, f"{server}unknown, as CONFIG GET is refused")
        return
    judged = (_spare(group, replicas), _limit(group, replicas, down_ms), _reads_old(group))
    if wrong := [replace(one, found=f"{server}{one.found}") for one in judged if one]:
        yield from wrong
    else:
        yield ok(_FENCE, f"{server}takes no writes without {counted(int(least), 'replica')}")


def _limit(group: Group, replicas: int, down_ms: int | None) -> Finding | None:
    """A fault of the number of replicas without which it takes no writes, or of the lag from which they count."""
    least, lag = group.config[_MIN_REPLICAS], group.config[_MAX_LAG]
    lag_to_set = lag_s(until_failover_ms(group, down_ms))
    if least in {"", "0"}:
        return warning(
            _FENCE,
            f"{_MIN_REPLICAS} is 0: a primary that is cut off goes on to acknowledge writes, which are lost "
            "when a replica takes its place",
            f"CONFIG SET {_MIN_REPLICAS} {replicas} {_MAX_LAG} {lag_to_set} {_ON_ALL}",
        )
    if int(least or 0) > len(group.replicas):
        return failure(
            _FENCE,
            f"takes no writes, as {_MIN_REPLICAS} is {least}: "
            f"{counted(len(group.replicas), 'replica is', 'replicas are')} connected",
            f"see that they run and reach it; or CONFIG SET {_MIN_REPLICAS} {len(group.replicas)} {_ON_ALL}",
        )
    if down_ms is not None and lag and int(lag) > _longest_lag_s(down_ms):
        return warning(
            _FENCE,
            f"{_MAX_LAG} is {lag} s, and Sentinels take a primary for gone after {down_ms} ms: one that is "
            "cut off may be used beside another one, its writes are lost, and its reads are old",
            f"CONFIG SET {_MAX_LAG} {lag_to_set} {_ON_ALL}",
        )
    return None


def _spare(group: Group, replicas: int) -> Finding | None:
    """Too few replicas for a failover: one of them becomes the primary, and has the others only."""
    is_set = group.config[_MIN_REPLICAS] not in {"", "0"}
    least = int(group.config[_MIN_REPLICAS] or 0) if is_set else replicas
    if least != len(group.replicas):
        return None
    fence = f"{_MIN_REPLICAS} {least}" if is_set else f"{_MIN_REPLICAS} 0; with {least}"
    return warning(
        _FENCE,
        f"{counted(least, 'replica')}, and {fence}: no writes after a failover until the former primary, or "
        "another replica, is there",
        f"have {counted(least + 1, 'replica')}",
    )


def _reads_old(group: Group) -> Finding | None:
    """Whether one that has become a replica is read from before it has what the new primary has."""
    if group.config[_STALE] != "yes" or group.is_clustered:
        return None
    return warning(
        _FENCE,
        f"{_STALE} is yes: a primary that has become a replica serves reads of what it had before, as long as it "
        "has not come as far as the new one",
        f"CONFIG SET {_STALE} no {_ON_ALL}",
    )


def by_hand(group: Group, confirming: int) -> Iterator[Finding]:
    """Keeps what is `replicated` in a failover that somebody asks Sentinels for, whoever asks in whichever way."""
    count = len(group.replicas)
    if count > 1:
        server = f"{group.name}: " if group.name else ""
        found = f"{server}replicated waits for {confirming} of {counted(count, 'replica')}"
        if confirming >= count:
            yield ok("redis failover by hand", f"{found}: nothing of it is lost, however it is asked for")
        else:
            care = "SENTINEL FAILOVER <name> COORDINATED keeps all of it"
            yield ok("redis failover by hand", f"{found}: {care}; without that word confirm_replicas={count} does")


def until_failover_ms(group: Group, down_ms: int | None) -> int | None:
    """The time until something takes the place of a primary that is gone, ms; `None` where nothing says so."""
    timeout = group.config["cluster-node-timeout"] or ""
    return int(timeout) if group.is_clustered and timeout.isdecimal() else down_ms


def lag_s(down_ms: int | None) -> int:
    """The lag from which a replica should count as away, s: below the time until a failover."""
    return _longest_lag_s(DOWN_AFTER_MS if down_ms is None else min(down_ms, LONG_MS))


def _longest_lag_s(down_ms: int) -> int:
    return max(1, down_ms // 1000 - SEEN_S)


def replica(peers: Peers, place: Place, *, clock_ms: Callable[[], int | None]) -> Finding:
    """Follows, keeps what it has, and takes no writes before it is the primary."""
    check, name = "redis replica", f"{place[0]}:{place[1]}"
    before = clock_ms()
    try:
        info, clock = peers.ask(place, [("INFO",), ("TIME",)])
    except RedisUnavailableError as error:
        return warning(
            check, f"{error}, as seen from here", "see that it can be reached at the address that it announces"
        )
    if isinstance(info, ResponseError):
        return warning(check, f"{name} refuses INFO", "ACL SETUSER <its user> +info there too")
    facts = parse_info(info)
    if facts.get("aof_enabled") != "1":
        return warning(
            check,
            f"{name} has no append-only file: durability fsynced waits for it in vain, and after a failover to "
            "it a crash loses what MongoDB does not have yet",
            "CONFIG SET appendonly yes there; and the same in its configuration file",
        )
    after, is_known = clock_ms(), isinstance(clock, list)
    behind = behind_s(time_ms(clock), before, after) if is_known and before and after else 0.0
    return _following(name, facts, behind)


def _clock_ms(pipeline: Pipeline, server: str) -> int | None:
    """The time by a server's clock, ms; `None` where it does not answer any more."""
    return pipeline.store.clocks_ms().get(server)


def _following(name: str, facts: Mapping[str, str], behind: float) -> Finding:
    check = "redis replica"
    if facts.get("master_link_status") == "down":
        return warning(check, f"{name} does not reach its primary", "see its log")
    if facts.get("slave_read_only") == "0":
        return warning(
            check, f"{name} takes what is written to it, and loses it", "CONFIG SET replica-read-only yes there"
        )
    if abs(behind) > CLOCKS_DIFFER_S:
        return warning(
            check,
            f"the clock of {name} is {abs(behind):.1f} s {'behind' if behind > 0 else 'ahead of'} its primary's: "
            "after a failover writes may lose against older ones",
            "synchronise both, as with chrony",
        )
    return ok(check, f"{name} follows, and writes an append-only file")


def sentinels(watched: Mapping[str, Mapping[str, str] | RedisUnavailableError]) -> Iterator[Finding]:
    """Enough of them, and agreed on when a primary is gone."""
    if not watched:
        return
    check = "redis sentinels"
    known = {name: one for name, one in watched.items() if isinstance(one, Mapping)}
    for name, error in watched.items():
        if isinstance(error, RedisUnavailableError):
            advice = "start it, or take it out of REDIS_URL"
            yield warning(check, f"{name} does not say who is the primary: {error}", advice)
    if not known:
        return
    one = max(known.values(), key=_count)
    count, quorum, down_ms = _count(one), int(one.get("quorum", "0")), down_after_ms(known) or 0
    if quorum > count:
        advice = f"SENTINEL SET <name> quorum {majority(count)} on each of them"
        yield failure(check, f"{quorum} must agree, and there are {count}: no failover takes place", advice)
    elif count < FEWEST_SENTINELS:
        found = f"{counted(count, 'Sentinel')}, of which a majority must answer: none may be away"
        yield warning(check, found, f"have {FEWEST_SENTINELS}, on machines of their own")
    elif down_ms > LONG_MS:
        found = f"they take a primary for gone after {down_ms / 1000:g} s: until then writes are refused"
        advice = f"SENTINEL SET <name> down-after-milliseconds {DOWN_AFTER_MS} on each of them"
        yield warning(check, found, advice)
    elif len(known) == len(watched):
        yield ok(check, f"{count}, of which {quorum} must agree that a primary is gone for {down_ms / 1000:g} s")


def majority(count: int) -> int:
    """The least number that is more than half."""
    return count // 2 + 1


def _count(master: Mapping[str, str]) -> int:
    """The number of Sentinels, as one of them knows it."""
    return int(master.get("num-other-sentinels", "0")) + 1


def configuration(pipeline: Pipeline) -> Iterator[str]:
    """Lines of the configuration files that keep what is promised, for the servers as they are now."""
    of_all = peers_of(pipeline.settings.redis_url)
    watched_of = {name: peers.sentinels() for name, peers in of_all.items()}
    for group in groups(pipeline):
        watched = watched_of.get(group.name, watched_of.get("", {}))
        down_ms = down_after_ms(watched)
        yield f"# Redis{f' {group.name}' if group.name else ''}, and each of its replicas"
        yield "appendonly yes"
        fsync, policy = group.config["appendfsync"], group.config["maxmemory-policy"] or ""
        yield f"appendfsync {'always' if fsync == 'always' else 'everysec'}"
        yield f"maxmemory-policy {policy if policy.startswith('volatile') else 'noeviction'}"
        yield "replica-read-only yes"
        if not group.replicas and not watched:
            yield "# no replica is connected: nothing outlives the loss of its machine but what MongoDB has"
            continue
        least = needed(group, pipeline.settings.confirm_replicas)
        yield f"# writes are refused while fewer than {counted(least, 'replica')} keep up"
        yield f"{_MIN_REPLICAS} {least}"
        yield f"{_MAX_LAG} {lag_s(until_failover_ms(group, down_ms))}"
        if not group.is_clustered:
            yield f"{_STALE} no"
    for name, watched in watched_of.items():
        known = [one for one in watched.values() if isinstance(one, Mapping)]
        if known:
            one, service = max(known, key=_count), of_all[name].service
            quorum = majority(max(_count(one), FEWEST_SENTINELS))
            yield "# each Sentinel"
            yield f"sentinel monitor {service} {one.get('ip')} {one.get('port')} {quorum}"
            until_ms = min(down_after_ms(watched) or DOWN_AFTER_MS, LONG_MS)
            yield f"sentinel down-after-milliseconds {service} {until_ms}"
