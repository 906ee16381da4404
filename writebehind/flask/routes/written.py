"""The answer to the write of a document."""

from __future__ import annotations

import orjson
from flask import Response

from writebehind import Durability, Written
from writebehind.flask.idempotency import tell_replayed
from writebehind.flask.problems import WriteResponse
from writebehind.flask.representations import JSON
from writebehind.settings.collection import CollectionSettings

_CREATED = 201
_OK = 200
_ACCEPTED = 202


def written_answer(
    written: Written, asked: Durability | None, settings: CollectionSettings, more: bytes = b""
) -> Response:
    """The answer to a write: what was reached, never what was asked for."""
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
    headers = {"ETag": f'"{written.etag}"'} if written.etag else {}
    return answer_of(written, WriteResponse(head[:-1] + more + b"}", status, headers, content_type=JSON))


def answer_of(written: Written, response: WriteResponse) -> Response:
    """The same answer, with what it says of the write beside its body."""
    response.version = written.version
    return tell_replayed(response, replayed=written.replayed)


def is_missed(written: Written, asked: Durability | None, settings: CollectionSettings) -> bool:
    """Whether a write has not reached what was asked for, or what the settings ask for."""
    return written.durability is not settings.wants(asked)
