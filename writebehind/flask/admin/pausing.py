"""The routes that pause flushing, and let it go on."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response

from writebehind import Pipeline
from writebehind.flask.addresses import Routes
from writebehind.flask.conditions import refuse_conditions
from writebehind.flask.parameters import given, number, only
from writebehind.flask.representations import JSON
from writebehind.operations.pausing import LONGEST_S, pause, resume


def pausing(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("pausing", __name__)
    routes.before_request(refuse_conditions)

    @routes.post("/pause")
    def begin() -> Response:
        """Flush nothing of a collection, or of all, until it is resumed or for so many seconds."""
        only("collection", "for_s")
        for_s = number("for_s", None, 1, int(LONGEST_S))
        return _json({"paused": pause(pipeline, given().get("collection"), for_s=for_s).as_list()})

    @routes.post("/resume")
    def end() -> Response:
        """End the pause of a collection, or all pauses."""
        only("collection")
        done = resume(pipeline, given().get("collection"))
        return _json({"resumed": done.ended.as_list(), "paused": done.paused.as_list()})

    return routes


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE), content_type=JSON)
