"""Guarded writes to MongoDB, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from bson import Int64
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, ReplaceOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, InvalidName, OperationFailure

from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import RAW_OPTIONS, VERSION_END, VERSION_FIELD, append_version
from writebehind.documents.shard_key import ShardKey, address
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb import error_table
from writebehind.mongodb.error_table import Refusal, Verdict

#: Stands for the `_v` of a document that has none.
NOTHING: Final = object()
#: Of a write that a router does not take, as it does not know to which shard it belongs.
WRONG_SHARD_KEY: Final = "shard_key is not set as the collection is sharded, see writebehind doctor"
#: Of a write that was taken, and is not what MongoDB has.
OVERTAKEN: Final = Refusal(0, "others change the document at each attempt", Verdict.BUSY)


class Result(Enum):
    """Outcome of one write."""

    PERSISTED = auto()
    """MongoDB has this version."""
    SUPERSEDED = auto()
    """MongoDB has a newer version."""
    REFUSED = auto()
    """MongoDB will not take this version, now or later."""
    DISTURBED = auto()
    """Somebody else changed the document at the same moment, or MongoDB is busy: try again."""
    UNCLEAR = auto()
    """MongoDB did not take it, and it is not known whether it will: try again, for a bounded time."""
    MISPLACED = auto()
    """The settings have another shard key than the collection: try again until somebody has mended them."""
    UNREACHED = auto()
    """It is not recorded, as a server of Redis is away that has something of it: try again until it is back."""


@dataclass(frozen=True, slots=True)
class Write:
    """One version to bring to MongoDB; `trace_id` is that of the trace that has written it, '' where none has."""

    id: DocumentId
    entry: Entry
    trace_id: str = field(default="", compare=False)


class Outcome(NamedTuple):
    """Outcome of one write, and in how many attempts. A tuple is made fastest, and each write has one.

    Attributes:
        write: the write.
        result: what became of it.
        code: MongoDB's, where it refused; `message` its words.
        attempts: how often it was tried.
        present: the version that MongoDB has, where it is a greater one.
        holder: the member that has the unique value because of which it was refused, '' where that is not known.
        claim: the value, as it is noted with it.
        together: whether it was refused with others, by one error that does not say because of which.
        left: the document as MongoDB had it before it was deleted to make room for others, b'' where it was not.
    """

    write: Write
    result: Result
    code: int = 0
    message: str = ""
    attempts: int = 1
    present: int = 0
    holder: str = ""
    claim: str = ""
    together: bool = False
    left: bytes = b""


class Replacement(RawBSONDocument):
    """A document that takes another's place, as bytes that the driver passes on.

    The driver asks whether it is empty, and would read all of it to know: a third of what a write costs here.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        """It has an id and a version."""
        return True


class AllRefusedError(MongoUnavailableError):
    """MongoDB refuses every write of a batch, and does not say that it is because of the documents."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        super().__init__(f"MongoDB refuses all of a batch of {len(outcomes)}", inner=outcomes[0].message)
        self.outcomes = list(outcomes)


class RefusedError(Exception):
    """Some documents of a bulk write were refused; `refusals` holds why, by position."""

    def __init__(self, refusals: dict[int, Refusal]) -> None:
        super().__init__()
        self.refusals = refusals


class CommandRefusedError(Exception):
    """A whole command was refused, perhaps because of one of its documents."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@contextmanager
def commands() -> Iterator[None]:
    """Tell a command that is refused, be it by the driver, from one that is not answered.

    Raises:
        CommandRefusedError: it is refused, and another one may not be.
        MongoUnavailableError: the time was over before the driver could send it, as a primary was looked for.
    """
    try:
        yield
    except BulkWriteError:
        raise
    except (BSONError, OverflowError, UnicodeError, RecursionError, OperationFailure, InvalidName) as error:
        refusal = Refusal.of_command(error)
        if refusal.verdict is Verdict.OUTAGE:
            raise
        if error_table.is_not_sent(error):
            raise MongoUnavailableError("MongoDB does not answer", inner=refusal.message, outage=True) from error
        raise CommandRefusedError(refusal) from error


