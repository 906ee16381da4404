"""The Redis key schema, written once: every key that writebehind uses is built here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from zlib import crc32

from writebehind.sequences import grouped

# What one step touches is in one slot of a Redis Cluster: keys with the same text in braces, or one key whose name
# the others have there.

#: The number of partitions that this Redis is divided into: see `writebehind.redis.shared.partition_count`.
PARTITIONS = "wb:partitions"
#: The MongoDB database whose documents this Redis holds: see `writebehind.redis.shared.owner`.
DATABASE = "wb:database"
#: What this server is among several that have names: see `writebehind.redis.topology.record`.
SERVER = "wb:server"
#: So many there may be.
MOST_PARTITIONS = 4096
#: Into how many partitions this Redis was ever divided: what they have counted stays.
MOST_EVER = "wb:most_partitions"
#: Hash of counters since the first start of what has no partition: batches, conflicts, and so on.
COUNTERS = "wb:counters"
#: Sorted set of Celery worker names by the time at which it was last proven that they work, in ms.
WORKERS = "wb:workers"
#: Sorted set of Celery worker names, each with a queue, by the time at which something of it was last done, in ms.
CONSUMERS = "wb:consumers"
#: Sorted sets of Celery worker names: by when they last told that they hold a task; and, of those whose pool is
#: full, by since when, in ms.
HOLDING, FULL = "wb:holding", "wb:full"
#: Sorted set of Celery worker names, each with the mark of its process, by when it was last at work, in ms.
PROCESSES = "wb:processes"
#: Sorted set of the caps from which new documents are refused, by when a process last said so, ms.
CAPS = "wb:caps"
#: Sorted set of collections that have figures of their own besides those of the settings, by their turn.
LABELS = "wb:labels"
#: Sorted set of what MongoDB said as it took none of a batch, by when a flusher last heard it, ms.
COMPLAINTS = "wb:complaints"
#: Hash of API keys, of which only hashes of the secrets are kept: see `writebehind.redis.shared.api_keys`.
API_KEYS = "wb:api_keys"
#: Sorted set of clients by when they have all back that they have spent of their rates, ms; expires.
SPENT = "wb:spent"
#: The key that cursors of lists are signed with: see `writebehind.redis.shared.cursor_key`.
CURSOR_KEY = "wb:cursor_key"
#: Hash of what was only in data that this Redis had before: see `writebehind.redis.shared.lost_data`.
LOST_DATA = "wb:lost_data"
#: Hash of periodic tasks: the time of the last run in ms, and what it came to, JSON.
RUNS = "wb:runs"
#: List of the latest conflicts with other writers, the last first, JSON.
CONFLICTS = "wb:conflicts"
#: The pass of reconciling under way, JSON, and the token of whoever makes it.
RECONCILE, RECONCILE_LEASE = "wb:reconcile", "wb:lease:{wb:reconcile}"
#: Lists of the last passes, the last first, JSON: those that found drift, and those that did not.
DRIFT, DRIFT_FREE = "wb:drift:{wb:reconcile}", "wb:drift_free:{wb:reconcile}"
#: The token of whoever audits deletions.
AUDIT_LEASE = "wb:audit_lease"
#: The token of whoever moves partitions between servers.
REBALANCE_LEASE = "wb:rebalance_lease"
#: The token of whoever warms.
WARM_LEASE = "wb:warm_lease"
#: How far the listener to change streams has come, JSON; and the token of whoever leads.
LISTENER, LISTENER_LEASE = "wb:listener", "wb:lease:{wb:listener}"
#: The token of whoever looks whether readers see what MongoDB has.
CONSISTENCY_LEASE = "wb:consistency_lease"
#: Sorted set of one name, by when an observer last told that it looks, ms.
OBSERVED = "wb:observed"
#: List of the latest documents of which readers did not, the last first, JSON.
INCONSISTENT = "wb:inconsistent"
#: Hash of how many documents were persisted in each second of the last minute; expires.
FLUSHED = "wb:flushed"
#: Hash of the circuit breaker before MongoDB; absent while it is closed and nothing failed lately.
BREAKER = "wb:breaker"
#: Hash of what is not flushed for now: see `writebehind.redis.shared.pauses`.
PAUSED = "wb:paused"

#: The history: who records it, and lists of points, of a second each and of longer times, the last first.
HISTORY_LEASE = "wb:history_lease:{history}"
HISTORY, HISTORY_COARSE = "wb:history:{history}", "wb:history_coarse:{history}"

#: Families of what is known of one document, value or query, and expires unless nobody else has it.
OF_DOCUMENTS = frozenset(
    ("entry", "load", "alias", "aliasload", "aliasclaims", "claimed", "query", "queryload")  # not: kept, waiting
)
#: Fields of `PartitionKeys` that outlive a repartitioning, or that are empty before one.
_STAYS = frozenset(
    (
        *("prefix", "clock", "pending", "dead", "deleted", "deleted_at", "counts"),
        *("receipts", "receipts_at", "fates"),
    )
)
#: What keys hold, as Redis's TYPE says it: by their names, and by those of a partition's keys and families.
_TYPES = {
    **dict.fromkeys(
        (PARTITIONS, MOST_EVER, DATABASE, RECONCILE, RECONCILE_LEASE, AUDIT_LEASE, WARM_LEASE), "string"
    ),
    **dict.fromkeys((LISTENER, LISTENER_LEASE, HISTORY_LEASE, CONSISTENCY_LEASE, REBALANCE_LEASE), "string"),
    CURSOR_KEY: "string",
    **dict.fromkeys((COUNTERS, RUNS, FLUSHED, BREAKER, PAUSED, SERVER, API_KEYS, LOST_DATA), "hash"),
    **dict.fromkeys((CONFLICTS, DRIFT, DRIFT_FREE, HISTORY, HISTORY_COARSE, INCONSISTENT), "list"),
    **dict.fromkeys((WORKERS, CONSUMERS, HOLDING, FULL, PROCESSES, CAPS, LABELS, OBSERVED, SPENT), "zset"),
    COMPLAINTS: "zset",
}
_TYPES_IN_PARTITIONS = {
    **dict.fromkeys(("clock", "term", "scheduled", "lease", "stepped", "entry", "load"), "string"),
    **dict.fromkeys(("frozen", "divided", "arriving", "leaving", "aside"), "string"),
    **dict.fromkeys(("alias", "aliasload", "query", "queryload"), "string"),
    **dict.fromkeys(("pending", "deleted", "deleted_at", "hot", "warmed", "aliasclaims", "claimed"), "zset"),
    **dict.fromkeys(("dead", "dead_counts", "sent", "heat", "kept", "waiting", "counts", "traces"), "hash"),
    **dict.fromkeys(("crowded", "awaited"), "set"),
    **dict.fromkeys(("receipts", "fates"), "hash"),
    "receipts_at": "zset",
    "lapses": "list",
}
_TYPES_OF_OTHERS = {"changed": "zset", "changes": "hash", "consistency": "hash"}
_IN_PARTITION, _OTHER = re.compile(r"wb:\{[0-9]+\}:([a-z_]+)"), re.compile(r"wb:([a-z]+):")
#: A key of a partition with a name in it: the partition, the family, the name.
_NAMED = re.compile(r"wb:\{([0-9]{1,4})\}:([a-z]+):(.+)", re.DOTALL)


def consistency(slot: int) -> str:
    """Counts of looks at what readers see, within one slot of time; expires."""
    return f"wb:consistency:{{{INCONSISTENT}}}:{slot}"


def type_of(key: str) -> str | None:
    """The type of a key, as Redis's TYPE says it; `None` for one that is none of ours."""
    if key in _TYPES:
        return _TYPES[key]
    if found := _IN_PARTITION.match(key):
        return _TYPES_IN_PARTITIONS.get(found[1])
    found = _OTHER.match(key)
    return _TYPES_OF_OTHERS.get(found[1]) if found else None


