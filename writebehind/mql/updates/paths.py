"""Dotted paths of updates: what they lead to in a document, and what they make where there is nothing.

The rules are mongod's. A part of a path names a field of an object, or an element of an array by its index. What
is missing is made: objects within each other, and nulls up to an index beyond the end of an array. What stands on
the way keeps its type.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from writebehind.documents.nesting import MAX_DEPTH
from writebehind.documents.patches import Document
from writebehind.errors import DocumentTooLargeError, InvalidDocumentError, InvalidPatchError, PatchConflictError

Parts = tuple[str, ...]

#: Nulls that a path may put before a new element of an array, as in mongod.
_MOST_NULLS: Final = 1_500_000
#: Bytes that a null takes in an array at least: its type, and its index as text.
_NULL_BYTES: Final = 3
_MOST_DIGITS: Final = 10
_SHOWN_CHARACTERS: Final = 200


class Room:
    """Bytes that the nulls which one update puts into arrays may take together."""

    def __init__(self, most_bytes: int) -> None:
        """Take how many there are."""
        self._left = most_bytes

    def take(self, nulls: int, path: str) -> None:
        """Take what so many nulls need.

        Raises:
            DocumentTooLargeError: it is more than is left.
        """
        self._left -= nulls * _NULL_BYTES
        if nulls > _MOST_NULLS or self._left < 0:
            raise DocumentTooLargeError(f"{path} is too far beyond the end of its array")


class Place(NamedTuple):
    """The place that a path leads to in a document.

    Attributes:
        holder: the object or array that has the value; where there is none, the last value on the way.
        depth: how many parts lead to the holder.
        key: the value's name or index in it; `None` where there is no value.
        is_in_array: whether the holder, or what it stands in, is an array.
    """

    holder: Any
    depth: int
    key: str | int | None
    is_in_array: bool


def read_path(text: object) -> Parts:
    """The parts of a path.

    Raises:
        InvalidPatchError: it is none, or has a part that is empty or begins with `$`.
        InvalidDocumentError: it has more levels than a document may have.
    """
    if not isinstance(text, str):
        raise InvalidPatchError(f"{shown(text)} is not a path")
    if text.count(".") >= MAX_DEPTH:
        raise InvalidDocumentError(f"{shown(text)} has more than {MAX_DEPTH} levels")
    parts = tuple(text.split("."))
    if not all(parts):
        raise InvalidPatchError(f"{shown(text)!r} is not a path: no name in it may be empty")
    if any(part[0] == "$" for part in parts):
        raise InvalidPatchError(
            f"{shown(text)!r}: no name begins with $, and positional operators are not offered: give an index"
        )
    return parts


def follow(document: Document, parts: Parts) -> Place:
    """Find where a path leads in a document."""
    holder: Any = document
    is_in_array = False
    last = len(parts) - 1
    for depth, part in enumerate(parts):
        is_in_array = is_in_array or isinstance(holder, list)
        key = _key(holder, part)
        if key is None or depth == last:
            return Place(holder, depth, key, is_in_array)
        holder = holder[key]
    raise AssertionError("a path has at least one part")  # pragma: no cover


def check_creatable(place: Place, parts: Parts) -> None:
    """See that a value which is missing could be made, without a change of what is there.

    Raises:
        PatchConflictError: what the path leads through is no object, or an array and the path has no index there.
    """
    if isinstance(place.holder, dict):
        return
    way = dotted(parts[: place.depth])
    if not isinstance(place.holder, list):
        raise PatchConflictError(f"{dotted(parts)}: {way} is not an object")
    if _index(parts[place.depth]) is None:
        raise PatchConflictError(f"{dotted(parts)}: {way} is an array, and {shown(parts[place.depth])} no index")


def create(place: Place, parts: Parts, value: Any, room: Room) -> None:
    """Put a value where there is none, and make what is missing on the way. Raises as `check_creatable`.

    Raises:
        DocumentTooLargeError: too many elements of an array are missing before it.
    """
    check_creatable(place, parts)
    for part in reversed(parts[place.depth + 1 :]):
        value = {part: value}
    part = parts[place.depth]
    if isinstance(place.holder, dict):
        place.holder[part] = value
        return
    missing = (_index(part) or 0) - len(place.holder)
    room.take(missing, dotted(parts))
    place.holder.extend([None] * missing)
    place.holder.append(value)


def dotted(parts: Parts) -> str:
    """A path as text, for an error."""
    return shown(".".join(parts))


def shown(text: object) -> str:
    """Text for an error, which may be of any length."""
    return str(text)[:_SHOWN_CHARACTERS]


def _key(holder: Any, part: str) -> str | int | None:
    """The name or the index of what a part of a path names, `None` where there is nothing."""
    if isinstance(holder, dict):
        return part if part in holder else None
    if isinstance(holder, list):
        index = _index(part)
        return index if index is not None and index < len(holder) else None
    return None


def _index(part: str) -> int | None:
    """The index that a part of a path is: mongod takes zeros before it, and no sign."""
    is_index = part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS
    return int(part) if is_index else None
