"""What the console shows while MongoDB or the API does not answer."""

from __future__ import annotations

import logging
import time

import pytest
from playwright.sync_api import expect

from tests.acceptance.browser import TOOK, figure, in_a_browser, tab
from tests.waiting import slowness

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240), in_a_browser]

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
        slow = slowness()
        assert took < SOON_S * slow
        assert open_s < SOON_S * slow
    finally:
        servers.mongo.start()
    expect(page.locator("h1")).to_contain_text("Nothing would be lost", timeout=30_000)
    expect(page.locator(".lamps")).not_to_contain_text("breaker")


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
