"""Drift that is planted by hand, and time that passes at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conftest import flush_all
from writebehind import BulkOperation, Pipeline, Settings
from writebehind.documents.ids import DocumentId
from writebehind.redis.keys import partition_keys


@pytest.fixture(autouse=True)
def grace(monkeypatch) -> None:
    """Nothing is on its way but what a test puts there."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.GRACE_S", 0.0)
    monkeypatch.setattr("writebehind.parts.GRACE_LEASES", -1)


@pytest.fixture
def config(settings) -> Settings:
    values = settings.model_dump() | {
        "collections": {"users": {"lookup": {"name": "string"}, "flush_delay_ms": 0}}
    }
    return Settings.model_validate(values | {"defaults": {}, "load_timeout_ms": 6_000})


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client, hints, grace) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client, hints=hints)


@pytest.fixture
def later(valkey_wire, monkeypatch) -> Callable[[float], None]:
    """Let so many seconds pass, by the clock that all times in Redis are made of."""
    now_ms, passed = valkey_wire.now_ms, []
    monkeypatch.setattr(valkey_wire, "now_ms", lambda *of: now_ms(*of) + int(sum(passed) * 1000))
    return passed.append


@pytest.fixture
def planted(pipeline, users) -> Callable[[str], str]:
    """A document that is cached and in MongoDB, and the partition's keys."""

    def plant(name: str) -> str:
        users.put(name, {"name": name, "n": 1})
        flush_all(pipeline)
        return member(name)

    return plant


def member(name: str) -> str:
    return DocumentId.of("users", name).member


def of(pipeline: Pipeline, name: str):
    return partition_keys(pipeline.store.partition_of(member(name)))


def fill(pipeline: Pipeline, count: int) -> None:
    """So many documents that are cached and in MongoDB."""
    pipeline.collection("users").bulk([BulkOperation("put", f"u{n}", {"n": n}) for n in range(count)])
    flush_all(pipeline)


@pytest.fixture
def theirs(config, valkey_wire, mongo_client, hints) -> Pipeline:
    values = config.model_dump()
    values["collections"]["users"]["on_conflict"] = "theirs"
    return Pipeline(Settings.model_validate(values), hints=hints, wire=valkey_wire, client=mongo_client)
