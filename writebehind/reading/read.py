"""The answer of a read, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
