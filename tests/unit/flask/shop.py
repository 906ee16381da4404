"""An application of somebody else, with routes, errors and ways of its own."""

from __future__ import annotations

import json

from flask import Flask, Response, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.routing import BaseConverter


class Shouting(DefaultJSONProvider):
    """A provider of an application's own."""

    def dumps(self, obj: object, **options: object) -> str:
        return super().dumps(obj, **options).upper()


def sent(document: dict) -> dict[str, object]:
    """What a client sends, whose JSON is not that of the application."""
    return {"data": json.dumps(document), "content_type": "application/json"}


class Shelf(BaseConverter):
    """A converter of an application's own, with a name that others like too."""

    regex = "[0-9]+"


def shop(**config: object) -> Flask:
    """An application with routes, errors and ways of its own."""
    app = Flask("shop")
    app.config.update(config)
    app.json = Shouting(app)
    app.url_map.converters["collection"] = Shelf

    @app.get("/shelves/<collection:number>")
    def shelf(number: str) -> Response:
        return jsonify(shelf=number)

    @app.post("/orders")
    def order() -> Response:
        return jsonify(size=len(request.get_data()))

    @app.get("/broken")
    def broken() -> str:
        raise KeyError("ours")

    @app.errorhandler(404)
    @app.errorhandler(405)
    @app.errorhandler(413)
    @app.errorhandler(400)
    def own(error: Exception) -> tuple[str, int]:
        return f"the shop says {error.code}", error.code

    @app.errorhandler(Exception)
    def own_crash(error: Exception) -> tuple[str, int]:
        return f"the shop says {type(error).__name__}", getattr(error, "code", 500)

    return app
