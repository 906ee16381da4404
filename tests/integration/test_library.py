"""The library's face as Python programmers use it: mappings, models, patches, several documents at once."""

from __future__ import annotations

from collections import UserDict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

import pytest
from bson import Binary, ObjectId
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_serializer

from writebehind import BulkOperation
from writebehind.errors import (
    DocumentNotFoundError,
    InvalidDocumentError,
    InvalidIdError,
    InvalidPatchError,
    PatchConflictError,
    PreconditionFailedError,
)

BORN = datetime(1815, 12, 10, tzinfo=UTC)
NUMBER = UUID("12345678-1234-4234-8234-123456789abc")


class Trade(StrEnum):
    POET = "poet"


class Address(BaseModel):
    city: str
    street: str | None = None


class User(BaseModel):
    """A model as teams write them: `_id` by an alias, other models in it, types that JSON lacks."""

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    id: str = Field(alias="_id")
    name: str
    born: datetime | None = None
    number: UUID | None = None
    friend: ObjectId | None = None
    trades: list[Trade] = []
    address: Address | None = None


class Changed(BaseModel):
    """What a PATCH takes: nothing of it needs to be there."""

    name: str | None = None
    email: str | None = Field(None, alias="mail")


class Failing(BaseModel):
    n: int = 1

    @field_serializer("n")
    def fail(self, _: int) -> int:
        raise KeyError("n")


@pytest.fixture
def ada(users):
    users.put("ada", {"name": "Ada", "tags": ["a"], "address": {"city": "London", "street": "12"}})
    return users


def test_a_model_is_stored_by_its_aliases_and_types(users):
    """A model's fields become BSON of their own types, under their aliases, and can be validated again."""
    friend = ObjectId()
    user = User(
        id="ada",
        name="Ada",
        born=BORN,
        number=NUMBER,
        friend=friend,
        trades=["poet"],
        address=Address(city="London"),
    )

    users.put("ada", user)

    assert {
        "_id": "ada",
        "name": "Ada",
        "born": BORN,
        "number": Binary.from_uuid(NUMBER),
        "friend": friend,
        "trades": ["poet"],
        "address": {"city": "London", "street": None},
    } == users.get("ada")
    assert "Ada" == User.model_validate(users.get("ada") | {"number": None}).name


def test_create_takes_the_id_of_a_model(users):
    """A model that has an `_id` is created under it, once."""
    assert "ada" == users.create(User(id="ada", name="Ada")).id
    with pytest.raises(PreconditionFailedError):
        users.create(User(id="ada", name="Ada"))


@pytest.mark.parametrize("wrap", [UserDict, MappingProxyType], ids=["UserDict", "MappingProxyType"])
def test_any_mapping_is_taken(users, wrap):
    """Mappings that are no dicts are documents, changes and increments, also within others."""
    users.put("ada", wrap({"a": UserDict({"b": 1}), "n": 1}))
    users.patch("ada", wrap({"a": UserDict({"c": 2})}))
    users.patch("ada", json_patch=[wrap({"op": "add", "path": "/a/d", "value": UserDict({"e": 3})})])
    users.update("ada", wrap({"x": UserDict({"y": 4})}))
    users.increment("ada", wrap({"n": 1}))

    assert {"_id": "ada", "a": {"b": 1, "c": 2, "d": {"e": 3}}, "n": 2, "x": {"y": 4}} == users.get("ada")


@pytest.mark.parametrize(
    "wrong",
    [User(id="bob", name="Bob"), RootModel[list[int]]([1]), Failing(), User],
    ids=lambda one: repr(one)[:20],
)
def test_models_that_are_no_document_are_refused(ada, wrong):
    """A model with another id, of a list, that cannot be dumped, or its class is refused in words of ours."""
    with pytest.raises(InvalidDocumentError):
        ada.put("ada", wrong)
    assert "Ada" == ada.get("ada")["name"]


def test_a_model_with_values_that_bson_lacks_is_refused(users):
    """A date without a time is no BSON value: it is refused, and not made into something else."""

    class Dated(BaseModel):
        day: date = date(1815, 12, 10)

    with pytest.raises(InvalidDocumentError, match=r"datetime\.date"):
        users.put("ada", Dated())


def test_a_mapping_is_a_merge_patch(ada):
    """A mapping is merged into the document: objects deeply, and `None` removes a field."""
    ada.patch("ada", {"tags": ["poet"], "address": {"street": None}, "name": None})
    assert {"_id": "ada", "tags": ["poet"], "address": {"city": "London"}} == ada.get("ada")


def test_a_model_patches_what_was_set(ada):
    """Of a model only the fields that were set change the document, by their aliases; `None` removes."""
    ada.patch("ada", Changed(mail="ada@example.com"))
    assert {"name": "Ada", "mail": "ada@example.com"}.items() <= ada.get("ada").items()
    ada.patch("ada", Changed(mail=None))
    assert "mail" not in ada.get("ada")


