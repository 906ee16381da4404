"""What the console shows while MongoDB or the API does not answer."""

from __future__ import annotations

import logging
import re
import time

import pytest
from playwright.sync_api import expect

from tests.acceptance.browser import TOOK, chart, figure, in_a_browser, tab
from tests.servers import freeze, resume
from tests.waiting import slowness, wait_until
from writebehind import connect, load_settings
from writebehind.operations.drain import drain

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.acceptance, in_a_browser]

#: How soon the console has to show that MongoDB is gone, seconds.
SOON_S = 3.0


def test_a_stopped_mongodb_is_seen(system, servers, opened):
    """Within 3 s it is shown how much waits for it and that the breaker is open; then that all is well again."""
    system.put_all("before", 200)
    system.wait_until_drained()
    page = opened.open(system.stack.url)
    servers.mongo.kill()
    try:
        killed = time.monotonic()
        system.put_all("during", 200)
        took = page.evaluate(TOOK, "MongoDB does not answer: ")
        log.info("the console showed it after %.2f s", took)
        assert "200" == figure(page, "Only in Redis now")
        expect(page.locator(".lamps")).to_contain_text("breaker open", timeout=20_000)
        open_s = time.monotonic() - killed
        log.info("the console showed the open breaker after %.2f s", open_s)
        steps = page.get_by_role("list", name="What to do")
        expect(steps).to_contain_text("mongodb: bring MongoDB back")
        runbook = steps.get_by_role("link", name="Runbook").first.get_attribute("href")
        assert runbook.endswith("/docs/runbook.md#writebehindmongodbdown"), runbook
        expect(page.locator(".lamps")).to_contain_text(
            "away for", timeout=20_000
        )  # the listener, which hears nothing
        slow = slowness()
        assert took < SOON_S * slow
        assert open_s < SOON_S * slow
    finally:
        servers.mongo.start()
    expect(page.locator("h1")).to_contain_text("Nothing would be lost", timeout=30_000)
    expect(page.locator(".lamps")).not_to_contain_text("breaker")
    expect(page.get_by_role("list", name="What to do")).to_have_count(0, timeout=30_000)


def test_a_redis_that_is_away_is_seen(system, servers, chromium):
    """Within 3 s it is shown, on a page that is opened then too; with what was only there, and when that was seen.

    Afterwards charts have a gap for that time.
    """
    system.put_all("lost", 200, "late")
    with tab(chromium, outage=True) as opened, tab(chromium, outage=True) as later:
        page = opened.open(system.stack.url)
        wait_until(lambda: page.wait_for_timeout(50) or figure(page, "Only in Redis now") == "200", "the figures")
        wait_until(lambda: system.http.get("/admin/history").json()["pending"][-1:] == [200], "the history")
        freeze(servers.redis)
        try:
            frozen = time.monotonic()
            lost = page.locator(".lost")
            expect(lost.locator("h2")).to_have_text(
                "Redis does not answer: at least 200\u00a0documents were only there", timeout=20_000
            )
            took = time.monotonic() - frozen
            log.info("the console showed it after %.2f s", took)
            assert took < SOON_S * slowness()
            for name, value in (("Pending, last known", "200"), ("Dead letters, last known", "0")):
                assert value == lost.locator(".figure").filter(has_text=name).locator(".value").inner_text()
            expect(lost.locator(".figure").filter(has_text="Seen at")).to_contain_text("s ago")
            steps = lost.get_by_role("list", name="What to do")
            expect(steps).to_contain_text("redis: look on its host whether its process is stopped")
            runbook = steps.get_by_role("link", name="Runbook").get_attribute("href")
            assert runbook.endswith("/docs/runbook.md#writebehindredisdown"), runbook
            expect(page.locator("h1")).to_have_text("Before Redis stopped answering")
            expect(page.locator(".lamps")).to_contain_text("does not answer")
            expect(chart(page, "Only in Redis").locator(".old dt")).to_contain_text("ago", timeout=20_000)
            assert [] == opened.faults()

            late = later.page
            late.goto(f"{system.stack.url}/console#processes")
            expect(late.locator(".lost h2")).to_contain_text("200\u00a0documents were only there")
        finally:
            resume(servers.redis)
        expect(page.locator(".lost")).to_have_count(0, timeout=30_000)
        plot = chart(page, "Only in Redis").get_by_role("img")
        expect(plot).to_have_attribute("aria-label", re.compile("Redis did not answer for "), timeout=30_000)
    urls = {"redis_url": servers.redis.url, "mongodb_url": servers.mongo.url}
    with connect(load_settings(**urls, mongodb_database=system.database.name, allow_unlisted=True)) as pipeline:
        drain(pipeline, timeout_s=30)
    system.wait_until_drained()
    system.wait_for_workers()


def test_an_api_that_does_not_answer_leaves_the_last_figures(system, servers, chromium):
    """One line says why there are no new ones; they stay, greyed, with their age; and go on by themselves."""
    with tab(chromium, outage=True) as opened:
        page = opened.open(system.stack.url)
        before = figure(page, "Only in Redis now")
        servers.redis.kill()
        try:
            expect(page.locator(".banner")).to_contain_text(
                "The API answers 503: Redis does not answer", timeout=20_000
            )
            assert page.locator(".banner").bounding_box()["height"] < 60
            expect(page.locator(".banner")).to_contain_text("s old")
            expect(page.locator("main")).to_have_class("old")
            assert before == figure(page, "Only in Redis now")
        finally:
            servers.redis.start()
        expect(page.locator(".banner")).to_have_count(0, timeout=30_000)
        expect(page.locator("main")).not_to_have_class("old")
        page.context.set_offline(True)
        expect(page.locator(".banner")).to_contain_text("The API does not answer")
        page.context.set_offline(False)
        expect(page.locator(".banner")).to_have_count(0, timeout=30_000)
    system.wait_for_workers()


def test_a_redis_that_cannot_serve_is_told_as_that(system, chromium):
    """It does answer: the page says what, and what to do."""
    why = "Redis takes no writes, as too few of its replicas keep up. What was sent was not carried out."
    to_do = [{"about": "redis", "found": why, "advice": "see to its replicas", "severity": "critical"}]
    told = {"type": "urn:problem-type:writebehind:redis-not-ready", "detail": why, "to_do": to_do}
    with tab(chromium, outage=True) as opened:
        opened.page.route("**/admin/status?*", lambda route: route.fulfill(status=503, json=told))
        opened.page.goto(f"{system.stack.url}/console")
        lost = opened.page.locator(".lost")
        expect(lost.locator("h2")).to_have_text(
            "Redis cannot serve now, and nobody here has seen how much is only there"
        )
        expect(lost).to_contain_text(f"{why} Writes are refused until it is back, and reads go to MongoDB.")
        expect(lost.get_by_role("list", name="What to do")).to_contain_text("see to its replicas")
