"""Documents with unique fields, what MongoDB is asked for, and steps in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from writebehind import Pipeline, Settings

LOOKUP = {"username": "string", "number": "int", "address.city": "string"}


@pytest.fixture
def config(settings) -> Settings:
    users = {"lookup": LOOKUP, "flush_delay_ms": 60_000, "ttl": 600, "negative_ttl": 5}
    values = settings.model_dump() | {"collections": {"users": users, "others": {}}, "partitions": 4}
    return Settings.model_validate(values)


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


@pytest.fixture
def asked(pipeline, other, monkeypatch) -> list[object]:
    """What MongoDB is asked for, by value."""
    values: list[object] = []
    for one in (pipeline, other):
        find_by = one.sink.find_by
        monkeypatch.setattr(
            one.sink, "find_by", lambda *wanted, find_by=find_by: values.append(wanted[2]) or find_by(*wanted)
        )
    return values


def name_of(users, username: str) -> str | None:
    document_id, read = users.look_up("username", username)
    assert (document_id is None) == (not read.entry.exists)
    return None if document_id is None else document_id.text


def lasting(pipeline: Pipeline) -> list[str]:
    """What lookups keep in Redis without TTL."""
    wire = pipeline.store._wire
    keys = [key.decode() for pattern in ("wb:*:alias*", "wb:*:claimed:*") for key in wire.call("KEYS", pattern)]
    return sorted(key.split(":", 2)[2] for key in keys if wire.call("PTTL", key) == -1)


def after_once(monkeypatch, target: object, method: str, step: Callable[[], object]) -> None:
    """Do something between this call and what comes after: once."""
    original = getattr(target, method)

    def delayed(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(target, method, original)
        answer = original(*args, **kwargs)
        step()
        return answer

    monkeypatch.setattr(target, method, delayed)
