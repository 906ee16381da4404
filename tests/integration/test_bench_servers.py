"""Servers that benchmarks start: one that hangs ends the run, with what is known of it."""

from __future__ import annotations

import sys
import time

import pytest

import bench.http
from bench.http import serving
from tests.waiting import slowness
from writebehind.local.embedded import free_port

_LISTENS = """
import signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listens", flush=True)
    def answers():
        while True:
            one = server.accept()[0]
            one.recv(1000)
            one.sendall(b"HTTP/1.1 404 Not Found\\r\\nContent-Length: 0\\r\\n\\r\\n")
            one.close()
    def waits_for_nobody():
        signal.pause()
    {}()
"""


def _command(what: str, port: int) -> list[str]:
    return [sys.executable, "-c", _LISTENS.format(what), str(port)]


def test_a_server_that_listens_and_does_not_answer_is_told_with_its_stacks():
    """It is waited for no longer than was said, and its output and the place where it hangs are in the error."""
    began, port = time.monotonic(), free_port()

    with pytest.raises(SystemExit) as told, serving("it", _command("waits_for_nobody", port), port, {}, start_s=2):
        pytest.fail("it was handed over")

    assert str(told.value).startswith("it does not answer within 2 s, and printed:\nlistens\n")
    assert "in waits_for_nobody" in str(told.value)
    assert time.monotonic() - began < 10 * slowness()


def test_a_server_that_does_not_start_is_told_with_what_it_has_printed():
    """At once."""
    command = [sys.executable, "-c", "raise SystemExit('no such application')"]

    with (
        pytest.raises(SystemExit, match="it has ended with 1, and printed:\nno such application\n"),
        serving("it", command, free_port(), {}),
    ):
        pytest.fail("it was handed over")


def test_a_server_that_does_not_end_is_killed(monkeypatch):
    """Once it was given some time."""
    monkeypatch.setattr(bench.http, "END_S", 0.2)
    port = free_port()

    with serving("it", _command("answers", port), port, {}) as server:
        assert server.process.is_running()

    assert not server.process.is_running()
