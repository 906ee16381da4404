"""Every error that leaves the core. One base class; the docstring of each is its default message."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """An error as a value, which is kept: without the frames that it and its causes came through.

    It would hold all that they hold, such as bodies and documents; and where one of them holds the error, all of
    it would stay until the garbage collector comes, which is seldom.
    """
    chain: list[BaseException] = [error]
    seen: set[int] = set()
    while chain:
        one = chain.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            chain += [other for other in (one.__cause__, one.__context__) if other is not None]
    return error


def told(error: BaseException) -> str:
    """The text of a driver's error, without arguments of a command that the server does not know.

    A server that knows no `AUTH` with a user, or a proxy before it, repeats the password.
    """
    return str(error).partition(", with args beginning with")[0]


class Reason(StrEnum):
    """Reason for which a read or a write failed, as failures are counted by it."""

    REDIS_AWAY = "redis-away"
    REDIS_NOT_READY = "redis-not-ready"
    """It answers, and refuses what is sent: it lacks replicas, is none that takes writes, cannot use its disk."""
    REDIS_SPOILED = "redis-spoiled"
    REDIS_FULL = "redis-full"
    WRONG_INSTALLATION = "wrong-installation"
    MONGODB_AWAY = "mongodb-away"
    """It cannot be reached, or says that it cannot serve now."""
    MONGODB_LATE = "mongodb-late"
    """It was asked, and the time was over before it answered."""
    MONGODB_REFUSES = "mongodb-refuses"
    MONGODB_BUSY = "mongodb-busy"
    """As many wait for it as may at a time, so it was not asked."""
    BREAKER_OPEN = "breaker-open"
    """It has failed lately, so it was not asked."""
    CLOSED = "closed"
    """The pipeline is, so it was not asked."""
    CAP = "cap"
    """Too much waits for MongoDB."""
    ISSUER_AWAY = "issuer-away"
    """The keys of the issuer of tokens are not known yet, so nobody knows whose the request is."""
    # From here on no read fails.
    CONDITION = "condition"
    """The document is not as the write needs it."""
    CONFLICT = "conflict"
    """Others came before the write again and again."""
    UNREADABLE = "unreadable"
    """Others have put something in the place of the document that cannot be changed."""
    TOO_MUCH_WORK = "too-much-work"
    """The writes before it in one request have used up what one request may take."""
    DURABILITY_NOT_OFFERED = "durability-not-offered"
    DEAD_LETTER = "dead-letter"
    """It waited for MongoDB, which has refused it."""


class WritebehindError(Exception):
    """Something went wrong in writebehind.

    Attributes:
        reason: by which failures are counted; `None` where the request is wrong in itself.
        exit_status: of a command that it ends.
    """

    reason: Reason | None = None
    exit_status: int = 1

    def __init__(self, message: str | None = None) -> None:
        """Take `message`, or the class's docstring where there is none."""
        super().__init__(message or (self.__doc__ or "").strip())


class ConfigurationError(WritebehindError):
    """The configuration is wrong."""

    exit_status = 2


class ForeignDatabaseError(ConfigurationError):
    """This Redis belongs to another MongoDB database than the settings name."""


# What a client can cause ------------------------------------------------------------------------------


class RequestError(WritebehindError):
    """The request cannot be carried out as it stands."""


class InvalidArgumentError(RequestError):
    """An argument of the library is none of the values that it can have."""


class MalformedDocumentError(RequestError):
    """The body is not valid JSON or not valid MongoDB Extended JSON."""


class InvalidDocumentError(RequestError):
    """The document cannot be stored: a reserved field, the collection's schema, or a limit of BSON."""


class DocumentTooLargeError(RequestError):
    """The document is larger than this installation allows."""


class InvalidIdError(RequestError):
    """The id does not fit the id type of its collection."""


class InvalidPatchError(RequestError):
    """The patch is malformed."""


class PatchConflictError(RequestError):
    """The patch does not fit the document as it is now."""

    reason = Reason.CONDITION


class UnreadableDocumentError(RequestError):
    """Others have made this document no valid BSON, in MongoDB or Redis: it can be replaced or deleted."""

    reason = Reason.UNREADABLE


class UnknownCollectionError(RequestError):
    """The collection is not configured."""


class UnknownQueryError(RequestError):
    """The collection has no such query."""


class UnknownKeyError(RequestError):
    """There is no such API key."""


class KeyConflictError(RequestError):
    """Another API key is in the way, or somebody has changed this one at the same time."""


class NotGrantedError(RequestError):
    """The key or token of a request does not grant this."""


class DocumentNotFoundError(RequestError):
    """There is no such document."""

    reason = Reason.CONDITION


class KeyReusedError(RequestError):
    """Another request had this idempotency key: each write needs its own."""


class PreconditionFailedError(RequestError):
    """The document is not in the state that the condition names."""

    reason = Reason.CONDITION


class ConflictError(RequestError):
    """Other writers changed the document faster than this change could be applied. Send it again."""

    reason = Reason.CONFLICT


class TooMuchWorkError(RequestError):
    """The request asks for more work than one request may: send the rest in another one."""

    reason = Reason.TOO_MUCH_WORK


