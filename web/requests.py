"""Bodies of requests, read once and checked. See also `web.conditions` and `web.parameters`."""

from __future__ import annotations

from collections.abc import Sequence

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

#: `curl -d` sends the second unless told otherwise, and many scripts send none.
JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "")
BULK_TYPES = (*JSON_TYPES, "application/x-ndjson", "application/ndjson", "application/jsonl")
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

#: More digits in a Content-Length are nothing that a body can have.
_MOST_DIGITS = 18


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
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not accepted: send it without Content-Encoding")
    length = environ.get("CONTENT_LENGTH", "")
    if not length.isdecimal() or len(length) > _MOST_DIGITS:
        return _streamed(most_bytes)
    if int(length) > most_bytes:
        raise RequestEntityTooLarge(_too_large(most_bytes))
    data: bytes = environ["wsgi.input"].read(int(length))
    if len(data) < int(length):
        raise BadRequest("the body ended before its Content-Length")
    return data


def _streamed(most_bytes: int) -> bytes:
    """A body that does not tell its length."""
    request.max_content_length = most_bytes + 1  # at which Werkzeug cuts it off without a word
    data = request.get_data(cache=False)
    if len(data) > most_bytes:
        raise RequestEntityTooLarge(_too_large(most_bytes))
    return data


def _too_large(most_bytes: int) -> str:
    return f"the body is larger than the {most_bytes} bytes that are allowed"
