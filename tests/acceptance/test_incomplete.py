"""Messages that break off (RFC 9112, section 8), on real servers: nothing of them is carried out."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.acceptance.servers import RUN_WEB, WebServer, web_server

pytestmark = pytest.mark.acceptance

GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--threads", "4", "web.app:create_app()")
GRANIAN = ("-m", "granian", "--interface", "wsgi", "--factory", "--port", "{port}", "web.app:create_app")
SERVERS = {"writebehind run web": RUN_WEB, "gunicorn": GUNICORN}

DOCUMENT = b'{"n": 1}'
CHUNK = b"8\r\n" + DOCUMENT + b"\r\n"
LINES = b'{"op": "put", "id": "one", "doc": {}}\n{"op": "put", "id": "two", "doc": {}}\n'


def message(line: str, body: bytes, *headers: str, kind: str = "application/json", version: str = "1.1") -> bytes:
    head = [f"{line} HTTP/{version}", "Host: localhost", f"Content-Type: {kind}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


PUT, CHUNKED = "PUT /v1/users/one", "Transfer-Encoding: chunked"
PART = b"%x\r\n%b\r\n" % (len(LINES), LINES)
NDJSON = "application/x-ndjson"

#: What each would be if it were complete: a document or two.
BROKEN = {
    "less than its length": message(PUT, DOCUMENT, "Content-Length: 9"),
    "nothing of its length": message(PUT, b"", "Content-Length: 9"),
    "less than its length, HTTP/1.0": message(PUT, DOCUMENT, "Content-Length: 9", version="1.0"),
    "no last chunk": message(PUT, CHUNK, CHUNKED),
    "no chunk at all": message(PUT, b"", CHUNKED),
    "half of a chunk": message(PUT, b"20\r\n" + DOCUMENT, CHUNKED),
    "half of a chunk's size": message(PUT, CHUNK + b"0", CHUNKED),
    "a last chunk without its end": message(PUT, CHUNK + b"0\r\n", CHUNKED),
    "half of a trailer": message(PUT, CHUNK + b"0\r\nX-Sum: 1", CHUNKED),
    "a chunk longer than its size": message(PUT, b"4\r\n" + DOCUMENT + b"\r\n0\r\n\r\n", CHUNKED),
    "chunks in HTTP/1.0": message(PUT, CHUNK + b"0\r\n\r\n", CHUNKED, version="1.0"),
    "both headers, no last chunk": message(PUT, CHUNK, "Content-Length: 8", CHUNKED),
    "a coding that is not chunked": message(PUT, DOCUMENT, "Transfer-Encoding: gzip"),
    "a coding before chunked": message(PUT, CHUNK + b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked"),
    "two lengths": message(PUT, DOCUMENT, "Content-Length: 8", "Content-Length: 9"),
    "lines, no last chunk": message("POST /v1/users:bulk", PART, CHUNKED, kind=NDJSON),
    "lines, less than their length": message(
        "POST /v1/users:bulk", LINES, f"Content-Length: {len(LINES) + 1}", kind=NDJSON
    ),
    "a generated id, no last chunk": message("POST /v1/users", b"c\r\n" + b'{"_id":"one"' + b"\r\n", CHUNKED),
    "an increment, no last chunk": message("POST /v1/users/one:increment", CHUNK, CHUNKED),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
}


def ask(port: int, sent: bytes, *, end: bool, within_s: float = 20) -> bytes:
    """Send this, and nothing more; what is answered before the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as connection:
        connection.sendall(sent)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while data := connection.recv(1 << 16):
                answer += data
        except ConnectionResetError:
            pass
        return answer


@pytest.fixture(scope="module", params=SERVERS.values(), ids=SERVERS)
def server(request, system) -> Iterator[WebServer]:
    with web_server(system, request.param) as served:
        yield served


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
def test_what_is_not_complete_is_not_carried_out(server, sent):
    """It is refused, or the connection is closed; nothing of it is stored, and nothing is deleted."""
    server.http.request("DELETE", "/v1/users/one").raise_for_status()
    server.http.request("DELETE", "/v1/users/two").raise_for_status()

    answer = ask(server.port, sent, end=True)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 501")), answer
    # What the connection brought is over and done with once others are answered after it.
    assert 404 == server.http.get("/v1/users/one").status_code
    assert 404 == server.http.get("/v1/users/two").status_code


