"""Updates as they come in JSON: operators, which no document has, around values in Extended JSON."""

from __future__ import annotations

from typing import Any

from writebehind.documents import codec
from writebehind.documents.nesting import MAX_DEPTH, check_depth, openings
from writebehind.errors import InvalidDocumentError, InvalidPatchError
from writebehind.mql.filters import OPERATORS
from writebehind.mql.updates.arrays import CLAUSES
from writebehind.mql.updates.paths import shown


def loads(data: bytes) -> Any:
    """Parse an update.

    Args:
        data: JSON text, UTF-8.

    Returns:
        What `compile_update` takes, or refuses.

    Raises:
        MalformedDocumentError: this is no JSON, or a wrapper such as `{"$oid": …}` has a wrong value.
        InvalidDocumentError: a name in a value begins with `$` and makes no type, or there are too many levels.
        InvalidPatchError: so does one in a condition of `$pull`.
    """
    update = codec.parse(data)
    if openings(data) > MAX_DEPTH:
        check_depth(update, MAX_DEPTH)
    if not isinstance(update, dict):
        return update
    return {name: _values(name, values) for name, values in update.items()}


def _values(operator: str, values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    read = {"$push": _elements, "$addToSet": _elements, "$pull": _condition}.get(operator, codec.convert)
    return {path: read(value) for path, value in values.items()}


def _elements(value: Any) -> Any:
    """Elements that are to be added to an array: a value, or clauses with values."""
    if isinstance(value, dict) and any(name in value for name in CLAUSES):
        return {name: codec.convert(clause) for name, clause in value.items()}
    return codec.convert(value)


def _condition(value: Any) -> Any:
    """A condition on elements of an array, or on their fields."""
    if isinstance(value, list):
        return [_condition(one) for one in value]
    if not isinstance(value, dict):
        return value
    names = [name for name in value if name[:1] == "$"]
    if not names or any(name in OPERATORS for name in names):
        return {name: _condition(one) for name, one in value.items()}
    try:
        return codec.convert(value)
    except InvalidDocumentError as error:
        raise InvalidPatchError(
            f"$pull: {shown(names[0])} is neither a type nor one of {', '.join(OPERATORS)}"
        ) from error
