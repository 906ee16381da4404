"""The route of conflicts with other writers."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response

from web.parameters import limit
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
        return Response(
            orjson.dumps({"conflicts": pipeline.conflicts.latest(limit(DEFAULT_LIMIT, MOST))}), content_type=JSON
        )

    return routes
