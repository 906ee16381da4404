"""The route of the pipeline's status."""

from __future__ import annotations

import orjson
from flask import Response

from writebehind import Pipeline
from writebehind.errors import RedisUnavailableError
from writebehind.flask.addresses import Routes
from writebehind.flask.parameters import flag, only
from writebehind.flask.problems import respond
from writebehind.flask.representations import JSON


def status(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("status", __name__)

    @routes.get("/status")
    def figures() -> Response:
        """The state of the pipeline; while Redis does not answer what was last known, and what to do."""
        only("partitions")
        try:
            shown = pipeline.status(partitions=flag("partitions"))
        except RedisUnavailableError as error:
            return respond(error, more=pipeline.status_without_redis(error))
        return Response(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE), content_type=JSON)

    return routes
