"""What readers get from the whole system."""

from __future__ import annotations

import pytest

from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_stale_while_revalidate(system):
    """After its TTL a document is served at once, says that it is stale, and a task reads it anew."""
    system.database.stale.insert_one({"_id": "ada", "name": "Ada"})
    path = "/v1/stale/ada"
    assert "Ada" == system.http.get(path).json()["name"]
    system.database.stale.update_one({"_id": "ada"}, {"$set": {"name": "Countess"}})

    seen = []

    def look() -> bool:
        answer = system.http.get(path)
        seen.append((answer.json()["name"], answer.headers["Cache-Status"]))
        return seen[-1][0] == "Countess"

    wait_until(look, "the document to be read anew", 10)
    assert {True} == {status.startswith("writebehind; hit; ttl=") for _, status in seen}  # nobody waited
    assert ("Ada", True) in {(name, status.endswith("; detail=stale")) for name, status in seen}
