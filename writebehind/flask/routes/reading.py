"""The routes that read single documents."""

from __future__ import annotations

from urllib.parse import quote

from flask import Response, request

from writebehind import Pipeline
from writebehind.errors import (
    DocumentNotFoundError,
    RequestError,
    UnreadableDocumentError,
)
from writebehind.flask.addresses import COLLECTION, DOCUMENT, path_to
from writebehind.flask.answers import answer, read_headers
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import Responses, content, operation
from writebehind.flask.description.schemas import reference
from writebehind.flask.parameters import fields, given
from writebehind.flask.plain import taken
from writebehind.flask.problems import respond
from writebehind.flask.representations import quoted, wanted_form
from writebehind.flask.routes.declared import FORMS, READ, READING
from writebehind.flask.routes.pages import page_of
from writebehind.mql.projections import compile_selection
from writebehind.reading.read import Read
from writebehind.settings.collection import OF_LISTS, CollectionSettings

_LISTED: Responses = {"200": content({"anyOf": [reference("Page"), reference("Document")]}, *FORMS), "304": None}
_GET = operation("get_document", "fields If-Match If-None-Match", READ, READING, head="head_document")
_LIST = operation(
    "list_documents",
    "limit after fields If-Match If-None-Match",
    _LISTED,
    READING,
    about="With no parameters but `limit`, `after` and `fields`: a page of the documents in the order of their "
    "ids. Else the query is one of the fields that the collection's settings list under `lookup`, and the answer "
    "is one document.",
)


def reading(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("reading", __name__)
    most_bytes = pipeline.settings.max_answer_bytes

    @routes.get(DOCUMENT, operation=_GET)
    def get(collection: str, id: str) -> Response:  # noqa: A002 - as the path says it
        """Read a document."""
        wanted = tuple(fields())
        found = taken(request.environ) or pipeline.collection(collection).read(id)
        if not found.entry.exists:
            error = DocumentNotFoundError(f"there is no document {id} in {collection}")
            return respond(error, read_headers(found))
        return _found(found, wanted)

    @routes.get(COLLECTION, operation=_LIST)
    def look_up(collection: str) -> Response:
        """List all documents, or read the one that has a value in a unique field."""
        target = pipeline.collection(collection)
        if given().keys() <= OF_LISTS:
            return page_of(target, most_bytes)
        asked = list(given().items(multi=True))
        if len(asked) != 1:
            raise RequestError(
                f"name one field and its value: {_offered(target.settings)}; or no field, for a list"
            )
        [(field, value)] = asked
        document_id, found = target.look_up(field, value)
        if document_id is None:
            error = DocumentNotFoundError(f"there is no document with this {field} in {collection}")
            return respond(error, read_headers(found))
        response = _found(found)
        if target.is_named_by_its_text(document_id) and (path := path_to(document_id.text)):
            response.headers["Content-Location"] = path
        return response

    return routes


def _found(found: Read, wanted: tuple[str, ...] = ()) -> Response:
    """The document, or what it has at the wanted paths. Its ETag is that of the whole: a write takes it."""
    form = wanted_form()
    headers = read_headers(found)
    select = compile_selection(wanted) if wanted else bytes
    try:
        return answer(lambda: form.text(select(found.entry.body)), form.tag(found.entry.etag), headers, form)
    except UnreadableDocumentError as error:
        return respond(found.entry.blamed(error), headers | {"ETag": quoted(found.entry.etag)})


def _offered(settings: CollectionSettings) -> str:
    if settings.lookup:
        return " or ".join(f"?{quote(field)}=…" for field in settings.lookup)
    return "the collection's settings list none under lookup"