def test_a_json_patch(ada):
    """The operations of a JSON Patch change the document together, or not at all."""
    ada.patch("ada", json_patch=({"op": "add", "path": "/tags/-", "value": one} for one in ("b", BORN)))
    with pytest.raises(PatchConflictError):
        ada.patch(
            "ada", json_patch=[{"op": "remove", "path": "/name"}, {"op": "test", "path": "/tags", "value": 1}]
        )

    assert {"name": "Ada", "tags": ["a", "b", BORN]}.items() <= ada.get("ada").items()


def test_a_patch_keeps_nothing_of_its_caller(ada):
    """What a caller does to its patch afterwards changes no document."""
    tags = ["poet"]
    ada.patch("ada", {"tags": tags})
    tags.append("x")
    assert ["poet"] == ada.get("ada")["tags"]


def test_an_update_sets_fields(ada):
    """`update` sets fields as a dict's does: objects as a whole, `None` as null; others stay."""
    ada.update("ada", {"address": {"city": "Bath"}, "tags": None})
    assert {"_id": "ada", "name": "Ada", "tags": None, "address": {"city": "Bath"}} == ada.get("ada")
    ada.update("ada", Changed(mail=None))
    assert {"name": "Ada", "mail": None}.items() <= ada.get("ada").items()


def test_an_update_by_operators(ada):
    """With names that begin with `$` it is MongoDB's update, on a condition where one is given."""
    first = ada.update("ada", {"$inc": {"visits": 1}, "$push": {"seen": {"$each": ("b", "a"), "$sort": 1}}})
    found = ada.get("ada")
    assert (1, ["a", "b"]) == (found["visits"], found["seen"])
    ada.update("ada", {"$pull": {"seen": {"$in": ["a"]}}}, if_match=first.etag)
    assert ["b"] == ada.get("ada")["seen"]
    with pytest.raises(PreconditionFailedError):
        ada.update("ada", {"$inc": {"visits": 1}}, if_match=first.etag)
    for wrong in ({"$inc": {"visits": 1}, "name": "x"}, {"$inc": {"visits": "1"}}, {"$other": {}}):
        with pytest.raises(InvalidPatchError):
            ada.update("ada", wrong)
    assert 1 == ada.get("ada")["visits"]


def test_updates_by_many_at_once(ada):
    """Each is applied to what the others have made of the document."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: ada.update("ada", {"$inc": {"n": 1}, "$addToSet": {"all": n % 10}}), range(40)))
    found = ada.get("ada")
    assert (40, set(range(10))) == (found["n"], set(found["all"]))
    assert 10 == len(found["all"])


def test_an_update_needs_a_document(users):
    """`update` creates nothing, and writes under no other id."""
    with pytest.raises(DocumentNotFoundError):
        users.update("ada", {"n": 1})
    users.put("ada", {})
    with pytest.raises(InvalidDocumentError):
        users.update("ada", {"_id": "bob"})


def test_bulk_takes_all_kinds_of_changes(ada):
    """Each way to change a document is one in a bulk as well; what is malformed is so in its place."""
    done = ada.bulk(
        [
            BulkOperation("put", "eve", Address(city="Paris")),
            BulkOperation("patch", "eve", change={"street": "1"}),
            BulkOperation("patch", "ada", change=Changed(mail="m")),
            BulkOperation("patch", "ada", json_patch=[{"op": "replace", "path": "/name", "value": "Lovelace"}]),
            BulkOperation("patch", "ada", json_patch=[{"op": "nonsense"}]),
            BulkOperation("patch", "ada", change=lambda old: old | {"n": 1}),
        ]
    )

    assert ["Written"] * 4 + ["InvalidPatchError", "Written"] == [type(one).__name__ for one in done]
    assert {"_id": "eve", "city": "Paris", "street": "1"} == ada.get("eve")
    assert {"name": "Lovelace", "mail": "m", "n": 1}.items() <= ada.get("ada").items()


def test_several_documents_come_in_their_order(users):
    """`mget` and `get_each` answer for each id in its place, `None` where there is no document."""
    for name in ("ada", "bob"):
        users.put(name, {"name": name})
    names = ["bob", "eve", "ada", "bob"]
    expected = [{"_id": "bob", "name": "bob"}, None, {"_id": "ada", "name": "ada"}, {"_id": "bob", "name": "bob"}]

    assert expected == users.mget(names) == users.mget(iter(names)) == list(users.get_each(names))
    assert [] == users.mget([]) == list(users.get_each([]))


def test_wrong_ids_show_at_once(users):
    """`get_each` refuses an id before anything is read."""
    with pytest.raises(InvalidIdError):
        users.get_each(["ada", ""])


def test_exists(users):
    """A document exists from its write until its deletion."""
    seen = [users.exists("ada")]
    users.put("ada", {})
    seen.append(users.exists("ada"))
    users.delete("ada")
    seen.append(users.exists("ada"))
    assert [False, True, False] == seen
