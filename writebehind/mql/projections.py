"""MongoDB's projections, on documents as BSON: nothing that is wanted changes on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from writebehind.documents.elements import ARRAY, NO_BSON, OBJECT, Element, document, elements, field
from writebehind.errors import UnreadableDocumentError

_Paths = Sequence[Sequence[bytes]]


def compile_projection(projection: Mapping[str, int]) -> Callable[[bytes], bytes]:
    """A function that returns the wanted part of a document: fields with 1, or all but those with 0."""
    paths = [name.encode().split(b".") for name in projection if name != "_id"]
    is_wanted = any(value for name, value in projection.items() if name != "_id")
    is_wanted = is_wanted or (not paths and projection.get("_id") == 1)
    if projection.get("_id", 1) == is_wanted:
        paths.append([b"_id"])
    return lambda body: _fields(body, 0, paths, is_wanted=is_wanted)


@lru_cache(100)
def compile_selection(paths: tuple[str, ...]) -> Callable[[bytes], bytes]:
    """A function that returns the `_id` of a document and the values at these paths.

    It raises `UnreadableDocumentError` where others have written what is no BSON.
    """
    wanted = compile_projection(dict.fromkeys(paths, 1))

    def selected(body: bytes) -> bytes:
        try:
            return wanted(body)
        except NO_BSON as error:
            raise UnreadableDocumentError("others wrote this document, and it is no valid BSON") from error

    return selected


def _fields(raw: bytes, at: int, paths: _Paths, *, is_wanted: bool) -> bytes:
    parts = []
    for name, one in elements(raw, at):
        kind, start, end = one
        below = [path[1:] for path in paths if path[0] == name]
        if below and [] not in below:
            value = _inner(raw, one, below, is_wanted=is_wanted)
        else:
            value = raw[start:end] if bool(below) is is_wanted else None
        if value is not None:
            parts.append(field(kind, name, value))
    return document(parts)


def _items(raw: bytes, at: int, paths: _Paths, *, is_wanted: bool) -> bytes:
    values = ((one[0], _inner(raw, one, paths, is_wanted=is_wanted)) for _, one in elements(raw, at))
    kept = [(kind, value) for kind, value in values if value is not None]
    return document(field(kind, b"%d" % index, value) for index, (kind, value) in enumerate(kept))


def _inner(raw: bytes, one: Element, paths: _Paths, *, is_wanted: bool) -> bytes | None:
    """The wanted part of a value that paths lead into; `None` for nothing, not even an empty document."""
    kind, start, end = one
    if kind == OBJECT:
        return _fields(raw, start, paths, is_wanted=is_wanted)
    if kind == ARRAY:
        return _items(raw, start, paths, is_wanted=is_wanted)
    return None if is_wanted else raw[start:end]
