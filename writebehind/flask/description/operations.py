"""Operations of the API as routes declare them, and what OpenAPI makes of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from writebehind.flask.description.schemas import reference
from writebehind.flask.problems import CONTENT_TYPE, PROBLEMS, name_of_status
from writebehind.flask.representations import JSON

Described = dict[str, Any]
Responses = Mapping[str, Described | None]

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
#: What any request may be answered: it is malformed, or its body is too slow, of unknown length or too large; it
#: is for another host; a fault; a coding that nobody decodes; the answer would come too late.
EVERY = (400, 408, 411, 413, 421, 500, 501, 503)
#: What a page of another origin is answered that wants to change something.
_CHANGES = frozenset({"post", "put", "patch", "delete"})


@dataclass(frozen=True, slots=True)
class Operation:
    """A declaration of a route: all besides its path and the first line of its docstring, which is the summary.

    Attributes:
        name: for clients.
        parameters: names of components, which are those of the path before all, and others as they are.
        responses: where there is no problem, by status.
        problems: statuses of the problems that this route has besides those of every route.
        body: of the request, if it takes one.
        about: more than the summary says.
        head: the name of the same without a body, for clients; '' for none.
        tag: the chapter.
    """

    name: str
    parameters: tuple[Described | str, ...]
    responses: Responses
    problems: tuple[int, ...]
    body: Described | None
    about: str
    head: str
    tag: str

    def described(self, method: str, summary: str, in_path: Iterable[str]) -> Described:
        """The operation as OpenAPI has it; a copy, as those who get it change it."""
        answers: Described = {
            status: {"description": _STATUS[status]} | (content or {} if method != "head" else {})
            for status, content in self.responses.items()
        }
        for status in (*EVERY, *self.problems, *((403,) if method in _CHANGES else ())):
            answers.setdefault(str(status), problem(status))
        described = {
            "operationId": self.head if method == "head" else self.name,
            "summary": f"{summary}, without its body" if method == "head" else summary,
            "tags": [self.tag],
            "parameters": [*in_path, *self.parameters],
            "responses": dict(sorted(answers.items())),
        }
        if self.body is not None:
            described["requestBody"] = {"required": True} | self.body
        return described | ({"description": self.about} if self.about else {})


def operation(
    name: str,
    parameters: str,
    responses: Responses,
    problems: str = "",
    *more: Described,
    body: Described | None = None,
    about: str = "",
    head: str = "",
    tag: str = "documents",
) -> Operation:
    """An operation; its parameters, other than those of its path, and its problems with spaces between them."""
    statuses = tuple(map(int, problems.split()))
    return Operation(name, (*parameters.split(), *more), responses, statuses, body, about, head, tag)


def administered(
    name: str,
    answer: str,
    problems: str = "",
    *more: Described,
    parameters: str = "",
    status: str = "200",
    body: Described | None = None,
) -> Operation:
    """An operation for operators, whose answer has this schema."""
    return operation(name, parameters, {status: content(answer)}, problems, *more, body=body, tag="operation")


def content(schema: Described | str, *types: str) -> Described:
    """A body of this schema, or of the one that has this name; JSON unless other types are given."""
    shown = reference(schema) if isinstance(schema, str) else schema
    return {"content": {one: {"schema": shown} for one in types or (JSON,)}}


def problem(status: int) -> Described:
    """An answer with this status, which is a problem."""
    names = sorted({one.name for one in PROBLEMS.values() if one.status == status}) or [
        name_of_status(HTTPStatus(status))
    ]
    text = "A problem: " + ", ".join(f"{status} `{name}`" for name in names)
    return {"description": text} | content("Problem", CONTENT_TYPE)


OBJECT = content({"type": "object"})
TEXT = content({"type": "string"}, "text/plain")
