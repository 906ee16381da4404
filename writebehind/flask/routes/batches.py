"""The routes of many documents at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
from flask import Response
from werkzeug.exceptions import RequestEntityTooLarge

from writebehind import Pipeline, Written
from writebehind.collection import BulkResult, Collection
from writebehind.documents import codec
from writebehind.documents.large import LARGE_BYTES, bounded
from writebehind.errors import (
    DocumentNotFoundError,
    InvalidDocumentError,
    NotGrantedError,
    RequestError,
    UnavailableError,
    UnreadableDocumentError,
)
from writebehind.flask.access import hidden_from
from writebehind.flask.addresses import COLLECTION
from writebehind.flask.bodies import BULK_TYPES, JSON_TYPES, body
from writebehind.flask.conditions import refuse_conditions
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import content, operation
from writebehind.flask.description.schemas import reference
from writebehind.flask.idempotency import item_keys, request_key
from writebehind.flask.items import Span, named_id, read_items
from writebehind.flask.parameters import durability, only
from writebehind.flask.problems import item_problem, log_refusal, problem_of
from writebehind.flask.rates import count_items
from writebehind.flask.representations import JSON, NDJSON, unreadable_and_rest, wanted_form
from writebehind.flask.routes.declared import FORMS, SEVERAL
from writebehind.plurals import counted

_DELETED, _OK, _CREATED = 204, 200, 201
#: An id is shown with the error of its item up to this length, as JSON.
_LONGEST_ID = 4_096
#: Bytes of a bulk for each object and array in it, on average.
_BYTES_OF_HOLDER = 16
#: Bytes of a body for each id in it, and for however few; and quotes, of which some may be part of an id.
_BYTES_OF_ID, _BYTES_OF_IDS, _QUOTES_OF_ID = 1_024, 1 << 20, 4

_BULK = operation(
    "bulk_write",
    "durability key-of-bulk",
    {"207": content("Results")},
    SEVERAL,
    body={"content": {JSON: {"schema": reference("Operations")}, NDJSON: {"schema": {"type": "string"}}}},
)
_GET = operation("get_documents", "", {"200": content("Documents", *FORMS)}, f"406 {SEVERAL}", body=content("Ids"))


def batches(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("batches", __name__)
    settings = pipeline.settings

    @routes.post(f"{COLLECTION}:bulk", operation=_BULK)
    def bulk(collection: str) -> Response:
        """Carry out several writes."""
        target = pipeline.collection(collection)
        asked = durability()
        refuse_conditions()
        data = body(BULK_TYPES, settings.max_bulk_bytes)
        hidden = hidden_from(collection)
        items = read_items(
            data,
            most=settings.max_bulk_items,
            most_bytes=settings.max_document_bytes,
            most_holders=max(settings.max_bulk_items, settings.max_bulk_bytes // _BYTES_OF_HOLDER),
            key_of=item_keys(),
            hidden=hidden,
        )
        count_items(len(items.spans))
        with bounded(max(LARGE_BYTES, settings.max_document_bytes)):  # it cannot begin anew
            results = target.bulk(items, durability=asked, request=request_key(data))
        _log(results)
        shown = [_result(data, span, one, hidden) for span, one in zip(items.spans, results, strict=True)]
        return Response(orjson.dumps({"results": shown}), 207, content_type=JSON)

    @routes.post(f"{COLLECTION}:get", operation=_GET)
    def get(collection: str) -> Response:
        """Read several documents."""
        target = pipeline.collection(collection)
        only()
        refuse_conditions()
        most = settings.max_bulk_items
        data = body(JSON_TYPES, min(settings.max_bulk_bytes, max(_BYTES_OF_IDS, most * _BYTES_OF_ID)))
        ids = _ids(data, most)
        count_items(len(ids))
        return _documents(target, ids, settings.max_answer_bytes)

    return routes


def _ids(data: bytes, most: int) -> list[str]:
    # Counted before they become values, which take many times the bytes of their text.
    if data.count(b"[") + data.count(b"{") > most + 2:
        raise InvalidDocumentError("there are too many objects and arrays for a list of ids")
    if data.count(b'"') > _QUOTES_OF_ID * (most + 1):
        raise RequestEntityTooLarge(_too_many(most))
    asked = codec.loads(data)
    ids = asked.get("ids") if isinstance(asked, dict) else None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise RequestError('send {"ids": ["…", …]}, each id a string')
    if len(ids) > most:
        raise RequestEntityTooLarge(_too_many(most))
    return list(dict.fromkeys(ids))


def _documents(target: Collection, ids: Sequence[str], most_bytes: int) -> Response:
    """The documents that are there, until there are `most_bytes`, which ids have none, and which are left.

    A document that cannot be shown has a problem in its place.
    """
    form = wanted_form()
    found: list[bytes] = []
    missing: list[str] = []
    unreadable: dict[str, Any] = {}
    size = done = 0
    headers = {"Vary": "Accept"}
    for given, (entry, bypassed) in zip(ids, target.read_each(ids), strict=True):
        if bypassed:
            headers["Cache-Status"] = "writebehind; fwd=bypass"
        done += 1
        if entry.exists:
            try:
                text = form.text(entry.body)
                found += [orjson.dumps(given), b":", text, b","]  # joined once, as it may be large
                size += len(text)
            except UnreadableDocumentError as error:  # which is no reason not to answer the others
                unreadable[given] = item_problem(entry.blamed(error))
        else:
            missing.append(given)
        if size >= most_bytes:
            break
    more = unreadable_and_rest(unreadable, ids[done:])
    parts = (b'{"documents":{', *found[:-1], b'},"missing":', orjson.dumps(missing), more, b"}")
    return Response(b"".join(parts), 200, headers, content_type=form.content_type)


def _result(data: bytes, span: Span, result: BulkResult, hidden: NotGrantedError | None) -> dict[str, Any]:
    """The answer about an item; `hidden` as `hidden_from` says."""
    if hidden is not None and isinstance(result, DocumentNotFoundError):
        result = hidden
    if isinstance(result, Written):
        status = _OK if result.etag else _DELETED
        done: dict[str, Any] = {
            "id": result.id,
            "status": _CREATED if result.created else status,
            "version": result.version,
            "durability": result.durability.value,
        }
        if result.shared:
            done["shared"] = dict(result.shared)
        if result.confirmed:
            done["confirmed"] = result.confirmed
        if result.replayed:
            done["replayed"] = True
        return done | {"etag": result.etag} if result.etag and hidden is None else done
    # As it was sent: orjson would stumble over integers that it cannot hold.
    given = json.dumps(named_id(data[slice(*span)]))
    shown = orjson.Fragment(given if len(given) <= _LONGEST_ID else "null")
    return {"id": shown, "status": problem_of(result).status, "error": item_problem(result)}


def _log(results: Sequence[BulkResult]) -> None:
    """Log what was not available, once for all items."""
    away = [one for one in results if isinstance(one, UnavailableError)]
    why = Counter((problem_of(one).name, str(one), one.logged) for one in away)
    for (name, error, logged), count in why.items():
        log_refusal(name, f"{counted(count, 'item')}: {error}", logged=logged)


def _too_many(most: int) -> str:
    return f"more than {counted(most, 'item')} in one request: send them in parts"
