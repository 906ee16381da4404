"""Arguments of the library: what is misspelt never means less than what was meant. It is refused instead."""

from __future__ import annotations

from collections import OrderedDict
from datetime import date
from decimal import Decimal
from enum import Enum
from itertools import count
from threading import Lock
from types import SimpleNamespace

import pytest
from bson import SON
from pydantic import BaseModel

from writebehind import ANY, BulkOperation, Durability, Pipeline, connect
from writebehind.documents.patches import json_patch, merge_patch
from writebehind.errors import (
    InvalidArgumentError,
    InvalidDocumentError,
    InvalidIdError,
    InvalidPatchError,
    PreconditionFailedError,
    RequestError,
    UnknownQueryError,
)

SOME_ETAG, OTHER_ETAG = "0" * 32, "1" * 32
DOCUMENT = {"n": 1}


class Level(Enum):
    """Somebody else's enum."""

    PERSISTED = "persisted"


WRITES = {
    "put": lambda of, **more: of.put("a", {"n": 2}, **more),
    "create": lambda of, **more: of.create({"n": 2}, **more),
    "patch": lambda of, **more: of.patch("a", merge_patch({"n": 2}), **more),
    "update": lambda of, **more: of.update("a", {"n": 2}, **more),
    "increment": lambda of, **more: of.increment("a", {"n": 1}, **more),
    "delete": lambda of, **more: of.delete("a", **more),
    "bulk": lambda of, **more: of.bulk([BulkOperation("put", "a", {"n": 2})], **more),
}
MISSPELT_DURABILITY = [
    *("persistd", "PERSISTED", "Persisted", " persisted", "persisted ", "", "durability.persisted", "majority"),
    *(b"persisted", True, False, 0, 1, 3, ["persisted"], {}, Level.PERSISTED, ...),
]
MISSPELT_ETAGS = [None, 1, True, b"*", {SOME_ETAG: 1}, [None], [b"*"], [1], [[SOME_ETAG]], ...]
#: Names no state that would do: whoever computes a condition and has none must not write without one.
NO_ETAGS = [[], (), set(), frozenset(), OrderedDict().keys()]
NO_FLAGS = [None, 0, 1, "false", "no", "", [], "if_absent"]


@pytest.fixture
def given(users):
    """A document, of which every test sees that it is still there."""
    users.put("a", DOCUMENT)
    return users


@pytest.mark.parametrize("write", WRITES)
def test_the_text_of_a_durability_means_the_same(given, write):
    """`durability="persisted"` waits for MongoDB, as `Durability.PERSISTED` does."""
    for level in ("persisted", Durability.PERSISTED):
        given.put("a", DOCUMENT)
        done = WRITES[write](given, durability=level)
        one = done[0] if write == "bulk" else getattr(done, "written", done)
        assert Durability.PERSISTED is one.durability


@pytest.mark.parametrize("wrong", MISSPELT_DURABILITY, ids=repr)
def test_another_durability_is_refused(given, wrong):
    """What is not exactly a level, or its text, is refused by each method that writes."""
    for write in WRITES.values():
        with pytest.raises(InvalidArgumentError, match="durability must be one of buffered, fsynced"):
            write(given, durability=wrong)

    assert DOCUMENT == {name: given.get("a")[name] for name in DOCUMENT}


@pytest.mark.parametrize("write", ["put", "patch", "update", "delete"])
def test_a_text_is_one_etag(given, write):
    """A condition that is a text is one ETag and not its letters, and `*` is any; a list is any of them."""
    with pytest.raises(PreconditionFailedError):
        WRITES[write](given, if_match=OTHER_ETAG)
    for held in (
        lambda etag: etag,
        lambda etag: [OTHER_ETAG, etag],
        lambda etag: {etag},
        lambda etag: iter([etag]),
    ):
        WRITES[write](given, if_match=held(given.put("a", DOCUMENT).etag))
    given.put("a", DOCUMENT)
    WRITES[write](given, if_match=ANY)


