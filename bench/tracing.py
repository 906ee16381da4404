"""CPU time that traces cost: of a request, and of a flush, without them, off, and sampled.

One process asks the application in turn in each of these ways, so that whatever else the machine does meets all of
them. "Without" has no call sites: they are taken out, so that what they cost while nobody traces shows too.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from unittest.mock import patch

from flask.globals import request, request_ctx
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from bench import wsgi
from bench.load import DOCUMENT
from bench.tallies import cheapest
from bench.watched import take_out_tracing
from web.app import create_app
from writebehind import BulkOperation, Pipeline, Written, load_settings
from writebehind.flask import tracing
from writebehind.local.embedded import EmbeddedRedis
from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.tracing import otlp, spans
from writebehind.tracing.span import may_begin

TURNS, REQUESTS, FLUSHED_EACH, DOCUMENTS = 30, 250, 4, 1_000
#: Requests to so many documents.
NAMES = [f"/v1/users/u{number}" for number in range(200)]
RATIOS = {"sampled 1 %": 0.01, "sampled 100 %": 1.0}


class Nowhere(SpanExporter):
    def export(self, _spans: Sequence[Any]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class NoFlush:
    """A flush without a call site."""

    is_traced = False

    def __init__(self, _partition: int) -> None: ...

    def carries(self, _links: object) -> None: ...

    def counts(self, _counts: object) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


@dataclass
class Way:
    """One way to trace, and what each round took, µs of CPU for one request or document."""

    name: str
    within: Callable[[], Any]
    taken: dict[str, list[float]] = field(default_factory=dict)


@contextmanager
def without(app: Any) -> Iterator[Callable[[], object]]:
    with ExitStack() as stack:
        take_out_tracing(stack, app)
        stack.enter_context(patch.object(spans, "Flush", NoFlush))
        yield bool


@contextmanager
def off() -> Iterator[Callable[[], object]]:
    yield bool


@contextmanager
def sampled(provider: TracerProvider) -> Iterator[Callable[[], object]]:
    with patch.object(trace, "_TRACER_PROVIDER", provider):
        yield provider.force_flush


def provider(ratio: float) -> TracerProvider:
    """The provider of the service's processes, whose spans go nowhere, and not while another way is measured."""
    variables = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": str(ratio)}
    processor = BatchSpanProcessor(Nowhere(), 1 << 20, 3_600_000, 1 << 19)
    with patch.dict(os.environ, variables), patch.object(otlp, "Queue", lambda *_: processor):
        return otlp.provider("bench")[0]


def ask(app: Any, method: str) -> None:
    """Send requests as the server does, one after the other."""
    body = DOCUMENT if method == "PUT" else b""
    for number in range(REQUESTS):
        wsgi.ask(app, method, NAMES[number % len(NAMES)], body)


def flush(pipeline: Pipeline) -> None:
    """Flush documents to a MongoDB that costs nothing."""
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.drain(partition, budget_s=30)


def fill(pipeline: Pipeline) -> None:
    users = pipeline.collection("users")
    for begin in range(0, DOCUMENTS, 100):
        done = users.bulk([BulkOperation("put", f"d{n}", {"n": n}) for n in range(begin, begin + 100)])
        if not all(isinstance(one, Written) for one in done):
            raise RuntimeError(done)


def write(_collection: str, writes: Sequence[Any], **_: Any) -> list[Outcome]:
    return [Outcome(one, Result.PERSISTED) for one in writes]


def measure(ways: Sequence[Way], app: Any, pipeline: Pipeline) -> None:
    """Turns in another order each time: what else the machine does is in the way of none more than of others."""
    order = list(ways)
    for number in range(TURNS):
        random.shuffle(order)
        for way in order:
            with way.within() as end:
                ask(app, "GET")  # the first ones after another way take longer
                for method in ("PUT", "GET"):
                    began = time.process_time()
                    ask(app, method)
                    way.taken.setdefault(method, []).append((time.process_time() - began) / REQUESTS * 1e6)
                end()
                if number % FLUSHED_EACH == 0:
                    flush(pipeline)
                    fill(pipeline)
                    end()
                    began = time.process_time()
                    flush(pipeline)
                    way.taken.setdefault("flush", []).append((time.process_time() - began) / DOCUMENTS * 1e6)


def sites(app: Any, ways: Sequence[Way]) -> None:
    """Print what the call sites of a request alone take, in the cheapest of some batches, µs of CPU."""
    print("call sites alone, µs of CPU: the hooks of a request, and a commit in it")
    for way in ways:
        with way.within() as end, app.test_request_context("/v1/users/ada"):
            app.preprocess_request()

            def hooks() -> None:
                tracing.begin(request._get_current_object())
                tracing.end(None)
                request_ctx._after_request_functions.clear()

            def commit() -> None:
                if may_begin():  # as `Writer` does
                    with spans.commit("users", 1):
                        pass

            taken = cheapest(hooks)
            with spans.request("PUT", "http", {}, str):
                print(f"  {way.name:14} {taken:6.2f} {cheapest(commit):6.2f}")
            end()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(folder) as redis:
        settings = load_settings(
            redis_url=redis.url,
            mongodb_url="mongodb://127.0.0.1:9/",
            collections={"users": {"flush_delay_ms": 60_000}},
            hot_samples=0,
        )
        pipeline = Pipeline(settings)
        pipeline.sink.write = write  # type: ignore[method-assign]
        app = create_app(pipeline)
        ways = [Way("without", lambda: without(app)), Way("off", off)]
        for name, ratio in RATIOS.items():
            made = provider(ratio)
            ways.append(Way(name, lambda made=made: sampled(made)))
        ask(app, "PUT")
        flush(pipeline)
        measure(ways, app, pipeline)
        for what, of in (("PUT", "request"), ("GET", "request"), ("flush", "document")):
            print(f"{what}: µs of CPU for a {of} in the lower quartile of turns, and of that without")
            floor = quartile(ways[0].taken[what])
            for way in ways:
                taken = quartile(way.taken[what])
                print(f"  {way.name:14} {taken:7.1f}   {taken / floor:.3f}")
        sites(app, ways[1:])


def quartile(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=4)[0]


if __name__ == "__main__":
    main()
