"""Values that other hands wrote, which no driver of ours would: on real servers none is in the way of another."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from tests.integration.conftest import flush_all
from tests.proxy import Proxy
from writebehind import Pipeline, Settings
from writebehind.documents import patches
from writebehind.documents.raw_bson import split_version
from writebehind.errors import UnreadableDocumentError


def document(name: bytes, *elements: bytes) -> RawBSONDocument:
    content = b"\x02_id\0" + struct.pack("<i", len(name) + 1) + name + b"\0" + b"".join(elements)
    return RawBSONDocument(struct.pack("<i", len(content) + 5) + content + b"\0")


def text(content: bytes) -> bytes:
    return b"\x02text\0" + struct.pack("<i", len(content) + 1) + content + b"\0"


#: The server of the tests sees to it that strings are UTF-8, and MongoDB does not: what the former has as the one,
#: is the other to everybody who comes by the proxy.
DISGUISE = {b"a==": b"a\xff\xfe", b"no utf8 id": b"no utf8 \xff\xff"}
NAMES = ["plain", "no_utf8", "other"]


@pytest.fixture
def config(settings) -> Settings:
    warm = [{"filter": {}, "limit": 10}]
    everything = {"filter": {}, "limit": 10}
    named = {"ttl": 100, "flush_delay_ms": 0, "warm": warm, "queries": {"everything": everything}}
    values = settings.model_dump() | {"defaults": {}, "load_timeout_ms": 6_000}
    return Settings.model_validate(values | {"collections": {"users": named}})


@pytest.fixture
def client(mongo) -> Iterator[MongoClient]:
    with Proxy(urlsplit(mongo.url).port or 0) as proxy:
        proxy.disguise = DISGUISE
        with MongoClient(f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true") as client:
            yield client


@pytest.fixture
def pipeline(config, valkey_wire, client) -> Iterator[Pipeline]:
    pipeline = Pipeline(config, wire=valkey_wire, client=client)
    yield pipeline
    pipeline.hot_keys.close()


@pytest.fixture(autouse=True)
def foreign(stored) -> None:
    """What somebody else has put into MongoDB, among it a document whose `_id` is no UTF-8."""
    stored.insert_many(
        [
            document(b"plain"),
            document(b"other"),
            document(b"no_utf8", text(b"a==")),
            document(b"no utf8 id", text(b"a==")),
        ]
    )


def test_all_can_be_read_together(users):
    """Reading several reads all of them, and one that is unreadable is no other's problem."""
    entries, _ = users.read_many(NAMES)
    assert [one.exists for one in entries] == [True] * 3
    with pytest.raises(UnreadableDocumentError):
        users.get("no_utf8")
    assert {"_id": "other"} == users.get("other")


def test_all_are_warmed(pipeline):
    """A pass that warms them goes through, and puts no document under an id that it does not have."""
    assert 3 == pipeline.maintenance.warm()["loaded"]
    assert 3 == len(pipeline.store._wire.call("KEYS", "wb:*:entry:*"))


def test_all_others_are_found(users):
    """A query finds those that can be read and have an id of ours."""
    assert ["other", "plain"] == sorted(one["_id"] for one in users.query("everything"))


def test_one_is_not_in_the_way_of_others(pipeline, users, stored):
    """What is written beside them reaches MongoDB; they stay as they were until they are replaced or deleted."""
    users.put("plain", {"x": 1})
    with pytest.raises(UnreadableDocumentError):
        users.patch("no_utf8", patches.merge_patch({"x": 1}))
    flush_all(pipeline)
    raw = stored.with_options(CodecOptions(RawBSONDocument))
    assert text(b"a==") in split_version(raw.find_one({"_id": "no_utf8"}).raw)[0]
    users.put("no_utf8", {"x": 2})
    flush_all(pipeline)
    assert 2 == stored.find_one({"_id": "no_utf8"})["x"]