@pytest.mark.parametrize("wrong", [*MISSPELT_ETAGS, *NO_ETAGS], ids=repr)
def test_what_is_no_condition_is_refused(given, wrong):
    """A condition of another type is refused, and not left out."""
    for write in ("put", "patch", "delete"):
        with pytest.raises(InvalidArgumentError, match="if_match"):
            WRITES[write](given, if_match=wrong)
    with pytest.raises(InvalidArgumentError, match="if_match"):
        BulkOperation("delete", "a", if_match=wrong)

    assert DOCUMENT == {name: given.get("a")[name] for name in DOCUMENT}


@pytest.mark.parametrize(
    "etag", ["", "*x", "**", '"*"', SOME_ETAG.upper() + "X", SOME_ETAG[:31], f'"{SOME_ETAG}"']
)
def test_an_etag_that_nothing_has_holds_for_nothing(given, etag):
    """A condition that cannot hold fails, alone and among others; also that of a deletion, which has no ETag."""
    for held in (etag, [etag], [etag, etag]):
        for write in ("put", "patch", "delete"):
            with pytest.raises(PreconditionFailedError):
                WRITES[write](given, if_match=held)
        failed = given.bulk([BulkOperation("delete", "a", if_match=held)])
        assert [PreconditionFailedError] == [type(one) for one in failed]


@pytest.mark.parametrize("wrong", NO_FLAGS, ids=repr)
def test_only_true_and_false_are_flags(given, pipeline, wrong):
    """What Python takes for true or false is neither."""
    for use in (
        lambda: given.put("b", {}, if_absent=wrong),
        lambda: pipeline.status(partitions=wrong),
        lambda: pipeline.dead_letters.replay([], conflicts=wrong),
        lambda: pipeline.dead_letters.replay([], only_newest=wrong),
    ):
        with pytest.raises(InvalidArgumentError, match="must be True or False"):
            use()


def test_conditions_that_contradict_each_other_are_refused(given):
    """A document cannot be there with an ETag and be absent: neither condition is dropped."""
    with pytest.raises(InvalidArgumentError, match="contradict"):
        given.put("a", {"n": 2}, if_match=SOME_ETAG, if_absent=True)


@pytest.mark.parametrize(
    ("of", "error"),
    [
        (lambda: BulkOperation("Put", "a", {"n": 2}), InvalidArgumentError),
        (lambda: BulkOperation("replace", "a", {"n": 2}), InvalidArgumentError),
        (lambda: BulkOperation("PATCH", "a", change=merge_patch({})), InvalidArgumentError),
        (lambda: BulkOperation([], "a"), InvalidArgumentError),
        (lambda: BulkOperation(None, "a"), InvalidArgumentError),
        (lambda: BulkOperation("put", "a"), InvalidArgumentError),
        (lambda: BulkOperation("put", "a", change=merge_patch({})), InvalidArgumentError),
        (lambda: BulkOperation("put", "a", {}, merge_patch({})), InvalidArgumentError),
        (lambda: BulkOperation("put", "a", []), InvalidDocumentError),
        (lambda: BulkOperation("put", "a", "{}"), InvalidDocumentError),
        (lambda: BulkOperation("patch", "a"), InvalidArgumentError),
        (lambda: BulkOperation("patch", "a", {"n": 2}), InvalidArgumentError),
        (lambda: BulkOperation("patch", "a", change=[("n", 2)]), InvalidArgumentError),
        (lambda: BulkOperation("patch", "a", change={}, json_patch=[]), InvalidArgumentError),
        (lambda: BulkOperation("patch", "a", json_patch='[{"op": "remove"}]'), InvalidArgumentError),
        (lambda: BulkOperation("put", "a", {}, json_patch=[]), InvalidArgumentError),
        (lambda: BulkOperation("delete", "a", json_patch=[]), InvalidArgumentError),
        (lambda: BulkOperation("delete", "a", {"n": 2}), InvalidArgumentError),
        (lambda: BulkOperation("delete", "a", change=merge_patch({})), InvalidArgumentError),
    ],
)
def test_an_operation_that_does_not_say_one_thing_is_refused(of, error):
    """An operation that is misspelt, or has not what it needs, or something else, is none: no empty document."""
    with pytest.raises(error):
        of()


