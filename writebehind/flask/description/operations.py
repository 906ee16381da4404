"""Descriptions of operations: parameters, answers, and problems."""

from __future__ import annotations

from typing import Any

from writebehind.flask.description.schemas import reference
from writebehind.flask.problems import CONTENT_TYPE, PROBLEMS
from writebehind.flask.representations import JSON

Described = dict[str, Any]
Responses = dict[str, Described | None]

_STATUS = {
    "200": "Done",
    "201": "Created",
    "202": "Acknowledged, but less durable than wanted: the write stands and will follow",
    "204": "Deleted",
    "207": "One result per item, in order",
    "303": "To the page for people",
    "304": "Not changed",
    "503": "Not ready",
}
#: Names of problems that routes have in common.
_OTHERS = {406: "not-acceptable", 415: "unsupported-media-type"}


def content(schema: Described | str, *types: str) -> Described:
    """A body of this schema, or of the one that has this name; JSON unless other types are given."""
    shown = reference(schema) if isinstance(schema, str) else schema
    return {"content": {one: {"schema": shown} for one in types or (JSON,)}}


def operation(
    name: str,
    summary: str,
    named: str,
    responses: Responses,
    problems: str,
    *,
    body: Described | None = None,
    tag: str = "documents",
) -> Described:
    """An operation: its name for clients, its parameters, its answers, and the statuses of its problems."""
    described: Described = {
        status: {"description": _STATUS[status]} | (content or {}) for status, content in responses.items()
    }
    statuses = problems.split()
    for status in [*statuses, "500"] if "503" in statuses else statuses:  # Redis is away, or spoiled
        described[status] = problem(int(status))
    described["default"] = {"description": "A problem with the request as such"} | content("Problem", CONTENT_TYPE)
    operation = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "parameters": named.split(),
        "responses": described,
    }
    return operation | ({"requestBody": {"required": True} | body} if body else {})


def problem(status: int) -> Described:
    """An answer with this status, which is a problem."""
    return {"description": _problems(status)} | content("Problem", CONTENT_TYPE)


def _problems(status: int) -> str:
    """The types of the problems with this status."""
    names = sorted(one.name for one in PROBLEMS.values() if one.status == status)
    return "A problem: " + ", ".join(f"{status} `{name}`" for name in names or [_OTHERS[status]])


OBJECT = content({"type": "object"})
TEXT = content({"type": "string"}, "text/plain")
