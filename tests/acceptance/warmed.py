"""The API and the tasks, used before the server forks: `gunicorn --preload`, and `celery -A` with `prefork`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from celery import signals

from tasks.celery import app, runtime
from web.app import create_app
from writebehind import Pipeline, connect
from writebehind.celery import FlushPublisher

__all__ = ["app", "create"]

CONNECTIONS = 8


def warm(pipeline: Pipeline) -> None:
    """Open connections to Redis and MongoDB, and start what counts reads."""
    all_at_once = threading.Barrier(CONNECTIONS)

    def ask(_: int) -> None:
        all_at_once.wait()
        pipeline.store._wire.call("BLPOP", "nothing", 0.3)  # until then nobody else can have the connection

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(ask, range(CONNECTIONS)))
    pipeline.collection("users").get("nobody")


def create() -> object:
    """The API with its own pipeline."""
    hints = FlushPublisher(runtime.settings)
    pipeline = connect(runtime.settings, hints=hints, refreshes=hints)
    warm(pipeline)
    return create_app(pipeline)


def warm_worker(**_: object) -> None:
    """Do so in a worker before it forks."""
    warm(runtime.pipeline)


signals.worker_init.connect(warm_worker, weak=False)