def changes(collection: str) -> tuple[str, str]:
    """The members of a collection that have changed in MongoDB, and what is known of its changes."""
    return f"wb:changed:{{{collection}}}", f"wb:changes:{{{collection}}}"


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one partition. They share a hash tag, so that one script may touch all of them."""

    prefix: str
    pending: str
    clock: str
    term: str
    lapses: str
    scheduled: str
    lease: str
    dead: str
    dead_counts: str
    crowded: str
    deleted: str
    deleted_at: str
    sent: str
    hot: str
    heat: str
    warmed: str
    awaited: str
    stepped: str
    counts: str
    traces: str
    receipts: str
    receipts_at: str
    fates: str
    aside: str
    divided: str
    arriving: str
    leaving: str

    @property
    def beside_documents(self) -> list[str]:
        """Keys that tell of what is pending or dead, so of nothing where nothing is; or that are counted anew."""
        return [getattr(self, one.name) for one in fields(self) if one.name not in _STAYS]

    def entry(self, member: str) -> str:
        """The document's latest state: see `writebehind.documents.entry`."""
        return f"{self.prefix}entry:{member}"

    def of_commit(self, member: str) -> tuple[str, ...]:
        """The keys that a commit of the document touches, in the order in which such steps take them."""
        return (
            self.entry(member),
            self.pending,
            self.clock,
            self.scheduled,
            self.dead,
            self.load(member),
            self.dead_counts,
            self.deleted,
            self.kept(member),
            self.crowded,
            self.counts,
        )

    @property
    def of_receipts(self) -> tuple[str, ...]:
        """The keys that a commit with an idempotency key touches as well."""
        return self.receipts, self.receipts_at, self.fates

    def load(self, member: str) -> str:
        """The token of the reader that may fill the document's entry."""
        return f"{self.prefix}load:{member}"

    def kept(self, member: str) -> str:
        """Hash of what nobody else has of dead documents: version → the entry as it was acknowledged."""
        return f"{self.prefix}kept:{member}"

    def alias(self, name: str) -> str:
        """A unique value, and the document that MongoDB has it in: see `writebehind.querying.unique_fields`."""
        return f"{self.prefix}alias:{name}"

    def alias_load(self, name: str) -> str:
        """The token of the reader that may fill the alias."""
        return f"{self.prefix}aliasload:{name}"

    def query(self, name: str) -> str:
        """The documents that a query has found: see `writebehind.querying.cached_queries`."""
        return f"{self.prefix}query:{name}"

    def query_load(self, name: str) -> str:
        """The token of whoever may fill the query."""
        return f"{self.prefix}queryload:{name}"

    def alias_claims(self, name: str) -> str:
        """Sorted set of the members that were given the value, by version, until MongoDB has it."""
        return f"{self.prefix}aliasclaims:{name}"

    def waiting(self, member: str) -> str:
        """Hash of the dead letters that wait for a document to give a unique value up, by member: the value."""
        return f"{self.prefix}waiting:{member}"

    def claimed(self, member: str) -> str:
        """Sorted set of the names of the values that a document claims, by version."""
        return f"{self.prefix}claimed:{member}"


