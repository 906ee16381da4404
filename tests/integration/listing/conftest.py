"""Collections with ids of every type, of which nothing is flushed by itself."""

from __future__ import annotations

from typing import Any

import pytest

from writebehind import Pipeline, Settings
from writebehind.collection import Collection
from writebehind.querying.pages import Page

#: The types of ids that the pipeline has, by the name of a collection.
KINDS = {"users": "string", "numbers": "int", "orders": "objectid", "keys": "uuid", "mixed": "auto"}


@pytest.fixture
def config(settings) -> Settings:
    kept = {"flush_delay_ms": 60_000, "id_pattern": r"[\s\S]+"}
    collections = {name: {"id": kind} | kept for name, kind in KINDS.items()}
    values = {"collections": collections | {"exact": kept | {"bypass": False}}, "partitions": 4}
    return Settings.model_validate(settings.model_dump() | values)


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


def pages(collection: Collection, limit: int = 100) -> list[Page]:
    """All of them."""
    found = [collection.page(limit=limit)]
    while found[-1].after is not None:
        found.append(collection.page(after=found[-1].after, limit=limit))
    return found


def listed(collection: Collection, limit: int = 100) -> list[dict[str, Any]]:
    """The documents of all pages."""
    return [one for page in pages(collection, limit) for one in page.documents()]


def ids(collection: Collection, limit: int = 100) -> list[Any]:
    return [one["_id"] for one in listed(collection, limit)]
