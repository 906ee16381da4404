"""The routes that write single documents as a whole."""

from __future__ import annotations

from flask import Response, request

from writebehind import Pipeline
from writebehind.errors import InvalidIdError
from writebehind.flask.addresses import COLLECTION, DOCUMENT, leads_to, path_to
from writebehind.flask.bodies import JSON_TYPES, document_text
from writebehind.flask.conditions import if_match, put_condition, refuse_conditions
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import operation
from writebehind.flask.idempotency import idempotency_key
from writebehind.flask.parameters import durability
from writebehind.flask.plain import taken
from writebehind.flask.problems import WriteResponse
from writebehind.flask.routes.declared import DOCUMENT_BODY, WRITING, WRITTEN
from writebehind.flask.routes.written import answer_of, document_of, headers_of, is_missed, written_answer

_PUT = operation(
    "put_document",
    "durability Idempotency-Key If-Match if-absent",
    {"200": WRITTEN, "201": WRITTEN, "202": WRITTEN},
    WRITING,
    body=DOCUMENT_BODY,
)
_POST = operation(
    "create_document",
    "durability Idempotency-Key",
    {"201": WRITTEN, "202": WRITTEN},
    WRITING,
    body=DOCUMENT_BODY,
)
_DELETE = operation(
    "delete_document",
    "durability Idempotency-Key If-Match",
    {"202": WRITTEN, "204": None},
    "404 409 412 422",
)


def documents(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("documents", __name__)
    most_bytes = pipeline.settings.max_document_bytes

    @routes.put(DOCUMENT, operation=_PUT)
    def put(collection: str, id: str) -> Response:  # noqa: A002
        """Create or replace a document."""
        target = pipeline.collection(collection)
        asked = durability()
        etags, if_absent = put_condition()
        written = taken(request.environ)
        if written is None:
            text = document_text(JSON_TYPES, most_bytes)
            key, document = idempotency_key(request.environ, text), document_of(text)
            written = target.put(id, document, if_match=etags, if_absent=if_absent, durability=asked, key=key)
        return written_answer(written, asked, target.settings)

    @routes.post(COLLECTION, operation=_POST)
    def post(collection: str) -> Response:
        """Create a document under a generated id."""
        target = pipeline.collection(collection)
        asked = durability()
        refuse_conditions()
        text = document_text(JSON_TYPES, most_bytes)
        key, document = idempotency_key(request.environ, text), document_of(text)
        if "_id" in document and not leads_to(target.id(document["_id"]).text):
            raise InvalidIdError("no path can lead to this _id, as it has a / or is . or ..")
        written = target.create(document, durability=asked, key=key)
        response = written_answer(written, asked, target.settings)
        response.headers["Location"] = path_to(written.id)
        return response

    @routes.delete(DOCUMENT, operation=_DELETE)
    def delete(collection: str, id: str) -> Response:  # noqa: A002
        """Delete a document."""
        target = pipeline.collection(collection)
        asked = durability()
        written = target.delete(
            id, if_match=if_match(), durability=asked, key=idempotency_key(request.environ, b"")
        )
        if is_missed(written, asked, target.settings):
            return written_answer(written, asked, target.settings)
        return answer_of(written, WriteResponse(status=204, headers=headers_of(written)))

    return routes
