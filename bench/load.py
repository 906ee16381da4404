"""A load generator that costs little: `python -m bench.load PORT METHOD SECONDS CONNECTIONS [BYTES]`.

Prints the number of answers and the seconds that they took. One process, one thread, keep-alive connections with
one request in flight each. Documents are of 200 bytes, or of so many more.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

IDS = 2000
#: Of large documents, so that all are there after a round.
FEW_IDS = 100
DOCUMENT = (
    b'{"name":"Ada Lovelace","born":{"$date":"1815-12-10T00:00:00Z"},"tags":["mathematics","poetry"],'
    b'"address":{"street":"12 St James\'s Square","city":"London"},"visits":42,"score":0.75,"active":true}'
)


def requests(method: str, more: int) -> list[bytes]:
    """One request for each id, with documents that have so many bytes more."""
    document = DOCUMENT[:-1] + b',"text":"%b"}' % (b"x" * more) if more else DOCUMENT
    body = document if method == "PUT" else b""
    ids = FEW_IDS if more else IDS
    head = f"{method} /v1/users/user-%d HTTP/1.1\r\nHost: localhost\r\n".encode()
    if body:
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        return [head % (number,) + b"\r\n" + body for number in range(ids)]
    return [head % (number,) + b"\r\n" for number in range(ids)]


def complete(answer: bytes) -> bool:
    """Whether an answer is there as a whole."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
    return bool(end) and len(body) >= int(length)


def run(port: int, method: str, seconds: float, connections: int, more: int = 0) -> tuple[int, float]:
    """Send requests for some seconds; the number of answers and the time they took."""
    texts = requests(method, more)
    selector = selectors.DefaultSelector()
    for at in range(connections):
        one = socket.create_connection(("127.0.0.1", port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.sendall(texts[at % len(texts)])
        selector.register(one, selectors.EVENT_READ)
    parts: dict[int, bytes] = {}
    answered, start = 0, time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        for key, _ in selector.select(1):
            one = key.fileobj
            answer = parts.pop(key.fd, b"") + one.recv(65536)
            if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                sys.exit(f"unexpected answer: {answer[:200]!r}")
            if not complete(answer):
                parts[key.fd] = answer
                continue
            answered += 1
            one.sendall(texts[(answered * 7919) % len(texts)])
    return answered, elapsed


if __name__ == "__main__":
    port, method, seconds, connections, *more = sys.argv[1:]
    print(*run(int(port), method, float(seconds), int(connections), *map(int, more)))
