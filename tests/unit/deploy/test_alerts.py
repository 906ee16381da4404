"""The alerts: each says what to do, leads to the runbook, and fires when it must."""

from __future__ import annotations

import re
import tomllib

import yaml

from tests.prometheus import ROOT, needs_prometheus, promtool
from tests.unit.deploy.conftest import CASES


def test_alerts_say_what_to_do(alerts):
    """Each has a severity, a summary, a description, and an address of the runbook below that of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    runbook = f"{project['urls']['Documentation']}/runbook.md"
    for one in alerts:
        assert one["labels"]["severity"] in {"warning", "critical"}, one
        assert one["annotations"].keys() == {"summary", "description", "runbook_url"}, one
        assert f"{runbook}#{one['alert'].lower()}" == one["annotations"]["runbook_url"]
    assert len({(one["alert"], one["labels"]["severity"]) for one in alerts}) == len(alerts)


def test_texts_with_a_number_are_right_for_one(alerts):
    """What is counted is one thing or several, wherever the alert can fire for one."""
    for one in alerts:
        counted = re.findall(r"\{\{ \$value(?: \| humanize)? \}\} (\S+)", one["annotations"]["description"])
        may_be_one = not re.search(r"> [1-9]", one["expr"])
        assert all(word.endswith("{{") or not may_be_one for word in counted), one


def test_each_alert_has_its_entry_in_the_runbook(alerts):
    """And no entry is about an alert that there is not; each says the same four things."""
    text = (ROOT / "docs/runbook.md").read_text("utf-8")
    entries = dict(re.findall(r"(?ms)^## (Writebehind\w+)\n(.*?)(?=^## |\Z)", text))

    assert entries.keys() == {one["alert"] for one in alerts}
    for name, body in entries.items():
        assert ["Means", "Look at", "Do", "Over"] == re.findall(r"(?m)^\*\*([\w ]+)\.\*\*", body), name


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


@needs_prometheus
def test_alerts_fire_when_they_must_and_only_then():
    """On recorded series: over flapping, restarts, series that end, and two hosts that tell the same."""
    assert "SUCCESS" in promtool("test", "rules", CASES)
