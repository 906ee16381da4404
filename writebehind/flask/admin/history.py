"""The route of the figures of the last hour."""

from __future__ import annotations

import re

from flask import Response
from werkzeug.exceptions import BadRequest

from writebehind import Pipeline
from writebehind.flask.answers import as_json
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered
from writebehind.flask.description.schemas import query
from writebehind.flask.parameters import given, only
from writebehind.history.series import series

#: As programs write a number: a time of today has 7 decimals in some.
_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,17})?(e-[0-9]{1,3})?", re.ASCII)
#: By the clock of Redis.
_FIGURES = administered(
    "get_history", "History", "", query("since", {"type": "number", "minimum": 0, "maximum": 9_999_999_999})
)


def history(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("history", __name__)

    @routes.get("/history", operation=_FIGURES)
    def figures() -> Response:
        """The figures of the last hour.

        Or what of them is later than `since`.
        """
        only("since")
        return as_json(series(pipeline.store, since=_since()))

    return routes


def _since() -> float:
    """Seconds since the epoch; 0 where none are given.

    Raises:
        BadRequest: it is no such number.
    """
    asked = given().get("since", "0")
    if not _SECONDS.fullmatch(asked):
        raise BadRequest("since must be seconds since the epoch, such as 1790000000.5")
    return float(asked)
