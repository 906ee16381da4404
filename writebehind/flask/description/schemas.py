"""JSON Schemas of bodies and parameters, with the bounds that the settings say."""

from __future__ import annotations

from typing import Any

from writebehind import Durability, Settings
from writebehind.access.rights import MOST as MOST_GRANTS
from writebehind.documents.idempotency import LONGEST_KEY
from writebehind.documents.ids import MAX_ID_BYTES
from writebehind.documents.patches import MOST_OPERATIONS
from writebehind.flask.description.figures import FIGURES
from writebehind.flask.idempotency import LONGEST_OF_BULK
from writebehind.flask.parameters import MOST_VERSION
from writebehind.flushing.dead_letters import Reason
from writebehind.mql.updates.update import OPERATORS
from writebehind.operations.api_keys import LONGEST_S, MOST_CONCURRENT, MOST_RATE
from writebehind.querying.cursors import LONGEST as LONGEST_CURSOR
from writebehind.querying.listing import DEFAULT_LIMIT as PAGE_LIMIT
from writebehind.querying.listing import MOST as MOST_OF_PAGE
from writebehind.settings.names import COLLECTION_NAME_PATTERN, LONGEST_COLLECTION_NAME, RECEIPTS
from writebehind.writing.receipts import ReceiptState

Schema = dict[str, Any]

