"""The routes that read single documents."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from flask import Blueprint, Response, request

from writebehind import Pipeline
from writebehind.documents.raw_bson import etag
from writebehind.errors import (
    DocumentNotFoundError,
    PreconditionFailedError,
    RequestError,
    UnreadableDocumentError,
)
from writebehind.flask.addresses import path_to
from writebehind.flask.conditions import is_conditional, status_of
from writebehind.flask.parameters import only
from writebehind.flask.problems import item_problem, respond
from writebehind.flask.representations import Form, unreadable_and_rest, wanted_form
from writebehind.querying.answers import Answer
from writebehind.reading.reader import Read, Source
from writebehind.settings.installation import CollectionSettings

_NOT_MODIFIED, _CONDITION_FAILED = 304, 412


def reading(pipeline: Pipeline) -> Blueprint:
    """The routes, bound to a pipeline."""
    routes = Blueprint("reading", __name__)

    @routes.get("/v1/<collection:collection>/<id>")
    def get(collection: str, id: str) -> Response:  # noqa: A002 - as the path says it
        """Read a document."""
        only()
        found = pipeline.collection(collection).read(id, near=not is_conditional())
        if not found.entry.exists:
            error = DocumentNotFoundError(f"there is no document {id} in {collection}")
            return respond(error, _read_headers(found))
        return _found(found)

    @routes.get("/v1/<collection:collection>")
    def look_up(collection: str) -> Response:
        """Read the document that has a value in a unique field."""
        target = pipeline.collection(collection)
        asked = list(request.args.items(multi=True))
        if len(asked) != 1:
            raise RequestError(f"name one field and its value: {_offered(target.settings)}")
        [(field, value)] = asked
        document_id, found = target.look_up(field, value)
        if document_id is None:
            error = DocumentNotFoundError(f"there is no document with this {field} in {collection}")
            return respond(error, _read_headers(found))
        response = _found(found)
        if target.is_named_by_its_text(document_id) and (path := path_to(collection, document_id.text)):
            response.headers["Content-Location"] = path
        return response

    @routes.get("/v1/<collection:collection>/queries/<name>")
    def query(collection: str, name: str) -> Response:
        """Read the documents that satisfy a query of the collection's settings."""
        asked = request.args
        if repeated := [one for one, values in asked.lists() if len(values) > 1]:
            raise RequestError(f"{repeated[0][:40]!r} is given more than once")
        most = pipeline.settings.max_answer_bytes
        answer = pipeline.collection(collection).read_query(name, asked, most_bytes=most)
        form = wanted_form()
        text = _documents(answer, most, form)
        return _answer(lambda: text, etag(text), _read_headers(answer), form)

    return routes


def _documents(answer: Answer, most_bytes: int, form: Form) -> bytes:
    """The documents, until there are `most_bytes`, the ids of the rest, and problems in place of others."""
    shown: list[bytes] = []
    unreadable: dict[str, object] = {}
    size = done = 0
    for body in answer.bodies:
        if size >= most_bytes:
            break
        try:
            shown.append(form.text(body))
            size += len(shown[-1])
        except UnreadableDocumentError as error:  # which is no reason not to answer the others
            unreadable[answer.id(done)] = item_problem(error)
        done += 1
    more = unreadable_and_rest(unreadable, answer.ids(done))
    return b"".join((b'{"documents":[', b",".join(shown), b"]", more, b"}"))


def _found(found: Read) -> Response:
    form = wanted_form()
    headers = _read_headers(found)
    try:
        return _answer(lambda: form.text(found.entry.body), form.tag(found.entry.etag), headers, form)
    except UnreadableDocumentError as error:
        return respond(error, headers | {"ETag": f'"{found.entry.etag}"'})


def _answer(write: Callable[[], bytes], tag: str, headers: dict[str, str], form: Form) -> Response:
    status = status_of(tag) if is_conditional() else 200
    if status == _CONDITION_FAILED:
        return respond(PreconditionFailedError(), headers)
    headers["ETag"] = f'"{tag}"'
    if status == _NOT_MODIFIED:
        return Response(status=status, headers=headers)
    return Response(write(), 200, headers, content_type=form.content_type)


def _offered(settings: CollectionSettings) -> str:
    if settings.lookup:
        return " or ".join(f"?{quote(field)}=…" for field in settings.lookup)
    return "the collection's settings list none under lookup"


def _read_headers(found: Read | Answer) -> dict[str, str]:
    # no-cache: a cache between here and the client must ask again, or it would hide writes.
    return {"Cache-Status": _cache_status(found), "Cache-Control": "no-cache", "Vary": "Accept"}


def _cache_status(found: Read | Answer) -> str:
    """RFC 9211."""
    if isinstance(found, Answer) and found.partial:
        return f"writebehind; {_forwarded(found)}; detail=partial"
    return f"writebehind; {_forwarded(found)}"


def _forwarded(found: Read | Answer) -> str:
    ttl = f"; ttl={found.ttl_ms // 1000}"
    hit = "hit" + (ttl if found.ttl_ms >= 0 else "")
    if found.source is Source.HIT:
        return hit
    stored = "; stored" if found.stored else ""
    return {
        Source.NEAR: f"{hit}; detail=near",
        Source.STALE: f"hit{ttl}; detail=stale",
        Source.REVALIDATED: f"fwd=stale{stored}",
        Source.MISS: f"fwd=miss{stored}",
        Source.COLLAPSED: "fwd=miss; collapsed",
        Source.BYPASS: "fwd=bypass",
    }[found.source]
