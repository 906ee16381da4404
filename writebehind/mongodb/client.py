"""The connection to MongoDB."""

from __future__ import annotations

import threading
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from writebehind.errors import ConfigurationError
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

#: Commands by which writes are sent.
_WRITES: Final = frozenset(("update", "delete", "insert", "bulkWrite"))


class _Sent(threading.local):
    writes = 0


_sent = _Sent()


def writes_sent() -> int:
    """The number of commands that write which this thread has sent: who finds no server sends none."""
    return _sent.writes


class CommandTimes(CommandListener):
    """Counts the commands that a client sends, and how long each takes."""

    def __init__(self, tallies: Tallies) -> None:
        """Count in these tallies."""
        self._tallies = tallies

    def started(self, event: CommandStartedEvent) -> None:
        """Count one that writes, for `writes_sent`: the driver tells this when it has a connection for it."""
        if event.command_name in _WRITES:
            _sent.writes += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Count a command that was answered, be it with errors of single documents."""
        self._observe(event.command_name, "ok", event.duration_micros)

    def failed(self, event: CommandFailedEvent) -> None:
        """Count a command that was refused as a whole, or not answered."""
        self._observe(event.command_name, "failed", event.duration_micros)

    def _observe(self, command: str, outcome: str, microseconds: int) -> None:
        self._tallies.observe(families.MONGODB_COMMANDS, (command, outcome), microseconds / 1e6)


def mongo_client(url: str, timeout_ms: int, tallies: Tallies) -> MongoClient[Any]:
    """A client whose every wait is bounded: a hung server must not hang a worker or a request.

    Its commands are counted in the tallies.

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
            event_listeners=[CommandTimes(tallies)],
            connect=False,  # not before it is used: a process that only forks others needs no connection
        )
    except (PyMongoError, OSError, ValueError, TypeError) as error:  # whose text may repeat the URL
        what = (error.strerror, error.filename) if isinstance(error, OSError) else (type(error).__name__, None)
        raise ConfigurationError(
            f"MONGODB_URL: the driver refuses it ({': '.join(one for one in what if one)}): see its options"
        ) from None
