"""The route of the pipeline's status."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response

from writebehind import Pipeline
from writebehind.flask.parameters import flag, only

JSON = "application/json"


def status(pipeline: Pipeline) -> Blueprint:
    """The route, bound to a pipeline."""
    routes = Blueprint("status", __name__)

    @routes.get("/admin/status")
    def figures() -> Response:
        """How the pipeline is."""
        only("partitions")
        shown = pipeline.status(partitions=flag("partitions"))
        return Response(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE), content_type=JSON)

    return routes
