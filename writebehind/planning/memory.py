"""Bytes of Redis's memory that documents take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from writebehind.documents.entry import BODY_AT
from writebehind.planning.allocation import Allocator, string
from writebehind.planning.constants import Memory
from writebehind.planning.load import Size
from writebehind.redis.keys import partition_keys

#: A name of a collection that is as long as most.
COLLECTION = "documents"


@dataclass(frozen=True, slots=True)
class Names:
    """Characters of a document's member, which `pending` has, and of the key of its entry."""

    member: int
    key: int

    @classmethod
    def of(cls, id_length: int, collection: str = COLLECTION) -> Self:
        """The names of a document with an id of so many characters."""
        member = len(f"{collection}/s:") + id_length
        return cls(member, len(partition_keys(10).entry("")) + member)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a document, averaged over the sizes of all."""

    pending: float
    cached: float

    @classmethod
    def of(
        cls, measured: Memory, allocator: Allocator, sizes: tuple[Size, ...], names: Names, lookups: int = 0
    ) -> Self:
        """The bytes of documents with these names and so many unique fields."""
        value = sum(one.part * string(round(BODY_AT + one.bytes), allocator) for one in sizes)
        entry = string(names.key, allocator) + value
        return cls(
            entry + string(names.member, allocator) + measured.pending + lookups * measured.lookup_pending,
            entry + measured.cached + lookups * measured.lookup_cached,
        )
