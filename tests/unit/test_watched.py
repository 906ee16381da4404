"""Ways to watch requests, which benchmarks take out by their names."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

from bench.watched import take_out_counting, take_out_tracing
from writebehind.reading.reader import Reader
from writebehind.tracing import spans


def test_what_is_taken_out_is_there():
    """Each call site that a benchmark takes out exists, and comes back."""
    before = Reader.note, spans.request
    with ExitStack() as stack:
        take_out_counting(stack)
        take_out_tracing(stack, SimpleNamespace(teardown_request_funcs={}))
        assert Reader.note is not before[0]
        assert spans.request is not before[1]
    assert before == (Reader.note, spans.request)
