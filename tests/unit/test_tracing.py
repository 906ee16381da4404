"""Spans where nobody traces, and what a process of the service makes of the variables of OpenTelemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask, request
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from tests.tracing import tracing
from writebehind.flask import tracing as of_requests
from writebehind.tracing import export, otlp, spans
from writebehind.tracing.span import NO_SPAN, NOT_SAMPLED, get_current, is_on, log_fields
from writebehind.tracing.written import contexts

ROOT = Path(__file__).parents[2]
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
#: A process that says what it exports, and how; its spans go nowhere.
SAYS = """
from opentelemetry import trace
from writebehind.tracing.export import export_spans
export_spans("web")
provider = trace.get_tracer_provider()
resource = getattr(provider, "resource", None)
sampler = getattr(provider, "sampler", None)
print(resource and resource.attributes["service.name"], sampler and sampler.get_description())
"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in [one for one in os.environ if one.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def all_spans():
    return [
        spans.request("GET", "http", {}, lambda: "/v1/{collection}"),
        spans.commit("users", 1),
        spans.load("users"),
        spans.bulk_write("shop", "users", 1, []),
        spans.listener_batch(1),
    ]


def test_without_a_provider_there_is_no_span():
    """Each call site has the same nothing, which can be used like a span."""
    assert not is_on()
    assert all(one is NO_SPAN for one in all_spans())
    with NO_SPAN as span, spans.Flush(3) as flush:
        span.set({"a": 1})
        span.link([])
        span.fail("x")
        flush.carries([])
        flush.counts({"a": 1})
        assert ("", False, False) == (span.context, bool(span), flush.is_traced)
        assert trace.get_current_span() is trace.INVALID_SPAN


def test_within_what_is_not_sampled_nothing_begins():
    """The sampler is asked once for each request, and its no holds for what the request does."""
    with tracing(ParentBased(ALWAYS_OFF)), spans.request("GET", "http", {}, lambda: "/") as request:
        assert ("", False) == (request.context, bool(request))
        assert all(one is NO_SPAN for one in all_spans())


def test_the_provider_is_where_it_is_looked_for():
    """OpenTelemetry's own function sets it there, in the versions that are allowed."""
    code = (
        "from opentelemetry import trace; from writebehind.tracing.span import is_on; before = is_on();"
        "trace.set_tracer_provider(trace.NoOpTracerProvider()); print(before, is_on())"
    )
    assert "False True\n" == said(code)


def test_a_log_line_names_the_span_that_it_is_in():
    """As its collector knows it; nothing where there is none, or one that nobody will find."""
    assert {} == log_fields()
    with tracing() as seen, spans.request("GET", "http", {}, lambda: "/"), spans.commit("users", 1):
        fields = log_fields()
    context = seen.one("commit users").context
    assert {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"} == fields
    with tracing(ParentBased(ALWAYS_OFF)), spans.request("GET", "http", {}, lambda: "/"):
        assert {} == log_fields()
    token = context_api.attach(NOT_SAMPLED)
    assert {} == log_fields()
    context_api.detach(token)


def test_a_flush_that_finds_nothing_has_no_span():
    """It begins with its first batch."""
    with tracing() as seen, spans.Flush(3):
        pass
    assert () == seen.all()


def test_a_flush_begins_when_it_began():
    """Also where it has claimed and read for a while, before it knows what it carries."""
    with tracing() as seen, spans.Flush(3) as flush:
        with spans.load("users"):
            pass
        flush.carries([])
    assert seen.one("flush").start_time <= seen.one("load users").start_time
    assert "3" == seen.one("flush").attributes["messaging.destination.partition.id"]


@pytest.mark.parametrize(
    "text", [b"", b"x", b"0" * 63, b"0" * 16 + b"g" * 48, b"0" * 64, b"9" * 16 + b"1" * 48, b"\xff" * 64]
)
def test_what_is_no_context_is_none(text):
    """Nor is one of a later version."""
    assert [] == contexts(text, 5)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "console"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp, console"}, True),
    ],
)
def test_when_spans_are_exported(monkeypatch, variables, wanted):
    """An endpoint turns it on; what turns OpenTelemetry off turns it off."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wanted == export.is_wanted()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "writebehind-web ParentBased{root:AlwaysOnSampler"),
        ({"OTEL_SERVICE_NAME": "shop"}, "shop "),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,a=b"}, "shop "),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
            "writebehind-web ParentBased{root:TraceIdRatioBased{0.01}",
        ),
    ],
)
def test_the_provider_is_as_the_variables_say(variables, expected):
    """The name of the service is ours unless they say one; the sampler is theirs."""
    assert said(SAYS, **ENDPOINT, **variables).startswith(expected)


@pytest.mark.parametrize(
    ("head", "variables", "told"),
    [
        ("", {}, "None None\n"),
        ("import sys; sys.modules['opentelemetry.sdk'] = None\n", ENDPOINT, "pip install 'writebehind[otel]'"),
        ("", ENDPOINT | {"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "a variable OTEL_… is wrong: ValueError("),
    ],
)
def test_a_process_goes_on_without_spans(head, variables, told):
    """No endpoint, no SDK, or a wrong variable: it says so in a line, and nothing else changes."""
    found = said(head + SAYS, **variables)
    assert told in found
    assert "None None" in found


def test_a_provider_that_is_there_stays():
    """Such as that of `opentelemetry-instrument`."""
    head = "from opentelemetry import trace; trace.set_tracer_provider(trace.NoOpTracerProvider())\n"
    assert "None None\n" == said(head + SAYS, **ENDPOINT)


def said(code: str, **variables: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


@pytest.fixture
def drawn(monkeypatch):
    """A provider of the service that samples by ratio, and how to make requests of it."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")

    @contextmanager
    def make(ratio: str):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
        exporter = InMemorySpanExporter()
        made, _ = otlp.provider("test")
        made.shutdown()
        made._active_span_processor = SynchronousMultiSpanProcessor()
        made.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", made)
        token = context_api.attach(context_api.Context())
        yield exporter
        context_api.detach(token)  # or this thread would stay one that serves requests

    return make


