"""What a request says, read once and checked: body, durability, conditions."""

from __future__ import annotations

from collections.abc import Sequence

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from writebehind import ANY, Durability

#: `curl -d` sends the second unless told otherwise, and many scripts send none.
JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "")
BULK_TYPES = (*JSON_TYPES, "application/x-ndjson", "application/ndjson", "application/jsonl")
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

#: More digits in a Content-Length are nothing that a body can have.
_MOST_DIGITS = 18
_DURABILITIES = {level.value: level for level in Durability}


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


def limit(default: int, most: int) -> int:
    """What `?limit=` asks for, where nothing else may be asked.

    Raises:
        BadRequest: it is no number from 1 to `most`, or there is another parameter.
    """
    if unknown := request.args.keys() - {"limit"}:
        raise BadRequest(f"unknown parameter {min(unknown)[:40]!r}: this takes limit")
    given = request.args.get("limit", str(default))
    if not given.isdecimal() or not 1 <= int(given[:_MOST_DIGITS]) <= most:
        raise BadRequest(f"limit must be from 1 to {most}")
    return int(given)


def durability() -> Durability | None:
    """What `?durability=` asks for.

    Raises:
        BadRequest: it asks for an unknown level, or there is another parameter: a misspelt one must not
            silently mean less.
    """
    if not request.query_string:
        return None
    for name in request.args:
        if name != "durability":
            raise BadRequest(f"unknown parameter {name[:40]!r}: writes take durability")
    asked = request.args["durability"]
    if asked not in _DURABILITIES:
        raise BadRequest(f"durability {asked[:40]!r} is not offered: use {' or '.join(_DURABILITIES)}")
    return _DURABILITIES[asked]


def if_match() -> Sequence[str]:
    """The ETags of `If-Match`; `(ANY,)` for `*`, empty without the header.

    Raises:
        BadRequest: the header holds no strong ETag, or it stands beside `If-None-Match`.
    """
    if "HTTP_IF_NONE_MATCH" in request.environ:
        raise BadRequest("If-None-Match: only PUT takes it, as `*` and without If-Match")
    return _if_match()


def put_condition() -> tuple[Sequence[str], bool]:
    """The ETags of `If-Match`, and whether `If-None-Match: *` asks that the document does not exist.

    Raises:
        BadRequest: as `if_match`.
    """
    environ = request.environ
    if "HTTP_IF_NONE_MATCH" not in environ:
        return (_if_match(), False) if "HTTP_IF_MATCH" in environ else ((), False)
    if environ["HTTP_IF_NONE_MATCH"].strip() == "*" and "HTTP_IF_MATCH" not in environ:
        return (), True
    return if_match(), False


def refuse_conditions() -> None:
    """See that there is no condition where it would not be looked at.

    Raises:
        BadRequest: there is one.
    """
    if "HTTP_IF_MATCH" in request.environ or "HTTP_IF_NONE_MATCH" in request.environ:
        raise BadRequest("this request takes neither If-Match nor If-None-Match")


def _if_match() -> Sequence[str]:
    if "HTTP_IF_MATCH" not in request.environ:
        return ()
    given = request.if_match
    if given.star_tag:
        return (ANY,)
    etags = sorted(given.as_set())
    if not etags:
        raise BadRequest('If-Match: give strong ETags such as "0a1b…", as answers to GET and PUT have them')
    return etags


def _streamed(most_bytes: int) -> bytes:
    """A body that does not tell its length."""
    request.max_content_length = most_bytes + 1  # at which Werkzeug cuts it off without a word
    data = request.get_data(cache=False)
    if len(data) > most_bytes:
        raise RequestEntityTooLarge(_too_large(most_bytes))
    return data


def _too_large(most_bytes: int) -> str:
    return f"the body is larger than the {most_bytes} bytes that are allowed"
