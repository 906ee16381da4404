"""References of `bson` with fields of their own. `DBRef.as_doc` looks through all names for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bson.code import Code
from bson.dbref import DBRef

from writebehind.errors import InvalidDocumentError

#: Fields of a DBRef beside its own three. `bson` takes a time for them that grows with their square: 2,000 of them
#: took 0.2 s, 8,000 took 3.6 s.
MOST_FIELDS: Final = 64
#: What a document has somewhere that may have a DBRef.
NAME: Final = b"$ref\0"


def too_long() -> InvalidDocumentError:
    """The error for a DBRef with more fields."""
    return InvalidDocumentError(
        f"what has $ref and $id is a DBRef, with {MOST_FIELDS} fields of its own at most: put the rest beside it"
    )


def fields(ref: DBRef) -> dict[str, Any]:
    """The document that a DBRef is, as of `as_doc`."""
    own = {"$ref": ref.collection, "$id": ref.id}
    if ref.database is not None:
        own["$db"] = ref.database
    return own | _others(ref)


def are_short(value: Any) -> bool:
    """Whether every DBRef in a value has no more than `MOST_FIELDS`."""
    level = [value]
    while level:
        held: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is DBRef:
                if len(_others(one)) > MOST_FIELDS:
                    return False
                held += (one.id, *_others(one).values())
            elif kind is Code:
                held += (one.scope or {}).values()
            elif isinstance(one, Mapping):
                held += one.values()
            elif isinstance(one, list | tuple):
                held += one
        level = held
    return True


def _others(ref: DBRef) -> dict[str, Any]:
    found: dict[str, Any] = ref._DBRef__kwargs  # noqa: SLF001 - see above
    return found
