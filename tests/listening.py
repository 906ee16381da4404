"""Listeners that run, each in a thread; what the status says of them; and streams of what a test says."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any, Self

import bson
from bson.raw_bson import RawBSONDocument

from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.change_stream.listener import Listener
from writebehind.documents.raw_bson import RAW_OPTIONS


@contextmanager
def running(*listeners: Listener):
    threads = [threading.Thread(target=one.listen) for one in listeners]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for one in listeners:
            one.stop()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def status(pipeline) -> dict:
    return pipeline.status()["listener"] or {}


def wait_to_listen(pipeline, leader: str = "") -> None:
    wait_until(lambda: leader in status(pipeline).get("leader", "-") and not status(pipeline)["error"], "it", 10)


def wait_to_see(users, name: str, n: int | None) -> None:
    wait_until(lambda: (users.get(name) or {}).get("n") == n, f"{name} to be {n}", 10)


class Stream:
    """A change stream of what a test says, quiet afterwards."""

    alive, resume_token = True, {"_data": "x"}

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self._events = [RawBSONDocument(bson.encode(one), RAW_OPTIONS) for one in events]

    def spoil(self, old: bytes, new: bytes) -> None:
        self._events = [RawBSONDocument(one.raw.replace(old, new), RAW_OPTIONS) for one in self._events]

    def try_next(self) -> RawBSONDocument | None:
        return self._events.pop(0) if self._events else None

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listening_to(pipeline: Pipeline, monkeypatch, watch) -> Listener:
    """A listener with another way to open a stream."""
    listener = pipeline.listener()
    monkeypatch.setattr(listener, "_database", type("Database", (), {"watch": staticmethod(watch)}))
    return listener
