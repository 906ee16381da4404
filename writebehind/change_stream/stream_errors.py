"""Errors of a change stream: it may go on, from its token or not, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import OperationFailure, ProtocolError, PyMongoError

from writebehind.errors import MongoUnavailableError, UnavailableError
from writebehind.mongodb import error_table

#: "The $changeStream stage is only supported on replica sets": a standalone server.
NO_STREAMS = 40573


class HistoryLostError(Exception):
    """The stream cannot go on from its token."""


class TooLargeError(Exception):
    """The server answers with more than the driver takes."""


class NoStreamsError(Exception):
    """MongoDB is a standalone server."""


@contextmanager
def reading() -> Iterator[None]:
    """Tell what MongoDB says about a stream.

    Raises:
        HistoryLostError: it cannot go on from its token.
        MongoUnavailableError: it may go on later.
        NoStreamsError: there are none.
        TooLargeError: it may go on with smaller answers.
    """
    try:
        yield
    except ProtocolError as error:  # mongod bounds an answer by 16 MB; other servers count events only
        raise TooLargeError(str(error)) from error
    except OperationFailure as error:
        if error.code == NO_STREAMS:
            raise NoStreamsError from error
        if error.timeout or error_table.is_passing(error):
            raise MongoUnavailableError(error_table.words(error)) from error
        raise HistoryLostError(error_table.words(error)) from error


def reason(error: Exception) -> str:
    """The reason why nobody listens, for the status."""
    if isinstance(error, PyMongoError):
        return f"MongoDB does not answer: {error_table.words(error)}"
    if isinstance(error, UnavailableError):
        return str(error)
    return f"{type(error).__name__}: {error}"
