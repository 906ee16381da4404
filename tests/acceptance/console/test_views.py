"""The views: each has an address, everybody can use them, and each shows what the API tells."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress

import psutil
import pytest
from playwright.sync_api import TimeoutError as NeverError
from playwright.sync_api import expect

from tests.acceptance.browser import COLOURS, NARROW, WIDE, in_a_browser, tab, title
from tests.acceptance.conftest import SLOW_MS
from tests.acceptance.console.conftest import EVIL
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, in_a_browser]

VIEWS = ("now", "reads", "partitions", "processes", "dead-letters", "conflicts", "drift", "explore/users/ada")


def test_a_task_that_ended_early_is_not_done(system, opened):
    """Warming that MongoDB has stopped says why, and is no success; its time stands in one place."""

    def tell(route):
        answer = route.fetch()
        ended = {"looked_at": 3, "seconds": 0.5, "stopped": "MongoDB is left alone"}
        run = {"seconds_ago": 1, "seconds": 0.5, "outcome": ended, "error": None}
        periodic = {"warm": run, "sweep": run | {"outcome": ended | {"stopped": None}}}
        route.fulfill(response=answer, json=answer.json() | {"periodic": periodic})

    opened.page.route("**/admin/status?*", tell)
    table = opened.open(system.stack.url, "processes").get_by_role("table", name="Periodic tasks")
    expect(table.locator("tbody tr")).to_contain_text(
        [re.compile("ended early.*MongoDB is left alone$"), re.compile("done.*looked at 3$")]
    )


def test_flushing_is_paused_and_resumed(system, opened):
    """After a question; the first line says so until it goes on."""
    page = opened.open(system.stack.url, "now")
    try:
        page.get_by_role("button", name="Pause flushing").click()
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        expect(page.get_by_text("Flushing of all collections is paused.")).to_be_visible()
        expect(page.locator("h1")).to_contain_text("Flushing of all collections is paused: ")
        page.get_by_role("button", name="Resume flushing").click()
        page.get_by_role("dialog").get_by_role("button", name="Resume").click()
        expect(page.get_by_text("Flushing of all collections goes on.")).to_be_visible()
        expect(page.get_by_role("button", name="Pause flushing")).to_be_visible()
    finally:
        system.http.post("/admin/resume").raise_for_status()


def test_an_address_leads_to_its_view(system, opened):
    """Each view has one; the way back leads to the one before; `/` leads to the first."""
    page = opened.open(system.stack.url, "drift")
    assert "Drift" == title(page)
    page.get_by_role("link", name="Processes").click()
    expect(page.locator("h1")).to_have_text("Processes")
    assert page.url.endswith("#processes")
    names = [one for some in system.status()["consumers"].values() for one in some]
    expect(page.get_by_role("table", name="Workers").locator(".id")).to_have_text(sorted(set(names)))
    page.go_back()
    expect(page.locator("h1")).to_have_text("Drift")
    page.goto(f"{system.stack.url}/")
    assert page.url.startswith(f"{system.stack.url}/console")
    assert WIDE[0] == page.viewport_size["width"]


def test_everybody_can_use_every_view(system, chromium, letter):
    """axe-core finds no grave fault, nor one of the colours by night; on a telephone no page moves sideways."""
    faults, widths = {}, {}
    with tab(chromium) as opened:
        for view in VIEWS:
            page = opened.open(system.stack.url, view)
            expect(page.get_by_text("Loading")).to_have_count(0)
            faults[view] = opened.faults()
            page.emulate_media(color_scheme="dark")
            faults[f"{view}, dark"] = opened.faults(*COLOURS)
            page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
            with suppress(NeverError):  # charts follow the width of the page a moment later
                page.wait_for_function("most => document.documentElement.scrollWidth <= most", arg=NARROW[0])
            widths[view] = page.evaluate("document.documentElement.scrollWidth")
            tabs = page.evaluate("getComputedStyle(document.querySelector('nav')).backgroundAttachment")
            assert "local" in tabs  # so that a shade shows at an edge that hides tabs
            page.emulate_media(color_scheme="light")
            page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        page = opened.open(system.stack.url, "dead-letters")
        page.get_by_role("button", name="Replay all").click()
        faults["question"] = opened.faults()

    assert {view: [] for view in faults} == faults
    assert dict.fromkeys(VIEWS, NARROW[0]) == widths


def test_a_token_is_sent_and_forgotten(system, chromium):
    """It is asked for where the API wants one, sent with each request from then on, and gone after a reload.

    One that is not enough is told as such wherever something is missing.
    """
    with tab(chromium, outage=True) as opened:
        page = opened.page

        def guard(route) -> None:
            sent = route.request.headers.get("authorization")
            if sent == "Bearer sesame":
                route.continue_()
            elif sent:
                route.fulfill(status=403, json={"title": "Forbidden", "detail": "it does not grant admin"})
            else:
                route.fulfill(status=401, json={"title": "Unauthorized", "detail": "say who you are"})

        page.route("**/admin/**", guard)
        page.goto(f"{system.stack.url}/console#dead-letters")
        for token, told in (("", "401: say who you are"), ("open", "403: it does not grant admin")):
            if token:
                give(page, token)
            expect(page.locator(".banner")).to_contain_text(told)
            expect(page.locator(".pulse")).to_have_text("not allowed")
            expect(page.get_by_text("Loading")).to_have_count(0)
        give(page, "sesame")
        expect(page.locator(".pulse")).to_have_text("live")
        expect(page.get_by_role("table", name="Dead letters").or_(page.locator("main .empty"))).to_be_visible()
        give(page, "open", "Key given")
        for place in (".banner", "main .trouble"):
            expect(page.locator(place)).to_contain_text("403: it does not grant admin")
        give(page, "sesame")
        expect(page.locator("main .trouble")).to_have_count(0)
        expect(page.locator(".banner")).to_have_count(0)
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert "sesame" not in kept + page.url
        page.reload()
        expect(page.locator(".banner")).to_contain_text("401: say who you are")


def test_a_page_without_a_key_is_not_refused_each_second(system, chromium):
    """Each refusal is a line of the audit log: it asks again once in a minute, or as soon as it has a key."""
    with tab(chromium, outage=True) as opened:
        page, asked = opened.page, Counter()

        def guard(route) -> None:
            asked[route.request.url.partition("?")[0]] += 1
            route.fulfill(status=401, json={"title": "Unauthorized", "detail": "say who you are"})

        page.route("**/admin/**", guard)
        page.clock.install()
        page.goto(f"{system.stack.url}/console")
        expect(page.locator(".banner")).to_contain_text("401: say who you are")
        for _ in range(50):
            page.clock.run_for(1_000)
        assert {1} == set(asked.values())
        page.clock.run_for(15_000)
        wait_until(lambda: {2} == set(asked.values()), "it to ask again")


def give(page, token: str, button: str = "Give a key or token") -> None:
    page.get_by_role("button", name=button).click()
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")


def test_a_document_is_followed_on_its_way(system, opened):
    """The explorer says that it waits, what both sides have, and that MongoDB has it in the end."""
    path = f"/v1/slow/{EVIL}"
    system.http.put(path, json={"n": 1, **system.fill}, params={"durability": "persisted"}).raise_for_status()
    page = opened.open(system.stack.url, "explore")
    page.get_by_label("Collection").fill("slow")
    page.get_by_label("Id").fill(EVIL)
    system.http.put(path, json={"n": 2, **system.fill}).raise_for_status()  # now: it does not wait for long
    page.get_by_role("button", name="Look").click()

    expect(page.locator("#way")).to_contain_text("It has waited for MongoDB")
    redis, mongodb = (page.get_by_role("region", name=f"The document in {one}") for one in ("Redis", "MongoDB"))
    assert (2, 1) == (json.loads(redis.inner_text())["n"], json.loads(mongodb.inner_text())["n"])
    assert EVIL in page.locator(".verdict").inner_text()
    expect(page.locator("#way")).to_have_text("MongoDB has the version that readers see", timeout=3 * SLOW_MS)
    expect(mongodb).to_contain_text('"n": 2')


def test_a_silent_worker_is_named(system, opened):
    """It is counted at the top, and shown with its queues and for how long it is silent; so is a busy one.

    One that is stopped is shown with its process, and what to do, as it is where a cap is met.
    """
    busy = {"worker": "worker@busy", "queues": ["flush"], "seconds": 45.2}
    silent = {"worker": "worker@frozen", "queues": ["flush", "refresh"], "seconds_ago": 17.2}
    stopped = {
        "worker": "worker@stopped",
        "queues": ["flush"],
        "seconds_ago": 2.0,
        "pid": 4711,
        "is_stopped": True,
    }
    told = [
        {
            "about": "worker worker@stopped",
            "severity": "warning",
            "advice": "`kill -CONT 4711`",
            "runbook": "https://example.org/#worker",
        },
        {
            "about": "refused",
            "severity": "critical",
            "advice": "raise WRITEBEHIND_MAX",
            "runbook": "https://example.org/#refused",
        },
    ]

    def tell(route) -> None:
        route.fulfill(
            json=route.fetch().json()
            | {"silent_workers": [silent, stopped], "busy_workers": [busy], "unconsumed": ["flush"], "to_do": told}
        )

    opened.page.route("**/admin/status?*", tell)
    page = opened.open(system.stack.url)
    expect(page.locator(".lamps")).to_contain_text("nobody consumes flush")
    expect(page.locator("nav .badge")).to_have_text("3")
    steps = page.get_by_role("list", name="What to do")
    expect(steps).to_contain_text("refused: raise WRITEBEHIND_MAX. Runbook")
    assert "WRITEBEHIND_<wbr>MAX" in steps.inner_html()
    # What is critical comes first.
    assert told[1]["runbook"] == steps.get_by_role("link", name="Runbook").first.get_attribute("href")
    page.get_by_role("link", name="Processes").click()
    expect(page.get_by_role("row", name="worker@stopped, process 4711")).to_contain_text(
        "stopped, and did nothing for 2"
    )
    expect(page.locator("tr.more")).to_contain_text("`kill -CONT 4711`")
    row = page.get_by_role("row", name="worker@frozen")
    expect(row).to_contain_text("flush, refresh")
    expect(row).to_contain_text("silent for 17\u00a0s")
    expect(page.get_by_role("row", name="worker@busy")).to_contain_text("busy for 45\u00a0s")


def test_a_frozen_beat_is_seen_with_what_to_do(system, opened):
    """Its process is told by the system itself; where it is stopped both views say so, with the same advice."""
    for role, command in (("beat", "beat"), ("exporter", "exporter")):
        wait_until(lambda role=role: system.status()[role]["pid"], "its process", 30)
        assert command in " ".join(psutil.Process(system.status()[role]["pid"]).cmdline())
    told = {"about": "beat", "advice": "`kill -CONT 4711` lets it go on", "runbook": "https://example.org/#sweep"}
    told["severity"] = "warning"
    stopped = {"swept_seconds_ago": 9.0, "pid": 4711, "is_stopped": True}

    def tell(route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"beat": stopped, "to_do": [told]})

    opened.page.route("**/admin/status?*", tell)
    page = opened.open(system.stack.url)
    expect(page.locator(".lamps")).to_contain_text("stopped: kill -CONT 4711")
    expect(page.get_by_role("list", name="What to do")).to_contain_text("beat: `kill -CONT 4711` lets it go on")
    page.get_by_role("link", name="Processes").click()
    expect(page.locator(".panel", has_text="Periodic tasks")).to_contain_text("beat stopped: kill -CONT 4711")
    expect(page.get_by_role("row", name="sweep")).to_contain_text("missing")
