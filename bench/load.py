"""A load generator that costs little.

`python -m bench.load PORT METHOD SECONDS CONNECTIONS [BYTES [COUNT [LEAST]]]`.

Prints the number of answers, the seconds that they took, and the milliseconds within which half of them came, and
99 of 100. One process, one thread, keep-alive connections with one request in flight each. Documents are of 200
bytes, or of so many more; POST asks for a count of them. It goes on until at least so many requests are answered.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

IDS = 2000
#: Of large documents.
FEW_IDS = 100
DOCUMENT = (
    b'{"name":"Ada Lovelace","born":{"$date":"1815-12-10T00:00:00Z"},"tags":["mathematics","poetry"],'
    b'"address":{"street":"12 St James\'s Square","city":"London"},"visits":42,"score":0.75,"active":true}'
)


class Answers(NamedTuple):
    """What came of some requests."""

    count: int
    elapsed_s: float
    latencies_s: Sequence[float]


def requests(method: str, more: int, count: int = 1) -> list[bytes]:
    """One request for each id, with documents that have so many bytes more; POST asks for a count of documents."""
    document = DOCUMENT[:-1] + b',"text":"%b"}' % (b"x" * more) if more else DOCUMENT
    body = document if method == "PUT" else b""
    ids = FEW_IDS if more else IDS
    if method == "POST":
        return [_asking([(first + at) % ids for at in range(count)]) for first in range(ids)]
    head = f"{method} /v1/users/user-%d HTTP/1.1\r\nHost: localhost\r\n".encode()
    if body:
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        return [head % (number,) + b"\r\n" + body for number in range(ids)]
    return [head % (number,) + b"\r\n" for number in range(ids)]


def _asking(numbers: list[int]) -> bytes:
    names = b",".join(b'"user-%d"' % number for number in numbers)
    body = b'{"ids":[%b]}' % names
    head = b"POST /v1/users:get HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def complete(answer: bytes) -> bool:
    """Whether an answer is there as a whole."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
    return bool(end) and len(body) >= int(length)


def run(port: int, seconds: float, connections: int, texts: Sequence[bytes], least: int) -> Answers:
    """Send requests for some seconds, and until so many are answered."""
    sent: dict[int, float] = {}
    parts: dict[int, bytes] = {}
    latencies = array("d")
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for at in range(connections):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent[one.fileno()] = time.monotonic()
            one.sendall(texts[at % len(texts)])
            selector.register(one, selectors.EVENT_READ)
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds or len(latencies) < least:
            for key, _ in selector.select(1):
                one = key.fileobj
                answer = parts.pop(key.fd, b"") + one.recv(1 << 20)
                if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                    sys.exit(f"unexpected answer: {answer[:200]!r}")
                if not complete(answer):
                    parts[key.fd] = answer
                    continue
                now = time.monotonic()
                latencies.append(now - sent[key.fd])
                sent[key.fd] = now
                one.sendall(texts[(len(latencies) * 7919) % len(texts)])
    return Answers(len(latencies), elapsed, latencies)


def percentile(values: Sequence[float], percent: int) -> float:
    """The least value that so many percent of all do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


if __name__ == "__main__":
    port, method, seconds, connections, *rest = sys.argv[1:]
    more, count, least = (*map(int, rest), *(0, 1, 1)[len(rest) :])
    found = run(int(port), float(seconds), int(connections), requests(method, more, count), least)
    print(found.count, found.elapsed_s, *(percentile(found.latencies_s, percent) * 1e3 for percent in (50, 99)))
