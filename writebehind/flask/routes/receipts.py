"""The route of receipts: what has become of writes, by their idempotency keys."""

from __future__ import annotations

import orjson
from flask import Response, request

from writebehind import Pipeline
from writebehind.access.rights import Right
from writebehind.access.subjects import Holder
from writebehind.flask.access import Access, hidden_from, owner_of
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import content, operation
from writebehind.flask.parameters import given, only
from writebehind.flask.representations import JSON
from writebehind.settings.names import RECEIPTS
from writebehind.writing.receipts import KnownWrite

RECEIPT = f"/v1/{RECEIPTS}/<writebehind_key:idempotency_key>"

_RECEIPT = operation(
    "get_receipt",
    "within owner",
    {"200": content("Receipt")},
    "404",
    about="It is of a write to a collection that is given, or to any that the settings list.",
)


def receipts(pipeline: Pipeline, access: Access | None) -> Routes:
    """The route, bound to a pipeline; none where the settings have a collection of that name.

    Whoever may neither read nor write a collection is told of no write to it, and of another one's write only who
    may operate the service.
    """
    routes = Routes("receipts", __name__)
    if RECEIPTS in pipeline.settings.collections:
        return routes

    @routes.get(RECEIPT, operation=_RECEIPT)
    def receipt(idempotency_key: str) -> Response:
        """Ask what has become of a write that had an idempotency key."""
        only("collection", "owner")
        owner = given().get("owner")
        if owner is not None and access:
            access.admit(Right.ADMIN)
        holder = access.holder() if access else None
        sees_all = owner is not None  # by the right `admin`
        asked = given().get("collection")
        within = [
            one
            for one in (pipeline.settings.collections if asked is None else [asked])
            if sees_all or _may_know(holder, one)
        ]
        whose = owner_of(request.environ) if owner is None else owner
        found = pipeline.receipt(idempotency_key, collections=within, owner=whose)
        shown = _shown(idempotency_key, found)
        return Response(orjson.dumps(shown), headers={"Cache-Control": "no-store"}, content_type=JSON)

    return routes


def _may_know(holder: Holder | None, collection: str) -> bool:
    """Whether somebody may know of writes to a collection."""
    return holder is None or any(holder.rights.allow(one, collection) for one in (Right.READ, Right.WRITE))


def _shown(key: str, found: KnownWrite) -> dict[str, object]:
    said: dict[str, object] = {"key": key, "state": found.state.value}
    if found.version:
        said |= {"collection": found.collection, "id": found.id, "version": found.version}
    return said | {"etag": found.etag} if found.etag and hidden_from(found.collection) is None else said
