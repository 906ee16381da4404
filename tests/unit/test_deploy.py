"""The dashboard and the alert rules: they name what there is, and everything that they name leads somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from itertools import combinations, pairwise

import pytest
import yaml

from tests.prometheus import DEPLOY, ROOT, SELECTOR, SERIES, faults, needs_prometheus, promtool
from writebehind.monitoring.families import PAGE
from writebehind.settings.installation import Settings

RULES, CASES = DEPLOY / "prometheus/rules.yml", DEPLOY / "prometheus/rules_test.yml"
UNITS = {"short", "s", "wps", "reqps", "ops", "bytes", "Bps", "percentunit"}


@pytest.fixture(scope="module")
def rules() -> list[dict]:
    return [one for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for one in group["rules"]]


@pytest.fixture(scope="module")
def alerts(rules) -> list[dict]:
    return [one for one in rules if "alert" in one]


@pytest.fixture(scope="module")
def dashboard() -> dict:
    return json.loads((DEPLOY / "grafana/writebehind.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def panels(dashboard) -> list[dict]:
    return [one for one in dashboard["panels"] if one["type"] != "row"]


def queries(panels: list[dict]) -> list[str]:
    return [target["expr"] for one in panels for target in one["targets"]]


def test_rules_name_what_is_on_the_page(rules):
    """Each series and label of a rule is on the page, and each recorded series is recorded."""
    recorded = {one["record"] for one in rules if "record" in one}

    assert {one["expr"]: faults(one["expr"]) for one in rules if faults(one["expr"])} == {}
    named = {name for one in rules for name in re.findall(r"\w+:writebehind_\w+:\w+", one["expr"])}
    assert named <= recorded


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


def test_alerts_say_what_to_do(alerts):
    """Each has a severity, a summary, a description, and an address of the runbook below that of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    runbook = f"{project['urls']['Documentation']}/runbook.md"
    for one in alerts:
        assert one["labels"]["severity"] in {"warning", "critical"}, one
        assert one["annotations"].keys() == {"summary", "description", "runbook_url"}, one
        assert f"{runbook}#{one['alert'].lower()}" == one["annotations"]["runbook_url"]
    assert len({(one["alert"], one["labels"]["severity"]) for one in alerts}) == len(alerts)


def test_each_alert_has_its_entry_in_the_runbook(alerts):
    """And no entry is about an alert that there is not; each says the same four things."""
    text = (ROOT / "docs/runbook.md").read_text("utf-8")
    entries = dict(re.findall(r"(?ms)^## (Writebehind\w+)\n(.*?)(?=^## |\Z)", text))

    assert entries.keys() == {one["alert"] for one in alerts}
    for name, body in entries.items():
        assert ["Means", "Look at", "Do", "Over"] == re.findall(r"(?m)^\*\*([\w ]+)\.\*\*", body), name


def test_each_threshold_has_its_reason():
    """A comment stands above each alert."""
    lines = RULES.read_text("utf-8").splitlines()

    assert [] == [line for before, line in pairwise(lines) if "- alert:" in line and "#" not in before]


def test_each_alert_is_tested(alerts):
    """Each severity of each has a case in which it fires, and each alert has one in which it does not."""
    cases = yaml.safe_load(CASES.read_text("utf-8"))["tests"]
    fires, calm = set(), set()
    for case in cases:
        name = case["name"].partition(",")[0]
        jobs = {job for one in case["input_series"] for job in re.findall(r'job="([^"]+)"', one["series"])}
        expected = [one for test in case.get("alert_rule_test", ()) for one in test.get("exp_alerts", ())]
        labels = [one["exp_labels"] for one in expected]
        labels += [
            dict(re.findall(r'(\w+)="([^"]*)"', one["labels"]))
            for test in case.get("promql_expr_test", ())
            if name in test["expr"]
            for one in test.get("exp_samples", ())
        ]
        severities = [one["labels"]["severity"] for one in alerts if one["alert"] == name]
        if len(severities) == 1 and labels:
            fires.add((name, severities[0]))
        fires |= {(name, one["severity"]) for one in labels if "severity" in one}
        if jobs - {one.get("job") for one in labels}:
            calm.add(name)

    assert fires == {(one["alert"], one["labels"]["severity"]) for one in alerts}
    assert calm == {one["alert"] for one in alerts}


def test_prometheus_scrapes_what_is_started_here():
    """The exporter at its usual address."""
    found = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))
    [job] = found["scrape_configs"]

    assert [f"127.0.0.1:{Settings.model_fields['exporter_port'].default}"] == job["static_configs"][0]["targets"]
    assert ["rules.yml"] == found["rule_files"]
    assert job["job_name"].startswith("writebehind")


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
    first = [one["title"] for one in dashboard["panels"][1:6]]
    assert ["Only in Redis", "Oldest has waited", "All safe in", "Writes refused in"] == first[:4]


def test_what_is_unknown_is_not_shown_as_it_was(panels):
    """A figure that is missing where it is unknown is asked for as it is now, and not for its last value."""
    unknown = [one for one in panels if one["type"] == "stat" and "noValue" in one["fieldConfig"]["defaults"]]

    assert {"All safe in", "Writes refused in"} <= {one["title"] for one in unknown}
    assert all(target["instant"] and not target["range"] for one in unknown for target in one["targets"])


@needs_prometheus
def test_promtool_takes_the_rules():
    """The rules and the configuration are valid."""
    promtool("check", "rules", RULES)
    promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")


@needs_prometheus
def test_alerts_fire_when_they_must_and_only_then():
    """On recorded series: over flapping, restarts, series that end, and two hosts that tell the same."""
    assert "SUCCESS" in promtool("test", "rules", CASES)
