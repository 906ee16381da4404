"""The connection to MongoDB."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from writebehind.errors import ConfigurationError


def mongo_client(url: str, timeout_ms: int) -> MongoClient[Any]:
    """A client whose every wait is bounded: a hung server must not hang a worker or a request.

    Raises:
        ConfigurationError: the URL says what the driver cannot do.
    """
    try:
        return MongoClient(
            url,
            serverSelectionTimeoutMS=timeout_ms,
            connectTimeoutMS=timeout_ms,
            socketTimeoutMS=timeout_ms,
            appname="writebehind",
            connect=False,  # not before it is used: a process that only forks others needs no connection
        )
    except (PyMongoError, OSError, ValueError, TypeError) as error:  # whose text may repeat the URL
        what = (error.strerror, error.filename) if isinstance(error, OSError) else (type(error).__name__, None)
        raise ConfigurationError(
            f"MONGODB_URL: the driver refuses it ({': '.join(one for one in what if one)}): see its options"
        ) from None
