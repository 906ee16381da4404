"""The route of conflicts with other writers."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from writebehind import Pipeline
from writebehind.conflicts import MOST

JSON = "application/json"
DEFAULT_LIMIT = 100


def conflicts(pipeline: Pipeline) -> Blueprint:
    """The route, bound to a pipeline."""
    routes = Blueprint("conflicts", __name__)

    @routes.get("/admin/conflicts")
    def latest() -> Response:
        """The latest conflicts, the last first."""
        if unknown := request.args.keys() - {"limit"}:
            raise BadRequest(f"unknown parameter {min(unknown)[:40]!r}: this takes limit")
        given = request.args.get("limit", str(DEFAULT_LIMIT))
        if not given.isdecimal() or not 1 <= int(given[:9]) <= MOST:
            raise BadRequest(f"limit must be from 1 to {MOST}")
        return Response(orjson.dumps({"conflicts": pipeline.conflicts.latest(int(given))}), content_type=JSON)

    return routes
