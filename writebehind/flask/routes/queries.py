"""The route of queries that the settings name."""

from __future__ import annotations

from flask import Response

from writebehind import Pipeline
from writebehind.documents.raw_bson import etag
from writebehind.errors import RequestError, UnreadableDocumentError
from writebehind.flask.addresses import COLLECTION, Routes
from writebehind.flask.answers import answer, read_headers
from writebehind.flask.parameters import given
from writebehind.flask.problems import item_problem
from writebehind.flask.representations import Form, unreadable_and_rest, wanted_form
from writebehind.querying.answers import Answer


def queries(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("queries", __name__)

    @routes.get(f"{COLLECTION}/queries/<name>")
    def query(collection: str, name: str) -> Response:
        """Read the documents that satisfy a query of the collection's settings."""
        asked = given()
        if repeated := [one for one, values in asked.lists() if len(values) > 1]:
            raise RequestError(f"{repeated[0][:40]!r} is given more than once")
        most = pipeline.settings.max_answer_bytes
        found = pipeline.collection(collection).read_query(name, asked, most_bytes=most)
        form = wanted_form()
        text = _documents(found, most, form)
        return answer(lambda: text, etag(text), read_headers(found), form)

    return routes


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
