"""The load generator: percentiles, and how long it goes on."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress

import pytest

from bench.load import percentile, requests, run

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def port():
    """That of a server that answers whatever it is sent, over two connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            one, _ = server.accept()
            with one, suppress(ConnectionError):
                while one.recv(10_000):
                    one.sendall(_ANSWER)

        threads = [threading.Thread(target=answer) for _ in range(2)]
        for thread in threads:
            thread.start()
        yield server.getsockname()[1]
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_a_percentile_is_one_of_the_values(percent, value):
    """The least one that so many do not exceed, in whatever order they come."""
    values = random.sample(range(1, 101), 100)

    assert value == percentile(values, percent)


@pytest.mark.parametrize("percent", [50, 99])
def test_few_values_have_percentiles(percent):
    """The only one is each of them; of two the half is the lesser, and what is next to all is the greater."""
    assert 7.0 == percentile([7.0], percent)
    assert (1.0 if percent == 50 else 2.0) == percentile([2.0, 1.0], percent)


def test_each_answer_has_a_latency(port):
    """At least so many requests are answered, however short the time."""
    found = run(port, 0, 2, requests("GET", 0), 10)

    assert found.count == len(found.latencies_s) >= 10
    assert min(found.latencies_s) > 0