@pytest.mark.parametrize("wrong", [None, "put", {"op": "put"}, 1, BulkOperation("delete", "a")], ids=repr)
def test_what_has_no_operations_is_refused(given, wrong):
    """A bulk is a list of operations, or something else that has them."""
    with pytest.raises(InvalidArgumentError, match="operations must be a list"):
        given.bulk(wrong)


@pytest.mark.parametrize(
    "wrong", [None, {"op": "put", "id": "a", "document": {}}, ("put", "a", {}), "put"], ids=repr
)
def test_what_is_no_operation_is_none(given, wrong):
    """Something else among the operations is an error in its place, and the others are carried out."""
    put, refused = given.bulk([BulkOperation("put", "a", {"n": 2}), wrong])

    assert (InvalidArgumentError, {"_id": "a", "n": 2}) == (type(refused), given.get("a"))
    assert put.id == "a"


def test_operations_may_come_from_anywhere(given):
    """A generator of operations is carried out like a list."""
    done = given.bulk(BulkOperation("put", str(n), {"n": n}) for n in range(3))
    assert [{"_id": str(n), "n": n} for n in range(3)] == [given.get(one.id) for one in done]


@pytest.mark.parametrize("wrong", [None, "text", b"bytes", 1, [], [("n", 2)], {"n"}, ...], ids=repr)
def test_what_is_no_document_is_refused(given, wrong):
    """A document is a mapping; a change must return one."""
    for use in (
        lambda: given.put("a", wrong),
        lambda: given.create(wrong),
        lambda: given.patch("a", lambda _: wrong),
        lambda: given.update("a", wrong),
    ):
        with pytest.raises(InvalidDocumentError):
            use()
    assert DOCUMENT == {name: given.get("a")[name] for name in DOCUMENT}


@pytest.mark.parametrize("document", [OrderedDict(n=2), SON([("n", 2)])], ids=["OrderedDict", "SON"])
def test_every_mapping_is_a_document(given, document):
    """What has names and values is stored as such."""
    given.put("a", document)
    assert {"_id": "a", "n": 2} == given.get("a")


@pytest.mark.parametrize("wrong", [1, "n", b'{"n": 2}', [], [("n", 2)], {"n"}, ..., dict, BaseModel], ids=repr)
def test_what_is_no_change_is_refused(given, wrong):
    """A change is a function, a merge patch or a model; JSON text, pairs and classes are not taken for one."""
    with pytest.raises(InvalidArgumentError, match="change must be"):
        given.patch("a", wrong)
    assert DOCUMENT == {name: given.get("a")[name] for name in DOCUMENT}


def test_a_patch_is_one_change(given):
    """Neither of a change and a JSON Patch is dropped for the other, and none is no change."""
    for wrong in ({}, {"change": {}, "json_patch": []}, {"change": None}):
        with pytest.raises(InvalidArgumentError, match="either a change or a json_patch"):
            given.patch("a", **wrong)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        *((one, InvalidArgumentError) for one in ('[{"op": "remove", "path": "/n"}]', {"op": "remove"}, 1, ...)),
        *(([one], InvalidPatchError) for one in (None, "remove", 1, {}, {"op": "add", "path": "/x"}, {"op": 1})),
        ([{"op": "add", "path": "/x", "value": {1}}], InvalidDocumentError),
        ([{1: 2}], InvalidDocumentError),
        pytest.param(({} for _ in count()), InvalidPatchError, id="endless"),
    ],
)
def test_what_is_no_json_patch_is_refused(given, wrong, error):
    """A JSON Patch is a list of operations, of values that BSON can hold; however long it goes on."""
    with pytest.raises(error):
        given.patch("a", json_patch=wrong)
    assert DOCUMENT == {name: given.get("a")[name] for name in DOCUMENT}


