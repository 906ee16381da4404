"""Requests in progress, as they are told while they begin and end."""

from __future__ import annotations

import asyncio
import time

from web import counting
from web.counting import Requests
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies


def in_progress(tallies: Tallies) -> float:
    return tallies.read().get((families.IN_PROGRESS.name, ()), [0])[0]


async def until(tallies: Tallies, expected: float) -> None:
    deadline = time.monotonic() + 5
    while in_progress(tallies) != expected:
        assert time.monotonic() < deadline, in_progress(tallies)
        await asyncio.sleep(0.01)


def test_requests_in_progress_are_told_until_there_are_none(monkeypatch):
    """As many as there are, soon after they have begun or ended; nothing is looked at once there are none."""
    monkeypatch.setattr(counting, "TELL_EVERY_S", 0.02)
    tallies = Tallies()
    requests = Requests(tallies)

    async def run() -> None:
        for _ in range(2):
            requests.begin()
            requests.begin()
            await until(tallies, 2)
            requests.end()
            await until(tallies, 1)
            requests.end()
            await until(tallies, 0)
        deadline = time.monotonic() + 5
        while asyncio.get_running_loop()._scheduled:
            assert time.monotonic() < deadline
            await asyncio.sleep(0)

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
