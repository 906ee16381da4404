"""Operators on fields: `$set`, `$unset`, `$inc`, `$min`, `$max` and `$rename`."""

from __future__ import annotations

from typing import Any

from writebehind.documents import sums
from writebehind.documents.patches import Document
from writebehind.errors import InvalidPatchError, PatchConflictError
from writebehind.mql.order import key_of
from writebehind.mql.updates.paths import Parts, Room, check_creatable, create, dotted, follow, read_path
from writebehind.mql.updates.steps import Step, replacing


def set_(path: Parts, value: Any) -> Step:
    """`$set`: the field has this value, whatever it had."""
    return replacing(path, lambda _: value, lambda: value)


def unset(path: Parts, _: Any) -> Step:
    """`$unset`: the field is gone; an element of an array becomes null, so that the others keep their places."""

    def apply(document: Document, _room: Room) -> None:
        place = follow(document, path)
        if isinstance(place.key, int):
            place.holder[place.key] = None
        elif place.key is not None:
            del place.holder[place.key]

    return Step(path, apply)


def inc(path: Parts, delta: Any) -> Step:
    """`$inc`: add to a number; what is missing counts as 0.

    Raises:
        InvalidPatchError: this is no number, or an integer that BSON cannot hold.
    """
    if not sums.is_number(delta):
        raise InvalidPatchError(f"$inc takes a number for {dotted(path)}")

    def change(old: Any) -> Any:
        if not sums.is_number(old):
            raise PatchConflictError(f"$inc: {dotted(path)} is not a number")
        return sums.add(old, delta, dotted(path))

    return replacing(path, change, lambda: delta)


def min_(path: Parts, value: Any) -> Step:
    """`$min`: the lesser of this value and the one that is there, in the order that MongoDB puts all values in."""
    wanted = key_of(value)
    return replacing(path, lambda old: value if wanted < key_of(old) else old, lambda: value)


def max_(path: Parts, value: Any) -> Step:
    """`$max`: the greater of the two, in the same order."""
    wanted = key_of(value)
    return replacing(path, lambda old: value if key_of(old) < wanted else old, lambda: value)


def rename(path: Parts, target: Any) -> Step:
    """`$rename`: the value of the field stands at another path, in the place of what was there.

    Raises:
        InvalidPatchError: this is no path, or the same one, or one is within the other.
    """
    if not isinstance(target, str):
        raise InvalidPatchError(f"$rename takes the new path of {dotted(path)}, as text")
    new = read_path(target)
    shorter = min(len(path), len(new))
    if path[:shorter] == new[:shorter]:
        raise InvalidPatchError(f"$rename: {dotted(path)} and {dotted(new)} must not be within each other")

    def apply(document: Document, room: Room) -> None:
        source = follow(document, path)
        if source.key is None:
            check_creatable(source, path)
            return
        place = follow(document, new)
        for one, way in ((source, path), (place, new)):
            if one.is_in_array:
                raise PatchConflictError(f"$rename: {dotted(way)} is within an array")
        value = source.holder[source.key]
        if place.key is None:
            create(place, new, value, room)
        else:
            place.holder[place.key] = value
        del source.holder[source.key]

    return Step(new, apply, path)
