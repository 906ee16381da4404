"""MongoDB's errors, in one table: which of them say "not now", and which "never like this".

Codes and their categories are the server's own, from `src/mongo/base/error_codes.yml`; which of them mean that
another server has to be found is from the drivers' "Retryable Writes" and "Server Discovery and Monitoring"
specifications, as PyMongo carries them out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

from pymongo.errors import (
    AutoReconnect,
    ExecutionTimeout,
    InvalidName,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)


class Verdict(Enum):
    """Meaning of an error for the write that was tried."""

    OUTAGE = auto()
    """This server or this replica set cannot serve now. Whatever is tried next would fail as well."""
    BUSY = auto()
    """This operation met others, or took too long. It is worth trying again at once."""
    DOCUMENT = auto()
    """It is about the content of a document, or the name of its collection, and trying it again is of no use."""
    SETTINGS = auto()
    """A router does not find the shard of a document by what the settings say of its collection."""
    UNCLEAR = auto()
    """It may be about this document, about rights, or pass by itself: only trying again for some time tells."""


#: Code: name and verdict. A code that is not here, such as Unauthorized, is unclear: MongoDB has answered, and
#: others may be served.
CODES: dict[int, tuple[str, Verdict]] = {
    # categories NetworkError, NotPrimaryError and ShutdownError; no primary, no configuration
    6: ("HostUnreachable", Verdict.OUTAGE),
    7: ("HostNotFound", Verdict.OUTAGE),
    89: ("NetworkTimeout", Verdict.OUTAGE),
    91: ("ShutdownInProgress", Verdict.OUTAGE),
    94: ("NotYetInitialized", Verdict.OUTAGE),
    133: ("FailedToSatisfyReadPreference", Verdict.OUTAGE),
    149: ("NoConfigPrimary", Verdict.OUTAGE),
    189: ("PrimarySteppedDown", Verdict.OUTAGE),
    216: ("ElectionInProgress", Verdict.OUTAGE),
    317: ("ConnectionPoolExpired", Verdict.OUTAGE),
    384: ("ConnectionError", Verdict.OUTAGE),
    9001: ("SocketException", Verdict.OUTAGE),
    10058: ("LegacyNotPrimary", Verdict.OUTAGE),
    10107: ("NotWritablePrimary", Verdict.OUTAGE),
    11600: ("InterruptedAtShutdown", Verdict.OUTAGE),
    11602: ("InterruptedDueToReplStateChange", Verdict.OUTAGE),
    18: ("AuthenticationFailed", Verdict.OUTAGE),
    13435: ("NotPrimaryNoSecondaryOk", Verdict.OUTAGE),
    13436: ("NotPrimaryOrSecondary", Verdict.OUTAGE),
    56846: ("ConfigServerUnreachable", Verdict.OUTAGE),
    # nothing can be written, or not as durably as promised: WriteConcernError and the like
    64: ("WriteConcernTimeout", Verdict.OUTAGE),
    79: ("UnknownReplWriteConcern", Verdict.OUTAGE),
    100: ("UnsatisfiableWriteConcern", Verdict.OUTAGE),
    371: ("UserWritesBlocked", Verdict.OUTAGE),
    14031: ("OutOfDiskSpace", Verdict.OUTAGE),
    # categories RetriableError, Interruption, ExceededTimeLimitError, SystemOverloadedError and
    # StaleShardVersionError; locks, and resources that are short
    24: ("LockTimeout", Verdict.BUSY),
    43: ("CursorNotFound", Verdict.BUSY),
    46: ("LockBusy", Verdict.BUSY),
    63: ("StaleShardVersion", Verdict.BUSY),
    70: ("ShardNotFound", Verdict.BUSY),
    50: ("MaxTimeMSExpired", Verdict.BUSY),
    112: ("WriteConflict", Verdict.BUSY),
    117: ("ConflictingOperationInProgress", Verdict.BUSY),
    134: ("ReadConcernMajorityNotAvailableYet", Verdict.BUSY),
    145: ("PooledConnectionsDropped", Verdict.BUSY),
    146: ("ExceededMemoryLimit", Verdict.BUSY),
    150: ("StaleEpoch", Verdict.BUSY),
    202: ("NetworkInterfaceExceededTimeLimit", Verdict.BUSY),
    215: ("DatabaseDropPending", Verdict.BUSY),
    237: ("CursorKilled", Verdict.BUSY),
    227: ("CannotImplicitlyCreateCollection", Verdict.BUSY),
    239: ("SnapshotTooOld", Verdict.BUSY),
    246: ("SnapshotUnavailable", Verdict.BUSY),
    249: ("StaleDbVersion", Verdict.BUSY),
    250: ("StaleChunkHistory", Verdict.BUSY),
    251: ("NoSuchTransaction", Verdict.BUSY),
    262: ("ExceededTimeLimit", Verdict.BUSY),
    264: ("TooManyFilesOpen", Verdict.BUSY),
    272: ("MigrationConflict", Verdict.BUSY),
    276: ("IndexBuildAborted", Verdict.BUSY),
    279: ("ClientDisconnect", Verdict.BUSY),
    290: ("TransactionExceededLifetimeLimitSeconds", Verdict.BUSY),
    355: ("InterruptedDueToStorageChange", Verdict.BUSY),
    365: ("TemporarilyUnavailable", Verdict.BUSY),
    402: ("ResourceExhausted", Verdict.BUSY),
    406: ("MigrationBlockingOperationCoordinatorCleaningUp", Verdict.BUSY),
    407: ("PooledConnectionAcquisitionExceededTimeLimit", Verdict.BUSY),
    412: ("UpdatesStillPending", Verdict.BUSY),
    433: ("AdmissionQueueOverflow", Verdict.BUSY),
    449: ("RateLimitExceeded", Verdict.BUSY),
    450: ("PooledConnectionAcquisitionRejected", Verdict.BUSY),
    453: ("InterruptedDueToReshardingCriticalSection", Verdict.BUSY),
    462: ("IngressRequestRateLimitExceeded", Verdict.BUSY),
    11601: ("Interrupted", Verdict.BUSY),
    12586: ("BackgroundOperationInProgressForDatabase", Verdict.BUSY),
    12587: ("BackgroundOperationInProgressForNamespace", Verdict.BUSY),
    13388: ("StaleConfig", Verdict.BUSY),
    46841: ("ClientMarkedKilled", Verdict.BUSY),
    50915: ("BackupCursorOpenConflictWithCheckpoint", Verdict.BUSY),
    91331: ("RetriableRemoteCommandFailure", Verdict.BUSY),
    10045600: ("InterruptedDueToFCVChange", Verdict.BUSY),
    16500: ("RequestRateTooLarge", Verdict.BUSY),  # Azure Cosmos DB's
    # the collection is sharded otherwise than the settings say; 31025 has no name
    61: ("ShardKeyNotFound", Verdict.SETTINGS),
    31025: ("ShardKeyUpdateWithoutShardKey", Verdict.SETTINGS),
    # a document's content; category ValidationError
    2: ("BadValue", Verdict.DOCUMENT),
    9: ("FailedToParse", Verdict.DOCUMENT),
    14: ("TypeMismatch", Verdict.DOCUMENT),
    15: ("Overflow", Verdict.DOCUMENT),
    22: ("InvalidBSON", Verdict.DOCUMENT),
    52: ("DollarPrefixedFieldName", Verdict.DOCUMENT),
    53: ("InvalidIdField", Verdict.DOCUMENT),
    57: ("DottedFieldName", Verdict.DOCUMENT),
    66: ("ImmutableField", Verdict.DOCUMENT),
    73: ("InvalidNamespace", Verdict.DOCUMENT),
    116: ("DocTooLargeForCapped", Verdict.DOCUMENT),
    121: ("DocumentValidationFailure", Verdict.DOCUMENT),
    166: ("CommandNotSupportedOnView", Verdict.DOCUMENT),
    171: ("CannotIndexParallelArrays", Verdict.DOCUMENT),
    357: ("InvalidBSONType", Verdict.DOCUMENT),
    378: ("NonConformantBSON", Verdict.DOCUMENT),
    10003: ("CannotGrowDocumentInCappedNamespace", Verdict.DOCUMENT),
    10334: ("BSONObjectTooLarge", Verdict.DOCUMENT),
    11000: ("DuplicateKey", Verdict.DOCUMENT),
    17280: ("KeyTooLong", Verdict.DOCUMENT),
    17419: ("ResultingDocumentTooLarge", Verdict.DOCUMENT),
    17420: ("UpsertedDocumentTooLarge", Verdict.DOCUMENT),
}
DUPLICATE_KEY = 11000
OUT_OF_TIME = 50
#: Labels that a server or the driver gives to an error that it wants to see tried again, whatever its code.
RETRY_LABELS = frozenset(
    {"RetryableWriteError", "RetryableError", "TransientTransactionError", "SystemOverloadedError"}
)


#: The index in the message of a duplicate key, before any value: `… index: _id_ dup key: { … }` or `Index '_id_'`;
#: before MongoDB 3.2 with its namespace, `index: db.users.$_id_  dup key: …`.
_INDEX = re.compile(
    r"\bindex(?:: +(?:\S+\.\$)?(?P<plain>.*?)(?:\s+dup key\b|$)| '(?P<quoted>[^']*)')", re.IGNORECASE
)


#: What of the driver's text says nothing more: from where on, and the parts before.
_REPEATED = re.compile(r", full error: | : RawBSONDocument\(|, Timeout: \S+, Topology Description: ")
_LIMITS = re.compile(r"\[Errno -?\d+\] | \(configured timeouts: [^)]*\)(?P<more>,)?")
#: The driver's words for what it breaks off as its monitor has waited in vain, and for a server of
#: which it has not heard yet: nothing was refused, and nobody has cancelled anything.
_SILENCE = re.compile(r"\boperation cancelled\b|\bNo servers found yet\b")
NO_ANSWER = "no answer came in time"
_SERVER = re.compile(r"\A\S+:[0-9]+: ")
#: So many characters are told.
_MOST_WORDS = 300

#: Codes with which servers pass on what their storage says, and what that says of a unique value that is there:
#: FerretDB's SQLite and PostgreSQL.
_ANY = {0, 1}
_DUPLICATE = re.compile(r"UNIQUE constraint failed|duplicate key value violates unique constraint")
#: How routers may pass on that a value is there, under a code of their own such as 16460.
_PASSED_ON = re.compile(r"(?:\A|:: caused by :: )(?:11000 )?E11000 duplicate key error\b")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write that was not done: MongoDB's code and words, what they mean, and whether its id is there."""

    code: int
    message: str
    verdict: Verdict
    same_id: bool = False

    @property
    def may_have_happened(self) -> bool:
        """Whether the write may be done all the same: repeated, or followed by an error that nobody knows."""
        return self.code == DUPLICATE_KEY or self.verdict is Verdict.UNCLEAR

    @classmethod
    def of_document(cls, error: Mapping[str, Any]) -> Self:
        """Read what a server says of one document of a bulk write."""
        code, message = error.get("code", 0), str(error.get("errmsg", ""))
        code = _code(int(code) if isinstance(code, (int, float)) else 0, message)
        error = {**error, "code": code, "errmsg": message}
        return cls(error["code"], message, of_document(error), is_same_id(error))

    @classmethod
    def of_command(cls, error: Exception) -> Self:
        """Read the error of a command that held one document. Some servers answer a single write so."""
        if not isinstance(error, PyMongoError):  # the driver does not even send it
            return cls(0, f"{type(error).__name__}: {error}", Verdict.DOCUMENT)
        details = getattr(error, "details", None) or {}
        code, message = getattr(error, "code", None) or 0, str(details.get("errmsg") or words(error))
        if code in _ANY and _DUPLICATE.search(message):
            return cls(DUPLICATE_KEY, message, Verdict.DOCUMENT)
        if (known := _code(code, message)) != code:
            return cls.of_document({**details, "code": known, "errmsg": message})
        return cls(code, message, of_command(error), is_same_id({**details, "code": code, "errmsg": message}))


