"""The families of counts that processes keep: names, meanings, labels and the bounds of their buckets.

Names follow Prometheus's conventions (prometheus.io/docs/practices/naming): the unit comes last, before `_total`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final
from zlib import crc32

#: Collections that are not in the settings and are told apart: their names come from clients. It holds for what
#: one process counts, for the sum of those that have ended, and for the whole page.
MOST_UNLISTED: Final = 100
#: The value of the label `collection` in the place of those that are not told apart.
OTHER: Final = "(other)"

#: Bounds of latencies, seconds: from a read in Redis to the longest time that a request may take.
LATENCIES: Final = (
    *(0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
#: Bounds of the documents in a bulk write.
SIZES: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


class Kind(Enum):
    """Kind of a family."""

    COUNTER = "counter"
    """Only grows. What a process that has ended counted stays."""
    HISTOGRAM = "histogram"
    """The sum of the observed values, and how many were below each bound."""
    LIVE = "gauge"
    """Grows and shrinks. What a process that has ended had is gone."""


@dataclass(frozen=True, slots=True, eq=False)  # by identity, which hashes fast
class Family:
    """One family.

    Attributes:
        name: without Prometheus's suffixes.
        help: what is counted, in one sentence.
        labels: names of the labels; values are bounded; `collection` comes first, see `MOST_UNLISTED`.
        kind: see `Kind`.
        bounds: of a histogram's buckets, ascending, without the infinite one.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = Kind.COUNTER
    bounds: tuple[float, ...] = ()

    @property
    def slots(self) -> int:
        """Numbers that a series has: of a histogram the sum, then each bucket's own count."""
        return 2 + len(self.bounds) if self.kind is Kind.HISTOGRAM else 1

    @property
    def shape(self) -> str:
        """The parts on which releases must agree to add up their series; see `is_live` and `is_by_collection`."""
        bounds = crc32(repr([*map(float, self.bounds)]).encode())
        return f"{self.kind.value} {','.join(self.labels)} {bounds:08x}"


def is_live(shape: str) -> bool:
    """Whether families of this shape, also unknown ones, have only what live processes have."""
    return shape.startswith(f"{Kind.LIVE.value} ")


def is_countable(shape: str, numbers: Sequence[float]) -> bool:
    """Whether a series of this shape may have these numbers: no count is below 0, nor a part in a bucket."""
    if is_live(shape):
        return True
    buckets = numbers[1:] if shape.startswith(f"{Kind.HISTOGRAM.value} ") else ()
    return min(numbers, default=0.0) >= 0 and all(map(float.is_integer, buckets))


@lru_cache
def is_by_collection(shape: str) -> bool:
    """Whether the first label of families of this shape, also of unknown ones, names a collection."""
    return shape.partition(" ")[2].startswith(("collection,", "collection "))


def _histogram(name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...] = LATENCIES) -> Family:
    return Family(name, text, labels, Kind.HISTOGRAM, bounds)


