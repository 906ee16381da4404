"""The page that Prometheus scrapes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from writebehind import forks
from writebehind.logs.states import StateLog
from writebehind.monitoring.counted import counted
from writebehind.monitoring.installation import installation
from writebehind.pipeline import Pipeline
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

_OPEN_METRICS = "application/openmetrics-text"
_UNREADABLE = "the counts of this host's processes cannot be read, and are on no page"


class Figures(Collector):
    """All figures of a pipeline. Among your own: `prometheus_client.REGISTRY.register(Figures(pipeline))`.

    They are read when they are asked for. Where Redis or MongoDB does not answer, its figures are missing, and
    `writebehind_redis_up` or `writebehind_mongodb_up` says so.
    """

    def __init__(self, pipeline: Pipeline, tallies: Tallies | None = None) -> None:
        """Show what this pipeline reaches, and what is counted in tallies: by default in those of the pipeline."""
        self._pipeline = pipeline
        self._tallies = pipeline.tallies if tallies is None else tallies
        self._unreadable = StateLog(log, "counts_unreadable", "counts_readable")

    def describe(self) -> list[Metric]:
        """Nothing: a registry would ask the servers for it when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        try:
            numbers = self._tallies.read()
        except OSError as error:
            self._unreadable.begin(f"{_UNREADABLE}: {error}; writebehind doctor says what to do")
        else:
            self._unreadable.end("the counts of this host's processes can be read again")
            yield from counted(numbers, self._pipeline.settings.collections)
        yield from installation(self._pipeline)


class Page:
    """The figures as text, in the format that a client asks for. Safe to share between threads.

    One thread makes it at a time, for all who have asked before it began.
    """

    def __init__(self, pipeline: Pipeline, tallies: Tallies | None = None) -> None:
        """Show the figures of a pipeline, as `Figures` does."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Figures(pipeline, tallies))
        self._lock = forks.lock()
        self._made: dict[str, tuple[float, bytes]] = {}

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page, and its content type: Prometheus's text format, or OpenMetrics where `Accept` wants it."""
        encode, content_type = _format(accept)
        asked = time.monotonic()
        with self._lock:
            begun, page = self._made.get(content_type, (float("-inf"), b""))
            if begun < asked:
                begun = time.monotonic()
                page = encode(self._registry)
                self._made[content_type] = begun, page
        return page, content_type


def _format(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """The format for a client: OpenMetrics 1.0.0 where it wants any, else Prometheus's text.

    prometheus_client takes the version out of `Accept` into the type, and fails where it is no number: what a
    client makes up would be kept as another page each time.
    """
    wants = any(one.partition(";")[0].strip().lower() == _OPEN_METRICS for one in accept.split(","))
    return choose_encoder(_OPEN_METRICS if wants else "")
