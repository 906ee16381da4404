"""Documents that others wrote larger than clients may: a thread that serves others never reads one by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from writebehind import Pipeline
from writebehind.collection import BulkOperation
from writebehind.documents.codec import decode
from writebehind.documents.entry import BODY_AT
from writebehind.documents.large import LARGE_BYTES, TakesMuchError, bounded
from writebehind.errors import DocumentTooLargeError
from writebehind.settings.installation import Settings

LARGE = "x" * (3 * LARGE_BYTES)
READS = {
    "by id": lambda users: users.read("large"),
    "several": lambda users: users.read_many(["small", "large"]),
    "one after the other": lambda users: list(users.read_each(["small", "large"])),
    "it alone": lambda users: list(users.read_each(["large"])),
    "by a unique field": lambda users: users.look_up("name", "large"),
    "by a query": lambda users: users.query("named", {"name": "large"}),
    "a change": lambda users: users.patch("large", lambda old: old),
    "an increment": lambda users: users.increment("large", {"n": 1}),
    "a condition": lambda users: users.put("large", {}, if_match=["a" * 32, "b" * 32]),
    "any document": lambda users: users.delete("large", if_match="*"),
}


@pytest.fixture
def settings(settings) -> Settings:
    named = {"filter": {"name": {"$param": "name"}}, "parameters": {"name": "string"}}
    asked = {"lookup": {"name": "string"}, "queries": {"named": named}}
    return Settings.model_validate(settings.model_dump() | {"collections": {"users": asked}})


@pytest.fixture
def documents(mongo_client, pipeline) -> Pipeline:
    found = mongo_client[pipeline.settings.mongodb_database].users
    found.insert_many([{"_id": "small", "name": "small"}, {"_id": "large", "name": "large", "text": LARGE}])
    return pipeline


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_large_document_is_left_to_another_thread(documents, users, read, cached):
    """Nothing is written, no more is read of it than the thread may, and the others may load it at once."""
    if cached:
        users.read("large")
    wire = documents.store._wire
    answers, calls = [], wire.exchange
    wire.exchange = lambda commands: answers.append(calls(commands)) or answers[-1]

    with bounded(LARGE_BYTES), pytest.raises(TakesMuchError):
        read(users)

    wire.exchange = calls
    read_one = [one for answer in answers for one in answer if isinstance(one, bytes)]
    assert all(len(one) <= BODY_AT + LARGE_BYTES + 1 for one in read_one)
    assert 0 == documents.status()["pending"]
    assert [] == rights(documents)
    assert LARGE == users.get("large")["text"]


def test_a_large_document_that_comes_up_meanwhile_keeps_nobody_waiting(documents, users, monkeypatch):
    """Another process has just loaded it: the rights to load those beside it are given back."""
    lease = documents.store.loads.get_or_lease_many

    def after_another_one(*given: Any, **named: Any) -> Any:
        monkeypatch.undo()
        with bounded():
            users.read("large")
        return lease(*given, **named)

    monkeypatch.setattr(documents.store.loads, "get_or_lease_many", after_another_one)

    with bounded(LARGE_BYTES), pytest.raises(TakesMuchError):
        users.read_many(["small", "large"])

    assert [] == rights(documents)


def rights(pipeline: Pipeline) -> list[bytes]:
    """The keys of rights to load, which others would wait for."""
    return [key for key in pipeline.store._wire.call("KEYS", "wb:*") if b"load:" in key]


@pytest.mark.parametrize("cached", [True, False])
def test_large_documents_are_read_one_by_one(documents, users, stored, monkeypatch, cached):
    """Also where nobody knows that they are large."""
    ids = ["large", *(f"small{n}" for n in range(20)), "large1", "large2", "none"]
    stored.insert_many([{"_id": one, "text": LARGE if "large" in one else ""} for one in ids[1:-1]])
    if cached:
        for one in ids:
            users.read(one)
    held: list[list[int]] = []
    for one, name in ((documents.store.cache, "get_many_with_ttl"), (documents.store.loads, "fill_many")):
        monkeypatch.setattr(one, name, noted(getattr(one, name), held))

    found = [entry for entry, _ in users.read_each(ids)]

    assert [*[True] * (len(ids) - 1), False] == [one.exists for one in found]
    assert ids[:-1] == [decode(one.body)["_id"] for one in found if one.exists]
    assert held
    assert all(len(sizes) < 2 or max(sizes) < LARGE_BYTES for sizes in held)


def noted(step: Callable[..., Any], held: list[list[int]]) -> Callable[..., Any]:
    """The same step of the store; the sizes of the documents of each call go into `held`."""

    def noting(first: Any, *more: Any, **named: Any) -> Any:
        first = list(first)
        found = step(first, *more, **named)
        entries = [entry for entry, _ in found.values()] if isinstance(found, dict) else [one[1] for one in first]
        held.append([len(one.body) for one in entries])
        return found

    return noting


CHANGES = {
    "a patch": lambda users: users.patch("large", lambda old: {}),
    "an increment": lambda users: users.increment("large", {"n": 1}),
    "a patch in a bulk": lambda users: raised(
        users.bulk([BulkOperation("patch", "large", change=lambda old: {})])
    ),
}


def raised(results: list) -> None:
    raise results[0]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_large_document_never_becomes_values(documents, users, change):
    """It would take many times its bytes: the client learns how large it is, and what to do."""
    with pytest.raises(DocumentTooLargeError, match=r"others wrote .* replace it as a whole"):
        change(users)

    users.put("large", {"n": 1})
    assert {"n": 1} == {name: value for name, value in users.get("large").items() if name == "n"}


def test_a_bulk_goes_on_after_a_large_document(documents, users):
    """Its own item says so; the others are carried out once."""
    operations = [
        BulkOperation("put", "before", {"n": 1}),
        BulkOperation("delete", "large", if_match="*"),
        BulkOperation("put", "after", {"n": 1}),
    ]
    with bounded(LARGE_BYTES):
        before, large, after = users.bulk(operations)

    assert ("before", "after") == (before.id, after.id)
    assert isinstance(large, DocumentTooLargeError)
    assert LARGE == users.get("large")["text"]


def test_a_write_is_carried_out_once_whoever_shares_its_value(documents, users):
    """The document that has the same unique value is large: the answer does without it."""
    users.read("large")
    users.look_up("name", "large")

    with bounded(LARGE_BYTES):
        written = users.put("other", {"name": "large"})

    assert {} == written.shared
    assert written.version == users.read("other").entry.version
