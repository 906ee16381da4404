"""An update as a whole: its operators, in the order in which MongoDB applies them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cmp_to_key
from itertools import pairwise
from typing import Any, Final

from writebehind.documents import codec
from writebehind.documents.patches import MOST_OPERATIONS, Document, Patch
from writebehind.errors import InvalidDocumentError, InvalidPatchError
from writebehind.mql.order import Key, key_of
from writebehind.mql.updates import arrays, fields
from writebehind.mql.updates.paths import Parts, Room, dotted, read_path, shown
from writebehind.mql.updates.steps import Step

#: Each operator, with what makes a step of a path and a value. The step raises as `compile_update`.
OPERATORS: Final[dict[str, Callable[[Parts, Any], Step]]] = {
    "$set": fields.set_,
    "$unset": fields.unset,
    "$inc": fields.inc,
    "$min": fields.min_,
    "$max": fields.max_,
    "$push": arrays.push,
    "$addToSet": arrays.add_to_set,
    "$pull": arrays.pull,
    "$rename": fields.rename,
}
_ID: Final = "_id"


def compile_update(update: object, *, most_bytes: int) -> Patch:
    """The change that an update makes to a document, with the meaning that it has in MongoDB.

    Args:
        update: operators by name, each with values by path: `{"$inc": {"views": 1}}`.
        most_bytes: bounds what an index beyond the end of an array can blow up.

    Returns:
        A function that changes a document in place, and returns it. It raises `PatchConflictError` where the
        update does not fit the document, `DocumentTooLargeError` beyond `most_bytes`, and `InvalidDocumentError`
        where it would change the `_id`, or a sum does not fit 64 bits.

    Raises:
        InvalidPatchError: the update is malformed, has an operator that is not offered, or would change something
            twice.
        InvalidDocumentError: BSON cannot hold a value, or a path has more levels than a document may have.
    """
    steps = _in_order(_steps(update))
    touches_id = any(_ID in {path[0], (source or path)[0]} for path, source in _paths(steps))

    def change(document: Document) -> Document:
        before = _id_of(document) if touches_id else None
        room = Room(most_bytes)
        for step in steps:
            step.apply(document, room)
        if touches_id and _id_of(document) != before:
            raise InvalidDocumentError("the _id of a document cannot be changed")
        return document

    return change


def is_update(given: Mapping[Any, Any]) -> bool:
    """Whether these are operators, and not fields of a document: no field of one begins with `$`."""
    return any(isinstance(name, str) and name.startswith("$") for name in given)


def _steps(update: object) -> list[Step]:
    if not isinstance(update, Mapping) or not update:
        raise InvalidPatchError('an update is an object of operators, such as {"$inc": {"views": 1}}')
    steps: list[Step] = []
    for name, values in update.items():
        operator = OPERATORS.get(name)
        if operator is None:
            raise InvalidPatchError(f"{shown(name)!r} is not one of {', '.join(OPERATORS)}")
        if not isinstance(values, Mapping):
            raise InvalidPatchError(f"{name} takes an object of values by path")
        if len(steps) + len(values) > MOST_OPERATIONS:
            raise InvalidPatchError(f"an update changes {MOST_OPERATIONS} paths at most")
        paths = [read_path(path) for path in values]
        plain = codec.decode(codec.encode(dict(values)))  # as it will be read from the document
        steps += [operator(path, value) for path, value in zip(paths, plain.values(), strict=True)]
    _check_for_conflicts(steps)
    return steps


def _check_for_conflicts(steps: Iterable[Step]) -> None:
    """See that no two steps change the same thing, or one a part of what the other does."""
    touched = sorted(one for path, source in _paths(steps) for one in (path, source) if one is not None)
    for one, other in pairwise(touched):  # a path stands right before those that are within it
        if other[: len(one)] == one:
            raise InvalidPatchError(f"{dotted(other)} and {dotted(one)} would change the same")


def _paths(steps: Iterable[Step]) -> Iterable[tuple[Parts, Parts | None]]:
    return [(step.path, step.source) for step in steps]


def _in_order(steps: list[Step]) -> list[Step]:
    """Steps in the order of their paths, whatever their operators: so new fields stand in a document."""
    by_name = cmp_to_key(_compared)
    return sorted(steps, key=lambda step: [by_name(part) for part in step.path])


def _compared(one: str, other: str) -> int:
    """Names by their characters, numbers by their value."""
    if one.isascii() and one.isdigit() and other.isascii() and other.isdigit():
        ours, theirs = one.lstrip("0"), other.lstrip("0")
        one, other = f"{len(ours):09}{ours}", f"{len(theirs):09}{theirs}"
    return (one > other) - (one < other)


def _id_of(document: Document) -> Key | None:
    return key_of(document[_ID]) if _ID in document else None
