"""The figures of the console: they are those that were caused, and readable."""

from __future__ import annotations

import json
import time

import pytest
from playwright.sync_api import expect

from tests.acceptance.browser import figure, in_a_browser
from tests.acceptance.conftest import SLOW_MS
from tests.acceptance.variants import own_server
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, in_a_browser]


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


@own_server
def test_the_caps_are_told_though_nobody_writes(system):
    """By the web process: a status, be it of a shell, foretells refusals by them."""
    system.wait_until_drained()
    _, before = wait_until(lambda: _told_between(system), "them")
    # Not by how long ago: what was told a moment ago is told again before anybody sees it as fresh as that.
    wait_until(lambda: (told := _told_between(system)) and told[0] > before, "them, told once more", 30)


def _told_between(system) -> tuple[float, float] | None:
    """Moments before and after the caps were told last, by this process's clock; `None` for never."""
    asked = time.monotonic()
    ago = system.status()["caps"]["told_seconds_ago"]
    return None if ago is None else (asked - ago, time.monotonic() - ago)


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


#: What a status says is to be done about an exporter.
EXPORTER = "to_do: [{about: 'exporter', severity: 'warning'}]"
#: By what is called: an export of a view, and its argument.
STATES = {
    ("now", "listenerText", "{listener: {lag_s: 0.212, alive_seconds_ago: 1, away_seconds: 12, error: null}}"): (
        "away for 12 s"
    ),
    ("now", "listenerLevel", "{listener: {away_seconds: 12, error: null}}"): "off",
    (
        "now",
        "listenerLevel",
        "{listener: {away_seconds: 12}, to_do: [{about: 'listener', severity: 'warning'}]}",
    ): ("warn"),
    (
        "now",
        "listenerText",
        "{listener: {lag_s: 0.212, alive_seconds_ago: 9, away_seconds: 9, is_silent: true}}",
    ): ("silent for 9.0 s"),
    ("now", "listenerText", "{listener: {lag_s: 0.212, alive_seconds_ago: 1, away_seconds: null, error: null}}"): (
        "212 ms behind"
    ),
    ("now", "listenerLevel", "{listener: {away_seconds: null, error: null}}"): "ok",
    ("now", "listenerText", "{listener: {alive_seconds_ago: 1, away_seconds: null, is_stopped: true, pid: 7}}"): (
        "stopped: kill -CONT 7"
    ),
    ("drift", "inNines", "{looks: 0, wrong: 0, ratio: null, nines_from: 0}"): UNKNOWN,
    ("drift", "inNines", "{looks: 9, wrong: 0, ratio: 1, nines_from: 0}"): UNKNOWN,
    ("drift", "inNines", "{looks: 9, wrong: 0, ratio: 1, nines_from: 2.44}"): "≥ 2.4 nines",
    ("drift", "inNines", "{looks: 1000, wrong: 1, ratio: 0.999, nines_from: 2.2}"): "3.0 nines",
    ("drift", "inNines", "{looks: 9, wrong: 9, ratio: 0, nines_from: 0}"): "0.0 nines",
    ("drift", "notObserved", "{observed_seconds_ago: null}"): "",
    ("drift", "notObserved", "{observed_seconds_ago: 9, is_observed: true}"): "",
    ("drift", "notObserved", "{observed_seconds_ago: 9, is_observed: false}"): "not observed for 9.0 s",
    ("drift", "notObserved", "{observed_seconds_ago: 200, is_observed: false}"): "not observed for 3 min",
    ("now", "truth", '{observed_seconds_ago: 90, windows: {"10": {looks: 9, wrong: 0, nines_from: 2}}}'): [
        "warn",
        "not observed for 90 s",
    ],
    (
        "now",
        "truth",
        '{observed_seconds_ago: 1, is_observed: true, windows: {"10": {looks: 9, wrong: 0, nines_from: 2}}}',
    ): [
        "ok",
        "≥ 2.0 nines in 10 s",
    ],
    ("now", "cap", "{seconds_until_cap: 0, cap: 'pending'}"): "now",
    ("now", "cap", "{seconds_until_cap: 90, cap: 'pending'}"): "90 s",
    ("now", "capNote", "{seconds_until_cap: 0, cap: 'pending'}"): "too much is pending",
    ("now", "capNote", "{seconds_until_cap: 0, cap: 'memory', caps: {differ: true}}"): (
        "Redis is short of memory; processes differ in their caps: by the lowest"
    ),
    ("../verdict", "verdict", "{pending: 1, dead_letters: 0, seconds_until_cap: 0, cap: 'pending'}"): {
        "title": "Writes are refused now: 1 document would be lost with Redis",
        "text": "Too many documents wait for MongoDB: new documents get 503 until there is room.",
    },
    (
        "../verdict",
        "verdict",
        "{pending: 1, dead_letters: 0, seconds_until_cap: 0, full_partitions: [7], partitions: 64}",
    ): {
        "title": "Writes to 1 of 64 partitions are refused now: 1 document would be lost with Redis",
        "text": "Too many documents wait for MongoDB there: new ones get 503 until there is room. "
        "The other partitions take documents.",
    },
    (
        "../verdict",
        "verdict",
        "{pending: 0, dead_letters: 0, to_do: [{severity: 'warning'}, {severity: 'critical'}]}",
    ): {
        "title": "Nothing would be lost: all that was acknowledged is in MongoDB",
        "text": "No write waits.",
    },
    ("../verdict", "verdict", "{pending: 1, dead_letters: 0, mongodb_refuses: 'no space'}"): {
        "title": "MongoDB answers, and takes nothing that is written: 1 document would be lost with Redis",
        "text": "Writes are acknowledged by Redis and wait there.",
        "reason": "no space",
    },
    (
        "../verdict",
        "verdict",
        "{pending: 0, dead_letters: 0, lost_data: [{at: '2026-11-27T20:00:00Z', pending: 3, dead_letters: 1}]}",
    ): {
        "title": "Redis has lost data: at least 4 acknowledged documents were only there",
        "text": "Last seen at 2026-11-27T20:00:00Z. Keep its old files. Once you have seen to it:"
        " writebehind doctor --loss-seen.",
    },
    (
        "now",
        "mongodb",
        "{mongodb_refuses: 'no space', to_do: [{about: 'mongodb', severity: 'critical'}]}",
    ): ["bad", "takes no writes"],
    (
        "../verdict",
        "verdict",
        "{pending: 1, dead_letters: 0, unconsumed: ['flush'], partitions_at_work: 0, seconds_until_cap: 60}",
    ): {
        "title": "Nobody persists: 1 document would be lost with Redis",
        "text": "No worker consumes the queue flush. Start one, and what waits is persisted by itself;"
        " new ones are refused in 60 s at this rate.",
    },
    (
        "../verdict",
        "verdict",
        "{pending: 9, dead_letters: 0, unconsumed: ['flush'], partitions_at_work: 4, seconds_until_drained: 3}",
    ): {
        "title": "Persisted without a worker: 9 documents would be lost with Redis",
        "text": "What is pending by now is in MongoDB in about 3.0 s."
        " Somebody is at work, as writebehind drain is, or a worker that starts; what is written"
        " after it has ended waits until a worker consumes the queue flush.",
    },
    (
        "../verdict",
        "verdict",
        "{pending: 9, dead_letters: 0, unconsumed: ['flush'], partitions_at_work: 4, seconds_until_drained: null}",
    ): {
        "title": "Somebody has begun to persist: 9 documents would be lost with Redis",
        "text": "No worker consumes the queue flush yet. Partitions are taken up already, as a worker"
        " does that starts, or writebehind drain.",
    },
    (
        "../verdict",
        "verdict",
        "{pending: 9, dead_letters: 0, seconds_until_drained: null, not_safe_because: 'nothing was persisted'}",
    ): {
        "title": "9 documents wait for MongoDB",
        "text": "It is not known when they are safe: nothing was persisted.",
    },
    (
        "../verdict",
        "verdict",
        "{pending: 9, dead_letters: 0, seconds_until_drained: 3, overdue_seconds: 40}",
    ): {
        "title": "9 documents not in MongoDB, one of them overdue for 40 s",
        "text": "What is pending by now is in MongoDB in about 3.0 s. Look at the workers and at MongoDB's load.",
    },
    (
        "../verdict",
        "verdict",
        "{pending: 9, dead_letters: 0, seconds_until_drained: 21, oldest_pending_seconds: 40, overdue_seconds: 0}",
    ): {
        "title": "9 documents on the way to MongoDB",
        "text": "What is pending by now is in MongoDB in about 21 s.",
    },
    ("processes", "exporter", "{exporter: {recorded_seconds_ago: null}}"): ["off", "never ran"],
    ("processes", "exporter", "{exporter: null}"): ["off", "not known now"],
    (
        "processes",
        "exporter",
        f"{{exporter: {{recorded_seconds_ago: 200, is_silent: true}}, {EXPORTER}}}",
    ): ["warn", "silent for 3 min"],
    ("processes", "exporter", "{exporter: {recorded_seconds_ago: 1}}"): ["ok", "records"],
    (
        "processes",
        "exporter",
        f"{{exporter: {{recorded_seconds_ago: 1, is_stopped: true, pid: 7, host: 'web-1'}}, {EXPORTER}}}",
    ): ["warn", "stopped: kill -CONT 7 on web-1"],
    ("now", "beatText", "{beat: {swept_seconds_ago: 108, is_stopped: false}}"): "no sweep for 108 s",
    ("now", "beatText", "{beat: {swept_seconds_ago: 2, is_stopped: true, pid: 7}}"): "stopped: kill -CONT 7",
}


