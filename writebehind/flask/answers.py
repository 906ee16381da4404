"""Answers: to readers, under their conditions and with where they were read from; and plain JSON to others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from flask import Response

from writebehind.errors import PreconditionFailedError
from writebehind.flask.conditions import is_conditional, status_of
from writebehind.flask.problems import respond
from writebehind.flask.representations import JSON, Form, quoted
from writebehind.querying.answers import Answer
from writebehind.querying.pages import Page
from writebehind.reading.read import Read, Source

_NOT_MODIFIED, _CONDITION_FAILED = 304, 412


def as_json(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is an object, on a line."""
    text = orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)
    return Response(text, status, dict(headers or {}), content_type=JSON)


def answer(write: Callable[[], bytes], tag: str, headers: dict[str, str], form: Form) -> Response:
    """The answer to a reader whose conditions hold; else what is said instead.

    Args:
        write: makes the text; it is called only where it is sent.
        tag: the entity tag of the text.
        headers: of the answer.
        form: of the text.
    """
    status = status_of(tag) if is_conditional() else 200
    if status == _CONDITION_FAILED:
        return respond(PreconditionFailedError(), headers)
    headers["ETag"] = quoted(tag)
    if status == _NOT_MODIFIED:
        return Response(status=status, headers=headers)
    return Response(write(), 200, headers, content_type=form.content_type)


def read_headers(found: Read | Answer | Page) -> dict[str, str]:
    """The headers that say where an answer is from, and that it is to be asked for again."""
    # no-cache: a cache between here and the client must ask again, or it would hide writes.
    return {"Cache-Status": _cache_status(found), "Cache-Control": "no-cache", "Vary": "Accept"}


def _cache_status(found: Read | Answer | Page) -> str:
    """RFC 9211."""
    if isinstance(found, Answer) and found.partial:
        return f"writebehind; {_forwarded(found)}; detail=partial"
    return f"writebehind; {_forwarded(found)}"


def _forwarded(found: Read | Answer | Page) -> str:
    ttl = f"; ttl={found.ttl_ms // 1000}"
    hit = "hit" + (ttl if found.ttl_ms >= 0 else "")
    if found.source is Source.HIT:
        return hit
    stored = "; stored" if found.stored else ""
    return {
        Source.STALE: f"hit{ttl}; detail=stale",
        Source.REVALIDATED: f"fwd=stale{stored}",
        Source.MISS: f"fwd=miss{stored}",
        Source.COLLAPSED: "fwd=miss; collapsed",
        Source.BYPASS: "fwd=bypass",
    }[found.source]