def _code(code: int, message: str) -> int:
    """The code of an error; that of a duplicate key where a router says so in words only."""
    return DUPLICATE_KEY if code not in CODES and _PASSED_ON.search(message) else code


def is_same_id(error: Mapping[str, Any]) -> bool:
    """Whether a write was refused because MongoDB has a document with its id, as far as the server says so.

    Microsoft's DocumentDB, FerretDB and others send no `keyPattern`; some say nothing at all.
    """
    if error.get("code") != DUPLICATE_KEY:
        return False
    if pattern := error.get("keyPattern"):
        return list(pattern) == ["_id"]
    index = _INDEX.search(error.get("errmsg", ""))
    return index is not None and "_id_" in {index["plain"], index["quoted"]}


def words(error: Exception) -> str:
    """The words of an error, for people: on one line, without time limits, answers and servers that it repeats.

    The driver tells every server of a deployment that it cannot reach, and the answer that it got; both differ
    each time, and may have documents in them.
    """
    said = (getattr(error, "details", None) or {}).get("errmsg") or error
    short = _REPEATED.split(" ".join(str(said).split()), maxsplit=1)[0]
    short = _LIMITS.sub(lambda found: ", " if found["more"] else "", short)
    short = _SILENCE.sub(NO_ANSWER, short)
    return short if len(short) <= _MOST_WORDS else f"{short[:_MOST_WORDS]}…"


