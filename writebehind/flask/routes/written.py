"""Writes of documents as they are sent, and as they are answered."""

from __future__ import annotations

import orjson
from flask import Response

from writebehind import Durability, Written
from writebehind.documents import codec
from writebehind.documents.patches import Document
from writebehind.errors import InvalidDocumentError
from writebehind.flask.problems import WriteResponse
from writebehind.flask.representations import JSON, quoted
from writebehind.settings.collection import CollectionSettings

_CREATED = 201
_OK = 200
_ACCEPTED = 202


def document_of(text: bytes) -> Document:
    """The document that a body is.

    Raises:
        InvalidDocumentError: it is no object, or none that can be stored.
        MalformedDocumentError: it is no Extended JSON.
    """
    document = codec.loads(text)
    if not isinstance(document, dict):
        raise InvalidDocumentError("a document must be a JSON object")
    return document


def written_answer(
    written: Written, asked: Durability | None, settings: CollectionSettings, more: bytes = b""
) -> Response:
    """The answer to a write, as `parts_of` has it."""
    status, headers, body = parts_of(written, asked, settings, more)
    return answer_of(written, WriteResponse(body, status, headers, content_type=JSON))


def parts_of(
    written: Written, asked: Durability | None, settings: CollectionSettings, more: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of the answer to a write: what was reached, never what was asked for.

    Args:
        written: the write.
        asked: the durability that the request asks for, if any.
        settings: of the collection.
        more: further members of the body, each after a comma.
    """
    status = _CREATED if written.created else _OK
    if is_missed(written, asked, settings):
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
    return status, headers_of(written), head[:-1] + more + b"}"


def headers_of(written: Written) -> dict[str, str]:
    """The headers that tell of a write: the ETag of what it made, and whether an earlier request has made it."""
    headers = {"ETag": quoted(written.etag)} if written.etag else {}
    if written.replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers


def answer_of(written: Written, response: WriteResponse) -> Response:
    """The same answer, which knows the version for the access log."""
    response.version = written.version
    return response


def is_missed(written: Written, asked: Durability | None, settings: CollectionSettings) -> bool:
    """Whether a write has not reached what was asked for, or what the settings ask for."""
    return written.durability is not settings.wants(asked)
