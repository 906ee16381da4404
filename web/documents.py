"""The routes of single documents."""

from __future__ import annotations

from urllib.parse import quote

import orjson
from flask import Blueprint, Response, request

from web.problems import respond
from web.requests import (
    JSON_PATCH,
    JSON_TYPES,
    MERGE_PATCH,
    body,
    durability,
    if_match,
    put_condition,
    refuse_conditions,
)
from writebehind import Durability, Pipeline, Written, changes, codec
from writebehind.errors import DocumentNotFoundError, InvalidDocumentError
from writebehind.reader import Read, Source
from writebehind.settings import CollectionSettings

JSON = "application/json"
_CREATED = 201
_OK = 200
_ACCEPTED = 202


def documents(pipeline: Pipeline) -> Blueprint:
    """The routes, bound to a pipeline."""
    routes = Blueprint("documents", __name__)
    most_bytes = pipeline.settings.max_document_bytes

    @routes.get("/v1/<collection:collection>/<id>")
    def get(collection: str, id: str) -> Response:  # noqa: A002 - as the path says it
        """Read a document."""
        found = pipeline.collection(collection).read(id)
        if not found.entry.exists:
            error = DocumentNotFoundError(f"there is no document {id} in {collection}")
            return respond(error, _read_headers(found))
        return _found(found)

    @routes.put("/v1/<collection:collection>/<id>")
    def put(collection: str, id: str) -> Response:  # noqa: A002
        """Create or replace a document."""
        target = pipeline.collection(collection)
        asked = durability()
        etags, if_absent = put_condition()
        document = _document(body(JSON_TYPES, most_bytes))
        written = target.put(id, document, if_match=etags, if_absent=if_absent, durability=asked)
        return _written(written, asked, target.settings)

    @routes.post("/v1/<collection:collection>")
    def post(collection: str) -> Response:
        """Create a document under a generated id."""
        target = pipeline.collection(collection)
        asked = durability()
        refuse_conditions()
        written = target.create(_document(body(JSON_TYPES, most_bytes)), durability=asked)
        response = _written(written, asked, target.settings)
        response.headers["Location"] = f"/v1/{collection}/{quote(written.id)}"
        return response

    @routes.patch("/v1/<collection:collection>/<id>")
    def patch(collection: str, id: str) -> Response:  # noqa: A002
        """Change a document."""
        target = pipeline.collection(collection)
        asked = durability()
        etags = if_match()
        patch = codec.loads(body((MERGE_PATCH, JSON_PATCH), most_bytes))
        if request.mimetype == MERGE_PATCH:
            change = changes.merge_patch(patch)
        else:
            change = changes.json_patch(patch, most_bytes=most_bytes)
        return _written(target.patch(id, change, if_match=etags, durability=asked), asked, target.settings)

    @routes.delete("/v1/<collection:collection>/<id>")
    def delete(collection: str, id: str) -> Response:  # noqa: A002
        """Delete a document."""
        target = pipeline.collection(collection)
        asked = durability()
        written = target.delete(id, if_match=if_match(), durability=asked)
        if _missed(written, asked, target.settings):
            return _written(written, asked, target.settings)
        return Response(status=204)

    @routes.post("/v1/<collection:collection>/<id>:increment")
    def increment(collection: str, id: str) -> Response:  # noqa: A002
        """Add to numbers of a document."""
        target = pipeline.collection(collection)
        asked = durability()
        refuse_conditions()
        deltas = codec.loads(body(JSON_TYPES, most_bytes))
        done = target.increment(id, deltas, durability=asked)
        return _written(done.written, asked, target.settings, b',"values":' + codec.dumps(done.values))

    return routes


def _found(found: Read) -> Response:
    etag = found.entry.etag
    headers = _read_headers(found) | {"ETag": f'"{etag}"'}
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(etag):
        return Response(status=304, headers=headers)
    return Response(codec.to_json(found.entry.body), _OK, headers, content_type=JSON)


def _read_headers(found: Read) -> dict[str, str]:
    # no-cache: a cache between here and the client must ask again, or it would hide writes.
    return {"Cache-Status": _cache_status(found), "Cache-Control": "no-cache"}


def _document(data: bytes) -> changes.Document:
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
    head = orjson.dumps({"id": written.id, "version": written.version, "durability": written.durability.value})
    headers = {"ETag": f'"{written.etag}"'} if written.etag else {}
    return Response(head[:-1] + more + b"}", status, headers, content_type=JSON)


def _missed(written: Written, asked: Durability | None, settings: CollectionSettings) -> bool:
    return written.durability is not settings.wants(asked)


def _cache_status(found: Read) -> str:
    """RFC 9211."""
    if found.source is Source.HIT:
        return f"writebehind; hit; ttl={found.ttl_ms // 1000}" if found.ttl_ms >= 0 else "writebehind; hit"
    if found.source is Source.STALE:
        return f"writebehind; hit; ttl={found.ttl_ms // 1000}; detail=stale"
    if found.source is Source.REVALIDATED:
        return "writebehind; fwd=stale; stored"
    if found.source is Source.BYPASS:
        return "writebehind; fwd=bypass"
    if found.source is Source.COLLAPSED:
        return "writebehind; fwd=miss; collapsed"
    return "writebehind; fwd=miss; stored"
