"""Flushers of a pipeline, with other limits or other parts than its own."""

from __future__ import annotations

from typing import Any

from writebehind.flushing.flusher import Flusher, FlushLimits
from writebehind.querying.derived import Derived


def limits(batch_size: int, lease_ms: int, **others: Any) -> FlushLimits:
    """Limits of which a test says what it is about."""
    given = {"least_batch": 1, "batch_target_s": 0.5, "soon_ms": 0} | others
    return FlushLimits(batch_size, lease_ms, **given)


def flusher_of(
    pipeline, flush_limits: FlushLimits, *, store=None, sink=None, hints=lambda _: None, lookups=None
) -> Flusher:
    """A flusher that joins a pipeline's parts, but for those that are given."""
    return Flusher(
        store or pipeline.store,
        sink or pipeline.sink,
        hints,
        pipeline.collection_settings,
        flush_limits,
        derived=pipeline.derived if lookups is None else Derived(lookups, pipeline.queries),
        contention=pipeline.contention,
        hooks=pipeline.hooks.of,
        tallies=pipeline.tallies,
    )
