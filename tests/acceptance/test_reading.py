"""What readers get from the whole system."""

from __future__ import annotations

import pytest

from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_stale_while_revalidate(system):
    """After its TTL a document is served at once, says that it is stale, and a task reads it anew."""
    system.database.stale.insert_one({"_id": "grows-old", "name": "Ada", **system.fill})
    seen = []

    def is_stale() -> bool:
        seen.append(system.http.get("/v1/stale/grows-old").headers["Cache-Status"])
        return seen[-1].endswith("; detail=stale")

    wait_until(lambda: not is_stale() and "hit; ttl=" in seen[-1], "the document to be cached", 10)
    seen.clear()
    wait_until(is_stale, "it to be stale", 10)
    wait_until(lambda: not is_stale(), "it to be read anew", 10)
    assert {True} == {one.startswith("writebehind; hit; ttl=") for one in seen}  # nobody waited
