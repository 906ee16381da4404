"""The route of drift between Redis and MongoDB."""

from __future__ import annotations

from flask import Response

from writebehind import Pipeline
from writebehind.flask.answers import as_json
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered
from writebehind.flask.description.schemas import limited
from writebehind.flask.parameters import limit
from writebehind.reconcile.findings import MOST_PASSES

DEFAULT_LIMIT = 20
_FOUND = administered("get_drift", "Drifts", "", limited(DEFAULT_LIMIT, MOST_PASSES))


def drift(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("drift", __name__)
    history = pipeline.reconciler.history

    @routes.get("/drift", operation=_FOUND)
    def found() -> Response:
        """Differences of Redis and MongoDB.

        In the pass under way, and the last ones of a week.
        """
        shown = {
            "consistency": history.consistency(),
            "current": history.current().as_dict(),
            "passes": [one.as_dict() for one in history.passes(limit(DEFAULT_LIMIT, MOST_PASSES))],
        }
        return as_json(shown)

    return routes
