"""Conflicts and drift over HTTP."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem


def test_conflicts(client):
    """None, where nobody else writes."""
    assert {"conflicts": []} == client.get("/admin/conflicts").json


def test_drift(client, installation):
    """The pass under way, the last ones, and the fraction that is equal."""
    client.put("/v1/people/ada", json={"username": "ada"})
    found = client.get("/admin/drift?limit=5").json
    assert ([], {"checked": 0, "equal": 0, "ratio": None}) == (found["passes"], found["consistency"])
    installation.pipeline.reconciler.run()
    found = client.get("/admin/drift").json
    assert ({}, False) == (found["passes"][0]["found"], found["passes"][0]["dry_run"])


@pytest.mark.parametrize("path", ["/admin/conflicts", "/admin/drift"])
@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=1001", "limit=-1", "limit=" + "9" * 30, "x=1"])
def test_wrong_limits(client, path, query):
    """They are refused with what is right."""
    assert problem(client.get(f"{path}?{query}"), 400)["detail"]
