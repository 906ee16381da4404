"""Collections and clients whose writes have an idempotency key."""

from __future__ import annotations

import pytest

from web.app import create_app
from writebehind import Pipeline
from writebehind.collection import Collection
from writebehind.documents.ids import DocumentId
from writebehind.redis.keys import partition_keys

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


#: By which Redis keeps the receipt of a write to `users`.
NAME = f"users/{KEY}"


MERGE = "application/merge-patch+json"


@pytest.fixture
def another(settings, valkey_wire, mongo_client) -> Collection:
    """The same collection in another process."""
    return Pipeline(settings, wire=valkey_wire, client=mongo_client).collection("users")


@pytest.fixture
def client(pipeline):
    return create_app(pipeline).test_client()


def keys_of(pipeline: Pipeline, one: str = "ada"):
    return partition_keys(pipeline.store.partition_of(DocumentId.of("users", one).member))


def held(pipeline: Pipeline, one: str = "ada") -> tuple[int, int]:
    """How many receipts there are in the partition of a document, and of how many their time is known."""
    of = keys_of(pipeline, one)
    return tuple(pipeline.store._wire.calls([("HLEN", of.receipts), ("ZCARD", of.receipts_at)]))


@pytest.fixture
def many(settings, valkey_wire, mongo_client) -> Pipeline:
    """A pipeline that takes any collection."""
    return Pipeline(settings.model_copy(update={"allow_unlisted": True}), wire=valkey_wire, client=mongo_client)
