"""Writes of many documents at once, and the memory that a call takes."""

from __future__ import annotations

import tracemalloc

OID = "5f43a1b2c3d4e5f601234567"


def put(name: object, /, **doc: object) -> dict:
    return {"op": "put", "id": name, "doc": doc}


def bulk(client, *items: object, collection: str = "users", **options: object) -> list[dict]:
    """The results of a bulk request, one for each item."""
    response = client.post(f"/v1/{collection}:bulk", json=items, **options)
    assert (207, "application/json") == (response.status_code, response.content_type)
    assert ["results"] == list(response.json)
    assert len(items) == len(response.json["results"])
    return response.json["results"]


def peak_of(call) -> int:
    """The most bytes that a call has taken at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def document(client, name: str = "ada", collection: str = "users") -> dict:
    return client.get(f"/v1/{collection}/{name}").json
