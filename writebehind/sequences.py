"""Sequences taken apart: by what their items have in common, and into slices."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)


def grouped(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> dict[_Key, list[_Item]]:
    """The items by their keys, in their order."""
    groups: dict[_Key, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def slices(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """The items in slices of `size`, the last of which may be shorter."""
    for at in range(0, len(items), size):
        yield items[at : at + size]


def pairs(flat: Sequence[_Item]) -> Iterator[tuple[_Item, _Item]]:
    """The items two by two, as Redis gives names and values."""
    return zip(flat[::2], flat[1::2], strict=True)
