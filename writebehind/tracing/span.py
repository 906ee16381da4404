"""One span, or nothing where nobody traces: what call sites hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from functools import cache, lru_cache
from importlib.metadata import version
from types import TracebackType
from typing import Final, Protocol, Self

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)

from writebehind.outage_log import OutageLog
from writebehind.tracing.written import named, noted

log = logging.getLogger(__name__)

Value = str | bool | int | float

ERROR_TYPE: Final = "error.type"
#: The conventions that names of spans and attributes follow.
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.37.0"
_failures: Final = OutageLog(log, "span", "spans")


class Span:
    """No span: what a call site has where nobody traces, or this is not sampled. It is false."""

    __slots__ = ()

    @property
    def context(self) -> str:
        """Its context as Redis notes it: see `writebehind.tracing.written`."""
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __bool__(self) -> bool:
        return False

    def names(self) -> dict[str, str]:
        """Its ids as a log line has them."""
        return {}

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Say more of it."""

    def link(self, contexts: Sequence[SpanContext]) -> None:
        """Link to spans of other traces."""

    def fail(self, kind: str) -> None:
        """Say that it has failed, and by which kind of error: no message, as that may repeat a document."""


NO_SPAN: Final = Span()
#: Where the API keeps the current context. Its own functions go through two more, each time.
_current: Final = getattr(getattr(context_api, "_RUNTIME_CONTEXT", None), "_current_context", None)
if isinstance(_current, ContextVar):
    get_current: Callable[[], Context] = _current.get
    _attach: Callable[[Context], object] = _current.set
else:  # another version, or what OTEL_PYTHON_CONTEXT names
    get_current, _attach = context_api.get_current, context_api.attach
#: Stands for what is not sampled. Its ids are valid, so that it is no root.
_DROPPED: Final = NonRecordingSpan(SpanContext(1, 1, is_remote=False))
#: The context of threads that serve requests which are drawn, outside of those that are sampled: nothing but a
#: request begins a trace there. It stays when a request is over, as to enter and leave it would cost each.
NOT_SAMPLED: Final = set_span_in_context(_DROPPED, Context())


class _Started(Span):
    """A span that has begun. Within it, others are its children; it is true if it is recorded.

    An application's own processors of spans may raise anything, which is in the way of nothing but the span.
    """

    __slots__ = ("_attached", "_span")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._attached: Token[Context] | None = None

    @property
    def context(self) -> str:
        return noted(self._span.get_span_context())

    def __enter__(self) -> Self:
        self._attached = context_api.attach(set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._attached is not None:
            context_api.detach(self._attached)
        if isinstance(error, Exception):
            self.fail(type(error).__name__)
        try:
            self._span.end()
        except Exception as failure:  # noqa: BLE001 - see above
            _tell(failure)

    def names(self) -> dict[str, str]:
        return named(self._span.get_span_context())

    def __bool__(self) -> bool:
        return self._span.is_recording()

    def set(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)

    def link(self, contexts: Sequence[SpanContext]) -> None:
        for one in contexts:
            self._span.add_link(one)

    def fail(self, kind: str) -> None:
        self._span.set_attribute(ERROR_TYPE, kind)
        self._span.set_status(Status(StatusCode.ERROR))


def is_on() -> bool:
    """Whether this process has a tracer provider: its application's, or that of `writebehind.tracing.export`."""
    return trace._TRACER_PROVIDER is not None  # noqa: SLF001 - else a call, and a look at the environment, each time


def log_fields() -> dict[str, str]:
    """Fields of a log line: the span that this thread is in, if it is sampled."""
    context = get_current_span().get_span_context()
    return named(context) if context.trace_flags.sampled else {}


class Draw(Protocol):
    """A draw which requests are sampled: that of `writebehind.tracing.otlp`.

    Attributes:
        ratio: the part of them that is.
    """

    ratio: float

    def sample(self) -> None:
        """Let the next trace of this thread be sampled."""


class _Draws(dict[TracerProvider | None, Draw | None]):
    """The draws of providers. `None` where one has none: then its sampler is asked about each request.

    It is found by one look, as each request does: `lru_cache` would touch more.
    """

    def __missing__(self, provider: TracerProvider | None) -> Draw | None:
        ids = getattr(provider, "id_generator", None)
        self[provider] = draw = ids if hasattr(ids, "sample") else None
        return draw


DRAWS: Final = _Draws()


def not_sampled(around: Context) -> Span:
    """The span of a request that is dropped, within which no other begins; `around` is the current context."""
    if around:
        return _Started(_DROPPED)
    _attach(NOT_SAMPLED)
    return NO_SPAN


def may_begin() -> bool:
    """Whether a span may begin here: there is a provider, and what it is a part of is sampled, if anything."""
    if trace._TRACER_PROVIDER is None:  # noqa: SLF001 - as above
        return False
    if get_current() is NOT_SAMPLED:
        return False
    current = get_current_span()
    return current is INVALID_SPAN or current.get_span_context().trace_flags.sampled


def start(
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, Value],
    *,
    links: Sequence[SpanContext] = (),
    parent: Context | None = None,
    began_ns: int | None = None,
) -> Span:
    """Start a span, if there is a provider, and if the one that it is a part of is sampled.

    What persists sampled writes is to be found from each of them. So where it has links, and is a part of nothing
    that is sampled, it is a part of the first write's trace, and the sampler decides about it as about that.

    Args:
        name: of the span.
        kind: its part in what happens.
        attributes: what the sampler may look at.
        links: the contexts of what it carries on.
        parent: the context that it begins in; by default the current one, unless what that is in is not sampled.
        began_ns: when it began, ns since 1970; by default now.
    """
    provider: TracerProvider | None = trace._TRACER_PROVIDER  # noqa: SLF001 - as above
    if provider is None:
        return NO_SPAN
    if parent is None:
        current = get_current_span()
        if not current.get_span_context().trace_flags.sampled:
            if links:
                parent = set_span_in_context(NonRecordingSpan(links[0]))
            elif current is not INVALID_SPAN:
                return NO_SPAN
    given = [Link(one) for one in links]
    try:
        return _Started(_tracer(provider).start_span(name, parent, kind, attributes, given, began_ns))
    except Exception as failure:  # noqa: BLE001 - of an application's own sampler, or processor of spans
        _tell(failure)
        return NO_SPAN


def _tell(failure: Exception) -> None:
    _failures.note("spans", f"a span is lost, as what the tracer provider calls has failed: {failure!r}")


@lru_cache(8)
def _tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("writebehind", _version(), _SCHEMA)


@cache
def _version() -> str:
    return version("writebehind")
