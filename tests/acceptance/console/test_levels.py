"""The colours of the console: what the table of conditions says, in each lamp, state and headline."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tests.acceptance.browser import in_a_browser
from tests.unit.deploy.test_severities import MET
from tests.unit.test_remedies import HEALTHY
from tests.waiting import wait_until
from writebehind.conditions import CONDITIONS
from writebehind.remedies import remedies

pytestmark = [pytest.mark.acceptance, in_a_browser]

LEVELS = {"warning": "warn", "critical": "bad"}
#: Those that the headline shows, as they are about no server and no process.
HEADLINE_ONLY = {
    *("lost-data", "lost-keys", "refused", "refused-in-part", "refused-soon", "stalled", "resumes", "outrun"),
    *("paused", "overdue", "overdue-for-long", "inconsistent", "vanished", "copies"),
}
#: Class and text of each state that the views show of statuses, and the level of the headline.
RENDERED = """async (statuses) => {
  const [{ h, render }, now, processes, { verdict }] = await Promise.all(
    ["vendor/preact", "views/now", "views/processes", "verdict"].map((one) => import(`./console/${one}.js`)));
  return statuses.map((status) => {
    const root = document.createElement("div");
    render([h(now.Lamps, { status, now: Date.now() / 1000 }), h(processes.Processes, { status })], root);
    const states = [...root.querySelectorAll(".state")].map((one) => [one.classList[1], one.textContent]);
    render(null, root);
    return { headline: verdict(status, Date.now() / 1000).level, states };
  });
}"""


def overlaid(healthy: dict[str, Any], condition: str) -> dict[str, Any]:
    """A status in which a condition is met, and no other."""
    figures, how = MET[condition]
    status = {**healthy, **{name: HEALTHY[name] for name in ("partitions", "full_partitions")}}
    for name, value in figures.items():
        known = status.get(name)
        status[name] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
    for queue in figures.get("unconsumed", ()):
        status["consumers"] = {**status["consumers"], queue: []}
    if {"overdue_seconds", "grows_per_second", "paused"} & {*figures} or how.get("is_stalled"):
        status["pending"] = 7
    usual = {"is_stalled": False, "is_back": False, "could_evict": False}
    status["to_do"] = [asdict(one) for one in remedies(status, **(usual | how))]
    return status


def test_each_colour_is_that_of_the_table(system, opened):
    """No view has a judgement of its own: what is a warning there is red nowhere, and the other way round."""
    system.wait_until_drained()
    wait_until(lambda: not system.status()["to_do"], "a system in good health")
    healthy = system.status()
    page = opened.open(system.stack.url)
    statuses = {condition: overlaid(healthy, condition) for condition in MET}
    well, *shown = page.evaluate(RENDERED, [healthy, *statuses.values()])

    assert ("ok", {"ok", "off"}) >= (well["headline"], {level for level, _ in well["states"]}), well
    for condition, one in zip(MET, shown, strict=True):
        assert [condition] == [it["condition"] for it in statuses[condition]["to_do"]]
        level = LEVELS[CONDITIONS[condition].severity.name.lower()]
        found = {level for level, _ in one["states"]} & {"warn", "bad"}
        assert level == one["headline"], (condition, one)
        assert found == {level} or (not found and condition in HEADLINE_ONLY), (condition, one)
