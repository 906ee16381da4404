"""The contexts of the spans that have written what is pending, as they wait in Redis until a flush links to them.

A document's field of `traces` has a record for each of its last writes that are sampled, the last one at the end:
16 digits of the version, 32 of the trace's id and 16 of the span's, both hexadecimal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from opentelemetry.trace import SpanContext, TraceFlags

#: So many writes of a document are known, the last ones; others that a flush coalesces have no link.
MOST_CONTEXTS: Final = 8
#: The contexts of a partition are forgotten so long after the first of them was noted, ms: a day.
CONTEXTS_LIVE_MS: Final = 86_400_000

_RECORD: Final = re.compile(rb"([0-9]{16})([0-9a-f]{32})([0-9a-f]{16})")
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


def noted(context: SpanContext) -> str:
    """A context as a commit takes it; '' for one that is not sampled, of which there is nothing to link to."""
    return f"{context.trace_id:032x}{context.span_id:016x}" if context.trace_flags.sampled else ""


def named(context: SpanContext) -> dict[str, str]:
    """A context's ids as a log line has them, by the names that OpenTelemetry gives them there."""
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def contexts(text: bytes, version: int) -> list[SpanContext]:
    """The contexts of writes up to a version; of what other hands have spoiled, those that are left."""
    found = [
        SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=_SAMPLED)
        for digits, trace, span in _RECORD.findall(text)
        if int(digits) <= version
    ]
    return [one for one in found if one.is_valid]


def distinct(found: Iterable[SpanContext]) -> list[SpanContext]:
    """Each of them once, in their order: several documents may be written by one span."""
    return list({(one.trace_id, one.span_id): one for one in found}.values())
