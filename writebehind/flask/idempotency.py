"""The header `Idempotency-Key`: a string in quotes, as the draft of the IETF has it, or bare, as many send it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest

from writebehind.documents.idempotency import LONGEST_KEY, IdempotencyKey
from writebehind.errors import InvalidArgumentError, RequestError
from writebehind.flask.access import owner_of

#: A string of RFC 9651, section 3.3.3, and the parameters after it, which mean nothing here.
_QUOTED = re.compile(r'[ ]*"((?:[ !#-\[\]-~]++|\\["\\])*+)"(?:[ ]*;[ -~]*)?[ ]*')
#: Two headers become one with a comma, so that no bare key has one.
_BARE = re.compile(r"[ ]*([!#-+\--:<-~]+)[ ]*")
_ESCAPED = re.compile(r"\\(.)")
#: Characters for a colon and the place of an item.
_PLACE = 11
#: Characters of the key of a request for many writes, at most: it leaves room for their places.
LONGEST_OF_BULK = LONGEST_KEY - _PLACE
#: What tells one request from another, beside its body.
_TOLD_APART_BY = ("REQUEST_METHOD", "PATH_INFO", "CONTENT_TYPE", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")


def idempotency_key(environ: Mapping[str, Any], data: bytes) -> IdempotencyKey | None:
    """The key of the request that has this environment, and the body `data`; `None` where it has none.

    Raises:
        BadRequest: the header is no key.
    """
    header: str | None = environ.get("HTTP_IDEMPOTENCY_KEY")
    return None if header is None else _key(read_key(header), environ, data)


def item_keys() -> Callable[[int, bytes, object], IdempotencyKey | None]:
    """A function that makes the key of an item of this request: by its place, its text and its own key, if any.

    An item without a key of its own has that of the request, with a colon and its place, from 0 on.

    Raises:
        BadRequest: the header is no key.
    """
    header: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    whole = None if header is None else _check_whole(read_key(header))
    path, owner = request.path.encode(errors="surrogatepass"), owner_of(request.environ)

    def key_of(at: int, item: bytes, own: object) -> IdempotencyKey | None:
        if own is not None and not isinstance(own, str):
            raise RequestError("key must be a string")
        if own is None and whole is None:
            return None
        return IdempotencyKey.of(f"{whole}:{at}" if own is None else own, (path, item), owner)

    return key_of


def request_key(data: bytes) -> IdempotencyKey | None:
    """The key of this request for many writes, whose body is `data`; `None` where it has none.

    Raises:
        BadRequest: the header is no key.
    """
    header: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    return None if header is None else _key(_check_whole(read_key(header)), request.environ, data)


def _check_whole(text: str) -> str:
    """The key of a request for many writes.

    Raises:
        BadRequest: it is too long.
    """
    if not 0 < len(text) <= LONGEST_OF_BULK:
        raise BadRequest(f"Idempotency-Key: that of a bulk has 1 to {LONGEST_OF_BULK} characters")
    return text


def read_key(header: str) -> str:
    """The key that the header has.

    Raises:
        BadRequest: it has none.
    """
    if quoted := _QUOTED.fullmatch(header):
        text = quoted[1]
        return _ESCAPED.sub(r"\1", text) if "\\" in text else text
    if bare := _BARE.fullmatch(header):
        return bare[1]
    raise BadRequest(f'Idempotency-Key: give one key of up to {LONGEST_KEY} characters, such as "8e03978e-40d5-…"')


def _key(text: str, environ: Mapping[str, Any], data: bytes) -> IdempotencyKey:
    try:
        told = [environ.get(name, "").encode(errors="surrogatepass") for name in _TOLD_APART_BY]
        return IdempotencyKey.of(text, [*told, data], owner_of(environ))
    except InvalidArgumentError as error:
        raise BadRequest(f"Idempotency-Key: {error}") from error
