"""One operator at one path of a document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from writebehind.documents.patches import Document
from writebehind.mql.updates.paths import Parts, Room, check_creatable, create, follow


@dataclass(frozen=True, slots=True)
class Step:
    """An operator at a path.

    Attributes:
        path: where it changes something; steps are taken in the order of their paths.
        apply: changes a document in place. Raises `PatchConflictError` where it does not fit the document.
        source: another path that it changes, which no other step may touch.
    """

    path: Parts
    apply: Callable[[Document, Room], None]
    source: Parts | None = None


def replacing(path: Parts, change: Callable[[Any], Any], first: Callable[[], Any]) -> Step:
    """A step that puts one value in the place of another, or makes it where there is none.

    Args:
        path: of the value.
        change: makes the new value of the one that is there.
        first: makes it where there is none.
    """

    def apply(document: Document, room: Room) -> None:
        place = follow(document, path)
        if place.key is None:
            create(place, path, first(), room)
        else:
            place.holder[place.key] = change(place.holder[place.key])

    return Step(path, apply)


def changing(path: Parts, change: Callable[[Any], Any]) -> Step:
    """A step that changes a value where there is one, and makes none where one could be."""

    def apply(document: Document, _room: Room) -> None:
        place = follow(document, path)
        if place.key is None:
            check_creatable(place, path)
        else:
            place.holder[place.key] = change(place.holder[place.key])

    return Step(path, apply)
