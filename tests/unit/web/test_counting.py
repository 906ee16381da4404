"""Requests in progress, as they are told while they begin and end."""

from __future__ import annotations

import asyncio
import time
from unittest.mock import Mock

from flask import Flask, request_tearing_down
from opentelemetry import context as context_api

from web import counting
from web.app import create_app
from web.counting import Requests
from writebehind.flask import tracing
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies
from writebehind.tracing.span import NOT_SAMPLED


def in_progress(tallies: Tallies) -> float:
    return tallies.read().get((families.IN_PROGRESS.name, ()), [0])[0]


async def until(tallies: Tallies, expected: float) -> None:
    deadline = time.monotonic() + 5
    while in_progress(tallies) != expected:
        assert time.monotonic() < deadline, in_progress(tallies)
        await asyncio.sleep(0.01)


def test_requests_in_progress_are_told_again_and_again(monkeypatch):
    """As many as there are, soon after they have begun or ended, also after a while without any."""
    monkeypatch.setattr(counting, "TELL_EVERY_S", 0.02)
    tallies = Tallies()
    number = 0

    async def run() -> None:
        nonlocal number
        Requests(tallies).tell(lambda: number)
        for number in (2, 1, 0, 3, 0):
            await until(tallies, number)
            await asyncio.sleep(2 * counting.TELL_EVERY_S)

    asyncio.run(run())


def test_an_answer_is_counted_by_its_route_method_and_status():
    """The route as OpenAPI has it; methods that are no methods together, however many there are."""
    tallies = Tallies()
    requests = Requests(tallies)
    for method in ("GET", "GET", "A", "B"):
        requests.answered(method, "/v1/<collection>/<id>", 200, time.perf_counter())
    requests.answered("GET", "/v1/<collection>/<id>", 404, time.perf_counter())

    counted = {labels: sum(buckets) for (_, labels), (_, *buckets) in tallies.read().items()}
    route = "/v1/{collection}/{id}"
    assert {(route, "GET", "200"): 2, (route, "(other)", "200"): 2, (route, "GET", "404"): 1} == counted


def test_nothing_but_its_span_waits_for_the_end_of_a_request(installation, monkeypatch):
    """The application ends that and looks for nothing else, as Flask would at each request."""
    app, ended = create_app(installation.pipeline), []
    assert app._ends_spans_only
    monkeypatch.setattr(tracing, "end", ended.append)
    monkeypatch.setattr(Flask, "do_teardown_request", Mock(side_effect=AssertionError("it looks for others")))
    assert 200 == app.test_client().get("/healthz").status_code
    assert [None] == ended


def test_a_request_that_is_not_sampled_has_no_span_to_end(installation, monkeypatch):
    """Nothing is called for it, as nearly all are such where few are sampled."""
    app = create_app(installation.pipeline)
    assert app._ends_spans_only
    monkeypatch.setattr(tracing, "end", Mock(side_effect=AssertionError("it has none")))
    token = context_api.attach(NOT_SAMPLED)
    try:
        assert 200 == app.test_client().get("/healthz").status_code
    finally:
        context_api.detach(token)


def test_others_may_wait_for_the_end_of_a_request_too(installation):
    """Functions and receivers of the signal are called, beside the span's end: so instruments end theirs."""
    called = []
    app = create_app(installation.pipeline)
    app.teardown_request(lambda error: called.append(("function", error)))
    app.test_client().get("/healthz")
    assert [("function", None)] == called

    app = create_app(installation.pipeline)
    with request_tearing_down.connected_to(lambda _app, exc: called.append(("signal", exc)), app):
        app.test_client().get("/healthz")
    app.test_client().get("/healthz")
    assert [("function", None), ("signal", None)] == called