@pytest.mark.parametrize(
    "value", [{1}, Lock(), date(1815, 12, 10), Decimal(1), Level.PERSISTED], ids=lambda one: type(one).__name__
)
def test_values_that_bson_lacks_are_refused_in_a_patch(given, value):
    """What no document can hold is refused as such, wherever it stands in a change."""
    for change in (
        {"json_patch": [{"op": "add", "path": "/x", "value": value}]},
        {"change": {"x": [{"y": value}]}},
        {"change": lambda old: old | {"x": value}},
    ):
        with pytest.raises(InvalidDocumentError):
            given.patch("a", **change)
    with pytest.raises(InvalidDocumentError):
        given.update("a", {"x": value})


@pytest.mark.parametrize("make", [merge_patch, lambda given: json_patch(given, most_bytes=100)])
@pytest.mark.parametrize("wrong", [None, "text", 1, b"x"], ids=repr)
def test_what_is_no_patch_is_refused(make, wrong):
    """A patch of another type makes no change."""
    with pytest.raises(InvalidPatchError):
        make(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, {}, [], "n", 1, [("n", 1)], {"n": "1"}, {"n": None}, {"n": True}, {"n": [1]}, {"n": Decimal(1)}),
        *({1: 1}, {None: 1}, {b"n": 1}, {"": 1}, {"a..b": 1}, {"$n": 1}, {"_v": 1}, {"_id": 1}, {"n": 1 << 63}),
    ],
    ids=repr,
)
def test_what_adds_no_numbers_is_refused(given, wrong):
    """Increments are numbers by path: no texts, no truth values, no other keys."""
    with pytest.raises(InvalidPatchError):
        given.increment("a", wrong)


@pytest.mark.parametrize("wrong", [None, 1, 1.0, True, b"a", ["a"], ("a",), {"a": 1}, ..., "", "a\0", "\ud800"])
def test_ids_of_other_types_are_refused(given, wrong):
    """An id of another type than the collection's is never made into one."""
    for use in (given.get, given.read, given.id, given.exists, given.delete, lambda one: given.put(one, {})):
        with pytest.raises(InvalidIdError):
            use(wrong)


@pytest.mark.parametrize("wrong", [None, "ab", b"ab", {"a": 1}, 1], ids=repr)
def test_a_text_is_no_list_of_ids(given, wrong):
    """Several documents are named by a list: a text is not read letter by letter."""
    with pytest.raises(InvalidArgumentError, match="ids must be a list"):
        given.read_many(wrong)
    for use in (given.mget, given.get_each):
        with pytest.raises(InvalidArgumentError, match="ids must be a list"):
            use(wrong)


@pytest.mark.parametrize("wrong", [None, 1, [], {}, b"n"], ids=repr)
def test_names_are_texts(given, pipeline, wrong):
    """Names of collections, fields and queries of another type are refused in words."""
    for use in (pipeline.collection, lambda name: given.look_up(name, "x"), given.query):
        with pytest.raises(InvalidArgumentError, match="must be a str"):
            use(wrong)


def test_arguments_of_a_query_are_named(given):
    """Arguments without names are refused; an unknown query says so."""
    with pytest.raises(UnknownQueryError):
        given.query("nameless")
    with pytest.raises(RequestError):
        given.look_up("n", "1")


@pytest.mark.parametrize(
    "arguments",
    [
        {"settings": {}},
        {"settings": ""},
        {"settings": 0},
        {"settings": "writebehind.toml"},
        {"settings": SimpleNamespace(redis_url="redis://h")},
        {"hints": []},
        {"hints": "hints"},
        {"refreshes": False},
    ],
)
def test_connect_takes_settings_and_functions(settings, arguments):
    """What is false is not taken for "as the environment says", and what cannot be called is no sink."""
    with pytest.raises(InvalidArgumentError):
        connect(**arguments)
    with pytest.raises(InvalidArgumentError):
        Pipeline(**{"settings": settings, **arguments})
