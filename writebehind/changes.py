"""Changes to a document: increments, JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7396).

They work on native BSON values, not on their JSON form, so that a field which a patch does not name keeps its
type: an int64 stays one, and an ObjectId is one value, not an object to merge into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from decimal import Decimal, localcontext
from typing import Any

import json_merge_patch
import jsonpatch
import jsonpointer
from bson import Decimal128, Int64
from bson.decimal128 import create_decimal128_context

from writebehind import codec, grammar
from writebehind.errors import InvalidDocumentError, InvalidPatchError, PatchConflictError

Document = dict[str, Any]
Change = Callable[[Document], Document]

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
_INT32, _INT64 = 32, 64


def merge_patch(patch: object) -> Change:
    """The change that a merge patch makes.

    Raises:
        InvalidPatchError: the patch is not an object, so it would replace the document by something else.
    """
    if not isinstance(patch, dict):
        raise InvalidPatchError("a merge patch must be a JSON object")
    return lambda document: json_merge_patch.merge(document, deepcopy(patch))


def json_patch(operations: object, *, most_bytes: int) -> Change:
    """The change that a JSON Patch makes; `most_bytes` bounds what a few `copy` operations can blow up.

    Raises:
        InvalidPatchError: the patch is malformed.
        InvalidDocumentError: it would make a field whose name begins with `$`.
    """
    if not isinstance(operations, list) or len(operations) > MOST_OPERATIONS:
        raise InvalidPatchError(f"a JSON Patch must be an array of at most {MOST_OPERATIONS} operations")
    try:
        patches = [jsonpatch.JsonPatch([operation]) for operation in operations]
    except _MISFITS as error:
        raise InvalidPatchError(f"malformed JSON Patch: {_shown(error)}") from error
    for operation in operations:
        name = operation["path"].rpartition("/")[2]
        if name.startswith("$") and operation["op"] in {"add", "copy", "move"}:
            raise InvalidDocumentError(f"{_shown(name)!r} is a reserved field name: choose another")

    def change(document: Document) -> Document:
        copied = 0
        for operation, patch in zip(operations, patches, strict=True):
            copied += _copied_bytes(document, operation)
            if copied > most_bytes:  # each may double the document: stop before it is too late
                raise InvalidPatchError("the copy operations make the document too large")
            document = _apply(patch, document)
        if not isinstance(document, dict):
            raise PatchConflictError("the patch leaves something that is not a document")
        return document

    return change


def _copied_bytes(document: Document, operation: dict[str, Any]) -> int:
    """How many bytes a `copy` adds to a document, roughly; 0 for other operations and for one that will fail."""
    if operation["op"] != "copy":
        return 0
    try:
        return len(codec.encode({"": jsonpointer.resolve_pointer(document, operation["from"])}))
    except _MISFITS:
        return 0


def _apply(patch: jsonpatch.JsonPatch, document: Document) -> Document:
    try:
        changed: Document = patch.apply(document, in_place=True)
    except jsonpatch.JsonPatchTestFailed as error:
        raise PatchConflictError(f"a test operation failed: {_shown(error)}") from error
    except jsonpatch.InvalidJsonPatch as error:  # some of it shows only now
        raise InvalidPatchError(f"malformed JSON Patch: {_shown(error)}") from error
    except _MISFITS as error:
        raise PatchConflictError(f"the patch does not fit the document: {_shown(error)}") from error
    return changed


def increment(deltas: object) -> Callable[[Document], dict[str, Any]]:
    """What adds to numbers in a document, in place, and returns the new values by path.

    Paths are dotted, as in MongoDB's `$inc`; what is missing on the way is created, and counts from 0.

    Raises:
        InvalidPatchError: the deltas are not numbers by path.
    """
    if not isinstance(deltas, dict) or not deltas:
        raise InvalidPatchError('increments are a JSON object of numbers by field, such as {"views": 1}')
    for path, delta in deltas.items():
        if not isinstance(path, str):
            raise InvalidPatchError(f"{_shown(path)!r} is not a field that can be incremented")
        if isinstance(delta, bool) or not isinstance(delta, int | float | Decimal128):
            raise InvalidPatchError(f"the increment of {path!r} is not a number")
        if isinstance(delta, int) and not _fits(delta, _INT64):
            raise InvalidPatchError(f"the increment of {path!r} does not fit 64 bits")
        names = path.split(".")
        if not all(names) or any(name.startswith("$") for name in names) or names[0] in {"_id", "_v"}:
            raise InvalidPatchError(f"{path!r} is not a field that can be incremented")

    def change(document: Document) -> dict[str, Any]:
        return {path: _add_at(document, path.split("."), delta) for path, delta in deltas.items()}

    return change


def _add_at(document: Document, path: Sequence[str], delta: Any) -> Any:
    holder: Any = document
    for at, name in enumerate(path):
        key: Any = name
        if isinstance(holder, list):
            if not grammar.is_index(name) or int(name) >= len(holder):
                raise PatchConflictError(f"{'.'.join(path[: at + 1])}: no such place in the array")
            key = int(name)
        elif not isinstance(holder, dict):
            raise PatchConflictError(f"{'.'.join(path[:at])} is not an object")
        if at == len(path) - 1:
            old = holder[key] if isinstance(holder, list) else holder.get(key, 0)
            holder[key] = _add(old, delta, ".".join(path))
            return holder[key]
        holder = holder[key] if isinstance(holder, list) else holder.setdefault(key, {})
    raise AssertionError("a path has at least one part")  # pragma: no cover


def _add(old: Any, delta: Any, path: str) -> Any:
    """The sum, of the type that MongoDB's `$inc` gives it: the wider of the two."""
    if isinstance(old, bool) or not isinstance(old, int | float | Decimal128):
        raise PatchConflictError(f"{path} is not a number")
    if isinstance(old, Decimal128) or isinstance(delta, Decimal128):
        with localcontext(create_decimal128_context()) as context:
            return Decimal128(context.add(_decimal(old), _decimal(delta)))
    if isinstance(old, float) or isinstance(delta, float):
        return old + delta
    total = old + delta
    if not _fits(total, _INT64):
        raise InvalidDocumentError(f"{path} would not fit 64 bits")
    return total if all(_is_int32(number) for number in (old, delta, total)) else Int64(total)


def _is_int32(number: int) -> bool:
    return not isinstance(number, Int64) and _fits(number, _INT32)


def _fits(number: int, bits: int) -> bool:
    return -(1 << bits - 1) <= number < 1 << bits - 1  # not a range, which counts an Int64 up to find it


def _decimal(number: Any) -> Decimal:
    if isinstance(number, Decimal128):
        return number.to_decimal()
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(int(number))


def _shown(text: object) -> str:
    return str(text)[:_SHOWN_CHARACTERS]
