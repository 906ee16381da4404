"""Spans that no collector gets are counted, each once, by the reason."""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from tests.forking import in_child
from writebehind.tallies.families import LOST_SPANS
from writebehind.tallies.tallies import Tallies
from writebehind.tracing import export, otlp
from writebehind.tracing.export import SpanExport
from writebehind.tracing.lost import Leaving

TAKEN, REFUSED = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


class Collector:
    """Stands in the place of the SDK's exporter by HTTP."""

    def __init__(self) -> None:
        self.answer: SpanExportResult | Exception = TAKEN
        self.got = 0
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def export(self, spans) -> SpanExportResult:
        self.asked.set()
        self.may_answer.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is TAKEN:
            self.got += len(spans)
        return self.answer

    def shutdown(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def collector(monkeypatch) -> Collector:
    one = Collector()
    monkeypatch.setattr(otlp, "OTLPSpanExporter", lambda: one)
    for name in [one for one in os.environ if one.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "50")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    return one


Made = tuple[TracerProvider, Leaving]


@pytest.fixture
def made(collector) -> Made:
    return otlp.provider("test")


@pytest.fixture
def tallies(tmp_path, made) -> Tallies:
    """Those of the process, which end before its last spans leave."""
    one = Tallies(tmp_path)
    made[1].count_in(one)
    return one


def lost(tallies: Tallies) -> Counter[str]:
    return Counter(
        {labels[0]: int(count) for (name, labels), [count] in tallies.read().items() if name == LOST_SPANS.name}
    )


def end_spans(made: Made, number: int) -> None:
    tracer = made[0].get_tracer("test")
    for _ in range(number):
        tracer.start_span("one").end()


def test_what_a_collector_takes_is_not_lost(made, collector, tallies):
    """However it leaves."""
    end_spans(made, 25)
    made[0].force_flush()
    end_spans(made, 7)
    SpanExport(*made).end()

    assert (32, Counter()) == (collector.got, lost(tallies))


@pytest.mark.parametrize("answer", [REFUSED, RuntimeError("a fault of the exporter")])
def test_what_a_collector_does_not_take_is_lost(made, collector, tallies, answer):
    """With the whole batch, however it fails; what it takes after that is not."""
    collector.answer = answer
    end_spans(made, 13)
    made[0].force_flush()
    collector.answer = TAKEN
    end_spans(made, 4)
    made[0].force_flush()

    assert (4, Counter({"not-taken": 13})) == (collector.got, lost(tallies))
    made[0].shutdown()


def test_what_a_queue_cannot_hold_is_lost(made, collector, tallies):
    """While a collector takes long, more end than may wait: the others come to it, from however many threads."""
    collector.may_answer.clear()
    end_spans(made, 10)
    assert collector.asked.wait(10)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: end_spans(made, 20), range(8)))
    collector.may_answer.set()
    SpanExport(*made).end()

    assert (60, Counter({"queue-full": 110})) == (collector.got, lost(tallies))


def test_what_has_not_left_when_the_process_ends_is_lost(made, collector, tallies, monkeypatch):
    """What waits, what is under way, and what ends later: the counts of the process have been closed by then."""
    monkeypatch.setattr(export, "FLUSH_WITHIN_S", 0.1)
    collector.may_answer.clear()
    end_spans(made, 10)
    assert collector.asked.wait(10)
    end_spans(made, 5)
    tallies.close()
    for _ in "12":
        SpanExport(*made).end()
    end_spans(made, 3)

    assert Counter({"ended": 18}) == lost(tallies)
    collector.answer = REFUSED
    collector.may_answer.set()
    made[0].shutdown()
    assert Counter({"ended": 18}) == lost(tallies)


def test_what_is_lost_before_anybody_counts_is_counted_then(made, collector, tmp_path):
    """A process has its tallies only after its provider."""
    collector.answer = REFUSED
    end_spans(made, 6)
    made[0].force_flush()
    tallies = Tallies(tmp_path)
    made[1].count_in(tallies)

    assert Counter({"not-taken": 6}) == lost(tallies)
    made[0].shutdown()


def test_what_is_not_sampled_is_not_lost(made, collector, tallies, monkeypatch):
    """It was to go nowhere."""
    monkeypatch.setattr(made[0], "sampler", otlp.TraceIdRatioBased(0))
    end_spans(made, 100)
    made[0].shutdown()

    assert (0, Counter()) == (collector.got, lost(tallies))


def test_a_wrong_number_is_the_default(monkeypatch, collector, caplog):
    """As the SDK has it."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "many")
    otlp.provider("test")[0].shutdown()

    assert "OTEL_BSP_MAX_QUEUE_SIZE is not taken" in caplog.text


def test_a_child_loses_only_what_is_its_own(made, collector, tallies):
    """What waits in the parent leaves from there."""
    end_spans(made, 9)

    def child() -> int:
        collector.answer = REFUSED
        end_spans(made, 55)
        SpanExport(*made).end()
        return collector.got

    assert in_child(child) == 0
    SpanExport(*made).end()

    assert collector.got == 9
    assert sum(lost(tallies).values()) == 55
