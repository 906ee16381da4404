"""The route of receipts: what has become of writes, by their idempotency keys."""

from __future__ import annotations

import orjson
from flask import Response

from writebehind import Pipeline
from writebehind.flask.addresses import Routes
from writebehind.flask.parameters import only
from writebehind.flask.representations import JSON
from writebehind.settings.names import RECEIPTS
from writebehind.writing.receipts import KnownWrite

RECEIPT = f"/v1/{RECEIPTS}/<key>"


def receipts(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline; none where the settings have a collection of that name."""
    routes = Routes("receipts", __name__)
    if RECEIPTS in pipeline.settings.collections:
        return routes

    @routes.get(RECEIPT)
    def receipt(key: str) -> Response:
        """Tell what has become of a write."""
        only()
        shown = _shown(key, pipeline.receipt(key))
        return Response(orjson.dumps(shown), headers={"Cache-Control": "no-store"}, content_type=JSON)

    return routes


def _shown(key: str, found: KnownWrite) -> dict[str, object]:
    said: dict[str, object] = {"key": key, "state": found.state.value}
    if found.version:
        said |= {"collection": found.collection, "id": found.id, "version": found.version}
    return said | {"etag": found.etag} if found.etag else said
