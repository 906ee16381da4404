"""Conditions of requests, as RFC 9110, section 13, has them: read by its grammar, and decided or refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from flask import request
from werkzeug.exceptions import BadRequest

from writebehind import ANY
from writebehind.flask.representations import state_of
from writebehind.strict import UNCONDITIONAL

#: One entity tag of a list, with what stands before it; then comes a comma, or the end.
_TAG = re.compile(r'[ \t,]*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?=,|\Z)')
_NO_MORE = re.compile(r"[ \t,]*")
#: An ETag that nothing has.
_NOTHING = ""


class Tags(NamedTuple):
    """Entity tags of a condition; `every` for `*`."""

    every: bool
    strong: Sequence[str]
    weak: Sequence[str]


def read_tags(header: str, name: str) -> Tags:
    """Read the value of `If-Match` or `If-None-Match`, which `name` is.

    Raises:
        BadRequest: it is neither `*` nor a list of entity tags.
    """
    if header.strip(" \t") == "*":
        return Tags(True, (), ())
    found: tuple[list[str], list[str]] = [], []
    at = 0
    while match := _TAG.match(header, at):
        found[bool(match[1])].append(match[2])
        at = match.end()
    if not _NO_MORE.fullmatch(header, at):
        raise BadRequest(f'{name}: give * or ETags such as "0a1b…", as answers to GET and PUT have them')
    return Tags(False, *found)


def if_match() -> Sequence[str]:
    """The ETags of `If-Match`; `(ANY,)` for `*`, `UNCONDITIONAL` without the header.

    Raises:
        BadRequest: the header holds no strong ETag, or there is another condition.
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
        return _if_match(), False
    if environ["HTTP_IF_NONE_MATCH"].strip(" \t") == "*" and "HTTP_IF_MATCH" not in environ:
        _refuse_dates()
        return UNCONDITIONAL, True
    return if_match(), False


def refuse_conditions() -> None:
    """See that there is no condition where it would not be looked at.

    Raises:
        BadRequest: there is one.
    """
    if "HTTP_IF_MATCH" in request.environ or "HTTP_IF_NONE_MATCH" in request.environ:
        raise BadRequest("this request takes neither If-Match nor If-None-Match")
    _refuse_dates()


def is_conditional() -> bool:
    """Whether a reading request has a condition: it is decided by what Redis has."""
    return "HTTP_IF_NONE_MATCH" in request.environ or "HTTP_IF_MATCH" in request.environ


def status_of(etag: str) -> int:
    """Status of the answer to a reading request for something with this ETag: 200, 304 or 412.

    Conditions on dates are passed over, as nothing here has a date of modification, and so are ranges.

    Raises:
        BadRequest: a condition cannot be read.
    """
    environ = request.environ
    if "HTTP_IF_MATCH" in environ:
        tags = read_tags(environ["HTTP_IF_MATCH"], "If-Match")
        if not tags.every and state_of(etag) not in map(state_of, tags.strong):
            return 412
    if "HTTP_IF_NONE_MATCH" in environ:
        tags = read_tags(environ["HTTP_IF_NONE_MATCH"], "If-None-Match")
        if tags.every or etag in tags.strong or etag in tags.weak:
            return 304
    return 200


def _if_match() -> Sequence[str]:
    _refuse_dates()
    if "HTTP_IF_MATCH" not in request.environ:
        return UNCONDITIONAL
    tags = read_tags(request.environ["HTTP_IF_MATCH"], "If-Match")
    if tags.every:
        return (ANY,)
    if not tags.strong:
        raise BadRequest("If-Match: give strong ETags: one that begins with W/ matches nothing")
    # `"*"`, with quotes, is an ETag like others, and no document has it.
    return tuple(state_of(one) if one != ANY else _NOTHING for one in tags.strong)


def _refuse_dates() -> None:
    if "HTTP_IF_UNMODIFIED_SINCE" in request.environ:
        raise BadRequest("If-Unmodified-Since: documents have no date of modification; use If-Match")
