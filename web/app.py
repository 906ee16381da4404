"""The Flask application factory: the composition root of the web process."""

from __future__ import annotations

import atexit

from flask import Flask, Response
from flask_swagger_ui import get_swaggerui_blueprint
from werkzeug.routing import BaseConverter

from tasks.enqueue import FlushHints
from web.batches import batches
from web.documents import documents
from web.health import health
from web.openapi import specification
from web.problems import register_problems
from writebehind import Pipeline, connect, load_settings


class _CollectionConverter(BaseConverter):
    """A collection's name, which ends where an action such as `:bulk` begins."""

    regex = "[^/:]+"


def create_app(pipeline: Pipeline | None = None) -> Flask:
    """Build the application.

    Args:
        pipeline: by default one is connected as the settings say, with Celery as its way to enqueue flushes.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    if pipeline is None:
        settings = load_settings()
        hints = FlushHints(settings)
        atexit.register(hints.close)
        pipeline = connect(settings, hints=hints)
    app = Flask("writebehind", static_folder=None)
    app.url_map.converters["collection"] = _CollectionConverter
    app.url_map.merge_slashes = False  # `//` in a path is part of an id, and a wrong one
    register_problems(app)
    for routes in (documents(pipeline), batches(pipeline), health(pipeline)):
        app.register_blueprint(routes)
    text = specification(pipeline.settings)

    @app.get("/openapi.json")
    def openapi() -> Response:
        """This API's description."""
        return Response(text, content_type="application/json")

    page = get_swaggerui_blueprint("/docs", "/openapi.json", config={"app_name": "writebehind"})
    app.register_blueprint(page)
    return app
