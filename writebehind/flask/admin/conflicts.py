"""The route of conflicts with other writers."""

from __future__ import annotations

from flask import Response

from writebehind import Pipeline
from writebehind.change_stream.conflicts import MOST
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered
from writebehind.flask.description.schemas import limited
from writebehind.flask.parameters import limit
from writebehind.flask.representations import JSON

DEFAULT_LIMIT = 100
_LATEST = administered("list_conflicts", "Conflicts", "", limited(DEFAULT_LIMIT, MOST))


def conflicts(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("conflicts", __name__)

    @routes.get("/conflicts", operation=_LATEST)
    def latest() -> Response:
        """Changes of others to what was pending.

        The last comes first, until there are as many bytes as an answer may have.
        """
        shown: list[bytes] = []
        size = 0
        for one in pipeline.conflicts.texts(limit(DEFAULT_LIMIT, MOST)):
            shown.append(one)
            size += len(one)
            if size >= pipeline.settings.max_answer_bytes:
                break
        return Response(b'{"conflicts":[' + b",".join(shown) + b"]}", content_type=JSON)

    return routes
