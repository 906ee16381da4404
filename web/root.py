"""The address that people and programs try first: to the console, or to the API."""

from __future__ import annotations

from importlib.metadata import version

import orjson
from flask import Response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import content, operation
from writebehind.flask.problems import name_request
from writebehind.flask.representations import JSON

_LEAD = operation("get_places", "", {"200": content("Places"), "303": None}, tag="operation")
_HTML = "text/html"
_PLACES = {
    "api": "v1/",
    "console": "console",
    "description": "openapi.json",
    "docs": "docs",
    "health": "healthz",
    "ready": "readyz",
    "status": "admin/status",
}


def root() -> Routes:
    """The route. Its addresses are relative to it, whatever a proxy has put before them."""
    routes = Routes("root", __name__)
    routes.after_request(name_request)
    about = {"name": "writebehind", "version": version("writebehind")} | _PLACES
    text = orjson.dumps(about, option=orjson.OPT_APPEND_NEWLINE)

    @routes.get("/", operation=_LEAD)
    def lead() -> BaseResponse:
        """Addresses of what there is."""
        accepted = request.accept_mimetypes
        wants_page = accepted.best_match([JSON, _HTML], JSON) == _HTML
        answer: BaseResponse = (
            redirect(_PLACES["console"], 303) if wants_page else Response(text, content_type=JSON)
        )
        answer.headers["Vary"] = "Accept"
        return answer

    return routes
