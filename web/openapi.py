"""The API's description, OpenAPI 3.1: built once, when the process starts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
from apispec import APISpec

import writebehind
from web.problems import CONTENT_TYPE, PROBLEMS
from web.requests import JSON_PATCH, MERGE_PATCH
from writebehind import Durability, Settings
from writebehind.dead_letters import Reason

JSON = "application/json"
_ANY_DOCUMENT = {"name": "Ada", "joined": {"$date": "2026-01-01T00:00:00Z"}}

_SCHEMAS: dict[str, dict[str, Any]] = {
    "Document": {
        "type": "object",
        "description": "A document in MongoDB Extended JSON v2. Top-level names must not begin with `$`; `_v` is "
        "reserved.",
        "examples": [_ANY_DOCUMENT],
    },
    "Written": {
        "type": "object",
        "required": ["id", "version", "durability"],
        "properties": {
            "id": {"type": "string"},
            "version": {"type": "integer", "format": "int64", "description": "grows with every write"},
            "durability": {
                "enum": [level.value for level in Durability],
                "description": "how far the write had come when it was answered",
            },
        },
        "examples": [{"id": "ada", "version": 1790000000000001, "durability": "buffered"}],
    },
    "Problem": {
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status", "detail", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "request_id": {"type": "string"},
        },
    },
    "Operation": {
        "type": "object",
        "required": ["op", "id"],
        "additionalProperties": False,
        "properties": {
            "op": {"enum": ["put", "patch", "delete"]},
            "id": {"type": "string"},
            "doc": {"description": "the document; for a patch a merge patch (object) or a JSON Patch (array)"},
            "if_match": {"description": "an ETag, a list of ETags, or `*`"},
        },
        "examples": [{"op": "put", "id": "ada", "doc": _ANY_DOCUMENT}],
    },
}


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
    for name, schema in _SCHEMAS.items():
        spec.components.schema(name, schema)
    known = sorted(settings.collections)
    spec.components.parameter(
        "collection",
        "path",
        {
            "required": True,
            "description": "a configured collection",
            "schema": {"type": "string"} | ({"examples": known} if known else {}),
        },
    )
    spec.components.parameter(
        "id",
        "path",
        {"required": True, "description": "of the collection's id type", "schema": {"type": "string"}},
    )
    spec.components.parameter(
        "name",
        "path",
        {
            "required": True,
            "description": "a query of the collection's settings",
            "schema": {"type": "string"},
        },
    )
    spec.components.parameter(
        "durability",
        "query",
        {
            "description": "what must have happened before the answer is sent",
            "schema": {"enum": [level.value for level in Durability], "default": Durability.BUFFERED.value},
        },
    )
    for name in ("If-Match", "If-None-Match"):
        spec.components.parameter(name, "header", {"schema": {"type": "string"}})
    for path, operations in (_PATHS | _queries(settings)).items():
        spec.path(path, operations=deepcopy(operations))  # apispec changes what it is given
    return orjson.dumps(spec.to_dict())


def _queries(settings: Settings) -> dict[str, dict[str, Any]]:
    """A path for each query of the settings, with its parameters."""
    return {
        f"/v1/{collection}/queries/{name}": {
            "get": _operation(f"Ask for {name} of {collection}", "", _ANSWERED)
            | {
                "parameters": [
                    {"name": one, "in": "query", "required": True, "schema": _PARAMETERS[kind]}
                    for one, kind in query.parameters.items()
                ]
            }
        }
        for collection, one_settings in sorted(settings.collections.items())
        for name, query in one_settings.queries.items()
    }


def _content(schema: dict[str, Any] | str, *types: str) -> dict[str, Any]:
    shown = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    return {"content": {one: {"schema": shown} for one in types or (JSON,)}}


def _operation(
    summary: str,
    parameters: str,
    responses: dict[str, dict[str, Any] | None],
    body: dict[str, Any] | None = None,
    tag: str = "documents",
) -> dict[str, Any]:
    described: dict[str, Any] = {
        status: {"description": _STATUS[status]} | (content or {}) for status, content in responses.items()
    }
    if tag == "documents":
        described["default"] = {"description": _errors()} | _content("Problem", CONTENT_TYPE)
    operation = {
        "summary": summary,
        "tags": [tag],
        "parameters": parameters.split(),
        "responses": described,
    }
    return operation | ({"requestBody": {"required": True} | body} if body else {})


def _errors() -> str:
    rows = sorted({(problem.status, problem.name) for problem in PROBLEMS.values()})
    return "A problem: " + ", ".join(f"{status} `{name}`" for status, name in rows)


_STATUS = {
    "200": "Done",
    "201": "Created",
    "202": "Acknowledged, but less durable than wanted: the write stands and will follow",
    "204": "Deleted",
    "207": "One result per item, in order",
    "304": "Not changed",
    "503": "Not ready",
}
_WRITTEN = _content("Written")
_OBJECT = _content({"type": "object"})
_INCREMENTED = _content(
    {
        "allOf": [
            {"$ref": "#/components/schemas/Written"},
            {"type": "object", "required": ["values"], "properties": {"values": {"type": "object"}}},
        ]
    }
)
_DOCUMENTS = _content(
    {
        "type": "object",
        "required": ["documents"],
        "properties": {"documents": {"type": "array", "items": {"$ref": "#/components/schemas/Document"}}},
    }
)
_ANSWERED: dict[str, dict[str, Any] | None] = {"200": _DOCUMENTS, "304": None}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "int": {"type": "integer", "format": "int64"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date-time"},
    "objectid": {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"},
    "uuid": {"type": "string", "format": "uuid"},
}
_NUMBERS = {"type": "object", "examples": [{"views": 1, "nested.field": -2}]}
_OPERATIONS = {"type": "array", "items": {"$ref": "#/components/schemas/Operation"}}
_IDS = {
    "type": "object",
    "required": ["ids"],
    "properties": {"ids": {"type": "array", "items": {"type": "string"}}},
    "examples": [{"ids": ["ada", "bob"]}],
}


def _query(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind}}


_FILTERS = [
    _query("collection", "string"),
    {"name": "reason", "in": "query", "schema": {"enum": [reason.value for reason in Reason]}},
    _query("code", "integer"),
    _query("after", "string"),
    _query("before", "string"),
]

_PATHS: dict[str, dict[str, Any]] = {
    "/v1/{collection}/{id}": {
        "get": _operation(
            "Read a document", "collection id If-None-Match", {"200": _content("Document"), "304": None}
        ),
        "head": _operation("Read a document's headers", "collection id If-None-Match", {"200": None, "304": None}),
        "put": _operation(
            "Create or replace a document",
            "collection id durability If-Match If-None-Match",
            {"200": _WRITTEN, "201": _WRITTEN, "202": _WRITTEN},
            _content("Document"),
        ),
        "patch": _operation(
            "Change a document",
            "collection id durability If-Match",
            {"200": _WRITTEN, "202": _WRITTEN},
            {"content": {MERGE_PATCH: {"schema": {"type": "object"}}, JSON_PATCH: {"schema": {"type": "array"}}}},
        ),
        "delete": _operation(
            "Delete a document", "collection id durability If-Match", {"202": _WRITTEN, "204": None}
        ),
    },
    "/v1/{collection}/{id}:increment": {
        "post": _operation(
            "Add to numbers of a document, atomically",
            "collection id durability",
            {"200": _INCREMENTED, "201": _INCREMENTED, "202": _INCREMENTED},
            _content(_NUMBERS),
        ),
    },
    "/v1/{collection}": {
        "get": _operation(
            "Read the document that has a value in a unique field",
            "collection If-None-Match",
            {"200": _content("Document"), "304": None},
        )
        | {"description": "The query is one of the fields that the collection's settings list under `lookup`."},
        "post": _operation(
            "Create a document under a generated id",
            "collection durability",
            {"201": _WRITTEN, "202": _WRITTEN},
            _content("Document"),
        ),
    },
    "/v1/{collection}/queries/{name}": {
        "get": _operation(
            "Ask for the documents that a query of the settings finds", "collection name If-None-Match", _ANSWERED
        )
        | {"description": "It takes the parameters that the collection's settings list for the query."},
    },
    "/v1/{collection}:bulk": {
        "post": _operation(
            "Carry out several writes",
            "collection durability",
            {"207": _OBJECT},
            {"content": {JSON: {"schema": _OPERATIONS}, "application/x-ndjson": {"schema": {"type": "string"}}}},
        ),
    },
    "/v1/{collection}:get": {
        "post": _operation("Read several documents", "collection", {"200": _OBJECT}, _content(_IDS)),
    },
    "/healthz": {"get": _operation("The process lives", "", {"200": _OBJECT}, tag="operation")},
    "/readyz": {"get": _operation("Traffic may come here", "", {"200": _OBJECT, "503": _OBJECT}, tag="operation")},
    "/admin/status": {
        "get": _operation("How the pipeline is", "", {"200": _OBJECT}, tag="operation")
        | {"parameters": [{"name": "partitions", "in": "query", "schema": {"type": "boolean"}}]}
    },
    "/admin/conflicts": {
        "get": _operation("Changes of others to what was pending", "", {"200": _OBJECT}, tag="operation")
        | {"parameters": [_query("limit", "integer")]},
    },
    "/admin/drift": {
        "get": _operation("Where Redis and MongoDB differed", "", {"200": _OBJECT}, tag="operation")
        | {"parameters": [_query("limit", "integer")]},
    },
    "/admin/hot-keys": {
        "get": _operation("Which documents are read most", "", {"200": _OBJECT}, tag="operation")
        | {"parameters": [_query("limit", "integer")]},
    },
    "/admin/dead-letters": {
        "get": _operation("Documents that MongoDB refuses", "", {"200": _OBJECT}, tag="operation")
        | {"parameters": [*_FILTERS, _query("cursor", "string"), _query("limit", "integer")]},
        "delete": _operation("Forget dead letters for good", "", {"200": _OBJECT}, tag="operation")
        | {"parameters": [*_FILTERS, _query("all", "boolean")]},
    },
    "/admin/dead-letters:replay": {
        "post": _operation("Try dead letters once more", "", {"200": _OBJECT}, tag="operation")
        | {"parameters": [*_FILTERS, _query("all", "boolean")]},
    },
    "/admin/dead-letters:export": {
        "get": _operation(
            "Dead letters with their documents",
            "",
            {"200": _content({"type": "string"}, "application/x-ndjson")},
            tag="operation",
        )
        | {"parameters": _FILTERS},
    },
    "/admin/dead-letters/{collection}/{id}": {
        "get": _operation("A dead letter with its document", "collection id", {"200": _OBJECT}, tag="operation"),
        "delete": _operation("Forget a dead letter for good", "collection id", {"200": _OBJECT}, tag="operation"),
    },
    "/admin/dead-letters/{collection}/{id}:replay": {
        "post": _operation("Try a dead letter once more", "collection id", {"200": _OBJECT}, tag="operation"),
    },
    "/openapi.json": {"get": _operation("This description", "", {"200": _OBJECT}, tag="operation")},
}
