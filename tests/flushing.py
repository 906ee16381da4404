"""Flushers of a pipeline, with other limits or other parts than its own."""

from __future__ import annotations

from writebehind.flushing.flusher import Flusher, FlushLimits
from writebehind.querying.derived import Derived


def flusher_of(
    pipeline, limits: FlushLimits, *, store=None, sink=None, hints=lambda _: None, lookups=None
) -> Flusher:
    """A flusher that joins a pipeline's parts, but for those that are given."""
    return Flusher(
        store or pipeline.store,
        sink or pipeline.sink,
        hints,
        pipeline.collection_settings,
        limits,
        derived=pipeline.derived if lookups is None else Derived(lookups, pipeline.queries),
        contention=pipeline.contention,
        hooks=pipeline.hooks.of,
    )
