"""What readers get from the whole system."""

from __future__ import annotations

import pytest

from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance


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


def test_a_list_while_workers_flush(system):
    """Each document is on one page, as it was acknowledged, although it goes from Redis to MongoDB meanwhile."""
    put = [{"op": "put", "id": f"{n:03}", "doc": {"n": n}} for n in range(400)]
    system.http.post("/v1/listed:bulk?durability=persisted", json=put, timeout=60).raise_for_status()
    change = [{"op": "put", "id": f"{n:03}", "doc": {"n": -n}} for n in range(0, 400, 4)]
    gone = [{"op": "delete", "id": f"{n:03}"} for n in range(1, 400, 4)]
    expected = {one["id"]: one["doc"]["n"] for one in put + change}
    for one in gone:
        del expected[one["id"]]
    system.http.post("/v1/listed:bulk", json=change + gone, timeout=60).raise_for_status()

    def listed() -> dict[str, int]:
        found: list[dict] = []
        after = {}
        while True:
            page = system.http.get("/v1/listed", params={"limit": 300, "fields": "n"} | after, timeout=60).json()
            found += page["documents"]
            if page["after"] is None:
                break
            after = {"after": page["after"]}
        names = [one["_id"] for one in found]
        assert sorted(set(names)) == names
        return {one["_id"]: one["n"] for one in found}

    def stored() -> dict[str, int]:
        return {one["_id"]: one["n"] for one in system.database["listed"].find()}

    assert expected == listed()
    wait_until(
        lambda: (listed() == expected or pytest.fail("a list differs")) and stored() == expected,
        "all to be persisted",
        60,
    )
    assert expected == listed()
