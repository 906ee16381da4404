"""The route of queries that the settings name."""

from __future__ import annotations

from flask import Response

from writebehind import Pipeline, Settings
from writebehind.documents.raw_bson import etag
from writebehind.errors import RequestError, UnreadableDocumentError
from writebehind.flask.addresses import COLLECTION
from writebehind.flask.answers import answer, read_headers
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import Responses, content, operation
from writebehind.flask.description.schemas import ARGUMENTS, query
from writebehind.flask.parameters import given
from writebehind.flask.problems import item_problem
from writebehind.flask.representations import Form, unreadable_and_rest, wanted_form
from writebehind.flask.routes.declared import FORMS, READING
from writebehind.querying.answers import Answer

_ANSWERED: Responses = {"200": content("Answer", *FORMS), "304": None}
_QUERY = operation(
    "query_documents",
    "If-Match If-None-Match",
    _ANSWERED,
    READING,
    about="It takes the parameters that the collection's settings list for the query.",
)


def queries(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("queries", __name__)
    _declare_each(routes, pipeline.settings)

    @routes.get(f"{COLLECTION}/queries/<name>", operation=_QUERY)
    def ask(collection: str, name: str) -> Response:
        """Ask for the documents that a query of the settings finds."""
        asked = given()
        if repeated := [one for one, values in asked.lists() if len(values) > 1]:
            raise RequestError(f"{repeated[0][:40]!r} is given more than once")
        most = pipeline.settings.max_answer_bytes
        found = pipeline.collection(collection).read_query(name, asked, most_bytes=most)
        form = wanted_form()
        text = _documents(found, most, form)
        return answer(lambda: text, etag(text), read_headers(found), form)

    return routes


def _declare_each(routes: Routes, settings: Settings) -> None:
    """Declare each query of the settings with its parameters, which one route answers for all."""
    for collection, of in sorted(settings.collections.items()):
        for name, asked in of.queries.items():
            each = [query(one, ARGUMENTS[kind]) | {"required": True} for one, kind in asked.parameters.items()]
            declared = operation(f"query_{collection}_{name}", "If-Match If-None-Match", _ANSWERED, READING, *each)
            routes.declare(f"/v1/{collection}/queries/{name}", "get", f"Ask for {name} of {collection}", declared)


def _documents(found: Answer, most_bytes: int, form: Form) -> bytes:
    """The documents, until there are `most_bytes`, the ids of the rest, and problems in place of others."""
    shown: list[bytes] = []
    unreadable: dict[str, object] = {}
    size = done = 0
    for body in found.bodies:
        if size >= most_bytes:
            break
        try:
            shown.append(form.text(body))
            size += len(shown[-1])
        except UnreadableDocumentError as error:  # which is no reason not to answer the others
            unreadable[found.id(done)] = item_problem(error)
        done += 1
    more = unreadable_and_rest(unreadable, found.ids(done))
    return b"".join((b'{"documents":[', b",".join(shown), b"]", more, b"}"))
