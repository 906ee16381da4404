"""A document as a person wants to see it who asks what became of a write: in Redis, in MongoDB, and between."""

from __future__ import annotations

from typing import Any

import orjson

from writebehind import times
from writebehind.documents import codec, large
from writebehind.documents.entry import BODY_AT, KIND_AT, VERSION_DIGITS, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, UnreadableDocumentError
from writebehind.pipeline import Pipeline
from writebehind.redis.inspection import Held, Inspected

#: A document of more bytes, as BSON, is not shown, but its size.
MOST_SHOWN_BYTES = 64 << 10
_STATES = {Kind.DOCUMENT: "document", Kind.DELETED: "deleted", Kind.ABSENT: "absent"}
#: What a token begins with that its holder has for a refresh.
_REFRESH = b"refresh:"
#: So much of a token tells it from others.
_TOLD_OF_TOKEN = 16


def explore(pipeline: Pipeline, collection: str, given: object) -> dict[str, Any]:
    """All that Redis and MongoDB have of one document, and how it stands with its way from one to the other.

    Redis is asked first. What reaches MongoDB in between is pending there, and in MongoDB already.

    Raises:
        InvalidIdError: it is no id of the collection.
        RedisUnavailableError: Redis does not answer. Where MongoDB does not, the answer says so.
        UnknownCollectionError: the collection is not configured.
    """
    document_id = pipeline.collection(collection).id(given)
    seen = pipeline.store.inspection.look(document_id.member, most_bytes=MOST_SHOWN_BYTES)
    letters = pipeline.dead_letters.of(document_id)
    return {
        "collection": document_id.collection,
        "id": document_id.text,
        "member": document_id.member,
        "partition": pipeline.store.partition_of(document_id.member),
        "partitions": pipeline.store.partitions,
        "seen_at": times.shown(seen.now_ms / 1000),
        "redis": _redis(seen),
        "mongodb": _mongodb(pipeline, document_id),
        "pending": _pending(pipeline, document_id, seen),
        "dead_letters": [one.letter.as_dict() | {"is_kept": one.is_kept} for one in letters],
        "takes_writes": not seen.crowded,
    }


def _redis(seen: Inspected) -> dict[str, Any]:
    return {
        "entry": _entry(seen),
        "claims": [_claim(name, version) for name, version in seen.claims],
        "deletion_to_audit": seen.deleted or None,
        "loading": _held(seen.loading),
    }


def _entry(seen: Inspected) -> dict[str, Any] | None:
    """The entry; one that other hands have made unreadable has the state `unreadable`."""
    if not seen.value:
        return None
    shared = {
        "bytes": seen.size,
        "ttl_seconds": seen.ttl_ms / 1000 if seen.ttl_ms >= 0 else None,
    }
    digits, kind = seen.value[:VERSION_DIGITS], seen.value[KIND_AT:BODY_AT][:1].decode(errors="replace")
    if not digits.isdigit() or kind not in set(Kind):
        return (
            {"state": "unreadable", "version": None, "acknowledged": None, "etag": None} | shared | _shown(b"", 0)
        )
    version, state = int(digits), Kind(kind)
    size = max(0, seen.size - BODY_AT) if state is Kind.DOCUMENT else 0
    etag = seen.value[KIND_AT + 1 : BODY_AT].decode(errors="replace") if state is Kind.DOCUMENT else None
    return (
        {
            "state": _STATES[state],
            "version": version,
            "acknowledged": times.shown(version / 1_000_000) if version else None,
            "etag": etag,
        }
        | shared
        | _shown(seen.value[BODY_AT:], size)
    )


def _shown(body: bytes, size: int) -> dict[str, Any]:
    """A document of so many bytes, in Extended JSON; `null` where it is too large for a page, or unreadable."""
    if not size or size > MOST_SHOWN_BYTES:
        return {"document": None, "document_bytes": size, "is_too_large": size > MOST_SHOWN_BYTES}
    try:
        document = orjson.Fragment(codec.to_json(body))
    except UnreadableDocumentError:
        document = None
    return {"document": document, "document_bytes": size, "is_too_large": False}


def _mongodb(pipeline: Pipeline, document_id: DocumentId) -> dict[str, Any]:
    """The state in MongoDB: `found`, `absent` or, as it does not answer, `unknown`."""
    try:
        try:
            with large.bounded(min(MOST_SHOWN_BYTES, large.most())):
                entry = pipeline.sink.find(document_id)
        except large.TakesMuchError:
            version = pipeline.sink.versions([document_id]).get(document_id.member)
            return _in_mongodb(version) | {"document": None, "document_bytes": None, "is_too_large": True}
    except MongoUnavailableError as error:
        return {"state": "unknown", "version": None, "error": str(error)} | _shown(b"", 0)
    return _in_mongodb(entry.version if entry.exists else None) | _body(entry)


def _in_mongodb(version: int | None) -> dict[str, Any]:
    """The version that it has there; 0 for a document that the pipeline has not written."""
    return {"state": "absent" if version is None else "found", "version": version, "error": None}


def _body(entry: Entry) -> dict[str, Any]:
    return _shown(entry.body, len(entry.body))


def _pending(pipeline: Pipeline, document_id: DocumentId, seen: Inspected) -> dict[str, Any] | None:
    """The wait for MongoDB; `None` where it does not wait."""
    if seen.due_ms is None or seen.place is None:
        return None
    header, *noted = seen.sent.split(b" ")
    sent_ms, _before, attempts, blamed = [*map(_number, noted), 0, 0, 0, 0][:4]
    delay_ms = pipeline.collection_settings(document_id.collection).flush_delay_ms
    since_ms = min(seen.due_ms - delay_ms, sent_ms or seen.now_ms)
    return {
        "since": times.shown(since_ms / 1000),
        "seconds": max(0.0, (seen.now_ms - since_ms) / 1000),
        "due_in_seconds": (seen.due_ms - seen.now_ms) / 1000,
        "place": seen.place + 1,
        "of": seen.pending,
        "sent": {
            "version": _number(header[:VERSION_DIGITS]),
            "seconds_ago": max(0.0, (seen.now_ms - sent_ms) / 1000),
        }
        if sent_ms
        else None,
        "attempts": attempts,
        "attempts_while_others_were_taken": blamed,
        "flusher": _held(seen.flushing),
        "flush_task": _held(seen.scheduled),
    }


def _held(held: Held) -> dict[str, Any] | None:
    """The holder of a right, by the beginning of the token, for how long, and whether it is one to refresh."""
    if not held.token:
        return None
    token = held.token.removeprefix(_REFRESH)[:_TOLD_OF_TOKEN].decode(errors="replace")
    return {
        "token": token,
        "seconds_left": held.left_ms / 1000 if held.left_ms >= 0 else None,
        "is_refresh": held.token.startswith(_REFRESH),
    }


def _claim(name: str, version: int) -> dict[str, Any]:
    """A unique value that it claims: names are `<collection>/<field>=<tagged value>`."""
    field, _, value = name.partition("/")[2].partition("=")
    return {"field": field, "value": value[2:], "version": version}


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0
