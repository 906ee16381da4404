"""Changes to a document: increments, JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7396).

They work on native BSON values, not on their JSON form, so that a field which a patch does not name keeps its
type: an int64 stays one, and an ObjectId is one value, not an object to merge into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import json_merge_patch
import jsonpatch
import jsonpointer
from bson import Code, DBRef, Decimal128

from writebehind.documents import codec, dbrefs, grammar, sums
from writebehind.documents.nesting import MAX_DEPTH
from writebehind.errors import InvalidDocumentError, InvalidPatchError, PatchConflictError

Document = dict[str, Any]
Patch = Callable[[Document], Document]

MOST_OPERATIONS = 1000
#: What jsonpatch has to say may quote the whole document.
_SHOWN_CHARACTERS = 200
#: What jsonpatch raises for patches that are malformed or do not fit.
_MISFITS = (
    jsonpatch.JsonPatchException,
    jsonpointer.JsonPointerException,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
#: Operations that do not go without a value.
_VALUED = {"add", "replace", "test"}


def merge_patch(patch: object) -> Patch:
    """The change that a merge patch makes.

    Raises:
        InvalidPatchError: the patch is not an object, so it would replace the document by something else.
    """
    if not isinstance(patch, dict):
        raise InvalidPatchError("a merge patch must be a JSON object")
    return lambda document: json_merge_patch.merge(document, deepcopy(patch))


def json_patch(operations: object, *, most_bytes: int) -> Patch:
    """The change that a JSON Patch makes; `most_bytes` bounds what a few `copy` operations can blow up.

    Raises:
        InvalidPatchError: the patch is malformed.
        InvalidDocumentError: it would make a field whose name begins with `$`, or more levels than there may be.
    """
    if not isinstance(operations, list) or len(operations) > MOST_OPERATIONS:
        raise InvalidPatchError(f"a JSON Patch must be an array of at most {MOST_OPERATIONS} operations")
    steps = [_Step.read(operation) for operation in operations]

    def change(document: Document) -> Document:
        copied = 0
        for step in steps:
            copied += step.copied_bytes(document)
            if copied > most_bytes:  # each may double the document: stop before it is too late
                raise InvalidPatchError("the copy operations make the document too large")
            document = step.applied(document)
        if not isinstance(document, dict):
            raise PatchConflictError("the patch leaves something that is not a document")
        return document

    return change


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation of a JSON Patch: as it was sent, and its pointers as their parts."""

    operation: dict[str, Any]
    patch: jsonpatch.JsonPatch
    path: Sequence[str]
    source: Sequence[str] | None

    @classmethod
    def read(cls, operation: Any) -> _Step:
        """Check an operation. Raises as `json_patch`."""
        _check_pointers(operation)
        try:
            patch = jsonpatch.JsonPatch([operation])
            path = jsonpointer.JsonPointer(operation["path"]).parts
            source = jsonpointer.JsonPointer(operation["from"]).parts if _has_source(operation) else None
        except _MISFITS as error:
            raise InvalidPatchError(f"malformed JSON Patch: {_shown(error)}") from error
        if operation["op"] in _VALUED and "value" not in operation:
            raise InvalidPatchError(f"malformed JSON Patch: {operation['op']} needs a value")
        if path and path[-1][:1] == "$" and operation["op"] in {"add", "copy", "move"}:
            raise InvalidDocumentError(f"{_shown(path[-1])!r} is a reserved field name: choose another")
        return cls(operation, patch, path, source)

    def copied_bytes(self, document: Document) -> int:
        """The bytes that a `copy` adds, roughly; 0 for other operations and for one that will fail.

        Raises:
            InvalidDocumentError: what it copies is nothing that a document can have.
        """
        if self.operation["op"] != "copy" or self.source is None:
            return 0
        try:
            copied = _at(document, self.source)
        except PatchConflictError:
            return 0
        return len(codec.encode({"": copied}))

    def applied(self, document: Document) -> Document:
        """The document after the operation, changed in place."""
        # jsonpatch goes into whatever has items: the bytes of a binary, the characters of a string.
        _holder_at(document, self.path)
        if self.source is not None:
            _holder_at(document, self.source)
        if self.operation["op"] == "test":
            if not _is_same(_at(document, self.path), self.operation["value"], MAX_DEPTH):
                raise PatchConflictError(f"a test operation failed at {_shown(self.operation['path'])!r}")
            return document
        try:
            changed: Document = self.patch.apply(document, in_place=True)
        except jsonpatch.InvalidJsonPatch as error:  # some of it shows only now
            raise InvalidPatchError(f"malformed JSON Patch: {_shown(error)}") from error
        except _MISFITS as error:
            raise PatchConflictError(f"the patch does not fit the document: {_shown(error)}") from error
        return changed


def _has_source(operation: Any) -> bool:
    return isinstance(operation, dict) and operation.get("op") in {"copy", "move"}


def _check_pointers(operation: Any) -> None:
    """See that the pointers of what may be an operation have no more parts than a document has levels."""
    pointers = (operation.get(name) for name in ("path", "from")) if isinstance(operation, dict) else ()
    if any(isinstance(one, str) and one.count("/") > MAX_DEPTH for one in pointers):
        raise InvalidDocumentError(f"a pointer leads beyond the {MAX_DEPTH} levels that a document may have")


