"""The Flask application factory: the composition root of the web process."""

from __future__ import annotations

import atexit
import logging
from typing import Any

from flask import Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from flask_swagger_ui import get_swaggerui_blueprint
from werkzeug import exceptions
from werkzeug.routing import BaseConverter, MapAdapter

from tasks.enqueue import FlushPublisher
from web.health import health
from web.origins import check as check_origin
from writebehind import Pipeline, Settings, connect, load_settings
from writebehind.access.gate import Gate
from writebehind.errors import UnavailableError
from writebehind.flask.addresses import StrictRequest
from writebehind.flask.admin.conflicts import conflicts
from writebehind.flask.admin.dead_letters import dead_letters
from writebehind.flask.admin.drift import drift
from writebehind.flask.admin.hot_keys import hot_keys
from writebehind.flask.admin.status import status
from writebehind.flask.description.openapi import specification
from writebehind.flask.framing import REFUSAL, WHOLE, collect
from writebehind.flask.problems import register_problems, this_request
from writebehind.flask.routes.batches import batches
from writebehind.flask.routes.documents import documents
from writebehind.flask.routes.reading import reading
from writebehind.operations.doctor import check_start

log = logging.getLogger(__name__)


class _CollectionConverter(BaseConverter):
    """A collection's name, which ends where an action such as `:bulk` begins."""

    regex = "[^/:]+"


class _NoSession(SessionInterface):
    """This API has no sessions; Flask makes an object for one at each request all the same."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002 - Flask's
        """Return the same empty session to all."""
        return self._none


class _Application(Flask):
    """Flask without what this API has no use for and each request would pay: see `bench/http.py`."""

    session_interface = _NoSession()
    request_class = StrictRequest

    def __init__(self, settings: Settings) -> None:
        """Serve what the gate of these settings lets through, with bodies up to the longest that they allow."""
        self._gate = Gate(settings.host, settings.allowed_hosts)
        self._most_bytes = max(settings.max_bulk_bytes, settings.max_document_bytes)
        super().__init__("writebehind", static_folder=None)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by path and method only: no route depends on the host, and no link is built from it.

        Raises:
            HTTPException: the gate or the server refuses the request.
        """
        if request is None:
            return super().create_url_adapter(request)
        check_origin(self._gate, request.environ)
        method = request.environ["REQUEST_METHOD"]
        if method != method.upper():  # Werkzeug takes it for the one in capitals, RFC 9110 for another one
            raise exceptions.NotImplemented(f"there is no method {method[:40]!r}: methods are written in capitals")
        if REFUSAL in request.environ:
            raise request.environ[REFUSAL]
        if WHOLE not in request.environ:
            collect(request.environ, self._most_bytes)
        path = request.strict_path if isinstance(request, StrictRequest) else request.path
        return self.url_map.bind("", path_info=path, default_method=request.method)

    def make_default_options_response(self) -> Response:
        """Tell the methods of the path that is meant: `…:increment` could be the end of an id as well."""
        meant = request.url_rule
        rules = [one for one in self.url_map.iter_rules() if meant is not None and one.rule == meant.rule]
        response = self.response_class()
        response.allow.update(method for one in rules for method in one.methods or ())
        return response

    def log_exception(self, exc_info: Any) -> None:
        """Log an error that nobody foresaw under the name that its answer has."""
        self.logger.error("%s failed", this_request(), exc_info=exc_info)


def check(pipeline: Pipeline) -> None:
    """Refuse to start where Redis would lose data; a Redis that does not answer yet is for `/readyz` to report.

    Raises:
        ConfigurationError: it would, or it is divided differently.
    """
    try:
        for warning in check_start(pipeline):
            log.warning("%s: %s", warning.found, warning.advice)
    except UnavailableError as error:
        log.warning("cannot check Redis yet: %s", error)


def create_app(pipeline: Pipeline | None = None) -> Flask:
    """Build the application.

    Args:
        pipeline: by default one is connected as the settings say, with Celery as its way to enqueue flushes.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    if pipeline is None:
        settings = load_settings()
        hints = FlushPublisher(settings)
        atexit.register(hints.close)
        pipeline = connect(settings, hints=hints, refreshes=hints)
        check(pipeline)
    app = _Application(pipeline.settings)
    app.url_map.converters["collection"] = _CollectionConverter
    app.url_map.merge_slashes = False  # `//` in a path is part of an id, and a wrong one
    register_problems(app)
    blueprints = (reading, documents, batches, health, status, dead_letters, conflicts, drift, hot_keys)
    for routes in (build(pipeline) for build in blueprints):
        app.register_blueprint(routes)
    text = specification(pipeline.settings)

    @app.get("/openapi.json")
    def openapi() -> Response:
        """This API's description."""
        return Response(text, content_type="application/json")

    page = get_swaggerui_blueprint("/docs", "/openapi.json", config={"app_name": "writebehind"})
    page.after_request(_unframed)
    app.register_blueprint(page)
    # The page stands under `/docs/`; a redirect there would need the host that `create_url_adapter` leaves out.
    app.add_url_rule("/docs", "swagger_ui.docs", app.view_functions["swagger_ui.show"])
    return app


def _unframed(response: Response) -> Response:
    """Keep the page out of other pages, which could have a person click in it without knowing."""
    response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
    response.headers["X-Frame-Options"] = "DENY"
    return response
