"""Requests in progress, as they are told while they begin and end."""

from __future__ import annotations

import asyncio
import time

from flask import request_tearing_down

from web import counting
from web.counting import Requests
from writebehind.flask import tracing
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies


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


def test_nothing_but_its_span_waits_for_the_end_of_a_request(installation):
    """The application ends that and looks for nothing else, as Flask would at each request."""
    waiting = installation.app.teardown_request_funcs.values()
    assert {tracing.end} == {one for some in waiting for one in some}
    assert not request_tearing_down.receivers
    assert installation.app.do_teardown_request is tracing.end
