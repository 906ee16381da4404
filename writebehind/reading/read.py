"""The answer of a read, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from writebehind.documents.entry import Entry


class Source(StrEnum):
    """Source of a read's answer."""

    HIT = "hit"
    STALE = "stale"
    """Served from Redis after its TTL, while it is read anew or because MongoDB does not answer."""
    REVALIDATED = "revalidated"
    """Loaded from MongoDB because what Redis had was stale."""
    MISS = "miss"
    COLLAPSED = "collapsed"
    """Loaded by another reader while this one waited."""
    BYPASS = "bypass"
    """Read from MongoDB, because Redis does not answer: it may miss what is pending."""


#: Sources of answers that Redis gave, and of those for which MongoDB was asked as Redis had none that is
#: good. What went round Redis is neither. The alert rules, the dashboard and the console count by the same two.
HITS: Final = (Source.HIT, Source.STALE)
MISSES: Final = (Source.REVALIDATED, Source.MISS, Source.COLLAPSED)


def hit_ratio(reads: Mapping[str, int]) -> float | None:
    """The part of the reads that Redis has answered, of reads by source; `None` where there were none."""
    total = of_ratio(reads)
    return sum(reads.get(one, 0) for one in HITS) / total if total else None


def of_ratio(reads: Mapping[str, int]) -> int:
    """The number of reads that the ratio is of, of reads by source."""
    return sum(reads.get(one, 0) for one in (*HITS, *MISSES))


@dataclass(frozen=True, slots=True)
class Read:
    """The state of a document.

    Attributes:
        entry: the document.
        source: where it came from.
        ttl_ms: of a hit: how long it is fresh yet, see `freshness.fresh_ms`.
        stored: of what was loaded: whether it is cached now.
    """

    entry: Entry
    source: Source
    ttl_ms: int = -1
    stored: bool = True
