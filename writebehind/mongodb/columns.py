"""Plain documents of a batch in columns, without an object for each.

As a rule each document of a batch is one that MongoDB takes, and nobody is to be told of it. Those are sent and
settled in columns, at 0.7 to 0.8 of the CPU. Objects are made of them where MongoDB does not take each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

from writebehind.documents.entry import BODY_AT, VERSION_DIGITS, Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.mongodb.outcomes import Write
from writebehind.mongodb.update_command import Statement, fits, id_of, statement

#: What a document has before its body, as `Entry` writes it.
_is_header: Final = re.compile(rb"[0-9]{16}D[0-9a-f]{32}").fullmatch
_ETAG_AT: Final = VERSION_DIGITS + 1

#: Of a document: member, value in Redis, header, version, statement.
_Row = tuple[str, bytes, bytes, int, Statement]


class Columns(Sequence[Write]):
    """Plain documents of one collection that fit in one command; the writes are made once somebody looks at one.

    Attributes:
        collection: theirs.
        members: what they are pending under.
        headers: what stands before their bodies in Redis.
        versions: theirs.
        statements: what MongoDB is sent.
    """

    def __init__(self, collection: str, rows: Sequence[_Row]) -> None:
        """Take one document or more."""
        self.collection = collection
        self.members, self._values, self.headers, self.versions, self.statements = zip(*rows, strict=True)
        self._writes: list[Write] = []

    def __len__(self) -> int:
        """The number of documents."""
        return len(self.members)

    @overload
    def __getitem__(self, at: int) -> Write: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Write]: ...
    def __getitem__(self, at: int | slice) -> Write | Sequence[Write]:
        """One or some of the writes."""
        return self._made()[at]

    def __iter__(self) -> Iterator[Write]:
        """All of them."""
        return iter(self._made())

    def __repr__(self) -> str:
        """The writes."""
        return repr(self._made())

    @property
    def digits(self) -> list[bytes]:
        """The versions as they stand in Redis."""
        return [one[:VERSION_DIGITS] for one in self.headers]

    def _made(self) -> list[Write]:
        if not self._writes:
            self._writes = [
                Write(DocumentId.from_member(member), Entry.parse(value))
                for member, value in zip(self.members, self._values, strict=True)
            ]
        return self._writes


def columns(collection: str, values: Iterable[tuple[str, bytes | None]], left: list[str]) -> Iterator[Columns]:
    """Documents of one collection, by members and what stands in Redis, in as many columns as commands are needed.

    What is none, is damaged, or does not fit in a command is `left`.
    """
    text_ids = f"{collection}/s:"
    text_at = len(text_ids)
    rows: list[_Row] = []
    body_bytes = 0
    for member, found in values:
        value = found or b""
        header, body = value[:BODY_AT], value[BODY_AT:]
        if not _is_header(header) or etag(body).encode() != header[_ETAG_AT:]:
            left.append(member)
            continue
        body_bytes += len(body)
        if not fits(len(rows) + 1, body_bytes):
            if rows:
                yield Columns(collection, rows)
            rows, body_bytes = [], len(body)
            if not fits(1, body_bytes):  # by itself
                left.append(member)
                body_bytes = 0
                continue
        is_text = member.startswith(text_ids)  # most are
        id_ = id_of(member[text_at:] if is_text else DocumentId.from_member(member).value)
        version = int(header[:VERSION_DIGITS])
        rows.append((member, value, header, version, statement(id_, version.to_bytes(8, "little"), body)))
    if rows:
        yield Columns(collection, rows)
