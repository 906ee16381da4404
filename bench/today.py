"""Ways in which the same API is written today, as tutorials have them: each is a Flask application of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from celery import Celery
from flask import Flask, Response, abort, jsonify, request
from pymongo import MongoClient
from pymongo.collection import Collection
from redis import Redis

#: Seconds for which a document is cached.
TTL_S = 300


def set_and_delay() -> Flask:
    """A `set` and a `task.delay` for each write."""
    client, tasks = _redis(), Celery("today", broker=os.environ["REDIS_URL"])

    @tasks.task(name="persist", ignore_result=True)
    def persist(id: str, document: dict[str, Any]) -> None:  # noqa: A002 - as the path says it
        _users().replace_one({"_id": id}, document, upsert=True)

    def put(id: str, document: dict[str, Any]) -> None:  # noqa: A002
        client.set(f"users:{id}", json.dumps(document))
        persist.delay(id, document)

    return _application(put, client)


def write_through() -> Flask:
    """A write to MongoDB, and to the cache."""
    client, users = _redis(), _users()

    def put(id: str, document: dict[str, Any]) -> None:  # noqa: A002
        users.replace_one({"_id": id}, document, upsert=True)
        client.set(f"users:{id}", json.dumps(document), ex=TTL_S)

    return _application(put, client)


def cache_aside() -> Flask:
    """A write to MongoDB, after which the cache has nothing."""
    client, users = _redis(), _users()

    def put(id: str, document: dict[str, Any]) -> None:  # noqa: A002
        users.replace_one({"_id": id}, document, upsert=True)
        client.delete(f"users:{id}")

    return _application(put, client)


def _redis() -> Redis:
    return Redis.from_url(os.environ["REDIS_URL"])


def _users() -> Collection[dict[str, Any]]:
    return MongoClient(os.environ["MONGODB_URL"]).today.users


def _application(put: Callable[[str, dict[str, Any]], None], client: Redis) -> Flask:
    """An application that writes so, and reads by cache-aside."""
    app, users = Flask("today"), _users()

    @app.put("/v1/users/<id>")
    def write(id: str) -> Response:  # noqa: A002
        put(id, request.get_json())
        return jsonify(id=id)

    @app.get("/v1/users/<id>")
    def read(id: str) -> Response:  # noqa: A002
        cached = client.get(f"users:{id}")
        if cached:
            return jsonify(json.loads(cached))
        document = users.find_one({"_id": id}, {"_id": False})
        if document is None:
            abort(404)
        client.set(f"users:{id}", json.dumps(document), ex=TTL_S)
        return jsonify(document)

    return app