def operation(write: Write, key: ShardKey | None) -> ReplaceOne[Any] | DeleteOne:
    """A write as MongoDB gets it: applied only where it has no version as new or newer."""
    return _operation(write, key, _below(write), upsert=True)


def send_alone(collection: Collection[Any], write: Write, key: ShardKey | None) -> None:
    """Send a write as MongoDB gets it, by itself and in no bulk."""
    where, document = _guarded(write, key, _below(write))
    if document is None:
        collection.delete_one(where)
    else:
        collection.replace_one(where, document, upsert=True)


def operation_over(write: Write, key: ShardKey | None, seen: object) -> ReplaceOne[Any] | DeleteOne:
    """A write over the document whose `_v` is exactly what was `seen`, or over one without for `NOTHING`.

    For a `_v` of other hands that counts as no version, and yet is not less than one where MongoDB compares them.
    """
    return _operation(write, key, exactly(seen), upsert=False)


def exactly(seen: object) -> dict[str, Any]:
    """A condition that matches the `_v` that was `seen`, or no `_v` for `NOTHING`."""
    return {"$exists": False} if seen is NOTHING else {"$eq": seen}


def _below(write: Write) -> dict[str, Any]:
    """A condition that matches an older `_v` than a write's: also none, or one of others that counts as none."""
    return {"$not": {"$gte": Int64(write.entry.version), "$lt": Int64(VERSION_END)}}


def _operation(
    write: Write, key: ShardKey | None, guard: dict[str, Any], *, upsert: bool
) -> ReplaceOne[Any] | DeleteOne:
    where, document = _guarded(write, key, guard)
    return DeleteOne(where) if document is None else ReplaceOne(where, document, upsert=upsert)


def _guarded(
    write: Write, key: ShardKey | None, guard: dict[str, Any]
) -> tuple[dict[str, Any], RawBSONDocument | None]:
    """The filter of a write, and the document that it puts there: `None` for none."""
    where = address(write.id, key)
    where[VERSION_FIELD] = guard
    if write.entry.kind is Kind.DELETED:
        return where, None
    return where, Replacement(append_version(write.entry.body, write.entry.version), RAW_OPTIONS)


def judge(write: Write, refusal: Refusal | None, present: int | None, *, looked: bool) -> Outcome:
    """The outcome of a write.

    Args:
        write: the write.
        refusal: why it was not done; `None` where nothing was said against it.
        present: the version that MongoDB has; `None` where there is no document, 0 where its `_v` counts as none.
        looked: whether `present` is known at all.
    """
    if present is not None and present > write.entry.version:
        return Outcome(write, Result.SUPERSEDED, present=present)
    if refusal is None:
        if not looked:
            return Outcome(write, Result.PERSISTED)
        # Not there, though it was taken: a primary has lost it, or a flusher that was paused has overwritten it.
        expected = None if write.entry.kind is Kind.DELETED else write.entry.version
        if present == expected:
            return Outcome(write, Result.PERSISTED)
        refusal = OVERTAKEN
    # A document that is there makes its own repetition fail, on whatever unique index.
    if refusal.may_have_happened and present == write.entry.version:
        return Outcome(write, Result.PERSISTED)
    if refusal.verdict is Verdict.SETTINGS:
        message = f"{WRONG_SHARD_KEY}: {refusal.message}"
        return Outcome(write, Result.MISPLACED, refusal.code, message, together=True)
    result = {Verdict.DOCUMENT: Result.REFUSED, Verdict.UNCLEAR: Result.UNCLEAR}.get(
        refusal.verdict, Result.DISTURBED
    )
    if refusal.same_id:  # the guard did not match, so the upsert became an insert, and MongoDB has the document
        result = Result.DISTURBED
    return Outcome(write, result, refusal.code, refusal.message)
