"""The floor: Flask endpoints that store a body with one SET, and return one with GET or several with MGET."""

from __future__ import annotations

import os

import orjson
import redis
from flask import Flask, Response, request

from web.server import Server
from writebehind import load_settings
from writebehind.tallies.tallies import Tallies


def create_app() -> Flask:
    """Build the application."""
    app = Flask("bare")
    client = redis.Redis.from_url(os.environ["REDIS_URL"])

    @app.put("/v1/users/<id>")
    def put(id: str) -> Response:  # noqa: A002 - as the path says it
        client.set(f"bare:{id}", request.get_data())
        return Response(b'{"id":"' + id.encode() + b'"}', content_type="application/json")

    @app.get("/v1/users/<id>")
    def get(id: str) -> Response:  # noqa: A002
        return Response(client.get(f"bare:{id}"), content_type="application/json")

    @app.post("/v1/users:get")
    def get_many() -> Response:
        ids = orjson.loads(request.get_data())["ids"]
        bodies = zip(ids, client.mget([f"bare:{one}" for one in ids]), strict=True)
        found = b",".join(b'"' + one.encode() + b'":' + body for one, body in bodies)
        return Response(b'{"documents":{' + found + b"}}", content_type="application/json")

    return app


def create_server() -> Server:
    """The same under the server of `writebehind run web`."""
    return Server(create_app(), load_settings(), Tallies())
