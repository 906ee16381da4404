"""Documents of one batch in one `update` command, put together as bytes.

The driver's `bulk_write` makes the same command of objects, at more than twice the CPU. What else it does is left
to it: see `send`, and docs/adr/0089-documents-go-in-one-command-of-bytes.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from writebehind.documents.entry import Kind
from writebehind.documents.raw_bson import RAW_OPTIONS, VERSION_BYTES, VERSION_END, VERSION_FIELD, VERSION_START
from writebehind.mongodb.outcomes import Write

#: Documents and bytes of one command. MongoDB takes 16 MiB; where there is more, the driver makes several.
MOST_DOCUMENTS, MOST_BYTES = 10_000, 12 << 20
#: Beside each body: the filter with an id of 512 bytes, and the rest.
_AROUND: Final = 1_024
#: Codes after which the driver sends a batch once more, as another server may take it: "Retryable Writes
#: Specification", terms.
RETRIED: Final = frozenset((6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436))
#: What a server says of single documents may have text in it that is no UTF-8.
_ANSWERS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(unicode_decode_error_handler="replace")

_TEXT_ID: Final = Struct("<5sI")
#: The length of a statement, and the filter with its length.
_HEAD: Final = Struct("<I3sI")
_LENGTH: Final = Struct("<I")
_UPSERT: Final = b"\x08upsert\0\x01\0"
_END_AND_UPSERT: Final = b"\0" + _UPSERT


def _around_version() -> tuple[bytes, bytes]:
    """The bytes of a filter's guard that come before a version, and those that come after it."""
    mark = 0x0123456789ABCDEF
    guard = bson.encode({VERSION_FIELD: {"$not": {"$gte": bson.Int64(mark), "$lt": bson.Int64(VERSION_END)}}})
    before, after = guard[4:-1].split(mark.to_bytes(8, "little"))
    return before, after


_BEFORE, _AFTER = _around_version()
_AFTER_FILTER: Final = _AFTER + b"\0\x03u\0"
#: The length of a filter without the id, and of what is in a statement beside the filter and the document.
_FILTER_BYTES: Final = 4 + len(_BEFORE) + 8 + len(_AFTER) + 1
_STATEMENT_BYTES: Final = 4 + 3 + 3 + len(_UPSERT)


def statements_of(writes: Sequence[Write]) -> Sequence[Statement] | None:
    """The statements that store documents; `None` where there are deletions, or they do not fit in one command."""
    if any(one.entry.kind is not Kind.DOCUMENT for one in writes):
        return None
    if not fits(len(writes), sum(len(one.entry.body) for one in writes)):
        return None
    versions = [one.entry.version.to_bytes(8, "little") for one in writes]
    pairs = zip(writes, versions, strict=True)
    return [statement(id_of(one.id.value), version, one.entry.body) for one, version in pairs]


def fits(documents: int, body_bytes: int) -> bool:
    """Whether so many documents, of so many bytes together, fit in one command."""
    return documents <= MOST_DOCUMENTS and body_bytes + _AROUND * documents <= MOST_BYTES


class Statement(RawBSONDocument):
    """A statement of the command, as bytes that the driver passes on.

    Nobody else reads it as a rule, so it is not looked at: to make a `RawBSONDocument` takes five times as long.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        """Take the bytes."""
        self.raw = raw  # type: ignore[misc]

    def _read(self) -> RawBSONDocument:
        return RawBSONDocument(self.raw, RAW_OPTIONS)

    def __getitem__(self, name: str) -> Any:
        """As of any document: the driver logs what it sends, where that is asked for."""
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        """As of any document."""
        return iter(self._read())

    def __len__(self) -> int:
        """As of any document."""
        return len(self._read())

    def __bool__(self) -> bool:
        """It is none that is empty."""
        return True

    def __eq__(self, other: object) -> bool:
        """As of any document."""
        return self._read() == other

    __hash__ = None

    def __repr__(self) -> str:
        """As of any document."""
        return repr(self._read())

    items = Mapping.items


def send(database: Database[Any], collection: str, statements: Sequence[Statement]) -> int | None:
    """Store documents of a collection that is not sharded by other fields, each where none is as new.

    Returns:
        How many were stored; `None` where it is left to the driver's `bulk_write`, as the server steps down, is
        lost, or does not say how many. Then some may be stored. To send those again changes nothing, as each is
        guarded by its version.

    Raises:
        BulkWriteError: some are refused, or not as durable as asked for; as the driver's `bulk_write` has it.
        PyMongoError: as the driver has it of any command.
    """
    try:
        answer = database.command(
            "update",
            collection,
            updates=statements,
            ordered=False,
            writeConcern=database.write_concern.document,
            codec_options=_ANSWERS,
        )
    except (NetworkTimeout, ServerSelectionTimeoutError, WaitQueueTimeoutError):  # the time is over
        raise
    except AutoReconnect:
        return None
    except OperationFailure as error:
        if error.code in RETRIED:
            return None
        raise
    stored: int | None = answer.get("n")
    if stored is None:  # nor would it say what became of the others beside one that is refused
        return None
    doubts = answer.get("writeConcernError")
    if doubts and doubts.get("code") in RETRIED:
        return None
    if doubts or answer.get("writeErrors"):
        raise BulkWriteError(
            {"writeErrors": answer.get("writeErrors", []), "writeConcernErrors": [doubts] if doubts else []}
        )
    return stored


def id_of(value: object) -> bytes:
    """The element `_id` of a filter."""
    if isinstance(value, str):
        text = value.encode()
        return _TEXT_ID.pack(b"\x02_id\0", len(text) + 1) + text + b"\0"
    return bson.encode({"_id": value})[4:-1]


def statement(id_: bytes, version: bytes, body: bytes) -> Statement:
    """`{q: {_id: …, _v: {$not: {$gte: …, $lt: …}}}, u: …, upsert: true}`.

    Args:
        id_: the element of the document's id, as `id_of` makes it.
        version: eight bytes, the least significant first.
        body: BSON without `_v`.
    """
    filter_bytes = _FILTER_BYTES + len(id_)
    document_bytes = len(body) + VERSION_BYTES
    return Statement(
        b"".join(
            (
                _HEAD.pack(_STATEMENT_BYTES + filter_bytes + document_bytes, b"\x03q\0", filter_bytes),
                id_,
                _BEFORE,
                version,
                _AFTER_FILTER,
                _LENGTH.pack(document_bytes),
                body[4:-1],
                VERSION_START,
                version,
                _END_AND_UPSERT,
            )
        )
    )
