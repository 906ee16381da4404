"""Changes that MongoDB reports, heard beside the listener: it is what is watched."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient, ReadPreference
from pymongo.change_stream import DatabaseChangeStream
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from writebehind.change_stream.stream_errors import (
    HistoryLostError,
    NoStreamsError,
    TooLargeError,
    reading,
    reason,
)
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import VERSION_FIELD, version_of
from writebehind.errors import MongoUnavailableError
from writebehind.logs.states import StateLog

log = logging.getLogger(__name__)

#: How long MongoDB waits for a change before it says that there is none, ms; and events in one answer.
AWAIT_MS, BATCH = 1, 500
#: Between two tries to open a stream, seconds; where there are none, and else.
WITHOUT_STREAMS_S, AFTER_FAILURE_S = 60.0, 5.0
#: What is away, for the log.
_KIND = "changes"
#: So many times in a row there were more events than could be taken: then the others are left out.
MOST_BEHIND = 20
#: Of an event nothing else is sent: neither the document nor what has changed in it.
_PIPELINE = [{"$project": {"operationType": 1, "ns": 1, "documentKey": 1, f"fullDocument.{VERSION_FIELD}": 1}}]
_PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="surrogateescape"
)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a document: its version, 0 where it has none, or nobody tells, and whether it is gone."""

    id: DocumentId
    version: int
    deleted: bool


class Changes:
    """A change stream from now on. For one thread.

    Attributes:
        missed: how often changes may have been missed, as the stream was opened.
    """

    def __init__(self, client: MongoClient[Any], database: str, *, collections: Collection[str] | None) -> None:
        """Prepare to listen to changes of these collections, of all where there is none."""
        self._database = client.get_database(
            database, _PLAIN, read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern()
        )
        self._collections = collections
        self._stream: DatabaseChangeStream[dict[str, Any]] | None = None
        self._try_at = 0.0
        self._behind = 0
        self._outage = StateLog(log, "outage_began", "outage_over", is_outage=True)
        self.missed = 0

    @property
    def is_open(self) -> bool:
        """Whether changes are heard."""
        return self._stream is not None

    def poll(self, most: int) -> list[Change]:
        """Changes that there are by now, up to `most`; none while there is no stream."""
        if self._stream is None and not self._open():
            return []
        found: list[Change] = []
        try:
            with reading():
                count = self._take(most, found)
        except (HistoryLostError, MongoUnavailableError, TooLargeError, PyMongoError) as error:
            self._note(error)
            self.close()
            return found
        self._behind = self._behind + 1 if count == most else 0
        if self._behind >= MOST_BEHIND:
            self._behind = 0
            self.close(again_s=0)
        return found

    def close(self, *, again_s: float = AFTER_FAILURE_S) -> None:
        """Hear no more, and open another stream after so many seconds."""
        stream, self._stream = self._stream, None
        self._try_at = time.monotonic() + again_s
        if stream is not None:
            with suppress(PyMongoError):
                stream.close()

    def _note(self, error: Exception) -> None:
        """Log it, once for an outage."""
        self._outage.begin(f"changes are not heard, so more is compared: {reason(error)}", kind=_KIND)

    def _take(self, most: int, found: list[Change]) -> int:
        stream = self._stream
        assert stream is not None  # noqa: S101 - for mypy
        for count in range(most):
            event = stream.try_next()
            if event is None:
                if not stream.alive:
                    raise HistoryLostError("the database was dropped")
                return count
            if (change := self._change(event)) is not None:
                found.append(change)
        return most

    def _change(self, event: dict[str, Any]) -> Change | None:
        """The change that an event reports; `None` where it is of no document of ours.

        Raises:
            HistoryLostError: a collection is gone, or has another name, so what is known of documents is over.
        """
        kind, key = event["operationType"], event.get("documentKey")
        if key is None:
            raise HistoryLostError(f"a collection was changed as a whole: {kind}")
        collection = event["ns"]["coll"]
        if self._collections is not None and collection not in self._collections:
            return None
        one = DocumentId.stored(collection, key["_id"])
        if one is None:
            return None
        version = 0 if kind == "update" else version_of(event.get("fullDocument", {}).get(VERSION_FIELD))
        return Change(one, version, deleted=kind == "delete")

    def _open(self) -> bool:
        if time.monotonic() < self._try_at:
            return False
        pipeline: list[dict[str, Any]] = list(_PIPELINE)
        if self._collections is not None:
            ours = [{"ns.coll": {"$in": list(self._collections)}}, {"documentKey": {"$exists": False}}]
            pipeline.insert(0, {"$match": {"$or": ours}})
        try:
            with reading():
                self._stream = self._database.watch(pipeline, max_await_time_ms=AWAIT_MS, batch_size=BATCH)
        except NoStreamsError:
            self._try_at = time.monotonic() + WITHOUT_STREAMS_S
            return False
        except (HistoryLostError, MongoUnavailableError, TooLargeError, PyMongoError) as error:
            self._note(error)
            self._try_at = time.monotonic() + AFTER_FAILURE_S
            return False
        self.missed += 1
        self._outage.end("changes are heard again", kind=_KIND)
        return True
