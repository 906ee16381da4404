"""Guarded writes to MongoDB, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from bson import Int64
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, ReplaceOne
from pymongo.errors import InvalidName, OperationFailure

from writebehind import mongo_errors
from writebehind.entry import Entry, Kind
from writebehind.ids import DocumentId
from writebehind.mongo_errors import Verdict
from writebehind.rawbson import RAW_OPTIONS, VERSION_END, VERSION_FIELD, append_version

#: Stands for the `_v` of a document that has none.
NOTHING: Final = object()


class Result(Enum):
    """What became of one write."""

    PERSISTED = auto()
    """MongoDB has this version."""
    SUPERSEDED = auto()
    """MongoDB has a newer version."""
    REFUSED = auto()
    """MongoDB will not take this version, now or later."""
    DISTURBED = auto()
    """Somebody else changed the document at the same moment: try again."""


@dataclass(frozen=True, slots=True)
class Write:
    """One version to bring to MongoDB."""

    id: DocumentId
    entry: Entry


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one write, in how many attempts.

    Attributes:
        write: the write.
        result: what became of it.
        code: MongoDB's, where it refused; `message` its words.
        attempts: how often it was tried.
        present: the version that MongoDB has, where it is a greater one.
    """

    write: Write
    result: Result
    code: int = 0
    message: str = ""
    attempts: int = 1
    present: int = 0


class RefusedError(Exception):
    """Some documents of a bulk write were refused; `errors` holds the server's words by position."""

    def __init__(self, errors: dict[int, dict[str, Any]], removed: int) -> None:
        super().__init__()
        self.errors = errors
        self.removed = removed


class BatchRefusedError(Exception):
    """A whole command was refused because of something in one of its documents; `code` is MongoDB's, or 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def refusals() -> Iterator[None]:
    """Tell a command that is refused because of a document from one that is not.

    Raises:
        BatchRefusedError: it is refused because of a document.
    """
    try:
        yield
    except BSONError as error:  # the driver does not even send it
        raise BatchRefusedError(0, str(error)) from error
    except (OperationFailure, InvalidName) as error:
        if mongo_errors.of_command(error) is not Verdict.DOCUMENT:
            raise
        raise BatchRefusedError(getattr(error, "code", None) or 0, str(error)) from error


def operation(write: Write) -> ReplaceOne[Any] | DeleteOne:
    """A write as MongoDB gets it: applied only where it has no version as new or newer."""
    version = Int64(write.entry.version)
    # $not also matches where there is no `_v`, or one that counts as none: a document from somebody else.
    return _operation(write, {"$not": {"$gte": version, "$lt": Int64(VERSION_END)}}, upsert=True)


def operation_over(write: Write, seen: object) -> ReplaceOne[Any] | DeleteOne:
    """A write over the document whose `_v` is exactly what was `seen`, or over one without for `NOTHING`.

    For a `_v` of other hands that counts as no version, and yet is not less than one where MongoDB compares them.
    """
    return _operation(write, {"$exists": False} if seen is NOTHING else {"$eq": seen}, upsert=False)


def _operation(write: Write, guard: dict[str, Any], *, upsert: bool) -> ReplaceOne[Any] | DeleteOne:
    where = {"_id": write.id.value, VERSION_FIELD: guard}
    if write.entry.kind is Kind.DELETED:
        return DeleteOne(where)
    document = RawBSONDocument(append_version(write.entry.body, write.entry.version), RAW_OPTIONS)
    return ReplaceOne(where, document, upsert=upsert)


def judge(write: Write, error: dict[str, Any] | None, present: int | None) -> Outcome:
    """What became of a write, by the server's error and the version that it has, where either is known.

    The version is `None` where there is no document, and 0 where its `_v` counts as none.
    """
    if present is not None and present > write.entry.version:
        return Outcome(write, Result.SUPERSEDED, present=present)
    if write.entry.kind is Kind.DELETED and error is None:
        # Still there with an older version: written after the deletion ran, by a flusher that was paused.
        return Outcome(write, Result.PERSISTED if present is None else Result.DISTURBED)
    if error is None or present == write.entry.version:
        return Outcome(write, Result.PERSISTED)
    if is_same_id(error) or mongo_errors.of_document(error) is Verdict.BUSY:
        # Same id: the guard did not match, so the upsert became an insert, and MongoDB has the document already.
        return Outcome(write, Result.DISTURBED)
    return Outcome(write, Result.REFUSED, error.get("code", 0), error.get("errmsg", ""))


def is_same_id(error: dict[str, Any]) -> bool:
    """Whether a write was refused because MongoDB has a document with its id."""
    return error.get("code") == mongo_errors.DUPLICATE_KEY and list(error.get("keyPattern", {})) == ["_id"]
