"""The answer of a page of the documents of a collection."""

from __future__ import annotations

import orjson
from flask import Response

from writebehind.collection import Collection
from writebehind.documents.raw_bson import etag
from writebehind.errors import UnreadableDocumentError
from writebehind.flask.answers import answer, read_headers
from writebehind.flask.parameters import fields, given, number
from writebehind.flask.problems import item_problem
from writebehind.flask.rates import count_items
from writebehind.flask.representations import Form, unreadable_and_rest, wanted_form
from writebehind.mql.projections import compile_selection
from writebehind.querying.listing import DEFAULT_LIMIT, MOST
from writebehind.querying.pages import Page


def page_of(target: Collection, most_bytes: int) -> Response:
    """The page that the query string asks for: it ends with the document that brings it to `most_bytes`."""
    wanted = tuple(fields("limit", "after"))
    limit = number("limit", DEFAULT_LIMIT, 1, MOST)
    form = wanted_form()
    found = target.page(after=given().get("after"), limit=limit, most_bytes=most_bytes)
    count_items(len(found.ids))
    text = _documents(found, wanted, most_bytes, form)
    return answer(lambda: text, etag(text), read_headers(found), form)


def _documents(page: Page, wanted: tuple[str, ...], most_bytes: int, form: Form) -> bytes:
    """The documents until they take so many bytes, problems in place of others, and the cursor after these."""
    select = compile_selection(wanted) if wanted else bytes
    shown: list[bytes] = []
    unreadable: dict[str, object] = {}
    size = done = 0
    for one, body in zip(page.ids, page.bodies, strict=True):
        if size >= most_bytes:
            break
        try:
            shown.append(form.text(select(body)))
            size += len(shown[-1])
        except UnreadableDocumentError as error:  # which is no reason not to answer the others
            unreadable[one.text] = item_problem(error)
        done += 1
    after = b',"after":' + orjson.dumps(page.after_first(done))
    parts = (b'{"documents":[', b",".join(shown), b"]", after, unreadable_and_rest(unreadable, ()), b"}")
    return b"".join(parts)
