"""The page that Prometheus scrapes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from writebehind.monitoring.counted import counted
from writebehind.monitoring.installation import installation
from writebehind.pipeline import Pipeline

log = logging.getLogger(__name__)


class Figures(Collector):
    """All figures of a pipeline. Among your own: `prometheus_client.REGISTRY.register(Figures(pipeline))`.

    They are read when they are asked for. Where Redis or MongoDB does not answer, its figures are missing, and
    `writebehind_redis_up` or `writebehind_mongodb_up` says so.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        """Show what this pipeline reaches."""
        self._pipeline = pipeline

    def describe(self) -> list[Metric]:
        """Nothing: a registry would ask the servers for it when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        try:
            yield from counted(self._pipeline.tallies.read())
        except OSError as error:
            log.warning("the counts of this host's processes cannot be read: %s", error)
        yield from installation(self._pipeline)


class Page:
    """The figures as text, in the format that a client asks for. Safe to share between threads."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Show what this pipeline reaches."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Figures(pipeline))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page, and its content type: Prometheus's text format, or OpenMetrics where `Accept` wants it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
