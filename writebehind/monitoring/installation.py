"""Figures of the installation as they stand in Redis and MongoDB: each host that is asked tells the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from prometheus_client.core import Metric

from writebehind.errors import MistypedKeyError, MongoUnavailableError, RedisUnavailableError
from writebehind.flushing.dead_letter import Reason
from writebehind.flushing.deletion_audit import AUDIT
from writebehind.last_known import AtStake
from writebehind.monitoring import families
from writebehind.monitoring.counted import as_metric
from writebehind.pipeline import Pipeline
from writebehind.reconcile.reconciler import RECONCILE
from writebehind.redis.shared.load_sample import LoadSample
from writebehind.redis.shared.metrics import SWEEP
from writebehind.redis.shared.totals import Totals
from writebehind.settings.names import told_apart
from writebehind.tallies.families import OTHER, Family
from writebehind.warming.hot_keys import DECAY, HotKey
from writebehind.warming.warmer import WARM

Facts = Mapping[str, Mapping[str, str]]
#: How long the page waits for figures of MongoDB, seconds: who watches an outage wants it at once.
MONGODB_PATIENCE_S = 0.5
#: The hottest documents whose reads are added up.
MOST_HOT = 100
#: A replica in INFO.
_REPLICA = re.compile(r"slave[0-9]+", re.ASCII)
#: States of the breaker before MongoDB.
_BREAKER_STATES = ("closed", "open", "half-open")
#: Tasks whose last run is recorded; and reasons under which dead letters are counted, `unknown` by `bury`.
_TASKS = (SWEEP, RECONCILE, WARM, DECAY, AUDIT)
_REASONS = (*Reason, "unknown")
_OPERATIONS = ("insert", "query", "update", "delete", "getmore", "command")


def installation(pipeline: Pipeline) -> Iterator[Metric]:
    """Every family that can be had now."""
    yield _by(families.BUILD, {version("writebehind"): 1})
    answers: bool | None = None
    try:
        try:
            totals, facts, status, hot, sample = _look(pipeline)
        except MistypedKeyError:  # by which it is taken out: Redis answers
            totals, facts, status, hot, sample = _look(pipeline)
    except RedisUnavailableError:
        yield from _one(families.REDIS_UP, 0)
    else:
        yield from _one(families.REDIS_UP, 1)
        yield _by(families.REDIS_SERVER_UP, _up(facts, sample))
        yield from _one(families.PARTITIONS_AWAY, sum(map(len, sample.away.values())))
        if not status["breaker_reason"]:  # so the status has asked MongoDB for a sign of life
            answers = status["mongodb_ping_error"] is None
        yield from _backlog(status)
        dead = status["dead_letters_by_collection"]
        letters = _letters(totals)
        found = {*dead, *(collection for collection, _ in letters)}
        apart = told_apart(found, pipeline.tallies.apart)
        yield _by_collection(families.DEAD_LETTERS, {(name,): count for name, count in dead.items()}, apart)
        if not totals.missing:  # sums of fewer partitions would seem to have begun anew
            yield from _ways(totals)
            yield _by_collection(families.NEW_LETTERS, letters, apart)
        if (lost := status["lost_data"]) is not None:
            yield from _one(families.DATA_LOST, sum(one["pending"] + one["dead_letters"] for one in lost))
        yield from _one(families.KEYS_LOST, status["lost_keys"])
        yield from _processes(status)
        yield from _listener(status)
        yield from _drift(status)
        yield from _consistency(status["consistency"] or {"windows": {}, "collections": {}})
        yield from _heat(hot)
        yield from _redis(facts)
        servers = sample.servers or {"": sample}
        yield _by(families.REDIS_MAKES_ROOM, {name: one.makes_room for name, one in servers.items()})
        yield _by(families.REDIS_REFUSES, {name: bool(one.refuses) for name, one in servers.items()})
    yield from _last_known(pipeline.last_known.latest())
    yield from _mongodb(pipeline, answers=answers)


def _look(pipeline: Pipeline) -> tuple[Totals, Facts, Mapping[str, Any], Sequence[HotKey], LoadSample]:
    """The figures that Redis has. Raises `RedisUnavailableError` where it does not answer."""
    totals, facts = pipeline.store.metrics.totals(), pipeline.store.facts()
    status = pipeline.status(partitions=True, totals=totals)
    return totals, facts, status, pipeline.hot_keys.top(MOST_HOT), pipeline.store.load(probes=True)


def _up(facts: Facts, sample: LoadSample) -> dict[str, bool]:
    """Whether each server answers, by its name."""
    return dict.fromkeys(facts, True) | dict.fromkeys(filter(None, sample.away), False)


def _one(family: Family, value: float | None) -> Iterator[Metric]:
    """The figure, where there is one."""
    if value is not None:
        yield as_metric(family, [((), [value])])


def _by(family: Family, values: Mapping[str, float]) -> Metric:
    """The figures, by the value of their label."""
    return as_metric(family, [((label,), [value]) for label, value in values.items()])


def _by_collection(family: Family, values: Mapping[tuple[str, ...], float], apart: Collection[str]) -> Metric:
    """The figures, by the values of their labels, of which the first one is a collection, if it is told apart."""
    sums: dict[tuple[str, ...], float] = {}
    for (collection, *labels), value in values.items():
        key = (collection if collection in apart else OTHER, *labels)
        sums[key] = sums.get(key, 0) + value
    return as_metric(family, [(key, [value]) for key, value in sums.items()])


def _backlog(status: Mapping[str, Any]) -> Iterator[Metric]:
    of = status["by_partition"]
    yield from _one(families.PENDING, status["pending"])
    yield from _one(families.OLDEST, status["oldest_pending_seconds"])
    yield from _one(families.PENDING_BYTES, status["pending_bytes"])
    yield from _one(families.OVERDUE, status["overdue_seconds"])
    yield from _one(families.UNTIL_SAFE, status["seconds_until_safe"])
    yield from _one(families.UNTIL_DRAINED, status["seconds_until_drained"])
    yield from _one(families.UNTIL_CAP, status["seconds_until_cap"])
    if status["paused"] is not None:
        is_of_all = [one["collection"] is None for one in status["paused"]]
        yield _by(families.PAUSED, {"all": any(is_of_all), "some": not all(is_of_all)})
    yield _by(families.PARTITION_PENDING, {str(one["partition"]): one["pending"] for one in of})
    yield from _one(families.PARTITION_CAP, (status["caps"] or {}).get("max_pending_per_partition"))
    if "mongodb_refuses" not in status["unknown"]:
        yield from _one(families.MONGODB_REFUSES, status["mongodb_refuses"] is not None)
    yield from _one(families.DRAIN_RATE, status["flushed_per_second"])
    if status["breaker"] is not None:
        yield _by(families.BREAKER, {one: one == status["breaker"] for one in _BREAKER_STATES})


def _last_known(seen: AtStake | None) -> Iterator[Metric]:
    """The documents that were only in Redis when all of it was last seen; nothing where it was not."""
    if seen is not None:
        yield from _one(families.KNOWN_PENDING, seen.pending)
        yield from _one(families.KNOWN_BYTES, seen.pending_bytes)
        yield from _one(families.KNOWN_DEAD, seen.dead_letters)
        yield from _one(families.KNOWN_AT, seen.at)


def _letters(totals: Totals) -> Mapping[tuple[str, ...], int]:
    """Documents that were buried, by collection and reason."""
    letters: Counter[tuple[str, ...]] = Counter()
    for (collection, reason), count in totals.letters.items():
        letters[collection, reason if reason in _REASONS else OTHER] += count
    return letters


def _ways(totals: Totals) -> Iterator[Metric]:
    for name, family in families.TOTALS.items():
        yield from _one(family, totals.by_name.get(name, 0))
    yield as_metric(families.PERSIST_LAG, [((), [totals.age_s, *totals.ages])])


def _processes(status: Mapping[str, Any]) -> Iterator[Metric]:
    depths = (status["broker"] or {"queues": {}})["queues"]
    yield _by(families.BROKER, {queue: depth for queue, depth in depths.items() if depth is not None})
    if status["workers"] is None:
        return
    if not status["heartbeats_refused"]:
        yield from _one(families.WORKERS, status["workers"])
        yield _by(families.CONSUMERS, {queue: len(workers) for queue, workers in status["consumers"].items()})
    yield from _one(families.BUSY, len(status["busy_workers"]))
    yield from _one(families.SILENT, len(status["silent_workers"]))
    runs = {name: run for name, run in status["periodic"].items() if name in _TASKS}
    yield _by(families.TASK_AGE, {name: run["seconds_ago"] for name, run in runs.items()})
    yield _by(families.TASK_TIME, {name: run["seconds"] for name, run in runs.items()})
    yield _by(families.TASK_FAILED, {name: run["error"] is not None for name, run in runs.items()})


def _listener(status: Mapping[str, Any]) -> Iterator[Metric]:
    listener = status["listener"]
    if listener is None:
        return
    yield from _one(families.LISTENER_LAG, listener["lag_s"])
    yield from _one(families.LISTENER_HEARD, listener["heard_seconds_ago"])
    yield from _one(families.LISTENER_ALIVE, listener["alive_seconds_ago"])
    yield from _one(families.LISTENER_FAILED, listener["error"] is not None)
    outcomes = ("ours", "invalidated", "conflicts", "overtaken", "skipped")
    yield from _one(families.LISTENER_EVENTS, listener["events"])
    yield _by(families.LISTENER_OUTCOMES, {one: listener[one] for one in outcomes})
    yield from _one(families.LISTENER_LOST, listener["reopened"])


def _drift(status: Mapping[str, Any]) -> Iterator[Metric]:
    consistency = status["consistency"]
    if consistency is None:
        return
    yield from _one(families.RECONCILED, consistency["checked"])
    yield from _one(families.EQUAL, consistency["ratio"])


def _consistency(found: Mapping[str, Any]) -> Iterator[Metric]:
    """Consistency by window in seconds: of all collections, and of each; and how old all of it is."""
    yield from _one(families.OBSERVED, found.get("observed_seconds_ago"))
    for fact, (total, by) in families.CONSISTENCY.items():
        some = {window: figures[fact] for window, figures in found["windows"].items()}
        yield _by(total, {window: value for window, value in some.items() if value is not None})
        yield as_metric(
            by,
            [
                ((collection, window), [figures[fact]])
                for collection, windows in found["collections"].items()
                for window, figures in windows.items()
                if figures[fact] is not None
            ],
        )


def _heat(hottest: Sequence[HotKey]) -> Iterator[Metric]:
    """Reads of the hottest documents: divided by all reads, the share of hot keys."""
    some = (1, 10, MOST_HOT)
    yield _by(families.HOT_READS, {str(keys): sum(one.rate for one in hottest[:keys]) for keys in some})


def _redis(facts_of: Mapping[str, Mapping[str, str]]) -> Iterator[Metric]:
    """The figures of each server, by its name, which is empty where there is one."""
    found: dict[Family, dict[str, float]] = {}
    for server, facts in facts_of.items():
        for family, value in _of_server(facts):
            found.setdefault(family, {})[server] = value
    for family, values in found.items():
        yield _by(family, values)


def _of_server(facts: Mapping[str, str]) -> Iterator[tuple[Family, float]]:
    for fact, family in families.REDIS.items():
        with suppress(KeyError, ValueError):
            yield family, float(facts[fact])
    with suppress(KeyError):
        yield families.REDIS_FILE_FAILED, facts["aof_last_write_status"] != "ok"
    replicas = [_parts(value) for name, value in facts.items() if _REPLICA.fullmatch(name)]
    if replicas:
        with suppress(KeyError, ValueError):
            behind = int(facts["master_repl_offset"]) - min(int(one["offset"]) for one in replicas)
            yield families.REDIS_LAG_BYTES, behind
            yield families.REDIS_LAG, max(float(one["lag"]) for one in replicas)


def _parts(text: str) -> dict[str, str]:
    """Parts of a replica in INFO: `ip=127.0.0.1,port=6380,state=online,offset=14,lag=0`."""
    return dict(part.partition("=")[::2] for part in text.split(","))


def _mongodb(pipeline: Pipeline, *, answers: bool | None) -> Iterator[Metric]:
    """Figures of MongoDB, which is not waited for again where it just gave no sign of life.

    Args:
        pipeline: which asks it.
        answers: whether it has just given one; `None` where it was not asked.
    """
    found: Mapping[str, Any] | None = None
    if answers is not False:
        with suppress(MongoUnavailableError):
            found = pipeline.sink.server_status(timeout_s=MONGODB_PATIENCE_S)
    yield from _one(families.MONGODB_UP, bool(answers) or found is not None)
    if found is None:
        return
    operations = _section(found, "opcounters")
    yield _by(
        families.MONGODB_OPERATIONS,
        {name: number for name in _OPERATIONS if (number := _number(operations.get(name))) is not None},
    )
    connections, network = _section(found, "connections"), _section(found, "network")
    yield from _one(families.MONGODB_CONNECTIONS, _number(connections.get("current")))
    yield from _one(families.MONGODB_AVAILABLE, _number(connections.get("available")))
    queue = _section(_section(found, "globalLock"), "currentQueue")
    yield from _one(families.MONGODB_QUEUED, _number(queue.get("total")))
    yield from _one(families.MONGODB_RECEIVED, _number(network.get("bytesIn")))
    yield from _one(families.MONGODB_SENT, _number(network.get("bytesOut")))
    lag = pipeline.sink.replication_lag_s(timeout_s=MONGODB_PATIENCE_S) if "repl" in found else None
    yield from _one(families.MONGODB_LAG, lag)
    yield from _one(families.MONGODB_UPTIME, _number(found.get("uptime")))


def _section(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The numbers and sections of a section of `serverStatus`, of which servers leave out different ones."""
    section = found.get(name)
    if not isinstance(section, Mapping):
        return {}
    return {
        key: value for key, value in section.items() if isinstance(value, Mapping) or _number(value) is not None
    }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
