"""Each call gets its own answer, whole: late, cut off, interrupted, large, or an error."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from tests.integration.redis.wire.conftest import TIMEOUT_MS
from tests.waiting import slowness, wait_until
from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import connection_pool
from writebehind.redis.wire import Wire

#: Around what TLS, the parser's buffer and the largest documents hold.
SIZES = [0, 1, 4_095, 4_096, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20, 16 << 20]


class InterruptedByTestError(BaseException):
    """What a signal handler raises, as at Celery's soft time limit."""


def test_an_answer_that_comes_late_is_not_taken_for_another(hasty, proxy):
    """After a time-out no call gets the answer of the one before."""
    hasty.call("SET", "one", "1")
    hasty.call("SET", "two", "2")
    proxy.hang()
    with pytest.raises(RedisUnavailableError):
        hasty.call("GET", "one")
    proxy.flow()

    assert wait_until(lambda: hasty.call("GET", "two"), "an answer") == b"2"


def test_an_error_of_one_command_leaves_the_others_alone(wire):
    """Of several commands in one round trip, one that fails does not disturb the answers of the others."""
    good, bad, last = wire.calls((("ECHO", "a"), ("NO-SUCH-COMMAND",), ("ECHO", "b")))

    assert (b"a", b"b") == (good, last)
    assert "unknown command" in str(bad)
    assert wire.call("ECHO", "c") == b"c"


@contextmanager
def half_a_server(answer: bytes, then: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that answers PING, and anything else with a part of an answer."""
    over = threading.Event()

    def serve(client: socket.socket) -> None:
        with client:
            while data := client.recv(1 << 16):
                if b"PART" not in data:
                    client.sendall(b"+PONG\r\n" * data.count(b"*"))
                    continue
                client.sendall(answer)
                then(client)
                over.wait(30)
                return

    def accept() -> None:
        while not over.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize(
    "then", [lambda _: None, lambda one: one.shutdown(socket.SHUT_RDWR)], ids=["hangs", "ends"]
)
@pytest.mark.parametrize("part", [b"", b"$40000\r\n", b"$40000\r\n" + b"x" * 20_000, b"*2\r\n$1\r\na\r\n"])
def test_an_answer_that_ends_in_the_middle(way_to, part, then):
    """A part of an answer is none: the call fails in time, and what comes next is not taken for the rest."""
    with half_a_server(part, then) as port, way_to("redis", port) as way:
        wire = Wire(connection_pool(way.url, TIMEOUT_MS))
        assert wire.call("PING") == b"PONG"
        began = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            wire.call("PART")
        assert time.monotonic() - began < 10 * TIMEOUT_MS / 1000 * slowness()
        assert wait_until(lambda: wire.call("PING") == b"PONG", "an answer")
        wire.close()


def test_answers_of_each_size(wire):
    """Small and large questions and answers are whole, alone and several at once."""
    some = [bytes([65 + at]) * size for at, size in enumerate(SIZES)]
    for one in some:
        assert one == wire.call("ECHO", one)
    assert some[:-1] * 3 == wire.calls([("ECHO", one) for one in some[:-1] * 3])
    assert 1 == len(wire._servers.place("")._idle)


def test_a_call_that_a_signal_interrupts(wire):
    """An exception out of a signal handler comes through, and no later call gets the answer that was due."""

    def interrupt(*_: object) -> None:
        raise InterruptedByTestError

    wire.call("PING")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(InterruptedByTestError):
            wire.call("BLPOP", "nothing", 10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert [] == list(wire._servers.place("")._idle)
    assert [f"{n}".encode() for n in range(50)] == [wire.call("ECHO", n) for n in range(50)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # closing is interrupted too
def test_a_call_that_is_interrupted_anywhere(wire):
    """Whatever line an exception comes at: the next call gets its own answer."""
    left = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise InterruptedByTestError
        return trace

    def interrupted_at(line: int) -> bool:
        nonlocal left
        left, before = line, sys.gettrace()
        sys.settrace(trace)
        try:
            wire.call("ECHO", f"interrupted at {line}")
        except InterruptedByTestError:
            return True
        finally:
            sys.settrace(before)
        return left < 0  # one that a finalizer's line has raised, which Python itself suppresses

    line = 0
    while True:
        wire.call("PING")
        interrupted = interrupted_at(line)
        assert [b"a", b"b"] == [wire.call("ECHO", one) for one in "ab"], line
        if not interrupted:
            break
        line += 1
    assert line > 20
