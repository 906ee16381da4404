"""Answers of two installations to the same requests: what is left of them that has to be equal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

#: What differs between two runs: versions, times, and names and cursors that nobody has given.
_VARYING = re.compile(
    rb'(?<="version":)\d+|(?<="after":")[^"]+|(?<=ttl=)\d+|(?<=;t=)\d+|\b[0-9a-f]{32}\b|(?<=come again in )\d+'
)


def steady(answer: bytes) -> bytes:
    """A body without what varies."""
    return _VARYING.sub(b"_", answer)


def steady_headers(headers: Iterable[tuple[str, str]], status: int, answer: bytes) -> list[tuple[str, str]]:
    """Headers without what varies. The ETag does not, but of a list, which has a cursor."""
    kept = set() if answer.startswith(b'{"documents":[') else {"etag"}
    late = {"retry-after"} if status == HTTPStatus.TOO_MANY_REQUESTS else set()
    return [
        (name, value if name in kept else "_" * len(value) if name in late else steady(value.encode()).decode())
        for name, value in headers
    ]
