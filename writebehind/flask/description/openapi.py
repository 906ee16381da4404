"""The API's description, OpenAPI 3.1: built once, when the process starts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
from apispec import APISpec

import writebehind
from writebehind import Settings
from writebehind.change_stream.conflicts import MOST
from writebehind.flask.admin import conflicts, drift, hot_keys
from writebehind.flask.bodies import JSON_PATCH, MERGE_PATCH
from writebehind.flask.description.schemas import (
    ALL,
    ARGUMENTS,
    CURSOR,
    FILTERS,
    LETTERS_LIMIT,
    components,
    limited,
    parameters,
    query,
    reference,
)
from writebehind.flask.problems import CONTENT_TYPE, PROBLEMS
from writebehind.flask.representations import CANONICAL, JSON
from writebehind.reconcile.findings import MOST_PASSES

NDJSON = "application/x-ndjson"
_Described = dict[str, Any]
_Responses = dict[str, _Described | None]


def specification(settings: Settings) -> bytes:
    """The description as JSON text."""
    spec = APISpec(
        title="writebehind",
        version=writebehind.__version__,
        openapi_version="3.1.0",
        info={
            "description": "Writes are acknowledged when Redis has them, and persisted to MongoDB in batches.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
    )
    for name, schema in components(settings).items():
        spec.components.schema(name, schema)
    for name, (place, described) in parameters(settings).items():
        spec.components.parameter(name, place, ({"required": True} if place == "path" else {}) | described)
    for path, operations in (_PATHS | _queries(settings)).items():
        spec.path(path, operations=deepcopy(operations))  # apispec changes what it is given
    return orjson.dumps(spec.to_dict())


def _queries(settings: Settings) -> dict[str, _Described]:
    """A path for each query of the settings, with its parameters."""
    return {
        f"/v1/{collection}/queries/{name}": {
            "get": _operation(f"Ask for {name} of {collection}", "If-Match If-None-Match", _ANSWERED, _READING)
            | {
                "parameters": [
                    "If-Match",
                    "If-None-Match",
                    *(query(one, ARGUMENTS[kind]) | {"required": True} for one, kind in asked.parameters.items()),
                ]
            }
        }
        for collection, one_settings in sorted(settings.collections.items())
        for name, asked in one_settings.queries.items()
    }


def _content(schema: _Described | str, *types: str) -> _Described:
    shown = reference(schema) if isinstance(schema, str) else schema
    return {"content": {one: {"schema": shown} for one in types or (JSON,)}}


def _operation(
    summary: str,
    named: str,
    responses: _Responses,
    problems: str,
    *,
    body: _Described | None = None,
    tag: str = "documents",
) -> _Described:
    """An operation: with its parameters, its answers, and the statuses of its problems."""
    described: _Described = {
        status: {"description": _STATUS[status]} | (content or {}) for status, content in responses.items()
    }
    for status in problems.split():
        described[status] = {"description": _problems(int(status))} | _content("Problem", CONTENT_TYPE)
    described["default"] = {"description": "A problem with the request as such"} | _content(
        "Problem", CONTENT_TYPE
    )
    operation = {"summary": summary, "tags": [tag], "parameters": named.split(), "responses": described}
    return operation | ({"requestBody": {"required": True} | body} if body else {})


def _problems(status: int) -> str:
    """The types of the problems with this status."""
    names = sorted(one.name for one in PROBLEMS.values() if one.status == status)
    return "A problem: " + ", ".join(f"{status} `{name}`" for name in names or [_OTHERS[status]])


def _administered(
    summary: str,
    answer: str | None = None,
    *more: _Described,
    one: bool = False,
) -> _Described:
    named, problems = ("collection id version", "400 404 503") if one else ("", "400 503")
    answers: _Responses = {"200": _content(answer) if answer else _OBJECT}
    described = _operation(summary, named, answers, problems, tag="operation")
    return described if one else described | {"parameters": list(more)}


_STATUS = {
    "200": "Done",
    "201": "Created",
    "202": "Acknowledged, but less durable than wanted: the write stands and will follow",
    "204": "Deleted",
    "207": "One result per item, in order",
    "304": "Not changed",
    "503": "Not ready",
}
#: Names of problems that routes have in common.
_OTHERS = {406: "not-acceptable", 415: "unsupported-media-type"}
_READING = "400 404 406 409 412 503"
_WRITING = "400 404 409 412 413 415 422 501 503"
_DELETING = "400 404 409 412 422 501 503"
_BATCHES = "400 404 413 415 422 501 503"
_SEVERAL = "400 404 406 413 415 422 503"
_WRITTEN, _INCREMENTED, _DOCUMENT = _content("Written"), _content("Incremented"), _content("Document")
_OBJECT = _content({"type": "object"})
_FORMS = (JSON, CANONICAL.content_type)
_READ: _Responses = {"200": _content("Document", *_FORMS), "304": None}
_ANSWERED: _Responses = {"200": _content("Answer", *_FORMS), "304": None}
_BULK = {"content": {JSON: {"schema": reference("Operations")}, NDJSON: {"schema": {"type": "string"}}}}
_PATCHES = {
    "content": {
        MERGE_PATCH: {"schema": {"type": "object"}},
        JSON_PATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
    }
}
_LETTERS = "/admin/dead-letters"

_PATHS: dict[str, _Described] = {
    "/v1/{collection}/{id}": {
        "get": _operation("Read a document", "collection id If-Match If-None-Match", _READ, _READING),
        "head": _operation(
            "Read a document's headers",
            "collection id If-Match If-None-Match",
            {"200": None, "304": None},
            _READING,
        ),
        "put": _operation(
            "Create or replace a document",
            "collection id durability If-Match If-None-Match",
            {"200": _WRITTEN, "201": _WRITTEN, "202": _WRITTEN},
            _WRITING,
            body=_DOCUMENT,
        ),
        "patch": _operation(
            "Change a document",
            "collection id durability If-Match",
            {"200": _WRITTEN, "202": _WRITTEN},
            _WRITING,
            body=_PATCHES,
        ),
        "delete": _operation(
            "Delete a document", "collection id durability If-Match", {"202": _WRITTEN, "204": None}, _DELETING
        ),
    },
    "/v1/{collection}/{id}:increment": {
        "post": _operation(
            "Add to numbers of a document, atomically",
            "collection id durability",
            {"200": _INCREMENTED, "201": _INCREMENTED, "202": _INCREMENTED},
            _WRITING,
            body=_content("Numbers"),
        ),
    },
    "/v1/{collection}": {
        "get": _operation(
            "Read the document that has a value in a unique field",
            "collection If-Match If-None-Match",
            _READ,
            _READING,
        )
        | {"description": "The query is one of the fields that the collection's settings list under `lookup`."},
        "post": _operation(
            "Create a document under a generated id",
            "collection durability",
            {"201": _WRITTEN, "202": _WRITTEN},
            _WRITING,
            body=_DOCUMENT,
        ),
    },
    "/v1/{collection}/queries/{name}": {
        "get": _operation(
            "Ask for the documents that a query of the settings finds",
            "collection name If-Match If-None-Match",
            _ANSWERED,
            _READING,
        )
        | {"description": "It takes the parameters that the collection's settings list for the query."},
    },
    "/v1/{collection}:bulk": {
        "post": _operation(
            "Carry out several writes", "collection durability", {"207": _content("Results")}, _BATCHES, body=_BULK
        ),
    },
    "/v1/{collection}:get": {
        "post": _operation(
            "Read several documents",
            "collection",
            {"200": _content("Documents", *_FORMS)},
            _SEVERAL,
            body=_content("Ids"),
        ),
    },
    "/healthz": {"get": _operation("The process lives", "", {"200": _OBJECT}, "", tag="operation")},
    "/readyz": {
        "get": _operation("Traffic may come here", "", {"200": _OBJECT, "503": _OBJECT}, "", tag="operation")
    },
    "/admin/status": {
        "get": _administered(
            "How the pipeline is", None, query("partitions", {"type": "boolean", "default": False})
        )
    },
    "/admin/conflicts": {
        "get": _administered(
            "Changes of others to what was pending", None, limited(conflicts.DEFAULT_LIMIT, MOST)
        ),
    },
    "/admin/drift": {
        "get": _administered("Where Redis and MongoDB differed", None, limited(drift.DEFAULT_LIMIT, MOST_PASSES)),
    },
    "/admin/hot-keys": {
        "get": _administered(
            "Which documents are read most", None, limited(hot_keys.DEFAULT_LIMIT, hot_keys.MOST)
        ),
    },
    _LETTERS: {
        "get": _administered("Documents that MongoDB refuses", "Letters", *FILTERS, CURSOR, LETTERS_LIMIT),
        "delete": _administered("Forget dead letters for good", "Discarded", *FILTERS, ALL, CURSOR),
    },
    f"{_LETTERS}:replay": {
        "post": _administered("Try dead letters once more", "Replayed", *FILTERS, ALL, CURSOR),
    },
    f"{_LETTERS}:export": {
        "get": _operation(
            "Dead letters with their documents",
            "",
            {"200": _content({"type": "string"}, NDJSON)},
            "400 503",
            tag="operation",
        )
        | {"parameters": FILTERS},
    },
    f"{_LETTERS}/{{collection}}/{{id}}": {
        "get": _administered("A dead letter with its document", "Letter", one=True),
        "delete": _administered("Forget a dead letter for good", "Discarded", one=True),
    },
    f"{_LETTERS}/{{collection}}/{{id}}:replay": {
        "post": _administered("Try a dead letter once more", "Replayed", one=True),
    },
    "/openapi.json": {"get": _operation("This description", "", {"200": _OBJECT}, "", tag="operation")},
}
