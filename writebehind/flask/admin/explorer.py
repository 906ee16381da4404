"""The route of one document: what Redis has of it, and what MongoDB has."""

from __future__ import annotations

from flask import Response

from writebehind import Pipeline
from writebehind.flask.answers import as_json
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered
from writebehind.flask.parameters import only
from writebehind.operations.explorer import explore

_SHOW = administered("explore_document", "Explored", "404")


def explorer(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("explorer", __name__)

    @routes.get("/explorer/<writebehind_collection:collection>/<id>", operation=_SHOW)
    def show(collection: str, id: str) -> Response:  # noqa: A002 - as the path says it
        """A document in Redis and in MongoDB."""
        only()
        return as_json(explore(pipeline, collection, id))

    return routes
