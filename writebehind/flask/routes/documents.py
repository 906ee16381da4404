"""The routes that write single documents."""

from __future__ import annotations

import orjson
from flask import Response, request

from writebehind import Durability, Pipeline, Written
from writebehind.documents import codec, patches
from writebehind.errors import InvalidDocumentError, InvalidIdError
from writebehind.flask.addresses import COLLECTION, DOCUMENT, Routes, leads_to, path_to
from writebehind.flask.bodies import JSON_PATCH, JSON_TYPES, MERGE_PATCH, document_text
from writebehind.flask.conditions import if_match, put_condition, refuse_conditions
from writebehind.flask.idempotency import idempotency_key, tell_replayed
from writebehind.flask.parameters import durability
from writebehind.flask.problems import WriteResponse
from writebehind.flask.representations import JSON
from writebehind.settings.collection import CollectionSettings

_CREATED = 201
_OK = 200
_ACCEPTED = 202


def documents(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("documents", __name__)
    most_bytes = pipeline.settings.max_document_bytes

    @routes.put(DOCUMENT)
    def put(collection: str, id: str) -> Response:  # noqa: A002
        """Create or replace a document."""
        target = pipeline.collection(collection)
        asked = durability()
        etags, if_absent = put_condition()
        text = document_text(JSON_TYPES, most_bytes)
        key, document = idempotency_key(text), _document(text)
        written = target.put(id, document, if_match=etags, if_absent=if_absent, durability=asked, key=key)
        return _written(written, asked, target.settings)

    @routes.post(COLLECTION)
    def post(collection: str) -> Response:
        """Create a document under a generated id."""
        target = pipeline.collection(collection)
        asked = durability()
        refuse_conditions()
        text = document_text(JSON_TYPES, most_bytes)
        key, document = idempotency_key(text), _document(text)
        if "_id" in document and not leads_to(target.id(document["_id"]).text):
            raise InvalidIdError("no path can lead to this _id, as it has a / or is . or ..")
        written = target.create(document, durability=asked, key=key)
        response = _written(written, asked, target.settings)
        response.headers["Location"] = path_to(written.id)
        return response

    @routes.patch(DOCUMENT)
    def patch(collection: str, id: str) -> Response:  # noqa: A002
        """Change a document."""
        target = pipeline.collection(collection)
        asked = durability()
        etags = if_match()
        text = document_text((MERGE_PATCH, JSON_PATCH), most_bytes)
        key, patch = idempotency_key(text), codec.loads(text)
        if request.mimetype == MERGE_PATCH:
            change = patches.merge_patch(patch)
        else:
            change = patches.json_patch(patch, most_bytes=most_bytes)
        written = target.patch(id, change, if_match=etags, durability=asked, key=key)
        return _written(written, asked, target.settings)

    @routes.delete(DOCUMENT)
    def delete(collection: str, id: str) -> Response:  # noqa: A002
        """Delete a document."""
        target = pipeline.collection(collection)
        asked = durability()
        written = target.delete(id, if_match=if_match(), durability=asked, key=idempotency_key(b""))
        if _missed(written, asked, target.settings):
            return _written(written, asked, target.settings)
        return _of(written, WriteResponse(status=204))

    @routes.post(f"{DOCUMENT}:increment")
    def increment(collection: str, id: str) -> Response:  # noqa: A002
        """Add to numbers of a document."""
        target = pipeline.collection(collection)
        asked = durability()
        refuse_conditions()
        text = document_text(JSON_TYPES, most_bytes)
        key, deltas = idempotency_key(text), codec.loads(text)
        done = target.increment(id, deltas, durability=asked, key=key)
        return _written(done.written, asked, target.settings, b',"values":' + codec.dumps(done.values))

    return routes


def _document(data: bytes) -> patches.Document:
    document = codec.loads(data)
    if not isinstance(document, dict):
        raise InvalidDocumentError("a document must be a JSON object")
    return document


def _written(
    written: Written, asked: Durability | None, settings: CollectionSettings, more: bytes = b""
) -> Response:
    """The answer to a write: what was reached, never what was asked for."""
    status = _CREATED if written.created else _OK
    if _missed(written, asked, settings):
        status = _ACCEPTED
    said: dict[str, object] = {
        "id": written.id,
        "version": written.version,
        "durability": written.durability.value,
    }
    if written.shared:
        said["shared"] = dict(written.shared)
    if written.confirmed:
        said["confirmed"] = written.confirmed
    head = orjson.dumps(said)
    headers = {"ETag": f'"{written.etag}"'} if written.etag else {}
    return _of(written, WriteResponse(head[:-1] + more + b"}", status, headers, content_type=JSON))


def _of(written: Written, response: WriteResponse) -> Response:
    """The same answer, with what it says of the write beside its body."""
    response.version = written.version
    return tell_replayed(response, replayed=written.replayed)


def _missed(written: Written, asked: Durability | None, settings: CollectionSettings) -> bool:
    return written.durability is not settings.wants(asked)
