"""Answers of queries: put together from documents that come one after the other, of which few are held at once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from writebehind.documents import codec
from writebehind.documents.elements import NO_BSON
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import UnreadableDocumentError
from writebehind.logs.quoting import quoted
from writebehind.mql.filters import compile_filter
from writebehind.mql.projections import compile_projection
from writebehind.mql.sorts import Place, compile_sort
from writebehind.outage_log import OutageLog
from writebehind.reading.read import Source
from writebehind.settings.queries import NamedQuery

log = logging.getLogger(__name__)

_unreadable = OutageLog(log, "document")

#: Bytes of documents that are held until it is known which of them are answered. The others are read once more.
HELD_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that satisfies a query: itself, unless too much is held; and its place where there is a sort."""

    entry: Entry | None = None
    place: Place = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a query.

    Attributes:
        bodies: the documents as BSON, with the fields that the query wants, in its order.
        members: their names in Redis; after these, those of documents that are left out.
        source: where the list of the documents came from.
        ttl_ms: how long it is kept yet, -1 where it is not kept.
        partial: whether so much is pending that a document may be missing that MongoDB has not found yet.
        stored: whether the list is kept that was loaded for it.
    """

    bodies: Sequence[bytes]
    members: Sequence[str]
    source: Source = Source.BYPASS
    ttl_ms: int = -1
    partial: bool = False
    stored: bool = True

    @classmethod
    def of(
        cls,
        answered: Mapping[str, Kept],
        again: Iterator[tuple[str, Entry]],
        filter_: Mapping[str, Any],
        query: NamedQuery,
        most_bytes: float,
    ) -> Answer:
        """The documents that are answered, by member; those that are not held come `again`, if they still fit."""
        matches, wanted = (
            compile_filter(filter_),
            compile_projection(query.projection) if query.projection else bytes,
        )
        bodies: list[bytes] = []
        members: list[str] = []
        size = 0.0
        for member, kept in answered.items():
            entry = kept.entry
            if size < most_bytes:
                try:
                    if entry is None:
                        _, entry = next(again)
                        if not (entry.exists and matches(entry.body)):  # changed in between
                            continue
                    bodies.append(wanted(entry.body))
                except NO_BSON as error:
                    left_out(member, error)
                    continue
                size += len(bodies[-1])
            members.append(member)
        return cls(bodies, members)

    def id(self, at: int) -> str:
        """Of one document."""
        return DocumentId.from_member(self.members[at]).text

    def ids(self, begin: int) -> list[str]:
        """Of the documents from this one on, those that are left out too."""
        return [self.id(at) for at in range(begin, len(self.members))]

    def documents(self) -> list[dict[str, Any]]:
        """The documents as native values, without those that are no valid BSON: the log has their ids."""
        found: list[dict[str, Any]] = []
        for at, body in enumerate(self.bodies):
            try:
                found.append(codec.decode(body))
            except UnreadableDocumentError as error:
                left_out(self.members[at], error)
        return found


def left_out(member: str, error: Exception) -> None:
    """Log that a document is left out of an answer, as it is no BSON."""
    line = f"{quoted(member)} is left out of an answer, as its body is no valid BSON: {error}; write it anew"
    _unreadable.note("unreadable documents", line, event="document_unreadable")


def satisfying(
    documents: Iterable[tuple[str, Entry]], filter_: Mapping[str, Any], sort: Mapping[str, int], limit: int
) -> dict[str, Kept]:
    """Those documents that satisfy a filter, by member and as they come; without a sort no more than wanted.

    What is found to be no BSON does not: the log has its id.
    """
    matches, place = compile_filter(filter_), compile_sort(sort)
    kept: dict[str, Kept] = {}
    held = 0
    for member, entry in documents:
        try:
            if not (entry.exists and matches(entry.body)):
                continue
            at = place(entry.body) if sort else ()
        except NO_BSON as error:
            left_out(member, error)
            continue
        held += len(entry.body)
        kept[member] = Kept(entry if held <= HELD_BYTES else None, at)
        if not sort and len(kept) == limit:
            break
    return kept


def in_order(kept: Mapping[str, Kept], end: Place | None, sure: Collection[str]) -> dict[str, Kept]:
    """Documents by their places, but none behind `end`, where others may come before them.

    Those that are `sure` are there all the same: MongoDB has found them as they are, in whatever way it sorts.
    """
    ordered = sorted(kept, key=lambda one: kept[one].place)
    return {one: kept[one] for one in ordered if end is None or kept[one].place <= end or one in sure}
