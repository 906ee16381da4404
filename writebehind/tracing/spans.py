"""Spans of a document's way, one function for each: names and attributes as OpenTelemetry's conventions have them.

They say which collection, how many documents and what became of them, and no document, id or value of a field:
ids are often personal data, and who may read traces is seldom who may read documents. So a failed span has the
class of its error, and no message. See docs/adr/0040-traces-lead-to-the-bulk-write.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from random import random
from types import TracebackType
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, SpanContext, SpanKind, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from writebehind.tracing.span import (
    DRAWS,
    NO_SPAN,
    NOT_SAMPLED,
    Span,
    Value,
    get_current,
    is_on,
    may_begin,
    not_sampled,
    start,
)

_TRACE_CONTEXT: Final = TraceContextTextMapPropagator()
_REDIS: Final = {"db.system.name": "redis", "db.operation.name": "commit"}
_FLUSH: Final = {
    "messaging.system": "writebehind",
    "messaging.operation.name": "flush",
    "messaging.operation.type": "process",
}
_LISTEN: Final = {
    "messaging.system": "mongodb",
    "messaging.operation.name": "apply changes",
    "messaging.operation.type": "process",
}
_MESSAGES: Final = "messaging.batch.message_count"
_BATCH: Final = "db.operation.batch.size"


def request(
    method: str, scheme: str, parent: Mapping[str, str], route: Callable[[], str], *, is_drawn: bool = False
) -> Span:
    """The span of a request; none where the application has one for it.

    Args:
        method: of the request.
        scheme: http or https.
        parent: its headers `traceparent` and `tracestate`, as far as it has them. What is malformed is ignored.
        route: says the template of its path.
        is_drawn: its trace begins here, and its id is drawn among those that are sampled.
    """
    around = get_current()
    if around is not NOT_SAMPLED and around and get_current_span() is not INVALID_SPAN:
        return NO_SPAN
    begins_in = _TRACE_CONTEXT.extract(parent) if parent else None
    if not begins_in:
        draw = DRAWS[trace._TRACER_PROVIDER]  # noqa: SLF001 - see `is_on`
        if draw is not None and not is_drawn:
            if random() >= draw.ratio:  # noqa: S311 - no secret; as nearly all are, where few are sampled
                return NO_SPAN if around is NOT_SAMPLED else not_sampled(around)
            draw.sample()
        begins_in = Context() if around is NOT_SAMPLED else around
    template = route()
    return start(
        f"{method} {template}",
        SpanKind.SERVER,
        {"http.request.method": method, "http.route": template, "url.scheme": scheme},
        parent=begins_in,
    )


def commit(collection: str, count: int) -> Span:
    """The span of one round trip in which Redis acknowledges so many writes."""
    if not may_begin():
        return NO_SPAN
    return start(f"commit {collection}", SpanKind.CLIENT, _of_many(_REDIS, collection, count))


def load(collection: str, count: int = 1) -> Span:
    """The span of a read that Redis had no answer to, until there is one, be it loaded by another reader."""
    if not may_begin():
        return NO_SPAN
    about = {"db.system.name": "mongodb", "db.operation.name": "find"}
    return start(f"load {collection}", SpanKind.CLIENT, _of_many(about, collection, count))


def bulk_write(database: str, collection: str, count: int, links: Sequence[SpanContext]) -> Span:
    """The span of a bulk write to MongoDB, until it is known what became of each document; with its links."""
    if not is_on():
        return NO_SPAN
    about = {"db.system.name": "mongodb", "db.operation.name": "bulkWrite", "db.namespace": database}
    return start(f"bulkWrite {collection}", SpanKind.CLIENT, _of_many(about, collection, count), links=links)


def listener_batch(count: int) -> Span:
    """The span of so many changes of others, until the cache has them."""
    if not may_begin():
        return NO_SPAN
    return start("apply changes", SpanKind.CONSUMER, {**_LISTEN, _MESSAGES: count})


class Flush:
    """The span of a flush of one partition. It begins with its first batch: a flush that finds nothing has none.

    Everything else is as for `Span`.
    """

    def __init__(self, partition: int) -> None:
        """Begin by now."""
        self.is_traced = is_on()
        self._partition = partition
        self._began_ns = time.time_ns() if self.is_traced else 0
        self._span: Span | None = None

    def carries(self, links: Sequence[SpanContext]) -> None:
        """Link to the writes of another batch."""
        if not self.is_traced:
            return
        if self._span is None:
            about = {**_FLUSH, "messaging.destination.partition.id": str(self._partition)}
            self._span = start("flush", SpanKind.CONSUMER, about, links=links, began_ns=self._began_ns)
            self._span.__enter__()
        else:
            self._span.link(links)

    def counts(self, counts: Mapping[str, int]) -> None:
        """Say what came of it."""
        if self._span is not None:
            self._span.set({f"writebehind.{name}": count for name, count in counts.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is not None:
            self._span.__exit__(kind, error, trace)


def _of_many(about: Mapping[str, Value], collection: str, count: int) -> dict[str, Value]:
    """Attributes of a call that is about so many documents of a collection."""
    found = {**about, "db.collection.name": collection}
    if count != 1:
        found[_BATCH] = count
    return found
