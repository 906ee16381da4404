"""The dashboard: its panels name what there is, and show all of it."""

from __future__ import annotations

import importlib.util
import json
import re
from itertools import combinations

import pytest

from tests.prometheus import DEPLOY, SELECTOR, SERIES, faults
from writebehind.monitoring.families import PAGE

UNITS = {"short", "s", "wps", "reqps", "ops", "bytes", "Bps", "percentunit"}


@pytest.fixture(scope="module")
def dashboard() -> dict:
    return json.loads((DEPLOY / "grafana/writebehind.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def panels(dashboard) -> list[dict]:
    return [one for one in dashboard["panels"] if one["type"] != "row"]


def queries(panels: list[dict]) -> list[str]:
    return [target["expr"] for one in panels for target in one["targets"]]


def test_panels_name_what_is_on_the_page(panels):
    """Each series and label of a panel is on the page, of the installation that was chosen."""
    assert {expr: faults(expr) for expr in queries(panels) if faults(expr)} == {}
    of_any = [
        expr for expr in queries(panels) for _, labels in SELECTOR.findall(expr) if 'job="$job"' not in labels
    ]
    assert of_any == []


def test_everything_on_the_page_is_on_the_dashboard(panels):
    """A figure that no panel shows is one that nobody sees."""
    shown = {SERIES[name].name for expr in queries(panels) for name, _ in SELECTOR.findall(expr)}

    assert PAGE.keys() - shown == set()


def test_the_dashboard_is_made_of_its_panels():
    """`python deploy/grafana/dashboard.py` was run after the last change."""
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana/dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.text() == module.FILE.read_text("utf-8")


def test_the_dashboard_can_be_imported(dashboard, panels):
    """Ids are its own, who looks chooses the data source, and each panel says what it shows in which unit."""
    assert dashboard["schemaVersion"] >= 39
    ids = [one["id"] for one in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert ["datasource", "job"] == [one["name"] for one in dashboard["templating"]["list"]]
    for one in panels:
        assert "${datasource}" == one["datasource"]["uid"]
        assert one["title"]
        assert one["description"], one["title"]
        assert one["fieldConfig"]["defaults"]["unit"] in UNITS, one["title"]
        references = [target["refId"] for target in one["targets"]]
        assert references
        assert len(set(references)) == len(references), one["title"]


def test_no_panel_lies_on_another(dashboard):
    """Each has its place in the grid, and the first row says what is at stake."""
    places = [(one["title"], one["gridPos"]) for one in dashboard["panels"]]

    assert [name for name, at in places if not (0 <= at["x"] and at["x"] + at["w"] <= 24)] == []
    assert [
        (one, other)
        for (one, a), (other, b) in combinations(places, 2)
        if a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    ] == []
    first = [one["title"] for one in dashboard["panels"][1:5]]
    assert ["Only in Redis", "Dead letters", "Oldest has waited", "All safe in"] == first


def test_what_is_unknown_is_not_shown_as_it_was(panels):
    """A figure that is missing where it is unknown is asked for as it is now, and not for its last value."""
    unknown = [one for one in panels if one["type"] == "stat" and "noValue" in one["fieldConfig"]["defaults"]]

    assert {"All safe in", "Writes refused in"} <= {one["title"] for one in unknown}
    assert all(target["instant"] and not target["range"] for one in unknown for target in one["targets"])


def test_dead_letters_are_only_in_redis_too(dashboard):
    """The first panel means what the console and the command mean: all that is lost with Redis."""
    (target,) = next(one for one in dashboard["panels"] if one["title"] == "Only in Redis")["targets"]

    assert {"writebehind_pending_documents", "writebehind_dead_letters"} <= set(re.findall(r"\w+", target["expr"]))
