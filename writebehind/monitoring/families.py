"""The families of figures that each host tells alike: names, meanings and labels. Some are there only at times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from writebehind.redis.shared.totals import AGE_BOUNDS
from writebehind.tallies import families as tallied
from writebehind.tallies.families import Family, Kind


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"writebehind_{name}", text, labels, Kind.LIVE)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"writebehind_{name}", text, labels)


BUILD: Final = _gauge("build_info", "1, with the release.", "version")
REDIS_UP: Final = _gauge(
    "redis_up", "Whether Redis, or one of its servers, answers this host: of several hosts the `min`."
)
REDIS_SERVER_UP: Final = _gauge(
    "redis_server_up", "Whether one server of Redis answers this host: of several hosts the `min`.", "server"
)
PARTITIONS_AWAY: Final = _gauge(
    "partitions_away",
    "Partitions whose server does not answer while others do: sums are without them, and totals are not shown.",
)
MONGODB_REFUSES: Final = _gauge(
    "mongodb_refuses", "Whether MongoDB answers and takes nothing of what is overdue, as with a full disk: 1 or 0."
)
MONGODB_UP: Final = _gauge("mongodb_up", "Whether MongoDB answers this host: of several hosts the `min`.")

PENDING: Final = _gauge("pending_documents", "Documents that wait for MongoDB.")
OLDEST: Final = _gauge("oldest_pending_age_seconds", "Time that the oldest pending document has waited.")
PENDING_BYTES: Final = _gauge("pending_bytes", "Bytes of their entries, about.")
OVERDUE: Final = _gauge(
    "overdue_seconds",
    "Time for which the pending document has been due that is most overdue; those of a collection that is paused "
    "by itself are not.",
)
UNTIL_SAFE: Final = _gauge(
    "seconds_until_safe",
    "Time until MongoDB has all that is acknowledged by now; missing where nothing of what is overdue is "
    "persisted, or dead letters stand, which waiting alone does not bring there.",
)
UNTIL_DRAINED: Final = _gauge(
    "seconds_until_drained",
    "Time until MongoDB has all that is pending by now; missing where nothing of what is overdue is persisted.",
)
UNTIL_CAP: Final = _gauge(
    "seconds_until_cap", "Time until writes are refused, at the present rates; missing where nothing grows."
)
PAUSED: Final = _gauge(
    "flushing_paused", "1 while an operator has paused flushing of all collections, or of some; else 0.", "scope"
)
PARTITION_PENDING: Final = _gauge(
    "partition_pending_documents", "Documents of a partition that wait for MongoDB.", "partition"
)
PARTITION_CAP: Final = _gauge(
    "partition_pending_cap_documents", "Pending documents of a partition from which new ones are refused."
)
DEAD_LETTERS: Final = _gauge(
    "dead_letters",
    "Documents that MongoDB has refused, and that were not replayed or discarded since.",
    "collection",
)
KNOWN_PENDING: Final = _gauge(
    "last_known_pending_documents",
    "Documents that waited for MongoDB when this host last saw all of Redis: it stays while Redis is away.",
)
KNOWN_BYTES: Final = _gauge("last_known_pending_bytes", "Bytes of their entries then, about.")
KNOWN_DEAD: Final = _gauge("last_known_dead_letters", "Documents that MongoDB had refused then.")
KNOWN_AT: Final = _gauge(
    "last_known_timestamp_seconds", "That time by the clock of the host, seconds since the epoch."
)
DATA_LOST: Final = _gauge(
    "data_lost_documents",
    "Documents that were only in data that Redis has lost, until an operator has seen it: of hosts the `max`.",
)
KEYS_LOST: Final = _gauge(
    "api_keys_lost", "1 where Redis has lost all API keys, so that nobody is let in: of processes the `max`."
)
DRAIN_RATE: Final = _gauge("drained_documents_per_second", "Documents persisted per second, over the last 10 s.")
BREAKER: Final = _gauge("breaker_state", "1 for the state that the breaker before MongoDB is in.", "state")

#: Totals in Redis, by their names there. `acknowledged` + `replayed` + `marked` + `adopted` is at any moment
#: `persisted` + `deleted` + `coalesced` + `buried` + `let_go` + what is pending.
TOTALS: Final[Mapping[str, Family]] = {
    "acknowledged": _counter(
        "acknowledged_writes", "Writes that Redis has taken, of the API, the library and all others who write."
    ),
    "persisted": _counter("persisted_writes", "Writes that MongoDB has, as the latest of their documents."),
    "deleted": _counter("deleted_documents", "Deletions that MongoDB has."),
    "coalesced": _counter("coalesced_writes", "Writes that a later one has replaced in time."),
    "overtaken": _counter("overtaken_writes", "Writes that MongoDB got while a later one waited."),
    "superseded": _counter("superseded_writes", "Writes that MongoDB had something newer of."),
    "buried": _counter("buried_writes", "Writes that became dead letters."),
    "replayed": _counter("replayed_letters", "Dead letters that are to be tried again."),
    "discarded": _counter("discarded_letters", "Dead letters that were given up."),
    "marked": _counter("marked_writes", "Documents that reconciling has made pending."),
    "adopted": _counter("adopted_writes", "Documents that came home from another partition."),
    "evicted_receipts": _counter(
        "evicted_receipts", "Receipts of writes with idempotency keys that were forgotten before their time."
    ),
    "let_go": _counter("let_go_writes", "Documents that went home to another partition."),
    "operations": _counter("operations", "Write operations sent to MongoDB, repeated ones too."),
    "batches": _counter(
        "batches", "Batches that were brought to MongoDB, with a bulk write for each collection in them."
    ),
    "hooks_failed": _counter("failed_hooks", "Calls of after_persist that raised something."),
    "conflicts": _counter("conflicts", "Changes by others to documents that were pending."),
    "warmed": _counter("warmed_documents", "Documents that warming has brought to Redis."),
    "warmed_read": _counter("warmed_reads", "Reads of documents that warming has brought to Redis."),
}
NEW_LETTERS: Final = _counter(
    "new_dead_letters", "Writes that became dead letters, by the reason.", "collection", "reason"
)
PERSIST_LAG: Final = Family(
    "writebehind_persist_lag_seconds",
    "Time from a write's acknowledgement until MongoDB has it.",
    kind=Kind.HISTOGRAM,
    bounds=AGE_BOUNDS,
)

WORKERS: Final = _gauge("workers", "Workers that are at work.")
BUSY: Final = _gauge("busy_workers", "Workers of these that take no task, as their pool is full of long ones.")
SILENT: Final = _gauge("silent_workers", "Workers that have done nothing for long, and have not ended.")
CONSUMERS: Final = _gauge("queue_consumers", "Workers that consume a queue.", "queue")
BROKER: Final = _gauge("broker_queue_messages", "Messages that wait in a queue of the broker.", "queue")
TASK_AGE: Final = _gauge("task_last_run_age_seconds", "Time since a periodic task last ran.", "task")
TASK_TIME: Final = _gauge("task_last_run_duration_seconds", "Time that a periodic task's last run took.", "task")
TASK_FAILED: Final = _gauge("task_last_run_failed", "1 where a periodic task's last run failed.", "task")

LISTENER_LAG: Final = _gauge(
    "listener_lag_seconds", "Age of the last event when it was applied: it stays where no other comes."
)
LISTENER_HEARD: Final = _gauge("listener_heard_age_seconds", "Time since MongoDB last answered the listener.")
LISTENER_ALIVE: Final = _gauge(
    "listener_alive_age_seconds", "Time since the listener was last at work, be it at waiting for MongoDB."
)
LISTENER_FAILED: Final = _gauge("listener_failed", "1 where something is wrong with it.")
LISTENER_EVENTS: Final = _counter("listener_events", "Events of the change stream, of our own writes too.")
LISTENER_OUTCOMES: Final = _counter(
    "listener_outcomes",
    "Events that are ours, that conflict with what is pending, or are skipped; entries that were invalidated, and "
    "writes that were overtaken: an event may be in several or in none.",
    "outcome",
)
LISTENER_LOST: Final = _counter("listener_lost_histories", "Times that MongoDB had lost the history.")

RECONCILED: Final = _gauge(
    "reconciled_entries", "Cached documents compared with MongoDB in the last pass and the one under way."
)
EQUAL: Final = _gauge("reconciled_equal_ratio", "Part of them that was equal to MongoDB.")
HOT_READS: Final = _gauge("hot_reads_per_second", "Reads of so many documents, those read most.", "keys")


def _by_window(name: str, text: str) -> tuple[Family, Family]:
    """A figure of consistency: of all collections, and of each. Windows are in seconds."""
    total = _gauge(f"consistency_{name}", text, "window")
    return total, _gauge(f"collection_consistency_{name}", f"{text} By collection.", "collection", "window")


#: Figures of consistency, by their names in the status.
CONSISTENCY: Final[Mapping[str, tuple[Family, Family]]] = {
    "ratio": _by_window(
        "ratio", "Part of the looks in the last hour at which readers saw what is right within a window."
    ),
    "ratio_from": _by_window("ratio_low", "Lower end of the 95 % interval of that."),
    "looks": _by_window("looks", "Looks in the last hour."),
    "wrong": _by_window("wrong_looks", "Looks of these at which something was wrong for longer than a window."),
}

OBSERVED: Final = _gauge(
    "consistency_observed_age_seconds",
    "Time since somebody last looked what readers see: figures of consistency say nothing of that time.",
)

#: Facts of Redis's INFO, by their names there.
REDIS: Final[Mapping[str, Family]] = {
    "used_memory": _gauge("redis_memory_used_bytes", "Memory that Redis uses.", "server"),
    "maxmemory": _gauge("redis_memory_max_bytes", "Memory that Redis may use; 0 for no limit.", "server"),
    "mem_fragmentation_ratio": _gauge("redis_memory_fragmentation_ratio", "Resident by used memory.", "server"),
    "evicted_keys": _counter("redis_evicted_keys", "Keys that Redis has evicted.", "server"),
    "expired_keys": _counter("redis_expired_keys", "Keys whose TTL was over.", "server"),
    "total_commands_processed": _counter("redis_commands", "Commands that Redis has carried out.", "server"),
    "total_net_input_bytes": _counter("redis_received_bytes", "Bytes that Redis has received.", "server"),
    "total_net_output_bytes": _counter("redis_sent_bytes", "Bytes that Redis has sent.", "server"),
    "connected_clients": _gauge("redis_connections", "Connections to Redis.", "server"),
    "connected_slaves": _gauge("redis_replicas", "Replicas that are connected.", "server"),
    "uptime_in_seconds": _gauge("redis_uptime_seconds", "Time since Redis was started.", "server"),
    "aof_enabled": _gauge("redis_append_only_enabled", "1 where Redis writes an append-only file.", "server"),
}
REDIS_FILE_FAILED: Final = _gauge(
    "redis_append_only_failed", "1 where Redis could not write to its append-only file the last time.", "server"
)
REDIS_MAKES_ROOM: Final = _gauge(
    "redis_makes_room", "1 where a full Redis takes writes, as it can evict enough that MongoDB has.", "server"
)
REDIS_REFUSES: Final = _gauge(
    "redis_refuses_writes", "1 where Redis answers, and refuses whatever is written.", "server"
)
REDIS_LAG_BYTES: Final = _gauge("redis_replication_lag_bytes", "Bytes that one replica lacks.", "server")
REDIS_LAG: Final = _gauge("redis_replication_lag_seconds", "Time since the last replica was heard of.", "server")

MONGODB_OPERATIONS: Final = _counter(
    "mongodb_operations", "Operations that MongoDB has carried out, for anybody.", "operation"
)
MONGODB_CONNECTIONS: Final = _gauge("mongodb_connections", "Connections to MongoDB.")
MONGODB_AVAILABLE: Final = _gauge("mongodb_connections_available", "Connections that it could take more.")
MONGODB_QUEUED: Final = _gauge("mongodb_queued_operations", "Operations that wait in it.")
MONGODB_RECEIVED: Final = _counter("mongodb_received_bytes", "Bytes that MongoDB has received.")
MONGODB_SENT: Final = _counter("mongodb_sent_bytes", "Bytes that MongoDB has sent.")
MONGODB_LAG: Final = _gauge("mongodb_replication_lag_seconds", "Time that one secondary is behind.")
MONGODB_UPTIME: Final = _gauge("mongodb_uptime_seconds", "Time since MongoDB was started.")


def _within(value: object) -> Iterator[Family]:
    if isinstance(value, Family):
        yield value
    elif isinstance(value, dict | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _within(one)


#: All of them, by name.
INSTALLATION: Final[Mapping[str, Family]] = {
    one.name: one for value in list(globals().values()) for one in _within(value)
}
#: All that may stand on the page, by name.
PAGE: Final[Mapping[str, Family]] = {**tallied.FAMILIES, **INSTALLATION}
