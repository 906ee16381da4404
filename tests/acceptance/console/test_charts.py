"""The last hour: it is recorded, and its charts show it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.acceptance.browser import chart, in_a_browser
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, in_a_browser]

#: A history as the API tells it; all else is not known.
HISTORY = {
    "acknowledged_per_second": [120.0, 118.0],
    "persisted_per_second": [119.0, 12_345.0],
    "hit_ratio": [0.5, 0.975],
    "reads_per_second": [60.0, 40.0],
    "breaker": ["closed", "open"],
    "latency": {"hit": {"p50": [0.0004, 0.00042], "p99": [0.002, None]}},
}


def test_charts_show_the_history_also_after_a_reload(system, opened):
    """The first request asks for the last hour, the others for what came since; any time can be pointed at."""
    page, asked = opened.page, []

    def tell(route) -> None:
        since = float(route.request.url.partition("since=")[2])
        asked.append(since)
        now = system.http.get("/admin/history").json()["now"]
        told = HISTORY if since == 0 else {"latency": {"hit": {"p50": [], "p99": []}}}
        times = [now - 60, now - 30] if since == 0 else []
        route.fulfill(json={"now": now, "time": times} | {one: told.get(one, []) for one in HISTORY})

    page.route("**/admin/history?*", tell)
    for _ in range(2):
        opened.open(system.stack.url)
        expect(chart(page, "Writes").locator("dd")).to_have_text(["118/s", "12.3k/s"])
        expect(chart(page, "Reads from the cache").locator("dd")).to_have_text(["97.5\u00a0%"])
        expect(chart(page, "A read takes").locator("dd").first).to_have_text("0.42\u00a0ms")
        wait_until(lambda: page.wait_for_timeout(50) or asked[-1] > 0, "the next request")
    assert 2 == asked.count(0)

    page.get_by_role("button", name="5 min", exact=True).click()
    plot = chart(page, "Writes").locator(".u-over")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.79, box["y"] + 20)
    expect(chart(page, "Writes").locator("dd")).to_have_text(["120/s", "119/s"])
    expect(chart(page, "Reads from the cache").locator("dd")).to_have_text(["50.0\u00a0%"])


def show(system, page, told: dict[str, list[float | None]], *, ages_s: tuple[int, ...]) -> None:
    """Let a page have this history, of so many seconds ago, and nothing after it: no time passes."""
    now = system.http.get("/admin/history").json()["now"]

    def tell(route) -> None:
        is_first = route.request.url.endswith("since=0")
        time = [now - age for age in ages_s] if is_first else []
        route.fulfill(
            json={"now": now, "time": time} | {name: some if is_first else [] for name, some in told.items()}
        )

    page.route("**/admin/history?since=*", tell)


def test_the_hit_ratio_is_that_of_the_last_minute(system, opened):
    """Each second counts by its reads, however few the last one had; what is older does not count."""
    told = {
        "hit_ratio": [0.0, 0.5, None, 1.0],
        "reads_per_second": [1_000.0, 300.0, 0.0, 100.0],
    }

    show(system, opened.page, told, ages_s=(90, 20, 10, 1))
    page = opened.open(system.stack.url)
    expect(chart(page, "Reads from the cache").locator("dt")).to_have_text("hit ratio, last minute")
    expect(chart(page, "Reads from the cache").locator("dd")).to_have_text("62.5\u00a0%")


def test_a_value_alone_is_a_point(system, opened):
    """A line shows nothing of a value with nothing beside it, as the first one after a start."""
    page = opened.open(system.stack.url)
    told = page.evaluate("""import('./console/chart.js').then(({ alone }) => [
        alone([1], [5]),
        alone([1, 2, 3, 4, 5], [1, 2, null, 4, null]),
        alone([1, 2, 100, 101, 102], [1, 1, 1, 1, 1], [0, 0, 0, 0, 3]),
        alone([], []),
    ])""")
    assert [[0], [3], [4], []] == told


def test_a_figure_that_is_old_says_so(system, opened):
    """Of a MongoDB that tells nothing any more the last figure stays, greyed, with its age; others do not."""
    told = {
        "operations_per_second": [6.0, 8.0],
        "mongodb_operations_per_second": [32.0, None],
        "mongodb_connections": [7.0, None],
    }

    show(system, opened.page, told, ages_s=(20, 1))
    page = opened.open(system.stack.url)
    old = chart(page, "Operations of MongoDB").locator(".old")
    expect(old.locator("dt")).to_have_text(["all, 20\u00a0s ago", "connections, 20\u00a0s ago"])
    expect(old.locator("dd")).to_have_text(["32/s", "7"])
    expect(chart(page, "Operations of MongoDB").locator("dd")).to_have_text(["32/s", "8/s", "7"])


def test_the_last_hour_is_recorded(system, opened):
    """Charts show what the exporter has seen: the writes of this run, and how much memory Redis uses."""
    system.put_all("recorded", 50)
    page = opened.open(system.stack.url)
    expect(chart(page, "Memory of Redis").locator("dd").first).to_contain_text("MiB", timeout=30_000)
    used = system.http.get("/admin/history").json()["used_memory"]
    assert any(used)
    expect(page.get_by_text("Nobody records the last hour")).to_have_count(0)
