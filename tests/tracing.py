"""Spans in a test: a tracer provider for as long as it runs, and what it has seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanContext


class Seen:
    """The spans that have ended."""

    def __init__(self, exporter: InMemorySpanExporter, provider: TracerProvider) -> None:
        self._exporter = exporter
        self.provider = provider

    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [one for one in self.all() if one.name == name]

    def one(self, name: str) -> ReadableSpan:
        [found] = self.named(name)
        return found

    def clear(self) -> None:
        self._exporter.clear()


@contextmanager
def tracing(sampler: Sampler | None = None) -> Iterator[Seen]:
    """Let this process have a tracer provider within the block, as an application may set one at any time."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        yield Seen(exporter, provider)


def ids(context: SpanContext) -> tuple[int, int]:
    """What tells one span from all others."""
    return context.trace_id, context.span_id


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    """The spans that one links to."""
    return [ids(one.context) for one in span.links]


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    """The span that one is a part of."""
    return ids(span.parent) if span.parent else None
