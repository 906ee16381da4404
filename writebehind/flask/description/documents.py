"""The operations on documents, as OpenAPI has them."""

from __future__ import annotations

from writebehind import Settings
from writebehind.documents.patches import MOST_OPERATIONS
from writebehind.flask.bodies import JSON_PATCH, MERGE_PATCH
from writebehind.flask.description.operations import Described, Responses, content, operation
from writebehind.flask.description.schemas import ARGUMENTS, query, reference
from writebehind.flask.representations import CANONICAL, JSON, NDJSON

_READING = "400 404 406 409 412 503"
_WRITING = "400 404 409 412 413 415 422 501 503"
_DELETING = "400 404 409 412 422 501 503"
_BATCHES = "400 404 413 415 422 501 503"
_SEVERAL = "400 404 406 413 415 422 503"
_WRITTEN, _INCREMENTED, _DOCUMENT = content("Written"), content("Incremented"), content("Document")
_FORMS = (JSON, CANONICAL.content_type)
_READ: Responses = {"200": content("Document", *_FORMS), "304": None}
_LISTED: Responses = {
    "200": content({"anyOf": [reference("Page"), reference("Document")]}, *_FORMS),
    "304": None,
}
_ANSWERED: Responses = {"200": content("Answer", *_FORMS), "304": None}
_BULK = {"content": {JSON: {"schema": reference("Operations")}, NDJSON: {"schema": {"type": "string"}}}}
_PATCHES = {
    "content": {
        MERGE_PATCH: {"schema": {"type": "object"}},
        # Without `items`, or else what openapi-python-client makes of the two fails for both: Python cannot ask
        # whether a value is a `list[Item]`. So it leaves this one out, and says so.
        JSON_PATCH: {
            "schema": {"type": "array", "maxItems": MOST_OPERATIONS, "description": "operations of RFC 6902"}
        },
    }
}

PATHS: dict[str, Described] = {
    "/v1/{collection}/{id}": {
        "get": operation(
            "get_document", "Read a document", "collection id fields If-Match If-None-Match", _READ, _READING
        ),
        "head": operation(
            "head_document",
            "Read a document's headers",
            "collection id fields If-Match If-None-Match",
            {"200": None, "304": None},
            _READING,
        ),
        "put": operation(
            "put_document",
            "Create or replace a document",
            "collection id durability Idempotency-Key If-Match if-absent",
            {"200": _WRITTEN, "201": _WRITTEN, "202": _WRITTEN},
            _WRITING,
            body=_DOCUMENT,
        ),
        "patch": operation(
            "patch_document",
            "Change a document",
            "collection id durability Idempotency-Key If-Match",
            {"200": _WRITTEN, "202": _WRITTEN},
            _WRITING,
            body=_PATCHES,
        ),
        "delete": operation(
            "delete_document",
            "Delete a document",
            "collection id durability Idempotency-Key If-Match",
            {"202": _WRITTEN, "204": None},
            _DELETING,
        ),
    },
    "/v1/{collection}/{id}:increment": {
        "post": operation(
            "increment_document",
            "Add to numbers of a document, atomically",
            "collection id durability Idempotency-Key",
            {"200": _INCREMENTED, "201": _INCREMENTED, "202": _INCREMENTED},
            _WRITING,
            body=content("Numbers"),
        ),
    },
    "/v1/{collection}/{id}:update": {
        "post": operation(
            "update_document",
            "Change a document by MongoDB's update operators",
            "collection id durability Idempotency-Key If-Match",
            {"200": _WRITTEN, "202": _WRITTEN},
            _WRITING,
            body=content("Update"),
        ),
    },
    "/v1/{collection}": {
        "get": operation(
            "list_documents",
            "List all documents, or read the one that has a value in a unique field",
            "collection limit after fields If-Match If-None-Match",
            _LISTED,
            _READING,
        )
        | {
            "description": "With no parameters but `limit`, `after` and `fields`: a page of the documents in the "
            "order of their ids. Else the query is one of the fields that the collection's settings list "
            "under `lookup`, and the answer is one document."
        },
        "post": operation(
            "create_document",
            "Create a document under a generated id",
            "collection durability Idempotency-Key",
            {"201": _WRITTEN, "202": _WRITTEN},
            _WRITING,
            body=_DOCUMENT,
        ),
    },
    "/v1/{collection}/queries/{name}": {
        "get": operation(
            "query_documents",
            "Ask for the documents that a query of the settings finds",
            "collection name If-Match If-None-Match",
            _ANSWERED,
            _READING,
        )
        | {"description": "It takes the parameters that the collection's settings list for the query."},
    },
    "/v1/{collection}:bulk": {
        "post": operation(
            "bulk_write",
            "Carry out several writes",
            "collection durability key-of-bulk",
            {"207": content("Results")},
            _BATCHES,
            body=_BULK,
        ),
    },
    "/v1/receipts/{idempotency_key}": {
        "get": operation(
            "get_receipt",
            "Ask what has become of a write that had an idempotency key",
            "idempotency_key within",
            {"200": content("Receipt")},
            "400 404 503",
        ),
    },
    "/v1/{collection}:get": {
        "post": operation(
            "get_documents",
            "Read several documents",
            "collection",
            {"200": content("Documents", *_FORMS)},
            _SEVERAL,
            body=content("Ids"),
        ),
    },
}


def queries(settings: Settings) -> dict[str, Described]:
    """A path for each query of the settings, with its parameters."""
    return {
        f"/v1/{collection}/queries/{name}": {
            "get": operation(
                f"query_{collection}_{name}",
                f"Ask for {name} of {collection}",
                "If-Match If-None-Match",
                _ANSWERED,
                _READING,
            )
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
