"""Update operators mean what a server means by them: the same documents, refused where it refuses them.

Cases are made up, the same ones in each run, and sent to the server in one go. The unit tests of the operators
have mongod's rules, one by one.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from random import Random
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError

from tests.tiers import long
from writebehind.documents.codec import decode_exactly, encode
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.errors import RequestError
from writebehind.mql.updates.paths import follow
from writebehind.mql.updates.update import OPERATORS, compile_update

#: Cases of each operator in which the server has to agree; more are made up where it deviates in some.
FEW, MANY = 100, 1_000
MADE_UP = {"$pull": 1.7, "$push": 1.6, "$rename": 1.8}
MOST_BYTES = 1 << 20
NAMES = ["a", "b", "c", "d"]
SCALARS = [
    *(0, 1, 2, -3, (1 << 31) - 1, -(1 << 31), Int64(2), Int64(1 << 40), Int64((1 << 63) - 1), Int64(-(1 << 63))),
    *(0.5, 2.0, -1.5, 1e300, float("inf"), Decimal128("1"), Decimal128("2.50"), Decimal128("-7")),
    *("", "x", "y", "10", None, True, False, ObjectId("5f43a1b2c3d4e5f601234567"), b"\1\2"),
    *(datetime(2026, 1, 2, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)),
]
#: Values that are often equal to each other.
ALIKE = [0, 1, Int64(1), 1.0, Decimal128("1.0"), 2, "x", None, True, {"a": 1}, {"a": 1.0}, [1]]
NUMBERS = [one for one in SCALARS if isinstance(one, int | float | Decimal128) and not isinstance(one, bool)]
PATHS = [
    *("a", "a", "a", "a", "a", "b", "c", "d", "e", "a.b", "a.c", "b.a", "b.c.d", "c.d"),
    *("a.0", "a.1", "b.0", "a.2", "a.4", "c.0.b", "a.0.b", "a.1.c", "a.b.0", "e.f.g", "e.0", "a.x.y"),
]


class Maker:
    """Makes up documents and updates."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)

    def value(self, levels: int = 2) -> Any:
        if levels and self.random.random() < 0.4:
            return deepcopy(self.random.choice(ALIKE))
        kind = self.random.random()
        if levels and kind < 0.2:
            return self.array(levels - 1)
        if levels and kind < 0.4:
            return self.fields(levels - 1)
        return self.random.choice(SCALARS)

    def array(self, levels: int) -> list[Any]:
        return [self.value(levels) for _ in range(self.random.randrange(5))]

    def fields(self, levels: int) -> dict[str, Any]:
        return {name: self.value(levels) for name in self.random.sample(NAMES, self.random.randrange(4))}

    def document(self) -> dict[str, Any]:
        one = {"_id": 1} | self.fields(3)
        if self.random.random() < 0.5:
            one["a"] = self.array(2)
        return one

    def path(self) -> str:
        return self.random.choice(PATHS)

    def of(self, operator: str) -> dict[str, Any]:
        """The values of an operator by path."""
        paths = {self.path() for _ in range(self.random.choice([1, 1, 1, 2, 3]))}
        # In mongod's order: the embedded server makes new fields in the order in which they are given.
        return {path: self.operand(operator) for path in sorted(paths, key=lambda path: path.split("."))}

    def operand(self, operator: str) -> Any:
        match operator:
            case "$inc":
                return self.random.choice(NUMBERS if self.random.random() < 0.95 else SCALARS)
            case "$push":
                return self.pushed()
            case "$addToSet":
                return {"$each": self.array(1)} if self.random.random() < 0.4 else self.value()
            case "$pull":
                return self.condition()
            case "$rename":
                return self.path() if self.random.random() < 0.98 else 1
        return self.value()

    def pushed(self) -> Any:
        if self.random.random() < 0.3:
            return self.value()
        clauses: dict[str, Any] = {"$each": self.array(1)}
        if self.random.random() < 0.4:
            clauses["$position"] = self.random.randrange(-4, 6)
        if self.random.random() < 0.4:
            clauses["$slice"] = self.random.randrange(-4, 6)
        if self.random.random() < 0.4:
            clauses["$sort"] = self.random.choice([1, -1, {"b": 1}, {"a": -1, "b": 1}, {"a.b": 1}, {"c": -1}])
        return clauses

    def condition(self) -> Any:
        kind = self.random.random()
        if kind < 0.3:
            return self.value()
        if kind < 0.6:
            return self.compared()
        return {name: self.compared() for name in self.random.sample(["a", "b", "c", "a.b"], 2)}

    def compared(self) -> dict[str, Any]:
        operator = self.random.choice(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists"])
        if operator == "$exists":
            return {operator: self.random.random() < 0.5}
        if operator in {"$in", "$nin"}:
            return {operator: [self.value(1) for _ in range(self.random.randrange(4))]}
        return {operator: self.value(1)}


def has_scalars_sorted_by_field(document: dict[str, Any], update: dict[str, Any]) -> bool:
    """It sorts what is no document by its value; mongod takes null for its fields."""
    pushed = update.get("$push", {}).values()
    return any(isinstance(one, dict) and isinstance(one.get("$sort"), dict) for one in pushed)


def pulls_where_no_array_could_be(document: dict[str, Any], update: dict[str, Any]) -> bool:
    """It passes over a path through what is no object; mongod refuses it."""
    return any(not could_be(document, path) for path in update.get("$pull", {}))


def renames_from_within_an_array(document: dict[str, Any], update: dict[str, Any]) -> bool:
    """It passes over a path through what is no object, within an array; mongod refuses it."""
    return any(not could_be(document, path) for path in update.get("$rename", {}))


def could_be(document: dict[str, Any], path: str) -> bool:
    """Whether there is a value at a path, or could be one without a change of what is there."""
    parts = path.split(".")
    place = follow(document, tuple(parts))
    if isinstance(place.holder, list):
        return parts[place.depth].isdigit()
    return isinstance(place.holder, dict)


#: Where the embedded server differs from mongod, whose source is the judge.
UNLIKE_MONGOD = [has_scalars_sorted_by_field, pulls_where_no_array_could_be, renames_from_within_an_array]


def ours(document: dict[str, Any], update: dict[str, Any]) -> bytes | str:
    """The document after an update, or why there is none."""
    try:
        return encode(compile_update(update, most_bytes=MOST_BYTES)(decode_exactly(encode(document))))
    except RequestError as error:
        return str(error)


def theirs(collection, cases: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[bytes | str]:
    """The same of the server."""
    collection.drop()
    collection.bulk_write([InsertOne(one | {"_id": n}) for n, (one, _) in enumerate(cases)])
    refused: dict[int, str] = {}
    updates = [UpdateOne({"_id": n}, update) for n, (_, update) in enumerate(cases)]
    try:
        collection.bulk_write(updates, ordered=False)
    except BulkWriteError as error:
        refused = {one["index"]: one["errmsg"] for one in error.details["writeErrors"]}
    found = {bson.decode(one.raw)["_id"]: bytes(one.raw) for one in collection.find()}
    return [refused.get(n) or found[n] for n in range(len(cases))]


def check(collection, operator: str, count: int) -> None:
    """See that so many updates, and some more, make the same of a document here and there."""
    maker = Maker(operator)
    made_up = int(count * MADE_UP.get(operator, 1.1))
    cases = [(maker.document(), {operator: maker.of(operator)}) for _ in range(made_up)]
    alike = 0
    for n, ((document, update), found) in enumerate(zip(cases, theirs(collection, cases), strict=True)):
        made = ours(document | {"_id": n}, update)
        if any(differs(document, update) for differs in UNLIKE_MONGOD):
            continue
        alike += 1
        if isinstance(made, bytes) or isinstance(found, bytes):
            assert made == found, (document, update)
    assert alike >= count


@pytest.fixture(scope="module")
def collection(mongo_client):
    return mongo_client["updating"].get_collection("documents", codec_options=RAW_OPTIONS)


@pytest.mark.parametrize("operator", OPERATORS)
def test_some_updates(collection, operator):
    """An operator makes the same of a document, or is refused as well."""
    check(collection, operator, FEW)


@long
@pytest.mark.parametrize("operator", OPERATORS)
def test_many_updates(collection, operator):
    """So it is with a thousand of them."""
    check(collection, operator, MANY)
