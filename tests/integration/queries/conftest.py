"""Queries that are declared, and what MongoDB is asked for."""

from __future__ import annotations

import pytest

from writebehind import Pipeline, Settings

QUERIES = {
    "in_city": {
        "filter": {"city": {"$param": "city"}},
        "sort": {"rank": -1},
        "limit": 3,
        "parameters": {"city": "string"},
    },
    "young": {"filter": {"age": {"$lt": {"$param": "age"}}}, "parameters": {"age": "int"}},
    "names": {"sort": {"name": 1}, "projection": {"name": 1, "_id": 0}},
    "by_part": {"sort": {"parts.size": 1}, "limit": 2},
}


@pytest.fixture
def config(settings) -> Settings:
    users = {"queries": QUERIES, "flush_delay_ms": 60_000, "ttl": 600}
    values = {"collections": {"users": users, "others": {}}, "partitions": 4, "query_interval": 3_600}
    return Settings.model_validate(settings.model_dump() | values)


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


@pytest.fixture
def asked(pipeline, other, monkeypatch) -> list[dict]:
    """The filters that MongoDB is asked for."""
    filters: list[dict] = []
    for one in (pipeline, other):
        find = one.sink.find_places
        monkeypatch.setattr(
            one.sink, "find_places", lambda *wanted, find=find: filters.append(wanted[1]) or find(*wanted)
        )
    return filters


def ids(users, city: str = "London") -> list[str]:
    return [one["_id"] for one in users.query("in_city", {"city": city})]


def lives_in(city: str, rank: int = 0, **more: object) -> dict:
    return {"city": city, "rank": rank, **more}