def without_server(said: str) -> str:
    """The words of an error without the server that the driver names at their beginning."""
    return _SERVER.sub("", said)


def name_of(code: int) -> str:
    """The server's name for a code, '' for one that is not in the table."""
    return CODES[code][0] if code in CODES else ""


def of_document(error: Mapping[str, Any]) -> Verdict:
    """The verdict on the error of one document in a bulk write."""
    return CODES.get(error.get("code", 0), ("", Verdict.UNCLEAR))[1]


def is_passing(error: OperationFailure) -> bool:
    """Whether a server that answers so may answer otherwise when it is asked again."""
    known = CODES.get(error.code or 0, ("", Verdict.DOCUMENT))[1] is not Verdict.DOCUMENT
    return known or any(map(error.has_error_label, RETRY_LABELS | {"ResumableChangeStreamError"}))


def is_not_sent(error: BaseException) -> bool:
    """Whether the driver's own time was over before it sent a command, be it for the second time.

    It gives that MongoDB's code for an operation that takes too long, and keeps back what it waited for: as a rule
    a primary, after one that has stepped down.
    """
    return isinstance(error, ExecutionTimeout) and str(error).startswith("operation would exceed time limit")


def is_of_client(error: BaseException) -> bool:
    """Whether the driver did not get as far as asking, for a reason of this process: MongoDB may serve others."""
    return isinstance(error, (InvalidOperation, WaitQueueTimeoutError))


