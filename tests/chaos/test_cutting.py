"""The proxy that cuts connections."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.chaos.increments.cutting import CuttingProxy

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer"


def exchanges(cut: float, times: int) -> list[tuple[bytes, bytes]]:
    """What the server has got of a request, and the client of its answer, each time."""
    found: list[tuple[bytes, bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as server, CuttingProxy(server.getsockname()[1], cut, 1) as proxy:
        for _ in range(times):
            got: list[bytes] = []
            answering = threading.Thread(target=_answer, args=(server, got))
            answering.start()
            with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
                client.sendall(REQUEST)
                answer = _all(client)
            answering.join()
            found.append((got[0], answer))
    return found


def _answer(server: socket.socket, got: list[bytes]) -> None:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(10)
        request = b""
        while len(request) < len(REQUEST) and (more := connection.recv(100)):
            request += more
        got.append(request)
        if request == REQUEST:
            connection.sendall(ANSWER)


def _all(connection: socket.socket) -> bytes:
    answer = b""
    while more := connection.recv(100):
        answer += more
    return answer


def test_passes():
    """What is not cut is whole."""
    assert [(REQUEST, ANSWER)] * 5 == exchanges(0, 5)


@pytest.mark.parametrize("part", [0, 1], ids=["request", "answer"])
def test_cuts(part):
    """A part of the connections is cut in the request, which has no answer then, and another in the answer."""
    found = exchanges(1, 40)
    cut = [one for one in found if (one[0] == REQUEST) == (part == 1)]

    assert len({len(one[part]) for one in cut}) > 5
    assert all(
        (REQUEST, ANSWER)[part].startswith(one[part]) and one[part] != (REQUEST, ANSWER)[part] for one in cut
    )
    assert part == 1 or {b""} == {answer for _, answer in cut}
