"""A tracer provider of OpenTelemetry's SDK that exports by OTLP. Only who has the extra `otel` can import it.

It goes through forks: the SDK gives each child a queue and a thread of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from random import getrandbits, randrange
from threading import local

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from writebehind import forks
from writebehind.outage_log import OutageLog
from writebehind.tracing.lost import Leaving

log = logging.getLogger(__name__)


#: Spans that may wait, where no variable says: the SDK's own default.
_MOST_WAITING = 2_048
#: Samplers that look at nothing but a trace's id where it has no parent.
_BY_RATIO = {"traceidratio", "parentbased_traceidratio"}


class Draw(RandomIdGenerator):
    """Ids of traces, drawn before a span is made of which the sampler would only say that it is dropped.

    The SDK takes 4 µs to say so, a hundredth of a request. The sampler is asked about all others, and says of
    the same id the same.
    """

    def __init__(self, ratio: float) -> None:
        """Know which ids a sampler with this ratio samples."""
        #: Ids are sampled whose last 64 bits are below it.
        self._bound = TraceIdRatioBased(ratio).bound
        #: The part of traces that is sampled; see `writebehind.tracing.span.Draw`.
        self.ratio = self._bound / (TraceIdRatioBased.TRACE_ID_LIMIT + 1)
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Have drawn nothing: a trace of the parent process is not the child's too."""
        self._drawn = local()

    def sample(self) -> None:
        """Draw the id of the next trace of this thread among those that are sampled."""
        self._drawn.id = getrandbits(64) << 64 | randrange(self._bound)  # noqa: S311 - no secret

    def generate_trace_id(self) -> int:
        """The id that was drawn, or another one."""
        return self._drawn.__dict__.pop("id", 0) or super().generate_trace_id()


class Exporter(SpanExporter):
    """OTLP over HTTP, of which a failure is one line for the outage, and none for each attempt."""

    def __init__(self, leaving: Leaving) -> None:
        """Send to where the variables say, and say there what became of spans."""
        self._leaving = leaving
        self._exporter = OTLPSpanExporter()
        self._outages = OutageLog(log, "batch of spans", "batches of spans")
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; what the collector does not take is lost."""
        self._leaving.go(len(spans))
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._leaving.arrived(len(spans), taken=result is SpanExportResult.SUCCESS)
        if result is not SpanExportResult.SUCCESS:
            self._outages.note("spans", "the collector of traces does not take spans: they are lost")
        return result

    def shutdown(self) -> None:
        """Try nothing again from here on."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class Queue(BatchSpanProcessor):
    """The SDK's own, into which no more go than it holds: it would tell nobody what it has dropped."""

    def __init__(self, leaving: Leaving, most: int) -> None:
        """Let spans wait, at most so many."""
        self._leaving = leaving
        super().__init__(Exporter(leaving), max_queue_size=most)

    def on_end(self, span: ReadableSpan) -> None:
        """Let a span wait, if it was sampled."""
        if span.context and span.context.trace_flags.sampled and self._leaving.wait():
            super().on_end(span)


def provider(name: str) -> tuple[TracerProvider, Leaving]:
    """The provider, as the variables say, and what becomes of its spans.

    Args:
        name: of the service, unless the variables say one.

    Raises:
        Exception: a variable is wrong.
    """
    is_named = SERVICE_NAME in OTELResourceDetector().detect().attributes
    # Its own handler of the end would wait for a collector that does not answer: see `writebehind.tracing.export`.
    made = TracerProvider(
        resource=Resource.create({} if is_named else {SERVICE_NAME: name}),
        shutdown_on_exit=False,
        id_generator=_ids(),
    )
    most = _most_waiting()
    leaving = Leaving(most)
    made.add_span_processor(Queue(leaving, most))
    return made, leaving


def _most_waiting() -> int:
    """Spans that may wait, by the SDK's variable."""
    try:
        return int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", _MOST_WAITING))
    except ValueError as error:  # of which the SDK would make its default
        log.warning("OTEL_BSP_MAX_QUEUE_SIZE is not taken: %s", error)
        return _MOST_WAITING


def _ids() -> RandomIdGenerator:
    """The ids of traces, by the variables that the SDK makes its sampler of, read as it reads them."""
    if os.environ.get("OTEL_TRACES_SAMPLER", "").lower() not in _BY_RATIO:
        return RandomIdGenerator()
    try:
        return Draw(float(os.environ.get("OTEL_TRACES_SAMPLER_ARG", "")))
    except ValueError:  # of which the SDK makes 1, and says so
        return RandomIdGenerator()
