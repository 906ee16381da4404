"""One Redis belongs to one MongoDB database: no other installation reads, writes or flushes what is in it."""

from __future__ import annotations

import pytest

from writebehind import Pipeline, Settings
from writebehind.redis.keys import DATABASE
from writebehind.redis.wire import Wire

NAMED = {"filter": {"name": {"$param": "name"}}, "parameters": {"name": "string"}}


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    """Samples are as new as they can be, and nobody else has to be waited for."""
    monkeypatch.setattr("writebehind.operations.idle.SAMPLE_EVERY_S", 0.0)
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)


@pytest.fixture
def settings(settings) -> Settings:
    told = settings.model_dump()
    told["collections"]["users"] |= {"lookup": {"name": "string"}, "queries": {"named": NAMED}}
    return Settings.model_validate(told)


def of(pipeline: Pipeline, database: str, wire: Wire | None = None) -> Pipeline:
    """A process on the same servers whose settings name another MongoDB database."""
    settings = pipeline.settings.model_copy(update={"mongodb_database": database})
    return Pipeline(settings, wire=wire or pipeline.store._wire, client=pipeline._client)


@pytest.fixture
def foreign(pipeline) -> Pipeline:
    """A process of a second installation, on the Redis of the first one."""
    return of(pipeline, f"{pipeline.settings.mongodb_database}_b")


def recorded(pipeline: Pipeline) -> bytes:
    return pipeline.store._wire.call("GET", DATABASE)
