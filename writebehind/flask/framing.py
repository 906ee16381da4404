"""Bodies as a whole: nothing is carried out of a request that breaks off.

`web.server` collects them before it takes a thread; where another server calls the application, it does so itself.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from werkzeug import exceptions
from werkzeug.exceptions import BadRequest, LengthRequired, RequestEntityTooLarge

#: Where a server says that it has read the body whole.
WHOLE = "writebehind.whole"
#: Where the server says that a request cannot be served, and why: an HTTPException in the environment.
REFUSAL = "writebehind.refusal"

#: More digits in a Content-Length are nothing that a body can have.
_MOST_DIGITS = 18
#: How much is read at a time, bytes.
_PIECE = 1 << 20
#: Where granian's own WSGI interface reads bodies: what breaks off looks complete there, unlike in `web.server`.
_HIDES_BREAKS = {"granian._granian"}


def collect(environ: dict[str, Any], most_bytes: int) -> None:
    """Read a body where the server has not yet, so that nothing is carried out of a request that breaks off.

    Raises:
        BadRequest: it does.
        HTTPException: it is too large, or comes in a way that does not tell whether it is complete.
    """
    length = environ.get("CONTENT_LENGTH", "")
    stream = environ["wsgi.input"]
    if length:
        if not (length.isascii() and length.isdecimal()):
            raise BadRequest("Content-Length: send the number of bytes")
        if len(length) > _MOST_DIGITS or int(length) > most_bytes:
            raise RequestEntityTooLarge(too_large(most_bytes))
        data = _read(stream, int(length))
        if len(data) < int(length):
            raise BadRequest("the body ended before its Content-Length")
    elif environ.get("wsgi.input_terminated"):
        coding = environ.pop("HTTP_TRANSFER_ENCODING", "")
        if coding.lower() not in {"", "chunked"}:
            raise exceptions.NotImplemented("the only Transfer-Encoding is chunked")
        if coding and type(stream).__module__ in _HIDES_BREAKS:
            raise LengthRequired("this server cannot tell whether chunks are complete: send a Content-Length")
        data = _read(stream, most_bytes + 1)
        if len(data) > most_bytes:
            raise RequestEntityTooLarge(too_large(most_bytes))
    else:
        data = b""
    environ["CONTENT_LENGTH"] = str(len(data))
    environ["wsgi.input"] = BytesIO(data)


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


def too_large(most_bytes: int) -> str:
    """What a client is told of it."""
    return f"the body is larger than the {most_bytes} bytes that are allowed"
