"""Query parameters: those that a route takes, each once and by one strict grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl

from flask import request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import BadRequest

from writebehind import Durability
from writebehind.documents import grammar
from writebehind.documents.nesting import MAX_DEPTH

#: RFC 3339.
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])",
    re.ASCII,
)
#: Paths in one `?fields=`.
MOST_FIELDS = 100
#: The greatest version: it has 16 digits.
MOST_VERSION = 10**16 - 1
_DURABILITIES = {level.value: level for level in Durability}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
#: Where the parameters of a request stand in its environment, once they are read.
_READ = "writebehind.parameters"


def given() -> ImmutableMultiDict[str, str]:
    """The query parameters. They have to be UTF-8: of others, two would be taken for one.

    Raises:
        BadRequest: they are not.
    """
    known: ImmutableMultiDict[str, str] | None = request.environ.get(_READ)
    if known is None:
        try:
            pairs = parse_qsl(request.query_string.decode(), keep_blank_values=True, errors="strict")
        except ValueError as error:
            raise BadRequest("the query string is not UTF-8, escaped or not") from error
        known = request.environ[_READ] = ImmutableMultiDict(pairs)
    return known


def only(*known: str) -> None:
    """See that there are no other parameters than these: a misspelt one must not silently mean less.

    Raises:
        BadRequest: there is one, or one of them is given twice.
    """
    if not request.query_string:
        return
    for name, values in given().lists():
        if name not in known:
            offered = f"this takes {', '.join(known)}" if known else "there is none here"
            raise BadRequest(f"unknown parameter {name[:40]!r}: {offered}")
        if len(values) > 1:
            raise BadRequest(f"{name} is given more than once")


def number(name: str, default: Any, least: int, most: int) -> Any:
    """A whole number from `least` to `most`; `default` where there is none.

    Raises:
        BadRequest: it is something else.
    """
    asked = given().get(name)
    if asked is None:
        return default
    try:
        return grammar.integer(asked, least, most)
    except ValueError as error:
        raise BadRequest(f"{name} must be from {least} to {most}") from error


def limit(default: int, most: int) -> int:
    """The limit that `?limit=` asks for, where no other parameter is allowed.

    Raises:
        BadRequest: it is no number from 1 to `most`, or there is another parameter.
    """
    only("limit")
    found: int = number("limit", default, 1, most)
    return found


def flag(name: str) -> bool:
    """Whether a parameter is `true`; without it, it is not.

    Raises:
        BadRequest: it is neither `true` nor `false`.
    """
    asked = given().get(name)
    if asked is None:
        return False
    if asked not in _FLAGS:
        raise BadRequest(f"{name} must be true or false")
    return _FLAGS[asked]


def time(name: str) -> float | None:
    """A time, in seconds since the epoch; `None` where there is none.

    Raises:
        BadRequest: it is no time with a zone, as RFC 3339 has them.
    """
    asked = given().get(name)
    if asked is None:
        return None
    try:
        return datetime.fromisoformat(asked).timestamp() if _TIME.fullmatch(asked) else _refuse_time(name)
    except (ValueError, OverflowError) as error:  # the 31st of February
        raise BadRequest(f"{name}: there is no such time") from error


def fields(*others: str) -> Sequence[str]:
    """The paths that `?fields=` asks for, between commas, where only `others` are allowed besides; none for all.

    Raises:
        BadRequest: one is no path, or is within another one, or there are too many; or there is another parameter.
    """
    if not request.query_string:
        return ()
    only("fields", *others)
    if "fields" not in given():
        return ()
    asked = given()["fields"].split(",", MOST_FIELDS)
    if len(asked) > MOST_FIELDS:
        raise BadRequest(f"fields: {MOST_FIELDS} paths at most")
    paths = sorted(one.split(".") for one in asked)
    for path in paths:
        if not all(path) or any(name[0] == "$" or "\0" in name for name in path) or len(path) > MAX_DEPTH:
            raise BadRequest(f"fields: {'.'.join(path)[:40]!r} is no path: give some such as name,address.city")
    for one, other in pairwise(paths):  # a path stands right before those that are within it
        if other[: len(one)] == one:
            raise BadRequest(f"fields: {'.'.join(other)[:40]!r} is within {'.'.join(one)[:40]!r}, or is it")
    return asked


def durability() -> Durability | None:
    """The durability that `?durability=` asks for, where no other parameter is allowed.

    Raises:
        BadRequest: it asks for an unknown level, or there is another parameter.
    """
    if not request.query_string:
        return None
    only("durability")
    asked = given()["durability"]
    if asked not in _DURABILITIES:
        raise BadRequest(f"durability {asked[:40]!r} is not offered: use {' or '.join(_DURABILITIES)}")
    return _DURABILITIES[asked]


def _refuse_time(name: str) -> float:
    raise BadRequest(f"{name} must be a time with its zone, such as 2026-01-31T12:00:00Z")
