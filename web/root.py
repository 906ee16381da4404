"""The address that people and programs try first: to the console, or to the API."""

from __future__ import annotations

from importlib.metadata import version

import orjson
from flask import Response, request

from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import content, operation
from writebehind.flask.framing import check_path
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
    routes.before_request(lambda: check_path(request))
    routes.after_request(name_request)
    about = {"name": "writebehind", "version": version("writebehind")} | _PLACES
    text = orjson.dumps(about, option=orjson.OPT_APPEND_NEWLINE)

    @routes.get("/", operation=_LEAD)
    def lead() -> Response:
        """Addresses of what there is."""
        accepted = request.accept_mimetypes
        wants_page = accepted.best_match([JSON, _HTML], JSON) == _HTML
        answer = Response(text, content_type=JSON)
        if wants_page:
            answer = Response(status=303, headers={"Location": _PLACES["console"]})
            del answer.headers["Content-Type"]  # there is no content
        answer.headers["Vary"] = "Accept"
        return answer

    return routes
