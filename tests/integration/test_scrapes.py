"""Scrapes while MongoDB hangs: they are answered at once with what is known, and say that it was not reached."""

from __future__ import annotations

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.integration.conftest import put
from tests.proxy import Proxy
from writebehind import connect
from writebehind.monitoring.page import Page

#: Well below the time after which people and Prometheus give up, seconds.
SOON_S = 0.9


@pytest.mark.parametrize("is_open", [False, True])
def test_a_mongodb_that_hangs_keeps_no_scrape_waiting(settings, valkey_wire, mongo, is_open):
    """Be its breaker closed still or open: it is waited for once, and not for long."""
    with Proxy(mongo.port) as way:
        url = f"mongodb://127.0.0.1:{way.port}/?directConnection=true"
        with connect(settings.model_copy(update={"mongodb_url": url})) as pipeline:
            put(pipeline, 3)
            page = Page(pipeline)
            assert 1 == figures(page)["mongodb_up"]
            if is_open:
                pipeline.breaker._failed("it is frozen", probing=False, silent=True)
            way.hang()
            # Of several the quickest: a busy machine delays one, and what is waited for by the page delays all.
            shown, took_s = min((timed(page) for _ in range(3)), key=lambda one: one[1])
            way.flow()
    assert (0, 3) == (shown["mongodb_up"], shown["pending_documents"])
    assert took_s < SOON_S


def timed(page: Page) -> tuple[dict[str, float], float]:
    began = time.monotonic()
    return figures(page), time.monotonic() - began


def figures(page: Page) -> dict[str, float]:
    text = page.render("")[0].decode()
    return {one.name.removeprefix("writebehind_"): one.value for each in parse_text(text) for one in each.samples}
