"""Figures of the installation as they stand in Redis and MongoDB: each host that is asked tells the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.pipeline import Pipeline
from writebehind.redis.shared.totals import AGE_BOUNDS, Totals

#: How long the page waits for MongoDB, seconds: Prometheus waits 10 s for all of it.
MONGODB_PATIENCE_S = 2.0
#: A replica in INFO.
_REPLICA = re.compile(r"slave[0-9]+", re.ASCII)
#: States of the breaker before MongoDB.
_BREAKER_STATES = ("closed", "open", "half-open")
#: Totals in Redis: name, help. `acknowledged` + `replayed` + `marked` + `adopted` is at any moment `persisted` +
#: `deleted` + `coalesced` + `buried` + `let_go` + what is pending.
_TOTALS: Mapping[str, tuple[str, str]] = {
    "acknowledged": ("writebehind_acknowledged_writes", "Writes that Redis has taken."),
    "persisted": ("writebehind_persisted_writes", "Writes that MongoDB has, as the latest of their documents."),
    "deleted": ("writebehind_deleted_documents", "Deletions that MongoDB has."),
    "coalesced": (
        "writebehind_coalesced_writes",
        "Writes that a later one has replaced in time.",
    ),
    "overtaken": ("writebehind_overtaken_writes", "Writes that MongoDB got while a later one waited."),
    "superseded": ("writebehind_superseded_writes", "Writes that MongoDB had something newer of."),
    "buried": ("writebehind_buried_writes", "Writes that became dead letters."),
    "replayed": ("writebehind_replayed_letters", "Dead letters that are to be tried again."),
    "discarded": ("writebehind_discarded_letters", "Dead letters that were given up."),
    "marked": ("writebehind_marked_writes", "Documents that reconciling has made pending."),
    "adopted": ("writebehind_adopted_writes", "Documents that came home from another partition."),
    "let_go": ("writebehind_let_go_writes", "Documents that went home to another partition."),
    "operations": ("writebehind_operations", "Write operations sent to MongoDB, repeated ones too."),
    "batches": ("writebehind_batches", "Bulk writes to MongoDB."),
    "hooks_failed": ("writebehind_failed_hooks", "Calls of after_persist that raised something."),
    "conflicts": ("writebehind_conflicts", "Changes by others to documents that were pending."),
    "warmed": ("writebehind_warmed_documents", "Documents that warming has brought to Redis."),
    "warmed_read": ("writebehind_warmed_reads", "Reads of documents that warming has brought to Redis."),
}
#: Facts of Redis's INFO: name in INFO, our name, help, whether it only grows.
_REDIS: tuple[tuple[str, str, str, bool], ...] = (
    ("used_memory", "writebehind_redis_memory_used_bytes", "Memory that Redis uses.", False),
    ("maxmemory", "writebehind_redis_memory_max_bytes", "Memory that Redis may use; 0 for no limit.", False),
    ("mem_fragmentation_ratio", "writebehind_redis_memory_fragmentation_ratio", "Resident by used memory.", False),
    ("evicted_keys", "writebehind_redis_evicted_keys", "Keys that Redis has evicted.", True),
    ("expired_keys", "writebehind_redis_expired_keys", "Keys whose TTL was over.", True),
    ("total_commands_processed", "writebehind_redis_commands", "Commands that Redis has carried out.", True),
    ("total_net_input_bytes", "writebehind_redis_received_bytes", "Bytes that Redis has received.", True),
    ("total_net_output_bytes", "writebehind_redis_sent_bytes", "Bytes that Redis has sent.", True),
    ("connected_clients", "writebehind_redis_connections", "Connections to Redis.", False),
    ("connected_slaves", "writebehind_redis_replicas", "Replicas that are connected.", False),
    ("uptime_in_seconds", "writebehind_redis_uptime_seconds", "Time since Redis was started.", False),
)
_OPERATIONS = ("insert", "query", "update", "delete", "getmore", "command")


def installation(pipeline: Pipeline) -> Iterator[Metric]:
    """Every family that can be had now."""
    yield InfoMetricFamily("writebehind_build", "The release.", {"version": version("writebehind")})
    try:
        status = pipeline.status(partitions=True)
        facts, totals = pipeline.store.facts(), pipeline.store.metrics.totals()
    except RedisUnavailableError:
        yield from _gauge("writebehind_redis_up", "Whether Redis answers.", 0)
    else:
        yield from _gauge("writebehind_redis_up", "Whether Redis answers.", 1)
        yield from _backlog(status)
        yield from _ways(totals)
        yield from _processes(status)
        yield from _listener(status)
        yield from _drift(status)
        yield from _consistency(status["consistency"])
        yield from _redis(facts)
    yield from _mongodb(pipeline)


def _gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(name, text, value)


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=(label,))
    for one, value in values.items():
        metric.add_metric((one,), value)
    return metric


def _backlog(status: Mapping[str, Any]) -> Iterator[Metric]:
    of = status["by_partition"]
    yield from _gauge("writebehind_pending_documents", "Documents that wait for MongoDB.", status["pending"])
    yield from _gauge(
        "writebehind_oldest_pending_age_seconds",
        "Time that the oldest pending document has waited.",
        status["oldest_pending_seconds"],
    )
    yield from _gauge("writebehind_pending_bytes", "Bytes of their entries, about.", status["pending_bytes"])
    yield from _gauge(
        "writebehind_seconds_until_safe",
        "Time until MongoDB has all that is acknowledged by now, at the present rates.",
        status["seconds_until_safe"],
    )
    yield from _gauge(
        "writebehind_seconds_until_cap",
        "Time until writes are refused, at the present rates.",
        status["seconds_until_cap"],
    )
    yield _by(
        "writebehind_partition_pending_documents",
        "Documents of a partition that wait for MongoDB.",
        "partition",
        {str(one["partition"]): one["pending"] for one in of},
    )
    yield _by(
        "writebehind_dead_letters",
        "Documents that MongoDB has refused, and nobody has seen to.",
        "collection",
        status["dead_letters_by_collection"],
    )
    yield from _gauge(
        "writebehind_drain_rate",
        "Documents persisted per second, over the last minute.",
        status["flushed_per_second"],
    )
    yield _by(
        "writebehind_breaker_state",
        "1 for the state that the breaker before MongoDB is in.",
        "state",
        {one: float(one == status["breaker"]) for one in _BREAKER_STATES},
    )


def _ways(totals: Totals) -> Iterator[Metric]:
    for name, (metric, text) in _TOTALS.items():
        yield CounterMetricFamily(metric, text, totals.by_name.get(name, 0))
    lag = HistogramMetricFamily(
        "writebehind_persist_lag_seconds",
        "Time from a write's acknowledgement until MongoDB has it.",
    )
    bounds = [*map(floatToGoString, AGE_BOUNDS), "+Inf"]
    lag.add_metric((), list(zip(bounds, accumulate(totals.ages), strict=True)), totals.age_s)
    yield lag


def _processes(status: Mapping[str, Any]) -> Iterator[Metric]:
    yield from _gauge("writebehind_workers", "Workers that are at work.", status["workers"])
    yield _by(
        "writebehind_queue_consumers",
        "Workers that consume a queue.",
        "queue",
        {queue: len(workers) for queue, workers in status["consumers"].items()},
    )
    depths = status["broker"]["queues"]
    yield _by(
        "writebehind_broker_queue_messages",
        "Messages that wait in a queue of the broker.",
        "queue",
        {queue: depth for queue, depth in depths.items() if depth is not None},
    )
    runs = status["periodic"]
    yield _by(
        "writebehind_task_last_run_age_seconds",
        "Time since a periodic task last ran.",
        "task",
        {name: run["seconds_ago"] for name, run in runs.items()},
    )
    yield _by(
        "writebehind_task_last_run_duration_seconds",
        "Time that a periodic task's last run took.",
        "task",
        {name: run["seconds"] for name, run in runs.items()},
    )
    yield _by(
        "writebehind_task_last_run_failed",
        "1 where a periodic task's last run failed.",
        "task",
        {name: float(run["error"] is not None) for name, run in runs.items()},
    )


def _listener(status: Mapping[str, Any]) -> Iterator[Metric]:
    listener = status["listener"]
    if listener is None:
        return
    yield from _gauge(
        "writebehind_listener_lag_seconds", "Age of the last event when it was applied.", listener["lag_s"]
    )
    yield from _gauge(
        "writebehind_listener_heard_age_seconds",
        "Time since MongoDB last answered the listener.",
        listener["heard_seconds_ago"],
    )
    yield from _gauge(
        "writebehind_listener_failed", "1 where something is wrong with it.", float(listener["error"] is not None)
    )
    events = CounterMetricFamily(
        "writebehind_listener_events", "Events of the change stream, by what became of them.", labels=("outcome",)
    )
    for name in ("events", "ours", "invalidated", "conflicts", "overtaken", "skipped"):
        events.add_metric(("all" if name == "events" else name,), listener[name])
    yield events
    yield CounterMetricFamily(
        "writebehind_listener_lost_histories",
        "Times that MongoDB had lost the history.",
        listener["reopened"],
    )


def _drift(status: Mapping[str, Any]) -> Iterator[Metric]:
    consistency = status["consistency"]
    yield from _gauge(
        "writebehind_reconciled_entries",
        "Cached documents compared with MongoDB in the last pass and the one under way.",
        consistency["checked"],
    )
    yield from _gauge(
        "writebehind_reconciled_equal_ratio", "Part of them that was equal to MongoDB.", consistency["ratio"]
    )


#: Figures of consistency: name in the status, our name, help.
_CONSISTENCY = (
    ("ratio", "ratio", "Part of the looks in the last hour at which readers saw what is right within a window."),
    ("ratio_from", "ratio_low", "Lower end of the 95 % interval of that."),
    ("looks", "looks", "Looks in the last hour."),
    (
        "wrong",
        "wrong_looks",
        "Looks of these at which something was wrong for longer than a window.",
    ),
)


def _consistency(found: Mapping[str, Any]) -> Iterator[Metric]:
    """Consistency by window in seconds: of all collections, and of each."""
    for fact, name, text in _CONSISTENCY:
        total = GaugeMetricFamily(f"writebehind_consistency_{name}", text, labels=("window",))
        by = GaugeMetricFamily(
            f"writebehind_collection_consistency_{name}", f"{text} By collection.", labels=("collection", "window")
        )
        for window, figures in found["windows"].items():
            if figures[fact] is not None:
                total.add_metric((window,), figures[fact])
        for collection, windows in found["collections"].items():
            for window, figures in windows.items():
                if figures[fact] is not None:
                    by.add_metric((collection, window), figures[fact])
        yield from (total, by)


def _redis(facts: Mapping[str, str]) -> Iterator[Metric]:
    for fact, name, text, grows in _REDIS:
        with suppress(KeyError, ValueError):
            yield (CounterMetricFamily if grows else GaugeMetricFamily)(name, text, float(facts[fact]))
    replicas = [_parts(value) for name, value in facts.items() if _REPLICA.fullmatch(name)]
    if replicas:
        with suppress(KeyError, ValueError):
            behind = int(facts["master_repl_offset"]) - min(int(one["offset"]) for one in replicas)
            yield from _gauge("writebehind_redis_replication_lag_bytes", "Bytes that one replica lacks.", behind)
            lag = max(float(one["lag"]) for one in replicas)
            yield from _gauge(
                "writebehind_redis_replication_lag_seconds", "Time since the last replica was heard of.", lag
            )


def _parts(text: str) -> dict[str, str]:
    """Parts of a replica in INFO: `ip=127.0.0.1,port=6380,state=online,offset=14,lag=0`."""
    return dict(part.partition("=")[::2] for part in text.split(","))


def _mongodb(pipeline: Pipeline) -> Iterator[Metric]:
    try:
        found = pipeline.sink.server_status(timeout_s=MONGODB_PATIENCE_S)
    except MongoUnavailableError:
        yield from _gauge("writebehind_mongodb_up", "Whether MongoDB answers.", 0)
        return
    yield from _gauge("writebehind_mongodb_up", "Whether MongoDB answers.", 1)
    operations = CounterMetricFamily(
        "writebehind_mongodb_operations",
        "Operations that MongoDB has carried out, for anybody.",
        labels=("operation",),
    )
    for name, value in _section(found, "opcounters").items():
        if name in _OPERATIONS:
            operations.add_metric((name,), value)
    yield operations
    connections = _section(found, "connections")
    yield from _gauge("writebehind_mongodb_connections", "Connections to MongoDB.", connections.get("current"))
    yield from _gauge(
        "writebehind_mongodb_connections_available",
        "Connections that it could take more.",
        connections.get("available"),
    )
    queue = _section(_section(found, "globalLock"), "currentQueue")
    yield from _gauge("writebehind_mongodb_queued_operations", "Operations that wait in it.", queue.get("total"))
    network = _section(found, "network")
    for fact, name, text in (
        ("bytesIn", "writebehind_mongodb_received_bytes", "Bytes that MongoDB has received."),
        ("bytesOut", "writebehind_mongodb_sent_bytes", "Bytes that MongoDB has sent."),
    ):
        if fact in network:
            yield CounterMetricFamily(name, text, network[fact])
    yield from _gauge(
        "writebehind_mongodb_uptime_seconds", "Time since MongoDB was started.", _number(found.get("uptime"))
    )


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
