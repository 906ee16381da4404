"""The route of the pipeline's status."""

from __future__ import annotations

from flask import Response

from writebehind import Pipeline
from writebehind.errors import RedisUnavailableError
from writebehind.flask.answers import as_json
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered
from writebehind.flask.description.schemas import query
from writebehind.flask.parameters import flag, only
from writebehind.flask.problems import respond

_STATUS = administered("get_status", "Status", "", query("partitions", {"type": "boolean", "default": False}))


def status(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("status", __name__)

    @routes.get("/status", operation=_STATUS)
    def figures() -> Response:
        """State of the pipeline.

        While Redis does not answer what was last known, and what to do.
        """
        only("partitions")
        try:
            shown = pipeline.status(partitions=flag("partitions"))
        except RedisUnavailableError as error:
            return respond(error, more=pipeline.status_without_redis(error))
        return as_json(shown)

    return routes
