"""Ways to watch requests, which benchmarks take out by their names."""

from __future__ import annotations

from contextlib import ExitStack

from bench.watched import take_out_counting, take_out_tracing
from writebehind.reading.reader import Reader
from writebehind.tracing import spans


class _Application:
    do_teardown_request = staticmethod(bool)


def test_what_is_taken_out_is_there():
    """Each call site that a benchmark takes out exists, and comes back."""
    app = _Application()
    before = Reader.note, spans.request, app.do_teardown_request
    with ExitStack() as stack:
        take_out_counting(stack)
        take_out_tracing(stack, app)
        assert Reader.note is not before[0]
        assert spans.request is not before[1]
        assert app.do_teardown_request is not before[2]
    assert before == (Reader.note, spans.request, app.do_teardown_request)
