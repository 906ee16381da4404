"""The rules: they name what there is, each has its reason, and Prometheus takes them."""

from __future__ import annotations

import re
from itertools import pairwise

import yaml

from tests.prometheus import DEPLOY, faults, needs_prometheus, promtool
from tests.unit.deploy.conftest import RULES
from writebehind.settings.installation import Settings


def test_rules_name_what_is_on_the_page(rules):
    """Each series and label of a rule is on the page, and each recorded series is recorded."""
    recorded = {one["record"] for one in rules if "record" in one}

    assert {one["expr"]: faults(one["expr"]) for one in rules if faults(one["expr"])} == {}
    named = {name for one in rules for name in re.findall(r"\w+:writebehind_\w+:\w+", one["expr"])}
    assert named <= recorded


def test_each_threshold_has_its_reason():
    """A comment stands above each alert."""
    lines = RULES.read_text("utf-8").splitlines()

    assert [] == [line for before, line in pairwise(lines) if "- alert:" in line and "#" not in before]


def test_prometheus_scrapes_what_is_started_here():
    """The exporter at its usual address."""
    found = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))
    [job] = found["scrape_configs"]

    assert [f"127.0.0.1:{Settings.model_fields['exporter_port'].default}"] == job["static_configs"][0]["targets"]
    assert ["rules.yml"] == found["rule_files"]
    assert job["job_name"].startswith("writebehind")


@needs_prometheus
def test_promtool_takes_the_rules():
    """The rules and the configuration are valid."""
    promtool("check", "rules", RULES)
    promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")