@cache
def partition_keys(partition: int) -> PartitionKeys:
    """The keys of a partition: of one that there may be, so that what is kept of them is bounded.

    Raises:
        ValueError: there can be no such partition.
    """
    if not 0 <= partition < MOST_PARTITIONS:
        raise ValueError(f"{partition} is no partition")
    prefix = f"wb:{{{partition}}}:"
    names = (
        *("pending", "clock", "term", "lapses", "scheduled", "lease", "dead", "dead_counts", "crowded"),
        *("deleted", "deleted_at", "sent", "hot", "heat", "warmed", "awaited", "stepped", "counts", "traces"),
        *("receipts", "receipts_at", "fates", "aside"),
        *("divided", "arriving", "leaving"),
    )
    return PartitionKeys(prefix, *(prefix + name for name in names))


@dataclass(frozen=True, slots=True)
class View:
    """A division into partitions, as a process knows it.

    Attributes:
        partitions: their number, or the one before a change that is under way.
        target: the number that it is changed to; 0 while nothing is changed.
        divided: which of those before are divided already: what they had is spread by the new number.
    """

    partitions: int
    target: int = 0
    divided: frozenset[int] = frozenset()

    def number(self, name: str) -> int:
        """The partition of a member, an alias or a query: CRC-32 of its name in UTF-8, modulo their number."""
        crc = crc32(name.encode())
        number = crc % self.partitions
        return crc % self.target if self.target and number in self.divided else number

    def final(self, name: str) -> int:
        """The partition that it has, or will have when the change is over."""
        return crc32(name.encode()) % (self.target or self.partitions)


class Layout:
    """The keys of a Redis that is divided into so many partitions. While that changes, what it says does."""

    __slots__ = ("view",)

    def __init__(self, partitions: int) -> None:
        """Take the number."""
        #: What holds now; in one place, so that nobody sees half of a change.
        self.view = View(partitions)

    @property
    def partitions(self) -> int:
        """The number of partitions; while it grows, the new one."""
        return self.view.target or self.view.partitions

    def number(self, name: str) -> int:
        """The partition of a member, an alias or a query."""
        return self.view.number(name)

    def in_use(self) -> list[int]:
        """The partitions that hold documents: while the number grows, those that are not divided, or were made."""
        view = self.view
        return [
            one for one in range(self.partitions) if one < view.partitions or one % view.partitions in view.divided
        ]

    def of(self, name: str) -> PartitionKeys:
        """The keys of its partition."""
        return partition_keys(self.number(name))

    def all(self) -> list[PartitionKeys]:
        """The keys of every partition, in their order."""
        return [partition_keys(number) for number in range(self.partitions)]

    def grouped(self, names: Iterable[str]) -> dict[int, list[str]]:
        """The names by their partitions."""
        return grouped(names, self.number)


@dataclass(frozen=True, slots=True)
class Named:
    """A key with the name of something in it: `wb:{partition}:family:name`."""

    key: str
    partition: int
    family: str
    name: str

    @classmethod
    def parse(cls, key: bytes) -> Named | None:
        """Take a key apart; `None` for one that is no such key."""
        found = _NAMED.fullmatch(key.decode(errors="replace"))
        return None if found is None else cls(found[0], int(found[1]), found[2], found[3])


def entry_member(key: bytes) -> str | None:
    """The member whose entry stands at a key, wherever that is; `None` for another key. Cheaper than `Named`."""
    prefix, _, member = key.decode(errors="replace").partition("}:entry:")
    return member if member and prefix.startswith("wb:{") else None


def family(name: str = "*", *, collection: str = "") -> str:
    """The pattern for SCAN of keys with a name in them, of one family and collection; by default of all."""
    return f"wb:{{*}}:{name}:{collection}{'/' if collection else ''}*"
