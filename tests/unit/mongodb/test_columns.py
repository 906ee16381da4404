"""Plain documents in columns: what goes in, what is left, and what is made of it."""

from __future__ import annotations

import logging
from uuid import UUID

import bson
import pytest
from bson import ObjectId
from bson.raw_bson import RawBSONDocument

from writebehind.documents.entry import ABSENT, DELETED, Entry
from writebehind.documents.ids import DocumentId, Id
from writebehind.mongodb import update_command
from writebehind.mongodb.columns import Columns, columns
from writebehind.mongodb.outcomes import Write
from writebehind.mongodb.update_command import statements_of

VERSION = 1_700_000_000_000_000
IDS: list[Id] = ["ada", "", "Zoë\0", "i:5", 5, -(2**63), ObjectId(b"123456789012"), UUID(int=7)]


def document(text: str = "", version: int = VERSION) -> Entry:
    return Entry.loaded(bson.encode({"_id": "whatever", "text": text}), version)


def made(*values: tuple[str, bytes | None]) -> tuple[list[Columns], list[str]]:
    left: list[str] = []
    return list(columns("users", values, left)), left


@pytest.mark.parametrize("value", IDS, ids=repr)
def test_a_document_is_sent_as_by_the_other_way(value):
    """Whatever its id: the same statement, and the same write where somebody looks."""
    write = Write(DocumentId.of("users", value), document("x"))
    ([found], left) = made((write.id.member, write.entry.value))

    sent = statements_of([write])
    assert sent is not None
    assert [one.raw for one in sent] == [one.raw for one in found.statements]
    assert ([write], [write.entry.header.encode()], []) == (list(found), list(found.headers), left)
    assert ([f"{VERSION:016d}".encode()], (VERSION,)) == (found.digits, found.versions)


@pytest.mark.parametrize(
    "value",
    [
        *(None, b"", b"x", ABSENT.value, DELETED.value, Entry(5, DELETED.kind).value),
        document("a").value[:-1],
        document("a").value + b"x",
        document("a").value.replace(b"D", b"X", 1),
        b"x" + document("a").value[1:],
        document("a").value[:17] + b"\n" + document("a").value[18:],
    ],
    ids=repr,
)
def test_what_is_no_plain_document_is_left(value):
    """Whoever sees to it reads it anew."""
    good = document("good").value
    batches, left = made(("users/s:a", good), ("users/s:b", value), ("users/s:c", good))

    assert ([("users/s:a", "users/s:c")], ["users/s:b"]) == ([one.members for one in batches], left)


def test_nothing_makes_no_batch():
    assert ([], []) == made()
    assert ([], ["users/s:a"]) == made(("users/s:a", None))


def test_as_many_batches_are_made_as_commands_are_needed(monkeypatch):
    monkeypatch.setattr(update_command, "MOST_BYTES", 10_000)
    sizes = [*[1_000] * 3, 20_000, *[3_500] * 3, 8_000, 20_000]
    values = [(f"users/s:{at}", document("x" * size).value) for at, size in enumerate(sizes)]

    batches, left = made(*values)

    assert ["users/s:3", "users/s:8"] == left
    assert [["0", "1", "2"], ["4", "5"], ["6"], ["7"]] == [[one.id.text for one in batch] for batch in batches]
    for batch in batches:
        assert sum(map(len, (one.raw for one in batch.statements))) < 10_000


def test_a_batch_is_taken_apart_as_a_sequence():
    """By halves a document is found that MongoDB does not take."""
    values = [(f"users/s:{at}", document(str(at)).value) for at in range(5)]
    ([batch], _) = made(*values)

    assert (5, "users") == (len(batch), batch.collection)
    assert ["0", "1"] == [one.id.text for one in batch[:2]]
    assert "4" == batch[-1].id.text
    assert "users/s:3" in repr(batch)


def test_a_statement_can_be_read(caplog):
    """The driver logs commands where that is asked for."""
    ([batch], _) = made(("users/s:ada", document("x").value))
    [statement] = batch.statements

    assert ["q", "u", "upsert"] == list(statement)
    assert (3, True, "x") == (len(statement), statement["upsert"], statement["u"]["text"])
    assert {"q", "u", "upsert"} == dict(statement.items()).keys()
    assert "upsert" in repr(statement)
    assert statement == RawBSONDocument(statement.raw)
    assert statement != RawBSONDocument(bson.encode({}))
    assert statement
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("pymongo.command").debug("%s", statement)
    assert "upsert" in caplog.text
