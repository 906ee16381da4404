"""An entry that other hands have spoiled, whose header may still be good, spoils nothing beside it."""

from __future__ import annotations

import re
from collections.abc import Callable

import bson
import pytest

from tests.integration.conftest import flush_all
from web.app import create_app
from writebehind import BulkOperation, Pipeline, Settings
from writebehind.documents.entry import BODY_AT, KIND_AT, Entry
from writebehind.errors import UnreadableDocumentError
from writebehind.flushing.dead_letters import Filter
from writebehind.flushing.recorder import DeadLetter
from writebehind.redis.keys import partition_keys

#: What becomes of the value of an entry: unreadable at once, or only where it is walked through.
SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "no entry": lambda value: b"garbage",
    "its header alone": lambda value: value[:BODY_AT],
    "cut off": lambda value: value[:BODY_AT] + b"\x20\0\0\0\x02a",
    "no ETag": lambda value: value[: KIND_AT + 1] + b"\r\n" * 16 + value[BODY_AT:],
    "a length within": lambda value: value.replace(b"z\0\x02\0\0\0", b"z\0\xff\xff\xff\x7f"),
    "no UTF-8": lambda value: re.sub(rb"(name\0.\0\0\0).", b"\\1\xff", value),
    "no type of BSON": lambda value: value.replace(b"\x02z\0", b"\x55z\0"),
}
#: `{"_id": "b", "z": …}`, whose string is no UTF-8.
NO_UTF8 = bson.encode({"_id": "b", "z": "zz"}).replace(b"zz\0", b"\xffz\0")
QUERIES = {
    "sorted": {"filter": {"name": {"$gt": "A"}}, "sort": {"z": 1}},
    "projected": {"filter": {"name": {"$gt": "A"}}, "projection": {"z": 0}},
    "filtered": {"filter": {"z": {"$gt": ""}}},
}


@pytest.fixture
def settings(settings) -> Settings:
    users = {"flush_delay_ms": 60_000, "lookup": {"name": "string"}, "queries": QUERIES}
    return Settings.model_validate(settings.model_dump() | {"collections": {"users": users}})


def spoil(pipeline: Pipeline, name: str, spoiled: Callable[[bytes], bytes]) -> None:
    wire, key = pipeline.store._wire, pipeline.store.cache.key(f"users/s:{name}")
    before = wire.call("GET", key)
    after = spoiled(before)
    assert before != after
    wire.call("SET", key, after, "KEEPTTL")


def test_the_server_is_named_in_which_a_document_cannot_be_read(pipeline, users, valkey_wire):
    """Where its entry was changed that is Redis; what fits its ETag was read from MongoDB as it is."""
    client = create_app(pipeline).test_client()
    users.put("a", {"name": "AA", "z": "z"})
    spoil(pipeline, "a", SPOILED["no UTF-8"])
    valkey_wire.call("SET", pipeline.store.cache.key("users/s:b"), Entry.loaded(NO_UTF8, 0).value, "EX", 600)
    for name, server in (("a", "in Redis"), ("b", "to MongoDB")):
        with pytest.raises(UnreadableDocumentError, match=server):
            users.get(name)
        alone = client.get(f"/v1/users/{name}")
        assert (409, True) == (alone.status_code, server in alone.json["detail"]), alone.json
        several = client.post("/v1/users:get", json={"ids": [name]}).json
        assert server in several["unreadable"][name]["detail"]


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED)
def test_queries(pipeline, users, spoiled):
    """They have all that can be read."""
    for one in "abc":
        users.put(one, {"name": one.upper() * 2, "z": one})
    spoil(pipeline, "b", spoiled)

    for query in QUERIES:
        assert {"AA", "CC"} <= {one["name"] for one in users.query(query)}, query


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED)
def test_unique_values(pipeline, users, stored, spoiled):
    """A lookup finds who has the value, and writes of it, and replays of letters beside it, are taken whole."""
    stored.create_index("mail", unique=True, sparse=True)
    stored.insert_one({"_id": "old", "mail": "a@b"})
    users.put("ada", {"name": "Ada", "z": "z"})
    users.put("twin", {"name": "Twin", "mail": "a@b"})
    spoil(pipeline, "ada", spoiled)

    users.look_up("name", "Ada")
    users.put("eve", {"name": "Ada"})
    assert ["b", "c"] == [one.id for one in users.bulk([BulkOperation("put", x, {"name": "Ada"}) for x in "bc"])]
    assert users.look_up("name", "Ada")[0]
    flush_all(pipeline)
    assert {"eve", "b", "c", "old"} == set(stored.distinct("_id")) - {"ada"}
    letters = pipeline.dead_letters.page(Filter()).letters
    assert "users/s:twin" in {one.letter.member for one in letters}
    assert "users/s:twin" in pipeline.dead_letters.replay(letters)
    assert "twin" == users.look_up("name", "Twin")[0].value


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("whose", ["holder", "waits"])
def test_contention(pipeline, users, stored, whose, spoiled):
    """Who waits for a unique value, or has it, keeps nobody else from being flushed."""
    stored.create_index("name", unique=True)
    users.put("holder", {"name": "x", "z": "z"})
    flush_all(pipeline)
    users.put("waits", {"name": "x", "z": "z"})
    flush_all(pipeline)
    assert 1 == pipeline.dead_letters.count()
    if whose == "waits":
        spoil(pipeline, "waits", spoiled)
    users.put("holder", {"name": "y", "z": "z"})
    if whose == "holder":
        spoil(pipeline, "holder", spoiled)
    users.put("beside", {"name": "beside"})

    flush_all(pipeline)
    for partition in range(pipeline.settings.partitions):
        pipeline.contention.sweep(partition)

    assert stored.find_one({"_id": "beside"})


@pytest.mark.parametrize("spoiled", [lambda digits: digits, lambda digits: digits + b"?"])
def test_what_is_kept_beside_a_letter(pipeline, users, spoiled):
    """The letter is shown without its document, and so are those after it."""
    written = users.put("ada", {"name": "Ada"})
    member, digits = "users/s:ada", f"{written.version:016d}"
    letter = DeadLetter.lost(member)
    pipeline.store.pending.bury(member, digits, digits.encode() + letter.dump()[16:], drop_entry=True)
    kept = partition_keys(pipeline.store.partition_of(member)).kept(member)
    assert 0 == pipeline.store._wire.call("HSET", kept, digits, spoiled(digits.encode()))

    [found] = pipeline.dead_letters.all(Filter())

    assert b"" == found.letter.body


@pytest.mark.parametrize("last", [b"xx", b"\x20\0\0\0\x02a", bson.encode({"z": 1})[:-3] + b"\0"])
def test_the_end_of_a_result(pipeline, users, stored, last):
    """A result that nobody can read is loaded anew."""
    stored.insert_many([{"name": "A1", "z": n} for n in range(3)])
    assert 3 == len(users.query("sorted"))
    [key] = pipeline.store._wire.call("KEYS", "wb:*:query:*")
    result = bson.decode(pipeline.store._wire.call("GET", key))
    pipeline.store._wire.call("SET", key, bson.encode(result | {"last": last}))
    users.put("new", {"name": "A2", "z": 5})

    assert 4 == len(users.query("sorted"))
    assert b"" == bson.decode(pipeline.store._wire.call("GET", key))["last"]