def test_states_are_what_the_figures_say(system, opened):
    """In words: none says more than is known, and what nobody looks at is not green."""
    page = opened.open(system.stack.url)
    calls = [
        f"import('./console/views/{view}.js').then((one) => one.{name}({told}))" for view, name, told in STATES
    ]
    shown = page.evaluate(f"Promise.all([{', '.join(calls)}])")
    for one in shown:
        if isinstance(one, dict):
            del one["level"]  # of which `test_levels` tells

    assert list(STATES.values()) == json.loads(json.dumps(shown, ensure_ascii=False).replace("\u00a0", " "))


def test_dead_letters_are_only_in_redis_too(system, opened):
    """The chart says what the figure above it says, and the command."""
    page = opened.open(system.stack.url)
    told = "{time: [1, 2, 3], pending: [5, 6, null], dead_letters: [0, 2, null], breaker: [], now: 3}"
    found = f"charts({told}, {{pending: 6, dead_letters: 2}}).find((one) => one.title === 'Only in Redis')"
    chart = page.evaluate(f"import('./console/series.js').then(({{ charts }}) => {found})")

    assert ([[5, 8, None]], [8]) == ([one["values"] for one in chart["lines"]], chart["now"])


def test_figures_are_readable(system, opened):
    """They have units and few digits, and never say more than is so."""
    page = opened.open(system.stack.url)
    calls = ", ".join(f"units.{one}" for one in FIGURES)
    shown = page.evaluate(f"import('./console/units.js').then((units) => [{calls}])")

    assert list(FIGURES.values()) == [one.replace("\u00a0", " ") if one else one for one in shown]