class DeadLetterError(RequestError):
    """MongoDB did not take the write, which is a dead letter now: replay or discard it, or write another one."""

    reason = Reason.DEAD_LETTER

    def __init__(self, message: str, *, collection: str, document_id: str, version: int) -> None:
        """Take what MongoDB says, and whose letter it is: the id as in a URL, and the version that it refused."""
        super().__init__(message)
        self.collection = collection
        self.document_id = document_id
        self.version = version


# What the surroundings cause --------------------------------------------------------------------------


class DurabilityNotOfferedError(RequestError):
    """The Redis server cannot promise the durability that was asked for. Nothing was written."""

    reason = Reason.DURABILITY_NOT_OFFERED


class UnavailableError(WritebehindError):
    """A server that this request needs does not answer.

    Attributes:
        public: the message without what only operators should read: for clients of the service.
        inner: the rest: the words of the driver or the server, which may name hosts and ports.
        retry_after_s: seconds after which trying again makes sense, where that is known.
        logged: whether the log has it by now that the server is lost: no line about a failure need say it again.
        late: whether nothing has refused what was asked, and no answer came in time: the server may be frozen.
    """

    logged = False
    late = False
    reason: Reason = Reason.REDIS_AWAY

    def __init__(
        self, message: str | None = None, *, retry_after_s: float | None = None, inner: object = ""
    ) -> None:
        """Take `message`, or the class's docstring, and what else operators should know."""
        super().__init__(message)
        self.public, self.inner = str(self), str(inner)
        if self.inner:
            self.args = (f"{self.public.removesuffix('.')}: {self.inner}",)
        self.retry_after_s = retry_after_s


class RedisUnavailableError(UnavailableError):
    """Redis does not answer."""


class RedisNotReadyError(RedisUnavailableError):
    """Redis answers that it cannot serve now. What was sent was not carried out."""

    reason = Reason.REDIS_NOT_READY


class NoReplicasError(RedisNotReadyError):
    """Redis takes no writes, as too few of its replicas keep up. What was sent was not carried out."""


class UncoveredError(RedisNotReadyError):
    """No node of the Redis Cluster has the slot of the partition."""


class ReplicaError(RedisNotReadyError):
    """The server is a replica, which may lack the last writes."""


class ForeignServerError(RedisNotReadyError):
    """A Redis server belongs to another installation, so this process neither reads nor writes there."""

    reason = Reason.WRONG_INSTALLATION


class TokenKeysError(UnavailableError):
    """The keys of the issuer of tokens are not known yet."""

    reason = Reason.ISSUER_AWAY


class SpoiledError(RedisUnavailableError):
    """Values of other hands in Redis are in the way. It does answer, so nothing is read behind its back."""

    reason = Reason.REDIS_SPOILED


class MistypedKeyError(SpoiledError):
    """Other hands put something of another type into Redis: it is taken out, so try again."""


class RedisForbidsError(SpoiledError):
    """Redis does not permit its user what this process needs. What was sent was not carried out."""


class RedisFullError(RedisUnavailableError):
    """Redis has no memory left for this write: raise its maxmemory, or wait until documents expire."""

    reason = Reason.REDIS_FULL


class ForeignRedisError(RedisUnavailableError):
    """This process does not fit its Redis, so it neither reads nor writes there."""

    reason = Reason.WRONG_INSTALLATION


class MongoUnavailableError(UnavailableError):
    """MongoDB does not answer, or cannot take writes now."""

    reason = Reason.MONGODB_AWAY

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_s: float | None = None,
        inner: object = "",
        outage: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Take `message`; `outage` says that it concerns MongoDB as a whole and not only this operation."""
        super().__init__(message, retry_after_s=retry_after_s, inner=inner)
        self.outage = outage
        if reason is not None:
            self.reason = reason


class MongoRefusesError(MongoUnavailableError):
    """MongoDB refuses this operation, as for lack of rights on a collection, and serves others."""

    reason = Reason.MONGODB_REFUSES


class MongoBusyError(MongoUnavailableError):
    """MongoDB takes long, and as many requests wait for it as may at a time: send this one again later."""

    reason = Reason.MONGODB_BUSY


class PipelineClosedError(MongoUnavailableError):
    """The pipeline is closed."""

    reason = Reason.CLOSED


class OverloadedError(UnavailableError):
    """The write was refused, so that what waits for MongoDB stays bounded. Nothing was written."""

    reason = Reason.CAP


class PartitionFullError(OverloadedError):
    """Too many documents wait for MongoDB: send the write again later, or look at /admin/status."""


class TooManyReceiptsError(OverloadedError):
    """Too many writes lately had idempotency keys for another one to be known by its: send it again later."""


class MemoryPressureError(OverloadedError):
    """Redis is nearly out of memory: send the write again later, or raise its maxmemory."""


class TooMuchPendingError(UnavailableError):
    """Too many documents wait for MongoDB to be listed with the others: ask again later."""

    reason = Reason.CAP


class TooManyDeadLettersError(OverloadedError):
    """There are too many dead letters of this collection, or of this document: see to them first."""
