"""JSON Web Key Sets (RFC 7517), as an issuer publishes them: in a file, or under a URL."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from writebehind.access.hosts import is_loopback
from writebehind.errors import TokenKeysError
from writebehind.logs.quoting import quoted
from writebehind.regular_files import fault_of_file

#: A set is no larger, bytes; most are below 10 KiB.
MOST_BYTES: Final = 256 << 10
#: It comes within this time, seconds: from the connection to the last byte.
WITHIN_S: Final = 5.0
_SCHEMES: Final = {"https": 443, "http": 80}
_OK: Final = 200
#: So much is told of what is no answer of HTTP.
_MOST_SHOWN: Final = 200


def fault_of(source: str) -> str:
    """The reason for which this is no path or URL of a set; '' where it is one."""
    if "://" not in source:
        return "" if source.isprintable() else "is no path"
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in _SCHEMES or not host or port == 0:
        return "is no URL with https"
    if parts.scheme == "http" and not is_loopback(host):
        return "has to be https: whoever is on the way could change what it says"
    if parts.username is not None or parts.password is not None:
        return "may have no user and no password"
    return "" if source.isascii() and source.isprintable() and " " not in source else "is no URL"


def fault_of_url(source: str) -> str:
    """The reason for which this is no URL by https, or http on loopback; '' where it is one."""
    return fault_of(source) if "://" in source else "is no URL"


def read(source: str) -> bytes:
    """Read the set that a file or a URL has. No redirect is followed.

    Raises:
        TokenKeysError: there is none, or it is too large, or does not come in time.
    """
    ends = time.monotonic() + WITHIN_S
    is_late = f"{source} does not answer within {WITHIN_S:g} s"
    try:
        data = _asked(urlsplit(source), ends) if "://" in source else _of_file(source)
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, http.client.HTTPException):  # it repeats what has come, such as a status line
            said = f"no answer of HTTP: {quoted(said.strip()[:_MOST_SHOWN])}"
        raise TokenKeysError(is_late if time.monotonic() >= ends else f"{source}: {said}") from error
    except _UselessError as error:
        raise TokenKeysError(f"{source} {error}") from None
    if time.monotonic() >= ends:  # it may be a part
        raise TokenKeysError(is_late)
    if len(data) > MOST_BYTES:
        raise TokenKeysError(f"{source} has more than {MOST_BYTES >> 10} KiB")
    return data


class _UselessError(Exception):
    """An answer is no use."""


def _of_file(name: str) -> bytes:
    if fault := fault_of_file(name, MOST_BYTES):
        raise _UselessError(f"cannot be read: {fault}")
    with Path(name).open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _asked(url: SplitResult, ends: float) -> bytes:
    host, port = url.hostname or "", url.port or _SCHEMES[url.scheme]
    with socket.create_connection((host, port), WITHIN_S) as plain, _ending(plain, ends):
        if url.scheme == "https":
            context = ssl.create_default_context()
            with context.wrap_socket(plain, server_hostname=host) as secure:
                return _answer(http.client.HTTPSConnection(host, port, context=context), secure, url)
        return _answer(http.client.HTTPConnection(host, port), plain, url)


def _answer(connection: http.client.HTTPConnection, by: socket.socket, url: SplitResult) -> bytes:
    connection.sock = by
    with closing(connection):
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = {"Accept": "application/jwk-set+json, application/json", "User-Agent": "writebehind"}
        connection.request("GET", path, headers=headers)
        with closing(connection.getresponse()) as answer:
            if answer.status != _OK:
                raise _UselessError(f"answers {answer.status}")
            return answer.read(MOST_BYTES + 1)


@contextmanager
def _ending(connection: socket.socket, ends: float) -> Iterator[None]:
    """Within it a connection ends in time, also where its other side sends a byte now and then."""
    with connection.dup() as same:
        timer = threading.Timer(max(0.0, ends - time.monotonic()), _shut, (same,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)
