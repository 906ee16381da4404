"""MongoDB's sorts on documents that MongoDB does not have yet.

MongoDB sorts a document by the least of the keys that an index on the fields of the sort would have for it, in the
directions of the sort. An array gives a key for each of its elements, with all fields that lead through it: a
compound sort never takes one field from one element and the next field from another. An element that is no
document has no fields, and they count as null. An empty array counts as `undefined`, which is less than null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, NamedTuple

from writebehind.documents.elements import ARRAY, OBJECT, Element, element, elements
from writebehind.mql.order import NULL, UNDEFINED, Key, key

#: The place of a document in a sort: comparable with those of others.
Place = tuple[Any, ...]
_Path = Sequence[bytes]


def compile_sort(sort: Mapping[str, int]) -> Callable[[bytes], Place]:
    """A function that tells the place of a document, as BSON, in a sort: fields, each with 1 or -1.

    MongoDB fails a sort where a document has different arrays at two of the fields. Here each of them counts by
    itself.
    """
    parts = [(name.encode().split(b"."), way) for name, way in sort.items()]

    def place(document: bytes) -> Place:
        try:
            return _place(document, parts)
        except _ParallelArraysError:
            return tuple(one for part in parts for one in _place(document, [part]))

    return place


class _ParallelArraysError(ValueError):
    """Two fields of a sort lead through different arrays."""


@total_ordering
class _Descending:
    """A key, the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: Key) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self.key == other.key

    def __lt__(self, other: _Descending) -> bool:
        return other.key < self.key

    __hash__ = None  # type: ignore[assignment]


def _place(document: bytes, parts: Sequence[tuple[_Path, int]]) -> Place:
    paths = [path for path, _ in parts]
    keys: list[Sequence[Key]] = []
    if len(paths) == 1 and not any(name.isdigit() for name in paths[0]):
        _add_of_one(document, 0, paths[0], keys)
    else:
        _Keys(document, keys).add(0, paths, [NULL] * len(paths), [None] * len(paths))
    place: list[Any] = []
    for n, (_, way) in enumerate(parts):
        best = (min if way > 0 else max)(one[n] for one in keys)
        place.append(best if way > 0 else _Descending(best))
        if len(keys) > 1:
            keys = [one for one in keys if one[n] == best]
    return tuple(place)


def _add_of_one(raw: bytes, at: int, path: _Path, keys: list[Sequence[Key]]) -> None:
    """Find the keys for a single field, whose path has no index: what `_Keys` does, faster."""
    first = element(raw, path[0], at)
    one, rest = (None, path) if first is None else _follow(raw, first, path[1:])
    if one is None:
        keys.append((NULL,))
    elif one[0] != ARRAY:
        keys.append((key(raw, one),))
    else:
        inside = [inner for _, inner in elements(raw, one[1])]
        if not inside:
            keys.append((NULL if rest else UNDEFINED,))
        elif not rest:
            keys += [(key(raw, inner),) for inner in inside]
        else:
            for kind, start, _ in inside:
                if kind == OBJECT:
                    _add_of_one(raw, start, rest, keys)
                else:
                    keys.append((NULL,))


class _Indexed(NamedTuple):
    """Values at a path that names an element of an array by its index.

    Attributes:
        one: the value, or the first array on the way to it; `None` where there is none.
        rest: the path from there on.
        is_nested: whether the element that is named by the index is an array itself.
    """

    one: Element | None
    rest: _Path
    is_nested: bool


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a document: of each the parts, one for each field of the sort."""

    raw: bytes
    found: list[Sequence[Key]]

    def add(
        self,
        at: int | None,
        paths: Sequence[_Path],
        known: Sequence[Key],
        indexed: Sequence[_Indexed | None],
    ) -> None:
        """Find the keys of a document, which may be an element of an array in the whole one.

        Args:
            at: where it begins, `None` for one without fields.
            paths: what is left of the path of each field, nothing where its part is known.
            known: these parts.
            indexed: what the paths find by an index in the array that has the document.

        Raises:
            _ParallelArraysError: two fields lead through different arrays.
        """
        rests, values = list(paths), list(known)
        array: Element | None = None
        through, is_whole = [], False
        for n, path in enumerate(paths):
            if not path:
                continue
            one, rests[n], is_nested = _next(self.raw, at, path, indexed[n])
            if one is None:
                rests[n], values[n] = (), NULL
            elif one[0] != ARRAY:
                values[n] = key(self.raw, one)
            elif array not in {None, one}:
                raise _ParallelArraysError
            else:
                array = one
                through.append(n)
                is_whole = is_whole or is_nested
        if array is None:
            self.found.append(values)
            return
        _, start, _ = array
        ending = [n for n in through if not rests[n]]
        within = [_by_index(self.raw, start, rest) if rest else None for rest in rests]
        whole = key(self.raw, array) if is_whole and ending else NULL
        inside: list[Element | None] = [inner for _, inner in elements(self.raw, start)]
        for inner in inside or [None]:
            for n in ending:
                values[n] = UNDEFINED if inner is None else whole if is_whole else key(self.raw, inner)
            if any(rests):
                document = inner[1] if inner is not None and inner[0] == OBJECT else None
                self.add(document, rests, values, within)
            else:
                self.found.append(tuple(values))


def _next(raw: bytes, at: int | None, path: _Path, indexed: _Indexed | None) -> tuple[Element | None, _Path, bool]:
    """The value at a path in a document, where a field may have the name of an index."""
    first = None if at is None else element(raw, path[0], at)
    if first is not None:
        return *_follow(raw, first, path[1:]), False
    return indexed or (None, (), False)


def _by_index(raw: bytes, at: int, path: _Path) -> _Indexed | None:
    named = element(raw, path[0], at)
    return None if named is None else _Indexed(*_follow(raw, named, path[1:]), named[0] == ARRAY)


def _follow(raw: bytes, first: Element, path: _Path) -> tuple[Element | None, _Path]:
    """The value that a path leads to, or the first array on the way, and the rest of the path from there."""
    one: Element | None = first
    while path and one is not None and one[0] != ARRAY:
        one = element(raw, path[0], one[1]) if one[0] == OBJECT else None
        path = path[1:]
    return one, path
