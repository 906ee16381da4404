"""The routes that pause flushing, and let it go on."""

from __future__ import annotations

from flask import Response

from writebehind import Pipeline
from writebehind.flask.answers import as_json
from writebehind.flask.conditions import refuse_conditions
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered
from writebehind.flask.description.schemas import query
from writebehind.flask.parameters import given, number, only
from writebehind.operations.pausing import LONGEST_S, pause, resume

_COLLECTION = query("collection", {"type": "string"})
_PAUSE = administered(
    "pause_flushing",
    "Paused",
    "404",
    _COLLECTION,
    query("for_s", {"type": "integer", "minimum": 1, "maximum": int(LONGEST_S)}),
)
_RESUME = administered("resume_flushing", "Resumed", "404", _COLLECTION)


def pausing(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("pausing", __name__)
    routes.before_request(refuse_conditions)

    @routes.post("/pause", operation=_PAUSE)
    def begin() -> Response:
        """Stop flushing to MongoDB.

        Of a collection, or of all; until it is resumed, or for so many seconds.
        """
        only("collection", "for_s")
        for_s = number("for_s", None, 1, int(LONGEST_S))
        return as_json({"paused": pause(pipeline, given().get("collection"), for_s=for_s).as_list()})

    @routes.post("/resume", operation=_RESUME)
    def end() -> Response:
        """Let flushing to MongoDB go on.

        It ends the pause of a collection, or all pauses.
        """
        only("collection")
        done = resume(pipeline, given().get("collection"))
        return as_json({"resumed": done.ended.as_list(), "paused": done.paused.as_list()})

    return routes
