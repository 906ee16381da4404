"""Every error that leaves the core. One base class; the docstring of each is its default message."""

from __future__ import annotations


class WritebehindError(Exception):
    """Something went wrong in writebehind."""

    def __init__(self, message: str | None = None) -> None:
        """Take `message`, or the class's docstring where there is none."""
        super().__init__(message or (self.__doc__ or "").strip())


class ConfigurationError(WritebehindError):
    """The configuration is wrong."""


# What a client can cause ------------------------------------------------------------------------------


class RequestError(WritebehindError):
    """The request cannot be carried out as it stands."""


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


class UnknownCollectionError(RequestError):
    """The collection is not configured."""


class DocumentNotFoundError(RequestError):
    """There is no such document."""


class PreconditionFailedError(RequestError):
    """The document is not in the state that the condition names."""


class ConflictError(RequestError):
    """Other writers changed the document faster than this change could be applied. Send it again."""


# What the surroundings cause --------------------------------------------------------------------------


class UnavailableError(WritebehindError):
    """A server that this request needs does not answer."""


class RedisUnavailableError(UnavailableError):
    """Redis does not answer."""


class MongoUnavailableError(UnavailableError):
    """MongoDB does not answer, or cannot take writes now."""


class PartitionFullError(UnavailableError):
    """Too many documents wait for MongoDB: send the write again later, or look at /admin/status."""
