"""Bodies of requests, read once and checked. See also `conditions` and `parameters`."""

from __future__ import annotations

from collections.abc import Sequence

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from writebehind.documents.nesting import holds_more
from writebehind.errors import DocumentTooLargeError
from writebehind.flask.framing import too_large
from writebehind.flask.pages import is_of_a_page
from writebehind.flask.representations import JSON, NDJSON

#: The types that `curl -d` and many scripts send unless told otherwise. Browsers let any page send them here.
UNASKED = ("application/x-www-form-urlencoded", "")
JSON_TYPES = (JSON, *UNASKED)
BULK_TYPES = (*JSON_TYPES, NDJSON, "application/ndjson", "application/jsonl")
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

#: An object or an array takes so many bytes of BSON at least: its type, its name in an array, and itself.
LEAST_HOLDER_BYTES = 8


def body(types: Sequence[str], most_bytes: int) -> bytes:
    """The body of the request.

    Args:
        types: media types that are accepted; '' for none.
        most_bytes: limit of its length.

    Raises:
        UnsupportedMediaType: it is of another type, or compressed.
        RequestEntityTooLarge: it is longer.
    """
    environ = request.environ
    # Werkzeug's own parsing costs more than the common case needs.
    if environ.get("CONTENT_TYPE", "") not in types and request.mimetype not in types:
        accepted = ", ".join(one for one in types if one)
        raise UnsupportedMediaType(f"{request.mimetype or 'no Content-Type'!r}: send {accepted}")
    if environ.get("CONTENT_TYPE") != JSON and request.mimetype in UNASKED and is_of_a_page(environ):
        raise UnsupportedMediaType(f"a page has to say that it sends {JSON}")
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not accepted: send it without Content-Encoding")
    length = int(environ["CONTENT_LENGTH"])  # as it was found to be: see `framing`
    if length > most_bytes:
        raise RequestEntityTooLarge(too_large(most_bytes))
    data: bytes = environ["wsgi.input"].read(length)
    return data


def document_text(types: Sequence[str], most_bytes: int) -> bytes:
    """The body of a request about one document, as `body`, before it becomes values.

    Raises:
        DocumentTooLargeError: it has more objects and arrays than a document of `most_bytes` can have.
    """
    data = body(types, most_bytes)
    check_holders(data, most_bytes)
    return data


def check_holders(data: bytes, most_bytes: int) -> None:
    """See that text has no more objects and arrays than a document of `most_bytes` can have.

    Each of them takes 20 times the bytes of its text and more, so they are counted before they become values.

    Raises:
        DocumentTooLargeError: it has more.
    """
    most = most_bytes // LEAST_HOLDER_BYTES
    if holds_more(data, most):
        raise DocumentTooLargeError(f"it has more than {most} objects and arrays: such a document is too large")