REQUESTS: Final = _histogram(
    "writebehind_http_request_duration_seconds",
    "Time from the whole request to its answer, without the time that the client takes.",
    ("route", "method", "status"),
)
IN_PROGRESS: Final = Family(
    "writebehind_http_requests_in_progress", "Requests that are being received or answered.", kind=Kind.LIVE
)
REFUSED: Final = Family(
    "writebehind_http_requests_refused",
    "Requests that the server refused for its own limits or those of a client, or gave up: by the reason.",
    ("reason",),
)
READS: Final = Family(
    "writebehind_reads",
    "Documents read, by the source of the answer. A lookup by a field is one; a query, as many as it looks at; a "
    "list, as many as it returns: `bypass` is what it has of MongoDB.",
    ("collection", "source"),
)
READ_TIMES: Final = _histogram(
    "writebehind_read_duration_seconds",
    "Time that one document's read took in this process, by the source of the answer.",
    ("collection", "source"),
)
NEGATIVE_HITS: Final = Family(
    "writebehind_negative_hits",
    "Reads of one document, also by a field, that Redis answered with: there is none.",
    ("collection",),
)
LOADS: Final = _histogram(
    "writebehind_load_duration_seconds", "Time that loading a document from MongoDB took.", ("collection",)
)
LOADED: Final = Family(
    "writebehind_loaded_documents",
    "Documents asked of MongoDB for reads, also by ids that it has not.",
    ("collection",),
)
REFRESHES: Final = Family(
    "writebehind_refreshes",
    "Entries of which a refresh was asked for: early, before their TTL was over, or stale after it.",
    ("collection", "reason"),
)
WRITES: Final = Family(
    "writebehind_writes",
    "Writes that Redis has taken, acknowledged or about to be, of processes that count in "
    "`WRITEBEHIND_METRICS_DIR`, as the HTTP API does. `writebehind_acknowledged_writes_total` has all, those "
    "of the library too.",
    ("collection",),
)
FAILED_READS: Final = Family(
    "writebehind_failed_reads",
    "Reads that were not answered, by the reason. One of several documents, or by a field or a query, is one.",
    ("collection", "reason"),
)
REFUSED_WRITES: Final = Family(
    "writebehind_refused_writes",
    "Writes refused by back-pressure, by the cap that was met; 0 from the start for collections of the settings.",
    ("collection", "cap"),
)
FAILED_WRITES: Final = Family(
    "writebehind_failed_writes",
    "Writes that callers were told have failed, by the reason; they may have happened. Each of a bulk is one. "
    "Those that met a cap are refused writes and not among these, nor are requests that are wrong in themselves.",
    ("collection", "reason"),
)
LOST_WRITES: Final = Family(
    "writebehind_lost_writes",
    "Acknowledged writes that a failover of Redis has lost, by what became of them; 0 from the start.",
    ("fate",),
)
BATCH_TIMES: Final = _histogram(
    "writebehind_batch_duration_seconds", "Time that one bulk write to MongoDB took.", ("collection",)
)
BATCH_SIZES: Final = _histogram(
    "writebehind_batch_documents", "Documents in one bulk write.", ("collection",), SIZES
)
POSTPONED: Final = Family(
    "writebehind_postponed_writes", "Writes that MongoDB did not take, and that are tried again.", ("collection",)
)
INTERRUPTED: Final = Family(
    "writebehind_interrupted_flushes",
    "Flushes that ended as MongoDB or Redis could not take a batch, or MongoDB is left alone as it has failed.",
)
DRIFT: Final = Family(
    "writebehind_drift",
    "Differences between Redis and MongoDB that reconciling has found, by kind.",
    ("kind",),
)
REPAIRED: Final = Family("writebehind_drift_repaired", "Those of them that it has repaired.", ("kind",))
MONGODB_COMMANDS: Final = _histogram(
    "writebehind_mongodb_command_duration_seconds",
    "Time that a command of this product took in MongoDB and on the way, by its name and outcome.",
    ("command", "outcome"),
)
LOST_SPANS: Final = Family(
    "writebehind_lost_spans",
    "Sampled spans that no collector has got: not taken, more than may wait, or left when their process ended.",
    ("reason",),
)

#: Those in which only collections are counted that have, or had, documents: clients may ask for others by mistake.
OF_DOCUMENTS: Final = frozenset({WRITES, BATCH_TIMES, BATCH_SIZES, POSTPONED})

#: Every family that tallies may have, by name.
FAMILIES: Final = {
    one.name: one
    for one in (
        REQUESTS,
        IN_PROGRESS,
        REFUSED,
        READS,
        READ_TIMES,
        NEGATIVE_HITS,
        LOADS,
        LOADED,
        REFRESHES,
        FAILED_READS,
        WRITES,
        REFUSED_WRITES,
        FAILED_WRITES,
        LOST_WRITES,
        BATCH_TIMES,
        BATCH_SIZES,
        POSTPONED,
        INTERRUPTED,
        DRIFT,
        REPAIRED,
        MONGODB_COMMANDS,
        LOST_SPANS,
    )
}
