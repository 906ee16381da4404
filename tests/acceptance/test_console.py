"""The console in a browser, before a running system: it shows what is, and does what is clicked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.browser import (
    NARROW,
    TOOK,
    WIDE,
    Tab,
    browser,
    chart,
    figure,
    focused,
    in_a_browser,
    press_until,
    tab,
    title,
)
from tests.acceptance.conftest import SLOW_MS, System, start
from tests.waiting import slowness, wait_until
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis

log = logging.getLogger(__name__)

VIEWS = ("now", "reads", "partitions", "processes", "dead-letters", "conflicts", "drift", "explore/users/ada")
#: An id that would do something if it became HTML.
EVIL = "<img src=x onerror=alert(1)>"
#: How soon the console has to show that MongoDB is gone, seconds.
SOON_S = 3.0

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240), in_a_browser]


@dataclass(frozen=True)
class Servers:
    """Servers that nobody but the test stops and starts."""

    redis: EmbeddedRedis
    mongo: EmbeddedMongo


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("servers")
    with EmbeddedRedis(directory, appendfsync="always") as redis, EmbeddedMongo(directory) as mongo:
        yield Servers(redis, mongo)


@pytest.fixture(scope="module")
def system(servers, tmp_path_factory) -> Iterator[System]:
    """The system on these servers."""
    urls = {"REDIS_URL": servers.redis.url, "MONGODB_URL": servers.mongo.url}
    slow = {"WRITEBEHIND_COLLECTIONS__slow__flush_delay_ms": str(SLOW_MS)}
    slow |= {f"WRITEBEHIND_COLLECTIONS__{one}__id_pattern": ".+" for one in ("slow", "events")}
    with start(tmp_path_factory.mktemp("console"), **urls, **slow) as stack, System(stack) as system:
        system.wait_for_workers()
        yield system


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def opened(chromium) -> Iterator[Tab]:
    """A page in a wide window, which may complain of nothing."""
    with tab(chromium) as one:
        yield one


@pytest.fixture
def letter(system) -> Iterator[str]:
    """A dead letter with an evil id, which MongoDB would take by now."""
    events = system.database["events"]
    events.drop()
    events.insert_one({"_id": "taken", "mail": "taken@x"})
    events.create_index("mail", unique=True)
    system.http.put(f"/v1/events/{EVIL}", json={"mail": "taken@x", "n": 1, **system.fill}).raise_for_status()
    wait_until(lambda: system.status()["dead_letters"] == 1, "the dead letter")
    events.drop_index("mail_1")
    yield EVIL
    system.http.delete("/admin/dead-letters?all=true").raise_for_status()


def test_the_figures_are_those_that_were_caused(system, opened):
    """Documents that wait are counted at the top and in their partitions; once they are persisted all is safe."""
    system.wait_until_drained()
    page = opened.open(system.stack.url)
    expect(page.locator("h1")).to_contain_text("Nothing would be lost")
    assert ("0", "safe") == (figure(page, "Only in Redis now"), figure(page, "Safe in"))

    system.put_all("seen", 37, "slow")
    expect(page.locator("h1")).to_have_text("37 documents on the way to MongoDB", timeout=SLOW_MS)
    assert "37" == figure(page, "Only in Redis now")
    assert "37 waiting" in page.title()
    page.get_by_role("link", name="Partitions").click()
    expected = [
        str(one["pending"]) for one in system.http.get("/admin/status?partitions=true").json()["by_partition"]
    ]
    expect(page.locator(".heat .value")).to_have_text(expected, timeout=SLOW_MS)
    assert 37 == sum(map(int, expected))

    system.wait_until_drained()
    page.get_by_role("link", name="Now").click()
    expect(page.locator("h1")).to_contain_text("Nothing would be lost")


def test_a_dead_letter_is_replayed_by_a_click(system, opened, letter):
    """It is found by a search, shown with its body and reason, and is in MongoDB once it was confirmed."""
    page = opened.open(system.stack.url, "dead-letters")
    expect(page.locator("nav .badge")).to_have_text("1")
    page.get_by_label("Search").fill("no such id")
    expect(page.locator(".empty")).to_have_text("None fits.")
    page.get_by_label("Search").fill("onerror")
    expect(page.get_by_role("link", name=f"events/{letter}")).to_be_visible()
    assert "E11000" in page.locator("tbody").inner_text()
    page.get_by_role("button", name=f"Show events/{letter}").click()
    shown = json.loads(page.locator(".json").inner_text())
    assert {"_id": letter, "mail": "taken@x", "n": 1} | system.fill == shown

    page.get_by_role("button", name=f"Replay events/{letter}").click()
    page.get_by_role("button", name="Cancel").click()
    assert 1 == system.status()["dead_letters"]
    page.get_by_role("button", name=f"Replay events/{letter}").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()

    expect(page.get_by_text("1 dead letter tried again.")).to_be_visible()
    wait_until(lambda: system.database["events"].find_one({"_id": letter}), "the document in MongoDB")
    expect(page.get_by_text("MongoDB has taken everything.").or_(page.get_by_text("None fits."))).to_be_visible()
    expect(page.locator("nav .badge")).to_have_count(0)
    if "preload" not in system.stack.variant:  # which is another server, with a log of its own
        logged = system.stack.data_dir / "log" / "web.log"
        wait_until(
            lambda: "administrative call: POST /admin/dead-letters/events/" in logged.read_text(), "the log"
        )


def test_a_dead_letter_is_discarded_by_the_keyboard_alone(system, opened, letter):
    """With the keys of a page that has no mouse: the way to the button, the question, and back to where it was."""
    page = opened.open(system.stack.url)
    press_until(page, "Tab", "Dead letters")
    page.keyboard.press("Enter")
    page.wait_for_selector("tbody tr")
    press_until(page, "Tab", f"Discard events/{letter}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert "Cancel" == focused(page)  # what cannot be undone is not one key away
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert f"Discard events/{letter}" == focused(page)
    assert 1 == system.status()["dead_letters"]
    page.keyboard.press("Enter")
    press_until(page, "Tab", "Discard")
    page.keyboard.press("Enter")

    expect(page.get_by_text("1 dead letter discarded.")).to_be_visible()
    assert 0 == system.status()["dead_letters"]


def test_a_stopped_mongodb_is_seen(system, servers, opened):
    """Within 3 s it is shown how much waits for it, then that the breaker opens, and that all is well again."""
    system.put_all("before", 200)
    system.wait_until_drained()
    page = opened.open(system.stack.url)
    servers.mongo.kill()
    try:
        system.put_all("during", 200)
        took = page.evaluate(TOOK, "MongoDB does not answer: ")
        log.info("the console showed it after %.2f s", took)
        assert "200" == figure(page, "Only in Redis now")
        assert took < SOON_S * slowness()
        expect(page.locator(".lamps")).to_contain_text("breaker open", timeout=20_000)
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


def test_a_document_is_followed_on_its_way(system, opened):
    """The explorer says that it waits, what both sides have, and that MongoDB has it in the end."""
    path = f"/v1/slow/{EVIL}"
    system.http.put(path, json={"n": 1, **system.fill}, params={"durability": "persisted"}).raise_for_status()
    system.http.put(path, json={"n": 2, **system.fill}).raise_for_status()
    page = opened.open(system.stack.url, "explore")
    page.get_by_label("Collection").fill("slow")
    page.get_by_label("Id").fill(EVIL)
    page.get_by_role("button", name="Look").click()

    expect(page.locator("#way")).to_contain_text("It waits for MongoDB")
    redis, mongodb = (page.get_by_role("region", name=f"The document in {one}") for one in ("Redis", "MongoDB"))
    assert (2, 1) == (json.loads(redis.inner_text())["n"], json.loads(mongodb.inner_text())["n"])
    assert EVIL in page.locator(".verdict").inner_text()
    expect(page.locator("#way")).to_have_text("MongoDB has the version that readers see", timeout=3 * SLOW_MS)
    expect(mongodb).to_contain_text('"n": 2')


def test_a_token_is_sent_and_forgotten(system, chromium):
    """It is asked for where the API wants one, sent with each request from then on, and gone after a reload."""
    with tab(chromium, outage=True) as opened:
        page = opened.page

        def guard(route) -> None:
            if route.request.headers.get("authorization") == "Bearer sesame":
                route.continue_()
            else:
                route.fulfill(status=401, json={"title": "Unauthorized", "detail": "say who you are"})

        page.route("**/admin/**", guard)
        page.goto(f"{system.stack.url}/console")
        expect(page.locator(".banner")).to_contain_text("401: say who you are")
        page.get_by_role("button", name="Give a token").click()
        page.get_by_label("Token").fill("sesame")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".banner")).to_have_count(0)
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert "sesame" not in kept + page.url
        page.reload()
        expect(page.locator(".banner")).to_contain_text("401: say who you are")


def test_everybody_can_use_every_view(system, chromium, letter):
    """axe-core finds no grave fault, by day and by night; on a telephone no page moves sideways."""
    faults, widths = {}, {}
    with tab(chromium) as opened:
        for view in VIEWS:
            page = opened.open(system.stack.url, view)
            expect(page.get_by_text("Loading")).to_have_count(0)
            faults[view] = opened.faults()
            page.emulate_media(color_scheme="dark")
            faults[f"{view}, dark"] = opened.faults()
            page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
            widths[view] = page.evaluate("document.documentElement.scrollWidth")
            page.emulate_media(color_scheme="light")
            page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        page = opened.open(system.stack.url, "dead-letters")
        page.get_by_role("button", name="Replay all").click()
        faults["question"] = opened.faults()

    assert {view: [] for view in faults} == faults
    assert dict.fromkeys(VIEWS, NARROW[0]) == widths


#: A history as the API tells it; all else is not known.
HISTORY = {
    "acknowledged_per_second": [120.0, 118.0],
    "persisted_per_second": [119.0, 12_345.0],
    "hit_ratio": [0.5, 0.975],
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


def test_the_last_hour_is_recorded(system, opened):
    """Charts show what the exporter has seen: the writes of this run, and how much memory Redis uses."""
    system.put_all("recorded", 50)
    page = opened.open(system.stack.url)
    expect(chart(page, "Memory of Redis").locator("dd").first).to_contain_text("MiB", timeout=30_000)
    used = system.http.get("/admin/history").json()["used_memory"]
    assert any(used)
    expect(page.get_by_text("Nobody records the last hour")).to_have_count(0)


def test_a_silent_worker_is_named(system, opened):
    """It is counted at the top, and shown with its queues and for how long it is silent; so is a busy one."""
    busy = {"worker": "worker@busy", "queues": ["flush"], "seconds": 45.2}
    silent = {"worker": "worker@frozen", "queues": ["flush", "refresh"], "seconds_ago": 17.2}

    def tell(route) -> None:
        route.fulfill(
            json=route.fetch().json()
            | {"silent_workers": [silent], "busy_workers": [busy], "unconsumed": ["flush"]}
        )

    opened.page.route("**/admin/status?*", tell)
    page = opened.open(system.stack.url)
    expect(page.locator(".lamps")).to_contain_text("nobody consumes flush")
    expect(page.locator("nav .badge")).to_have_text("2")
    page.get_by_role("link", name="Processes").click()
    row = page.get_by_role("row", name="worker@frozen")
    expect(row).to_contain_text("flush, refresh")
    expect(row).to_contain_text("silent for 17\u00a0s")
    expect(page.get_by_role("row", name="worker@busy")).to_contain_text("busy for 45\u00a0s")


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


UNKNOWN = "\u2013"
FIGURES = {
    "count(9876)": "9,876",
    "count(12345)": "12.3k",
    "count(999950)": "1M",
    "count(1234567)": "1.23M",
    "count(null)": UNKNOWN,
    "rate(0.263)": "0.26/s",
    "rate(3.44)": "3.4/s",
    "rate(12345)": "12.3k/s",
    "duration(0)": "0 s",
    "duration(0.00042)": "0.42 ms",
    "duration(0.0123)": "12 ms",
    "duration(1.23)": "1.2 s",
    "duration(59.6)": "60 s",
    "duration(200)": "3 min",
    "duration(7500)": "2 h 5 min",
    "duration(400000)": "5 d",
    "duration(undefined)": UNKNOWN,
    "bytes(512)": "512 B",
    "bytes(1536)": "1.5 KiB",
    "bytes(1073741824)": "1 GiB",
    "percent(0.934)": "93.4 %",
    "percent(0.99987)": "99.987 %",
    "percent(1)": "100 %",
    "percent(0)": "0 %",
    "nines(0.999)": "3.0 nines",
    "nines(0.99999)": "5.0 nines",
    "nines(1)": None,
}


def test_figures_are_readable(system, opened):
    """They have units and few digits, and never say more than is so."""
    page = opened.open(system.stack.url)
    calls = ", ".join(f"units.{one}" for one in FIGURES)
    shown = page.evaluate(f"import('./console/units.js').then((units) => [{calls}])")

    assert list(FIGURES.values()) == [one.replace("\u00a0", " ") if one else one for one in shown]