def test_a_connection_that_is_aborted_stores_nothing(server):
    """A reset in the midst of a body leaves nothing behind."""
    for sent in (BROKEN["no last chunk"], BROKEN["less than its length"]):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert 404 == server.http.get("/v1/users/one").status_code


@pytest.mark.parametrize(
    "sent",
    [
        message(PUT, CHUNK + b"0\r\n\r\n", CHUNKED),
        message(PUT, CHUNK + b"0\r\nX-Sum: 1\r\n\r\n", CHUNKED),
        message(PUT, b"3\r\n" + DOCUMENT[:3] + b"\r\n5;a=b\r\n" + DOCUMENT[3:] + b"\r\n000\r\n\r\n", CHUNKED),
        message(PUT, DOCUMENT, "Content-Length: 8", version="1.0"),
    ],
    ids=["chunks", "a trailer", "an extension", "HTTP/1.0"],
)
def test_what_is_complete_is_carried_out(server, sent):
    """Whatever its framing."""
    server.http.request("DELETE", "/v1/users/one").raise_for_status()

    answer = ask(server.port, sent, end=False)

    assert answer.split(b" ", 2)[1] in {b"200", b"201"}, answer
    assert {"_id": "one", "n": 1} == server.http.get("/v1/users/one").json()


@pytest.mark.parametrize(
    "sent",
    [
        message("DELETE /v1/users/one", CHUNK, CHUNKED),
        message("DELETE /v1/users/one", DOCUMENT, "Content-Length: 9"),
        message("DELETE /v1/users/one", b"x\r\n", CHUNKED),
    ],
    ids=["no last chunk", "less than its length", "a chunk of no size"],
)
def test_a_deletion_whose_body_breaks_off_is_not_carried_out(server, sent):
    """Also a request that needs no body is one message, which has to be complete."""
    server.http.put("/v1/users/one", json={}).raise_for_status()

    answer = ask(server.port, sent, end=True)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer
    assert 200 == server.http.get("/v1/users/one").status_code


def test_a_server_that_hides_breaks_gets_no_chunks(system):
    """Granian's own WSGI interface tells no broken body from a whole one, so that chunks are refused there."""
    with web_server(system, GRANIAN) as served:
        whole = ask(served.port, message(PUT, CHUNK + b"0\r\n\r\n", CHUNKED), end=False)
        broken = ask(served.port, message(PUT, CHUNK, CHUNKED), end=True)
        sized = served.http.put("/v1/users/sized", json={})

        assert whole.startswith(b"HTTP/1.1 411")
        assert broken.startswith(b"HTTP/1.1 411")
        assert sized.is_success


#: Each is complete by what one of its headers says, and is followed by another request, or by a part of its body.
AMBIGUOUS = {
    "chunks twice": message(PUT, CHUNK + b"0\r\n\r\n", CHUNKED, CHUNKED),
    "chunks twice in one header": message(PUT, CHUNK + b"0\r\n\r\n", "Transfer-Encoding: chunked, Chunked"),
    "chunks twice, and a length": message(PUT, CHUNK + b"0\r\n\r\n", CHUNKED, "Content-Length: 8", CHUNKED),
    "a coding, and chunks": message(PUT, CHUNK + b"0\r\n\r\n", "Transfer-Encoding: gzip", CHUNKED),
    "chunks, and a length": message(PUT, CHUNK + b"0\r\n\r\n", CHUNKED, "Content-Length: 8"),
    "a length, and chunks": message(PUT, CHUNK + b"0\r\n\r\n", "Content-Length: 8", CHUNKED),
    "a tunnel": message("CONNECT localhost:80", b""),
}
#: granian takes the length away, so that these have one meaning.
TAKEN = {"chunks, and a length", "a length, and chunks"}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_ends_its_connection(server, name):
    """It is refused, or taken by its chunks alone; what comes after it is not answered (RFC 9112, section 6.1)."""
    server.http.request("DELETE", "/v1/users/one").raise_for_status()
    server.http.put("/v1/users/two", json={}).raise_for_status()
    sent = AMBIGUOUS[name].replace(b"Connection: close\r\n", b"")

    answer = ask(server.port, sent + message("DELETE /v1/users/two", b""), end=False, within_s=5)

    assert 1 == answer.count(b"HTTP/1."), answer
    refused = answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
    assert refused or name in TAKEN, answer
    assert (404 if refused else 200) == server.http.get("/v1/users/one").status_code
    assert 200 == server.http.get("/v1/users/two").status_code
