"""The route of drift between Redis and MongoDB."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from writebehind import Pipeline
from writebehind.reconcile.findings import MOST_PASSES

JSON = "application/json"
DEFAULT_LIMIT = 20


def drift(pipeline: Pipeline) -> Blueprint:
    """The route, bound to a pipeline."""
    routes = Blueprint("drift", __name__)
    history = pipeline.reconciler.history

    @routes.get("/admin/drift")
    def found() -> Response:
        """The pass under way, and the last ones of a week."""
        if unknown := request.args.keys() - {"limit"}:
            raise BadRequest(f"unknown parameter {min(unknown)[:40]!r}: this takes limit")
        given = request.args.get("limit", str(DEFAULT_LIMIT))
        if not given.isdecimal() or not 1 <= int(given[:9]) <= MOST_PASSES:
            raise BadRequest(f"limit must be from 1 to {MOST_PASSES}")
        shown = {
            "consistency": history.consistency(),
            "current": history.current().as_dict(),
            "passes": [one.as_dict() for one in history.passes(int(given))],
        }
        return Response(orjson.dumps(shown), content_type=JSON)

    return routes
