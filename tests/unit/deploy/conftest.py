"""The alert rules, and the cases that they are tested by."""

from __future__ import annotations

import pytest
import yaml

from tests.prometheus import DEPLOY

RULES, CASES = DEPLOY / "prometheus/rules.yml", DEPLOY / "prometheus/rules_test.yml"


@pytest.fixture(scope="module")
def rules() -> list[dict]:
    return [one for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for one in group["rules"]]


@pytest.fixture(scope="module")
def alerts(rules) -> list[dict]:
    return [one for one in rules if "alert" in one]
