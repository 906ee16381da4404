"""The header `Idempotency-Key`: a string in quotes, as the draft of the IETF has it, or bare, as many send it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flask import Response, request
from werkzeug.exceptions import BadRequest

from writebehind.documents.idempotency import LONGEST_KEY, IdempotencyKey
from writebehind.errors import InvalidArgumentError

#: A string of RFC 9651, section 3.3.3, and the parameters after it, which mean nothing here.
_QUOTED = re.compile(r'[ ]*"((?:[ !#-\[\]-~]|\\["\\])*)"(?:[ ]*;[ -~]*)?[ ]*')
#: Two headers become one with a comma, so that no bare key has one.
_BARE = re.compile(r"[ ]*([!#-+\--:<-~]+)[ ]*")
_ESCAPED = re.compile(r"\\(.)")
#: What tells one request from another, beside its path and its body.
_CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")


def idempotency_key(data: bytes) -> IdempotencyKey | None:
    """The key of this request, whose body is `data`; `None` where it has none.

    Raises:
        BadRequest: the header is no key.
    """
    header: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    return None if header is None else _key(read_key(header), data)


def read_key(header: str) -> str:
    """The key that the header has.

    Raises:
        BadRequest: it has none.
    """
    if quoted := _QUOTED.fullmatch(header):
        return _ESCAPED.sub(r"\1", quoted[1])
    if bare := _BARE.fullmatch(header):
        return bare[1]
    raise BadRequest(f'Idempotency-Key: give one key of up to {LONGEST_KEY} characters, such as "8e03978e-40d5-…"')


def tell_replayed(response: Response, *, replayed: bool) -> Response:
    """Say in an answer that it is the one of an earlier request."""
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _key(text: str, data: bytes) -> IdempotencyKey:
    try:
        return IdempotencyKey.of(text, (*_told_apart_by(), data))
    except InvalidArgumentError as error:
        raise BadRequest(f"Idempotency-Key: {error}") from error


def _told_apart_by() -> Iterator[bytes]:
    yield request.method.encode()
    yield request.path.encode(errors="surrogatepass")
    yield request.mimetype.encode()
    for name in _CONDITIONS:
        yield request.environ.get(name, "").encode(errors="surrogatepass")
