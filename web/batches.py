"""The routes of many documents at once."""

from __future__ import annotations

import json
from typing import Any

import orjson
from flask import Blueprint, Response
from werkzeug.exceptions import RequestEntityTooLarge

from web.conditions import refuse_conditions
from web.parameters import durability, only
from web.problems import item_problem, problem_of
from web.requests import BULK_TYPES, JSON_TYPES, body
from writebehind import ANY, BulkOperation, Pipeline, WritebehindError, Written, changes, codec
from writebehind.errors import InvalidDocumentError, MalformedDocumentError, RequestError

JSON = "application/json"
_FIELDS = {"op", "id", "doc", "if_match"}


def batches(pipeline: Pipeline) -> Blueprint:
    """The routes, bound to a pipeline."""
    routes = Blueprint("batches", __name__)
    settings = pipeline.settings

    @routes.post("/v1/<collection:collection>:bulk")
    def bulk(collection: str) -> Response:
        """Carry out several writes."""
        target = pipeline.collection(collection)
        asked = durability()
        refuse_conditions()
        items = _items(body(BULK_TYPES, settings.max_bulk_bytes))
        _check_count(len(items), settings.max_bulk_items)
        read = [_operation(item, settings.max_document_bytes) for item in items]
        # An item that cannot be read does not keep the others from being written.
        done = iter(target.bulk([one for one in read if isinstance(one, BulkOperation)], durability=asked))
        results = [
            _result(item, one, next(done) if isinstance(one, BulkOperation) else one)
            for item, one in zip(items, read, strict=True)
        ]
        return Response(orjson.dumps({"results": results}), 207, content_type=JSON)

    @routes.post("/v1/<collection:collection>:get")
    def get(collection: str) -> Response:
        """Read several documents."""
        target = pipeline.collection(collection)
        only()
        refuse_conditions()
        asked = codec.loads(body(JSON_TYPES, settings.max_bulk_bytes))
        ids = asked.get("ids") if isinstance(asked, dict) else None
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise RequestError('send {"ids": ["…", …]}, each id a string')
        _check_count(len(ids), settings.max_bulk_items)
        ids = list(dict.fromkeys(ids))
        found: list[bytes] = []
        missing: list[str] = []
        entries, bypassed = target.read_many(ids)
        for given, entry in zip(ids, entries, strict=True):
            if entry.exists:
                found.append(orjson.dumps(given) + b":" + codec.to_json(entry.body))
            else:
                missing.append(given)
        text = b'{"documents":{' + b",".join(found) + b'},"missing":' + orjson.dumps(missing) + b"}"
        headers = {"Cache-Status": "writebehind; fwd=bypass"} if bypassed else {}
        return Response(text, 200, headers, content_type=JSON)

    return routes


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise RequestEntityTooLarge(f"{count} items in one request; {most} are allowed: send them in parts")


def _items(data: bytes) -> list[Any]:
    """The items of a JSON array, or of NDJSON, where a line that cannot be read fails by itself."""
    if data.lstrip()[:1] == b"[":
        return list(codec.parse(data))
    items: list[Any] = []
    for line in data.splitlines():
        if line.strip():
            try:
                items.append(codec.parse(line))
            except RequestError as error:
                items.append(error)
    if not items:
        raise MalformedDocumentError("send a JSON array of operations, or one operation per line (NDJSON)")
    return items


def _operation(item: Any, most_bytes: int) -> BulkOperation | WritebehindError:
    if isinstance(item, WritebehindError):
        return item
    try:
        return _checked_operation(item, most_bytes)
    except WritebehindError as error:
        return error


def _checked_operation(item: Any, most_bytes: int) -> BulkOperation:
    if not isinstance(item, dict) or item.get("op") not in {"put", "patch", "delete"} or "id" not in item:
        raise RequestError('an operation is {"op": "put", "patch" or "delete", "id": …, "doc": …, "if_match": …}')
    if unknown := item.keys() - _FIELDS:
        raise RequestError(f"unknown field {min(unknown)[:40]!r} in the operation")
    given, etags = codec.convert(item["id"]), _etags(item.get("if_match"))
    if item["op"] == "delete":
        return BulkOperation("delete", given, if_match=etags)
    content = codec.convert(item.get("doc"))
    if item["op"] == "put":
        if not isinstance(content, dict):
            raise InvalidDocumentError("doc must be a JSON object")
        return BulkOperation("put", given, document=content, if_match=etags)
    if isinstance(content, list):
        change = changes.json_patch(content, most_bytes=most_bytes)
    else:
        change = changes.merge_patch(content)
    return BulkOperation("patch", given, change=change, if_match=etags)


def _etags(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    etags = given if isinstance(given, list) else [given]
    if not etags or not all(isinstance(one, str) and one for one in etags):
        raise RequestError("if_match must be an ETag, a list of ETags, or *")
    return tuple(map(_etag, etags))


def _etag(given: str) -> str:
    """An ETag without its quotes, which may be left out; `"*"`, with quotes, is one that nothing has."""
    if given == f'"{ANY}"':
        return ""
    return given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given


def _result(item: Any, operation: Any, result: Written | WritebehindError) -> dict[str, Any]:
    if isinstance(result, Written):
        status = 204 if operation.op == "delete" else 201 if result.created else 200
        done: dict[str, Any] = {
            "id": result.id,
            "status": status,
            "version": result.version,
            "durability": result.durability.value,
        }
        return done | {"etag": result.etag} if result.etag else done
    given = item.get("id") if isinstance(item, dict) else None
    # As it was sent: orjson would stumble over integers that it cannot hold.
    given = given if isinstance(given, str) else orjson.Fragment(json.dumps(given))
    return {"id": given, "status": problem_of(result).status, "error": item_problem(result)}