def is_late(error: PyMongoError) -> bool:
    """Whether a server was asked, and the time was over before it answered."""
    return error.timeout and not isinstance(error, ServerSelectionTimeoutError)


def is_closed(error: BaseException) -> bool:
    """Whether the client is closed."""
    return isinstance(error, InvalidOperation) and "after close" in str(error)


def is_cut_off(error: BaseException | None) -> bool:
    """Whether a connection was closed in the middle, by a server that was there and may still be."""
    others = (NetworkTimeout, NotPrimaryError, ServerSelectionTimeoutError)
    return isinstance(error, AutoReconnect) and not isinstance(error, others)


def of_query(error: PyMongoError) -> Verdict:
    """The verdict on the error of a query whose filter is somebody's own: an unknown code is about the query."""
    if isinstance(error, OperationFailure) and (error.code or 0) not in CODES:
        return Verdict.BUSY if any(map(error.has_error_label, RETRY_LABELS)) else Verdict.DOCUMENT
    return of_command(error)


def of_command(error: PyMongoError) -> Verdict:
    """The verdict on the error of a whole command."""
    if isinstance(error, InvalidName):  # the driver does not even send it
        return Verdict.DOCUMENT
    if is_of_client(error):
        return Verdict.BUSY
    if not isinstance(error, OperationFailure) or isinstance(error, WTimeoutError):
        return Verdict.OUTAGE
    verdict = CODES.get(error.code or 0, ("", Verdict.UNCLEAR))[1]
    if verdict in {Verdict.DOCUMENT, Verdict.UNCLEAR} and any(map(error.has_error_label, RETRY_LABELS)):
        return Verdict.BUSY
    return verdict
