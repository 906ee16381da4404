"""The routes of the description: for programs, and as a page to try the API."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files

import jinja2
from flask import Response, request, send_from_directory
from jinja2.utils import htmlsafe_json_dumps

from writebehind import Settings
from writebehind.flask.addresses import path_to_description
from writebehind.flask.declarations import Routes, described
from writebehind.flask.description.openapi import specification
from writebehind.flask.description.operations import OBJECT, Described, operation
from writebehind.flask.pages import forbid_frames
from writebehind.flask.representations import JSON

_OPENAPI = "/openapi.json"
_SELF = operation("get_description", "", {"200": OBJECT}, tag="operation")
#: Prefixes under which the API is reached whose descriptions are kept; a proxy tells them, if it is trusted to.
_MOST_PREFIXES = 16
_UI, _UI_VERSION = files("flask_swagger_ui"), version("flask-swagger-ui")


def description(settings: Settings, *, paths: Mapping[str, Described], keys: bool = False) -> Routes:
    """The routes, for these settings.

    Args:
        settings: of the pipeline.
        paths: operations of all other routes, by path and method.
        keys: whether API keys are asked for, once there are any.
    """
    routes = Routes("description", __name__)
    write = lru_cache(_MOST_PREFIXES)(
        lambda prefix: specification(settings, prefix, paths={**paths, **described(routes.declared)}, keys=keys)
    )
    page = jinja2.Template((_UI / "templates" / "index.template.html").read_text(), autoescape=True)

    @routes.get(_OPENAPI, operation=_SELF)
    def openapi() -> Response:
        """This description."""
        return Response(write(_prefix()), content_type=JSON)

    @routes.get("/docs")
    @routes.get("/docs/")
    @routes.get("/docs/index.html")
    def docs() -> Response:
        """A page to try the API."""
        prefix = _prefix()
        config = {
            "dom_id": "#swagger-ui",
            "url": prefix + _OPENAPI,
            "layout": "StandaloneLayout",
            "deepLinking": True,
        }
        shown = page.render(
            base_url=f"{prefix}/docs",
            app_name="writebehind",
            version=_UI_VERSION,
            config_json=htmlsafe_json_dumps(config),
        )
        return Response(shown, content_type="text/html; charset=utf-8")

    @routes.get("/docs/<path:path>")
    def asset(path: str) -> Response:
        """A file that the page loads."""
        return send_from_directory(str(_UI / "dist"), path)

    @routes.after_request
    def unframed(response: Response) -> Response:
        if request.endpoint and not request.endpoint.endswith(".openapi"):
            forbid_frames(response.headers)
        return response

    return routes


def _prefix() -> str:
    """The prefix of each path of the API."""
    return (path_to_description() or "").removesuffix(_OPENAPI)
