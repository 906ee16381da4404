"""Listeners that run, each in a thread, and what the status says of them."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from tests.waiting import wait_until
from writebehind.change_stream.listener import Listener


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