def _holder_at(document: Any, path: Sequence[str]) -> Any:
    """The object or array in which the last part of a pointer is a place; the document for the pointer to it.

    Raises:
        PatchConflictError: there is none: the pointer leads nowhere, or into a value of another type.
    """
    holder = _at(document, path[:-1])
    if path and not isinstance(holder, dict | list):
        raise PatchConflictError(f"{_shown(_pointer(path[:-1]))!r} is neither an object nor an array")
    return holder


def _at(document: Any, path: Sequence[str]) -> Any:
    """The value at a pointer.

    Raises:
        PatchConflictError: there is none.
    """
    value = document
    for place, part in enumerate(path):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and grammar.is_index(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            raise PatchConflictError(f"there is nothing at {_shown(_pointer(path[: place + 1]))!r}")
    return value


def _pointer(path: Sequence[str]) -> str:
    return "".join(f"/{jsonpointer.escape(part)}" for part in path)


def _is_same(one: Any, other: Any, levels: int) -> bool:
    """Whether two values are equal as RFC 6902 has it: numbers by their value, objects in any order.

    What has more levels than a document may have equals nothing.
    """
    if isinstance(one, DBRef) and isinstance(other, DBRef):
        one, other = dbrefs.fields(one), dbrefs.fields(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return (
            levels > 0
            and one.keys() == other.keys()
            and all(_is_same(one[name], other[name], levels - 1) for name in one)
        )
    if isinstance(one, list) and isinstance(other, list):
        return (
            levels > 0
            and len(one) == len(other)
            and all(_is_same(*pair, levels - 1) for pair in zip(one, other, strict=True))
        )
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Code) and isinstance(other, Code):
        return str(one) == str(other) and _is_same(one.scope, other.scope, levels)
    ours, theirs = _number(one), _number(other)
    if ours is None or theirs is None:
        ours, theirs = one, other
    elif math.isnan(ours):
        return math.isnan(theirs)
    return bool(ours == theirs)


def _number(value: Any) -> int | float | Decimal | None:
    """A number as one that Python compares exactly with those of other types; `None` for anything else."""
    if isinstance(value, Decimal128):
        number = value.to_decimal()
        return math.nan if number.is_nan() else number
    return value if isinstance(value, int | float) else None


def increment(deltas: object) -> Callable[[Document], dict[str, Any]]:
    """A function that adds to numbers in a document, in place, and returns the new values by path.

    Paths are dotted, as in MongoDB's `$inc`; what is missing on the way is created, and counts from 0.

    Raises:
        InvalidPatchError: the deltas are not numbers by path.
        InvalidDocumentError: a path has more levels than a document may have.
    """
    if not isinstance(deltas, dict) or not deltas:
        raise InvalidPatchError('increments are a JSON object of numbers by field, such as {"views": 1}')
    if len(deltas) > MOST_OPERATIONS:
        raise InvalidPatchError(f"{len(deltas)} fields are incremented, and {MOST_OPERATIONS} are allowed at once")
    for path, delta in deltas.items():
        if not isinstance(path, str):
            raise InvalidPatchError(f"{_shown(path)!r} is not a field that can be incremented")
        if path.count(".") >= MAX_DEPTH:
            raise InvalidDocumentError(f"{_shown(path)!r} has more than {MAX_DEPTH} levels")
        if not sums.is_number(delta):
            raise InvalidPatchError(f"the increment of {_shown(path)!r} is not a number")
        if isinstance(delta, int) and not sums.fits_int64(delta):
            raise InvalidPatchError(f"the increment of {_shown(path)!r} does not fit 64 bits")
        names = path.split(".")
        if not all(names) or any(name.startswith("$") for name in names) or names[0] in {"_id", "_v"}:
            raise InvalidPatchError(f"{_shown(path)!r} is not a field that can be incremented")

    def change(document: Document) -> dict[str, Any]:
        return {path: _add_at(document, path.split("."), delta) for path, delta in deltas.items()}

    return change


def _add_at(document: Document, path: Sequence[str], delta: Any) -> Any:
    holder: Any = document
    for at, name in enumerate(path):
        key: Any = name
        if isinstance(holder, list):
            if not grammar.is_index(name) or int(name) >= len(holder):
                raise PatchConflictError(f"{_shown('.'.join(path[: at + 1]))}: no such place in the array")
            key = int(name)
        elif not isinstance(holder, dict):
            raise PatchConflictError(f"{_shown('.'.join(path[:at]))} is not an object")
        if at == len(path) - 1:
            old = holder[key] if isinstance(holder, list) else holder.get(key, 0)
            holder[key] = _add(old, delta, ".".join(path))
            return holder[key]
        holder = holder[key] if isinstance(holder, list) else holder.setdefault(key, {})
    raise AssertionError("a path has at least one part")  # pragma: no cover


def _add(old: Any, delta: Any, path: str) -> Any:
    """The sum, of the type that MongoDB's `$inc` gives it: the wider of the two."""
    if not sums.is_number(old):
        raise PatchConflictError(f"{_shown(path)} is not a number")
    return sums.add(old, delta, _shown(path))


def _shown(text: object) -> str:
    return str(text)[:_SHOWN_CHARACTERS]
