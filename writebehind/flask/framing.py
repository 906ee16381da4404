"""Bodies as a whole: nothing is carried out of a request that breaks off.

The service's own server collects them before it takes a thread; under another one the routes do so themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from flask import Request
from werkzeug import exceptions
from werkzeug.exceptions import BadRequest, LengthRequired, NotFound, RequestEntityTooLarge

#: Where a server says that it has read the body whole.
WHOLE = "writebehind.whole"
#: More digits in a Content-Length are nothing that a body can have.
_MOST_DIGITS = 18
#: How much is read at a time, bytes.
_PIECE = 1 << 20
#: Where granian's own WSGI interface reads bodies: what breaks off looks complete there.
_HIDES_BREAKS = {"granian._granian"}


def collect(request: Request, most_bytes: int) -> None:
    """Have the whole body in the environment, where the server has not put it there already.

    Args:
        request: of an application, whose own limit counts where it is lower.
        most_bytes: limit of its length.

    Raises:
        BadRequest: it breaks off.
        HTTPException: it is too large, or comes in a way that does not tell whether it is complete.
        RuntimeError: the application has read it before, and does not have it any longer.
    """
    environ = request.environ
    if WHOLE in environ:
        return
    limit = request.max_content_length
    most_bytes = most_bytes if limit is None else min(limit, most_bytes)
    was_read = "stream" in vars(request)
    data = _read_before(request, most_bytes) if was_read else _read_now(environ, most_bytes)
    environ["CONTENT_LENGTH"] = str(len(data))
    environ["wsgi.input"] = BytesIO(data)


def _read_before(request: Request, most_bytes: int) -> bytes:
    data = request.get_data()
    if request.content_length not in {None, len(data)}:
        raise RuntimeError("a function of the application has read the body: have it call request.get_data()")
    if len(data) > most_bytes:
        raise RequestEntityTooLarge(too_large(most_bytes))
    return data


def _read_now(environ: dict[str, Any], most_bytes: int) -> bytes:
    length = environ.get("CONTENT_LENGTH", "")
    stream = environ["wsgi.input"]
    coding = environ.pop("HTTP_TRANSFER_ENCODING", "")
    if coding:
        check_coding(coding)
    if length and coding:  # RFC 9112, section 6.3: somebody may take it for two requests
        raise BadRequest("send a Content-Length or a Transfer-Encoding, not both")
    if length:
        if not (length.isascii() and length.isdecimal()):
            raise BadRequest("Content-Length: send the number of bytes")
        if len(length) > _MOST_DIGITS or int(length) > most_bytes:
            raise RequestEntityTooLarge(too_large(most_bytes))
        data = _read(stream, int(length))
        if len(data) < int(length):
            raise BadRequest("the body ended before its Content-Length")
    elif environ.get("wsgi.input_terminated"):
        if coding and type(stream).__module__ in _HIDES_BREAKS:
            raise LengthRequired("this server cannot tell whether chunks are complete: send a Content-Length")
        data = _read(stream, most_bytes + 1)
        if len(data) > most_bytes:
            raise RequestEntityTooLarge(too_large(most_bytes))
    else:
        data = b""
    return data


def _read(stream: Any, most_bytes: int) -> bytes:
    """Up to so many bytes.

    Raises:
        BadRequest: the server says that more should have come.
    """
    data = bytearray()
    try:
        while len(data) < most_bytes and (piece := stream.read(min(most_bytes - len(data), _PIECE))):
            data += piece
    except Exception as error:  # servers have errors of their own for it
        raise BadRequest("the body ended before its last chunk") from error
    return bytes(data)


def check_method(environ: Mapping[str, Any]) -> None:
    """See that a method is in capitals: Werkzeug takes another one for it, RFC 9110 does not.

    Raises:
        HTTPException: it is not.
    """
    method: str = environ["REQUEST_METHOD"]
    if method != method.upper():
        raise exceptions.NotImplemented(f"there is no method {method[:40]!r}: methods are written in capitals")


def check_path(given: Request) -> None:
    """See that a path begins with one slash: Werkzeug strips others, and a rule of a proxy for `/admin` does not.

    Raises:
        NotFound: it does not, and so the request is for no route.
    """
    if given.environ["PATH_INFO"].startswith("//"):
        given.url_rule = None
        raise NotFound


def check_coding(coding: str) -> None:
    """See that a body comes in chunks, and in nothing else: the value of all its Transfer-Encoding headers.

    Raises:
        BadRequest: it is in chunks more than once, as no client may send it (RFC 9112, section 6.1).
        HTTPException: it comes in a coding that nobody decodes here.
    """
    codings = [one.strip().lower() for one in coding.split(",")]
    if codings.count("chunked") > 1:
        raise BadRequest("Transfer-Encoding: send chunked once")
    if codings != ["chunked"]:
        raise exceptions.NotImplemented("the only Transfer-Encoding is chunked")


def too_large(most_bytes: int) -> str:
    """Detail of the problem of a body that is too large."""
    return f"the body is larger than the {most_bytes} bytes that are allowed"