ANY_DOCUMENT = {"name": "Ada", "joined": {"$date": "2026-01-01T00:00:00Z"}}
_DURABILITY: Schema = {"$ref": "#/components/schemas/Durability"}
_REASON: Schema = {"$ref": "#/components/schemas/Reason"}
_COLLECTION: Schema = {"$ref": "#/components/schemas/Collection"}
_ID: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
_ANY_ID: Schema = {"type": ["string", "integer", "object"], "description": "as a text, or in Extended JSON"}
_VERSION: Schema = {"type": "integer", "format": "int64", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
_OR_NO_TIME = TIME | {"type": ["string", "null"]}
_IDEMPOTENCY_KEY: Schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[ -~]+$"}
#: Entity tags of RFC 9110, 8.8.3: a strong one, and any.
_STRONG = r'"[!#-~]*"'
_ANY_TAG = f"(W/)?{_STRONG}"
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ETAGS: Schema = {"type": ["string", "array"], "minLength": 1, "minItems": 1, "items": {"type": "string"}}


def _tags(one: str, may_be_empty: str = "") -> Schema:
    """A list of entity tags, or `*`."""
    return {"type": "string", "pattern": rf"^(\*|{one}(, *{one})*){may_be_empty}$"}


def _key_header(longest: int) -> Schema:
    """An idempotency key as a header has it: in quotes, or bare."""
    quoted, bare = rf'"([ !#-\[\]-~]|\\["\\]){{1,{longest}}}"', rf"[!#-+\--:<-~]{{1,{longest}}}"
    return {"type": "string", "pattern": f"^({quoted}|{bare})$"}


#: Types of the parameters of queries.
ARGUMENTS: dict[str, Schema] = {
    "string": {"type": "string", "maxLength": MAX_ID_BYTES},
    "int": {"type": "integer", "format": "int64", "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": TIME,
    "objectid": {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"},
    "uuid": {"type": "string", "format": "uuid"},
}


def shape(required: dict[str, Schema], **optional: Schema) -> Schema:
    """An object with these properties."""
    return {"type": "object", "required": list(required), "properties": required | optional}


def reference(name: str) -> Schema:
    """A schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def components(settings: Settings) -> dict[str, Schema]:
    """The schemas by name."""
    known = sorted(settings.collections)
    # Unless it is listed, that word is the route of receipts, as a part of a path, and no collection.
    taken = "" if RECEIPTS in known else f"(?!{RECEIPTS}$)"
    collection: Schema = {
        "type": "string",
        "pattern": f"^{taken}{COLLECTION_NAME_PATTERN}$",
        "maxLength": LONGEST_COLLECTION_NAME,
    }
    if not settings.allow_unlisted:
        collection = {"type": "string", "enum": known or [""]}
    ids: Schema = {"type": "array", "items": _ID}
    written = {"id": {"type": "string"}, "version": _VERSION, "durability": _DURABILITY}
    shared: Schema = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "by unique field, the id of another document that has the same value as last acknowledged",
    }
    confirmed: Schema = shape(
        {
            "disk": {"type": "boolean", "description": "whether Redis's own disk is known to have it"},
            "replicas": {"type": "integer", "description": "how many replicas have it; for `fsynced`, on disk"},
        }
    ) | {"description": "of a write with durability `fsynced` or `replicated`"}
    problem = {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "detail": {"type": "string"},
    }
    letter: dict[str, Schema] = {
        "version": _VERSION,
        "letter": {"type": "string", "description": "of type `dead-letter`: the path to it"},
        "last_known": {
            "type": ["object", "null"],
            "description": "of `/admin/status` while Redis does not answer: what was only there, and when",
        },
        "to_do": {
            "type": "array",
            "items": {"type": "object"},
            "description": "of `/admin/status` while Redis does not answer: what to do, as in a status",
        },
    }
    unreadable: Schema = {
        "type": "object",
        "additionalProperties": shape(problem),
        "description": "problems, by id, in place of documents that are no valid BSON",
    }
    return FIGURES | {
        "Collection": collection,
        "Durability": {"type": "string", "enum": [level.value for level in Durability]},
        "Document": {
            "type": "object",
            "description": "MongoDB Extended JSON v2; `_v` and names that begin with `$` are reserved.",
            "examples": [ANY_DOCUMENT],
        },
        "Written": shape(written, shared=shared, confirmed=confirmed)
        | {"examples": [{"id": "ada", "version": 1, "durability": "buffered"}]},
        "Incremented": shape(written | {"values": {"type": "object"}}, shared=shared, confirmed=confirmed),
        "Receipt": shape(
            {"key": _IDEMPOTENCY_KEY, "state": {"enum": [state.value for state in ReceiptState]}},
            collection={"type": "string"},
            id={"type": "string"},
            version=_VERSION,
            etag={"type": "string", "description": "none for a deletion"},
        ),
        "Problem": shape(problem | {"status": {"type": "integer"}, "request_id": {"type": "string"}}, **letter)
        | {"description": "RFC 9457"},
        "Operation": shape(
            {"op": {"enum": ["put", "patch", "delete"]}, "id": _ANY_ID},
            doc={"description": "the document; for a patch a merge patch (object) or a JSON Patch (array)"},
            if_match=_ETAGS | {"description": "an ETag, a list of ETags, or `*`"},
            key=_IDEMPOTENCY_KEY | {"description": "an idempotency key; else it follows from that of the request"},
        )
        | {"additionalProperties": False, "examples": [{"op": "put", "id": "ada", "doc": ANY_DOCUMENT}]},
        "Operations": {
            "type": "array",
            "items": reference("Operation"),
            "maxItems": settings.max_bulk_items,
        },
        "Results": shape({"results": {"type": "array", "items": reference("Result")}}),
        "Result": shape(
            {"id": {}, "status": {"type": "integer"}},
            version=_VERSION,
            durability=_DURABILITY,
            etag={"type": "string"},
            shared=shared,
            confirmed=confirmed,
            replayed={
                "type": "boolean",
                "description": "whether an earlier request with its key has written it",
            },
            error=shape(problem, **letter),
        ),
        "Ids": shape({"ids": ids | {"maxItems": settings.max_bulk_items}})
        | {"examples": [{"ids": ["ada", "bob"]}]},
        "Documents": shape(
            {"documents": {"type": "object", "additionalProperties": reference("Document")}, "missing": ids},
            unreadable=unreadable,
            rest=ids
            | {"description": "what is left, as the answer is long enough: ask for it in another request"},
        ),
        "Answer": shape(
            {"documents": {"type": "array", "items": reference("Document")}},
            unreadable=unreadable,
            rest=ids
            | {"description": "the documents after these, as the answer is long enough: ask `:get` for them"},
        ),
        "Page": shape(
            {
                "documents": {"type": "array", "items": reference("Document"), "maxItems": MOST_OF_PAGE},
                "after": {
                    "type": ["string", "null"],
                    "description": "of the next page, which there is whatever this one has; null on the last",
                },
            },
            unreadable=unreadable,
        )
        | {"examples": [{"documents": [{"_id": "ada"} | ANY_DOCUMENT], "after": None}]},
        "Numbers": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": MOST_OPERATIONS,
            "examples": [{"views": 1, "nested.field": -2}],
        },
        "Update": {
            "type": "object",
            "minProperties": 1,
            "properties": {
                name: {"type": "object", "maxProperties": MOST_OPERATIONS, "description": "values by dotted path"}
                for name in OPERATORS
            },
            "additionalProperties": False,
            "examples": [{"$inc": {"views": 1}, "$push": {"tags": {"$each": ["new"], "$slice": -10}}}],
        },
        "Reason": {"type": "string", "enum": [reason.value for reason in Reason]},
        "Letter": shape(
            {"collection": {"type": "string"}, "id": {"type": "string"}, "reason": _REASON, "version": _VERSION},
            acknowledged=_OR_NO_TIME,
            failed=_OR_NO_TIME,
        ),
        "Letters": shape(
            {
                "dead_letters": {"type": "array", "items": reference("Letter")},
                "cursor": {"type": ["string", "null"], "description": "null on the last page"},
                "total": _COUNT,
            },
            away=_AWAY,
        ),
        "Replayed": shape(
            {"replayed": _COUNT, "left": _COUNT},
            because={"type": "object", "additionalProperties": _COUNT, "description": "why letters are left"},
            cursor=_MORE,
            away=_AWAY,
        ),
        "History": shape(
            {"now": _SECONDS, "time": _SERIES, "latency": {"type": "object"}, "broker": {"type": "object"}},
            breaker={"type": "array", "items": {"type": ["string", "null"]}},
        )
        | {"additionalProperties": _SERIES},
        "Explored": shape(
            {"collection": {"type": "string"}, "id": {"type": "string"}, "partition": _COUNT},
            redis={"type": "object"},
            mongodb=shape({"state": {"enum": ["found", "absent", "unknown"]}}),
            pending={"type": ["object", "null"]},
            dead_letters={"type": "array", "items": reference("Letter")},
        ),
        "Key": shape(_KEY),
        "IssuedKey": shape(
            _KEY | {"token": {"type": "string", "description": "shown this once"}, "replicated": _REPLICATED}
        ),
        "RevokedKey": shape(_KEY | {"replicated": _REPLICATED}),
        "Keys": shape(
            {
                "keys": {"type": "array", "items": reference("Key")},
                "root_key": {
                    "type": ["string", "null"],
                    "description": "id of the key that `WRITEBEHIND_ROOT_KEY` gives, which may do everything",
                },
            }
        ),
        "NewKey": shape(
            {"name": {"type": "string", "minLength": 1, "maxLength": 100}, "allow": _GRANTS},
            expires_s={"type": ["number", "null"], "minimum": 1, "maximum": LONGEST_S},
            rate={"type": ["number", "null"], "minimum": 0, "maximum": MOST_RATE},
            concurrency={"type": ["integer", "null"], "minimum": 0, "maximum": MOST_CONCURRENT},
        )
        | {"examples": [{"name": "shop", "allow": ["users:read,write"], "expires_s": 7_776_000}]},
        "Rotation": shape({}, overlap_s={"type": ["number", "null"], "minimum": 0, "maximum": LONGEST_S}),
        "Discarded": shape({"discarded": _COUNT, "from_now_on": {"type": "string"}}, cursor=_MORE, away=_AWAY),
    }


_GRANTS: Schema = {
    "type": "array",
    "items": {
        "type": "string",
        "pattern": rf"^(admin|(\*|{COLLECTION_NAME_PATTERN}):(read|write)(,(read|write))*)$",
    },
    "minItems": 1,
    "maxItems": MOST_GRANTS,
    "description": "`<collection>:read`, `<collection>:write` or both as `<collection>:read,write`, with `*` for "
    "every collection; `admin` for the routes of operators",
}
_MS: Schema = {"type": ["integer", "null"], "description": "ms since 1970"}
_REPLICATED = {
    "type": ["boolean", "null"],
    "description": "whether a replica of Redis has it; null where there are none",
}
_KEY: dict[str, Schema] = {
    "id": {"type": "string"},
    "name": {"type": "string"},
    "state": {"enum": ["live", "expired", "revoked"]},
    "allow": _GRANTS,
    "created_ms": {"type": "integer"},
    "expires_ms": _MS,
    "rotated_ms": _MS,
    "former_secret_until_ms": _MS,
    "revoked_ms": _MS,
    "rate": {
        "type": ["number", "null"],
        "description": "items in a second; 0 for any number; null as the settings say",
    },
    "concurrency": {
        "type": ["integer", "null"],
        "description": "requests at a time in a web process; 0 for any number; null as the settings say",
    },
}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_SERIES: Schema = {"type": "array", "items": {"type": ["number", "null"]}}
_AWAY: Schema = {
    "type": "array",
    "items": {"type": "object"},
    "description": "servers of Redis that do not answer while others do, and their partitions, which are left out",
}
_MORE: Schema = {"type": "string", "description": "where more are left: send the request again with it"}


def parameters() -> dict[str, tuple[str, Schema]]:
    """The parameters by name, each with where it stands."""
    return {
        "collection": ("path", {"description": "a configured collection", "schema": _COLLECTION}),
        "within": (
            "query",
            {
                "name": "collection",
                "description": "of the write; any that the settings list where it is not given",
                "schema": _COLLECTION,
            },
        ),
        "owner": (
            "query",
            {
                "name": "owner",
                "description": "id of the API key whose write it is, with the right `admin`; else one's own",
                "schema": {"type": "string"},
            },
        ),
        "id": ("path", {"description": "of the collection's id type", "schema": _ID}),
        "key": ("path", {"description": "id or name of an API key", "schema": {"type": "string"}}),
        "name": ("path", {"description": "a query of the collection's settings", "schema": {"type": "string"}}),
        "fields": (
            "query",
            {
                "description": "paths between commas, such as `name,address.city`; the `_id` comes too",
                "schema": {"type": "string", "minLength": 1},
            },
        ),
        "limit": (
            "query",
            {
                "description": "documents of a page, at most",
                "schema": {"type": "integer", "minimum": 1, "maximum": MOST_OF_PAGE, "default": PAGE_LIMIT},
            },
        ),
        "after": (
            "query",
            {
                "description": "of the page before; without it, the first page",
                "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_CURSOR},
            },
        ),
        "durability": (
            "query",
            {
                "description": "what must have happened before the answer is sent",
                "schema": _DURABILITY | {"default": Durability.BUFFERED.value},
            },
        ),
        "version": (
            "query",
            {
                "description": "of one of the dead letters of the document, where there are several",
                "schema": {"type": "integer", "format": "int64", "minimum": 0, "maximum": MOST_VERSION},
            },
        ),
        "idempotency_key": ("path", {"description": "of a write", "schema": _IDEMPOTENCY_KEY}),
        "Idempotency-Key": (
            "header",
            {
                "description": "the name of this write: where the same request was acknowledged before, nothing "
                "is written, and the answer is that one's, with `Idempotency-Replayed: true`",
                "schema": _key_header(LONGEST_KEY),
            },
        ),
        "key-of-bulk": (
            "header",
            {
                "name": "Idempotency-Key",
                "description": "as of single writes: each item without a `key` of its own gets this one, a colon "
                "and its place as its key",
                "schema": _key_header(LONGEST_OF_BULK),
            },
        ),
        "If-Match": ("header", {"description": "`*`, or a list of strong ETags", "schema": _tags(_STRONG)}),
        "If-None-Match": ("header", {"description": "`*`, or a list of ETags", "schema": _tags(_ANY_TAG, "?")}),
        "if-absent": (
            "header",
            {
                "name": "If-None-Match",
                "description": "`*`, and without `If-Match`: there must be no such document",
                "schema": {"type": "string", "enum": ["*"]},
            },
        ),
    }


def query(name: str, schema: Schema) -> Schema:
    """A query parameter."""
    return {"name": name, "in": "query", "schema": schema}


def limited(default: int, most: int) -> Schema:
    """The parameter `limit`."""
    return query("limit", {"type": "integer", "minimum": 1, "maximum": most, "default": default})