#: What a status has, and what the headline says of it.
HEADLINES = [
    ({}, "documents on the way to MongoDB"),
    (
        {"grows_per_second": 360},
        "More comes than goes: 9,893 documents would be lost with Redis | come at 400/s, and go at 40/s. What",
    ),
    (
        {"grows_per_second": 360, "seconds_until_cap": 50},
        "More comes than goes: | come at 400/s, and go at 40/s. At this rate",
    ),
    ({"seconds_until_cap": 50}, "More comes than goes: | At this rate"),
    ({"grows_per_second": 360, "mongodb_error": "no pong"}, "MongoDB does not answer"),
    (
        {
            "breaker": "open",
            "breaker_reason": "MongoDB gives no sign of life: MongoDB does not answer: internal server error",
            "to_do": [{"condition": "mongodb", "found": "MongoDB answers with an error: internal server error"}],
        },
        "MongoDB answers with an error: 9,893 documents",
    ),
    (
        {"unconsumed": ["flush"], "paused": [{"collection": "slow", "seconds_left": None}]},
        "Nobody persists: | Flushing of slow is paused. It goes on when somebody resumes it.",
    ),
    (
        {"unconsumed": ["flush"], "paused": [{"collection": None, "seconds_left": 5}]},
        "Flushing of all collections",
    ),
    (
        {"breaker": "open", "paused": [{"collection": None, "seconds_left": 5}]},
        "MongoDB does | all collections is",
    ),
]


def test_headlines(system, opened):
    """More comes than goes comes first, however far away a cap is. Of their level `test_levels` tells."""
    page = opened.open(system.stack.url)
    calm = {"pending": 9_893, "dead_letters": 0, "breaker": "closed", "seconds_until_drained": 360, "away": []}
    calm |= {"flushed_per_second": 40, "seconds_until_cap": None, "overdue_seconds": 9, "unconsumed": []}
    verdicts = page.evaluate(
        "(all) => import('./console/verdict.js').then((one) => all.map((status) => one.verdict(status, 0)))",
        [calm | status for status, _ in HEADLINES],
    )
    for (status, expected), found in zip(HEADLINES, verdicts, strict=True):
        said = f"{found['title']} | {found['text']}".replace("\u00a0", " ")
        assert all(part in said for part in expected.split(" | ")), (status, said)


def test_full_partitions_are_marked(system, opened):
    """By a word and a border, also for who sees no colours; the cap and how many have met it are told."""
    page = opened.open(system.stack.url)
    status = {
        "caps": {"max_pending_per_partition": 8},
        "by_partition": [
            {"partition": number, "pending": pending, "oldest_pending_seconds": 1, "dead_letters": 0}
            for number, pending in enumerate((8, 7, 9))
        ],
    }
    drawn = f"""Promise.all([import('./console/views/partitions.js'), import('./console/vendor/preact.js')]).then(
        ([{{ Partitions }}, {{ h, render }}]) => {{
            const place = document.createElement('div');
            const drawn = Partitions.prototype.render.call(
                {{ hot: {{ data: null }} }}, {{ status: {json.dumps(status)} }},
                {{ measure: 'pending', chosen: null }});
            render(h('div', null, drawn[1]), place);
            return [place.textContent, ...[...place.querySelectorAll('.full')].map((one) => one.ariaLabel)];
        }})"""
    told, *full = page.evaluate(drawn)
    assert ["Partition 0, waiting 8, full", "Partition 2, waiting 9, full"] == full
    assert "2 of 3 are full, and take no new document: the cap is 8." in told