def test_a_draw_is_what_the_sampler_says(drawn):
    """The part of requests that was asked for is sampled, each with what it does; of others nothing begins."""
    with drawn("0.25") as exporter:
        for _ in range(2_000):
            with spans.request("GET", "http", {}, lambda: "/") as request, spans.load("users") as load:
                assert bool(request) == bool(load)
            assert not trace.get_current_span().get_span_context().trace_flags.sampled
    found = exporter.get_finished_spans()
    assert 400 < len(found) / 2 < 600
    assert len(found) / 2 == len({one.context.trace_id for one in found})
    assert all(one.context.trace_flags.sampled for one in found)


def test_a_thread_that_serves_requests_begins_no_trace_between_them(drawn):
    """Others do, such as one that reads documents anew, and so does its next request that is sampled."""
    with drawn("0.25") as exporter:
        for _ in range(200):
            with spans.request("GET", "http", {}, lambda: "/"):
                pass
        assert get_current() is NOT_SAMPLED
        assert NO_SPAN is spans.load("users") is spans.commit("users", 1)
        assert 10 < len(exporter.get_finished_spans()) < 100
        assert all(one.parent is None for one in exporter.get_finished_spans())

        with ThreadPoolExecutor(1) as other:
            other.submit(lambda: [spans.load("users").__exit__(None, None, None) for _ in range(200)]).result()
        assert "load users" in {one.name for one in exporter.get_finished_spans()}


def test_the_sampler_is_asked_only_about_what_it_samples(drawn, monkeypatch):
    """A request that is dropped has no span made, which would cost a hundredth of it."""
    asked = []
    with drawn("0.25"):
        sampler = trace.get_tracer_provider().sampler
        ask = sampler.should_sample
        monkeypatch.setattr(sampler, "should_sample", lambda *given: asked.append(given[1]) or ask(*given))
        sampled = 0
        for _ in range(200):
            with spans.request("GET", "http", {}, lambda: "/") as request:
                sampled += bool(request)
    assert 0 < sampled == len(asked) < 200


def test_a_request_is_drawn_once(drawn):
    """Also in a thread that has dropped others, where nothing is made of one that is dropped."""
    app = Flask("any")
    with drawn("0.25") as exporter:
        for _ in range(1_000):
            with app.test_request_context("/"):
                of_requests.begin(request._get_current_object())
                of_requests.end(None)
    assert 170 < len(exporter.get_finished_spans()) < 330


@pytest.mark.parametrize(("ratio", "all_or_none"), [("0", 0), ("1", 50), ("", 50), ("x", 50)])
def test_ratios_of_which_there_is_little_to_draw(drawn, ratio, all_or_none):
    """None, all, and what the SDK takes for all."""
    with drawn(ratio) as exporter:
        for _ in range(50):
            with spans.request("GET", "http", {}, lambda: "/"):
                pass
    assert all_or_none == len(exporter.get_finished_spans())


def test_what_a_caller_samples_is_not_drawn(drawn):
    """Its decision stands, either way; what else the context carries stays."""
    with drawn("0") as exporter:
        for flags in ("01", "00"):
            with spans.request("GET", "http", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-{flags}"}, lambda: "/"):
                pass
        token = context_api.attach(context_api.set_value("theirs", 1))
        with spans.request("GET", "http", {}, lambda: "/"):
            assert 1 == context_api.get_value("theirs")
            assert NO_SPAN is spans.load("users")
        context_api.detach(token)
    [found] = exporter.get_finished_spans()
    assert int("a" * 32, 16) == found.context.trace_id
