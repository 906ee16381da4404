"""Requests that real servers answer before Flask, and by Flask alone: what comes over the wire is the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from random import Random

import httpx
import pytest

from tests.tiers import examples
from tests.unit.web.alike import steady, steady_headers
from tests.unit.web.requests import Asked, requests
from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedRedis, free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

pytestmark = pytest.mark.acceptance

CONFIG = """
partitions = 4
defaults = { flush_delay_ms = 3600000 }
[collections]
users = {}
orders = { id = "objectid" }
numbers = { id = "int" }
keys = { id = "uuid" }
around = { write = "around" }
free = { id_pattern = '[\\s\\S]+' }
"""
#: Read by each Python that starts in the directory's reach: whoever listens to Flask has all requests led to it.
LISTENING = """
from flask import request_finished
request_finished.connect(lambda *_, **__: None, weak=False)
"""
MOST_BYTES = 1 << 20


@contextmanager
def web(directory: Path, mongodb_url: str, *, listens: bool) -> Iterator[int]:
    """The port of a web process with a Redis and a database of its own."""
    directory.mkdir()
    (directory / "writebehind.toml").write_text(CONFIG)
    (directory / "path").mkdir()
    (directory / "path" / "sitecustomize.py").write_text(LISTENING if listens else "")
    port = free_port()
    with EmbeddedRedis(directory / "redis") as redis:
        env = {
            **os.environ,
            "PYTHONPATH": str(directory / "path"),
            "WRITEBEHIND_CONFIG": str(directory / "writebehind.toml"),
            "REDIS_URL": redis.url,
            "MONGODB_URL": mongodb_url,
            "MONGODB_DATABASE": f"before_flask_{directory.name}",
            "WRITEBEHIND_PORT": str(port),
            "WRITEBEHIND_WEB_WORKERS": "1",
            "PYTHONHASHSEED": "0",  # or the methods in `Allow` stand in any order
        }
        command = bound_to_parent([sys.executable, "-m", "web"])
        server = Group(subprocess.Popen(command, cwd=directory, env=env, start_new_session=True))
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
                wait_until(lambda: http.get("/readyz").status_code == 200, "a web process", 60)
            yield port
        finally:
            end([server])


def sent(one: Asked) -> bytes:
    """A request as it goes over the wire."""
    target = one.path + (b"?" + one.query if one.query else b"")
    head = b"%b %b HTTP/1.1\r\n" % (one.method.encode(), target)
    lines = b"".join(b"%b: %b\r\n" % header for header in one.headers)
    body = one.body
    if any(name == b"transfer-encoding" for name, _ in one.headers):
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return head + lines + b"\r\n" + body


def answer(port: int, one: Asked) -> tuple[object, ...]:
    """The status, headers and body of an answer; or that the server has closed the connection without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with suppress(ConnectionError):  # it may have answered by now that it takes no such body
            connection.sendall(sent(one))
        response = HTTPResponse(connection, method=one.method)
        try:
            response.begin()
            body = response.read()
        except (HTTPException, ConnectionError) as error:
            return (type(error).__name__,)
    headers = [(name.lower(), value) for name, value in response.getheaders() if name.lower() != "date"]
    return response.status, steady_headers(headers, response.status, body), steady(body)


def test_what_comes_over_the_wire_is_the_same(mongo, tmp_path):
    """Some of the requests that the differential test of the web process draws, between real servers."""
    with (
        web(tmp_path / "hot", mongo.url, listens=False) as hot,
        web(tmp_path / "flask", mongo.url, listens=True) as flask,
    ):
        statuses = set()
        for one in requests(Random(0), examples(1_600), MOST_BYTES):
            expected = answer(flask, one)
            assert expected == answer(hot, one), one
            statuses.add(expected[0])
    assert {200, 400, 404, 422} <= statuses
