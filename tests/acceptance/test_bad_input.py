"""What nobody should send, over the real server: refused with a problem that says why, and nothing breaks."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.acceptance

MIB = 1 << 20
TYPE = "urn:problem-type:writebehind:"


def request(line: str, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    head = [f"{line} HTTP/1.1", "Host: localhost", "Connection: close", "Content-Type: application/json", *headers]
    if length:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def chunked(body: bytes, size: int = 65_536) -> bytes:
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def streamed(line: str, body: bytes) -> bytes:
    return request(line, chunked(body), "Transfer-Encoding: chunked", length=False)


def ask(url: str, sent: bytes) -> tuple[int, str, bytes]:
    """Status, content type and body of the answer; status 0 when the connection is closed without one."""
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=20) as connection:
        # Refused before all of it was sent: the answer may be there all the same.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
        try:
            answer = HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        except (ConnectionResetError, OSError, ValueError):
            return 0, "", b""


LARGE = json.dumps({"text": "x" * (2 * MIB)}).encode()
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
PUT = "PUT /v1/users/bad"

PROBLEMS = {
    "a body of 2 MiB": (request(PUT, LARGE), 413, "too-large"),
    "2 MiB in chunks": (streamed(PUT, LARGE), 413, "too-large"),
    "2 MiB of a patch in chunks": (streamed("PATCH /v1/users/bad", LARGE), 415, "unsupported-media-type"),
    "a length that nothing has": (
        request(PUT, b"{}", "Content-Length: 99999999999", length=False),
        413,
        "too-large",
    ),
    "JSON that ends early": (request(PUT, b'{"name": '), 400, "malformed-json"),
    "chunked JSON that ends early": (streamed(PUT, b'{"name": '), 400, "malformed-json"),
    "no JSON": (request(PUT, b"name=Ada"), 400, "malformed-json"),
    "nothing": (request(PUT), 400, "malformed-json"),
    "bytes that are not UTF-8": (request(PUT, b'{"name": "\xff"}'), 400, "malformed-json"),
    "half a surrogate pair": (request(PUT, b'{"name": "\\ud800"}'), 400, "malformed-json"),
    "very deep JSON": (request(PUT, DEEP), 422, "invalid-document"),
    "NaN": (request(PUT, b'{"n": NaN}'), 400, "malformed-json"),
    "an integer of 100 digits": (request(PUT, b'{"n": ' + b"9" * 100 + b"}"), 422, "invalid-document"),
    "an array": (request(PUT, b"[]"), 422, "invalid-document"),
    "$where in a document": (request(PUT, b'{"$where": "1"}'), 422, "invalid-document"),
    "_v in a document": (request(PUT, b'{"_v": 1}'), 422, "invalid-document"),
    "another _id": (request(PUT, b'{"_id": "other"}'), 422, "invalid-document"),
    "`..` with the slash encoded": (request("PUT /v1/users/..%2Fx", b"{}"), 404, "no-such-route"),
    "`..` encoded": (request("PUT /v1/users/%2e%2e/x", b"{}"), 404, "no-such-route"),
    "`..`": (request("PUT /v1/users/../x", b"{}"), 404, "no-such-route"),
    "`..` as id": (request("PUT /v1/users/..", b"{}"), 400, "invalid-id"),
    "an encoded unicode id": (request("PUT /v1/users/%C3%A9", b"{}"), 400, "invalid-id"),
    "an encoded id that is not UTF-8": (request("PUT /v1/users/%FF", b"{}"), 400, "invalid-id"),
    "an id with NUL": (request("PUT /v1/users/a%00b", b"{}"), 400, "invalid-id"),
    "an id with a line break": (request("PUT /v1/users/a%0D%0Ab", b"{}"), 400, "invalid-id"),
    "an id of 2,000 characters": (request(f"PUT /v1/users/{'x' * 2000}", b"{}"), 400, "invalid-id"),
    "an id of 2,000 characters to read": (request(f"GET /v1/users/{'x' * 2000}"), 400, "invalid-id"),
    "$where as id": (request("GET /v1/users/$where"), 400, "invalid-id"),
    "$where encoded as id": (request("GET /v1/users/%24where"), 400, "invalid-id"),
    "$ne as id in a bulk": (request("POST /v1/users:get", b'{"ids": [{"$ne": 1}]}'), 422, "invalid-document"),
    "an unknown collection": (request("PUT /v1/system.users/x", b"{}"), 404, "unknown-collection"),
    "a collection named $cmd": (request("PUT /v1/$cmd/x", b"{}"), 404, "unknown-collection"),
    "an unknown method": (request("BREW /v1/users/x", b"{}"), 405, "method-not-allowed"),
    "a wrong method": (request("POST /v1/users/x", b"{}"), 405, "method-not-allowed"),
    "a wrong type": (request(PUT, b"{}", "Content-Encoding: gzip"), 415, "unsupported-media-type"),
    "an unknown durability": (request(f"{PUT}?durability=%FF", b"{}"), 400, "bad-request"),
    "text to add": (request("POST /v1/pages/x:increment", b'{"n": "1"}'), 400, "invalid-patch"),
    "a bulk of nothing": (request("POST /v1/users:bulk"), 400, "malformed-json"),
    "a large bulk in chunks": (streamed("POST /v1/users:bulk", b" " * (17 * MIB)), 413, "too-large"),
}
NO_HTTP = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "an unknown version": b"GET /healthz HTTP/9.9\r\n\r\n",
    "a raw unicode id": "GET /v1/users/\u00e9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
    "a raw NUL": b"GET /v1/users/a\x00b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a header without a name": b"GET /healthz HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n",
    "a header of 1 MiB": request("GET /v1/users/x", b"", "X: " + "x" * MIB),
    "a path of 100,000 characters": request(f"GET /v1/users/{'x' * 100_000}"),
    "a negative length": request(PUT, b"{}", "Content-Length: -1", length=False),
    "a length that is none": request(PUT, b"{}", "Content-Length: two", length=False),
    "two lengths": request(PUT, b"{}", "Content-Length: 1", "Content-Length: 2", length=False),
    "a chunk of no size": request(PUT, b"zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False),
}


@pytest.fixture(autouse=True)
def still_answers(system) -> Iterator[None]:
    yield
    written = system.http.put("/v1/users/good", json={"good": True})
    assert written.is_success
    assert system.http.get("/v1/users/good").json() == {"_id": "good", "good": True}


@pytest.mark.parametrize(("sent", "status", "name"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_bad_request_is_refused_with_a_problem(system, sent, status, name):
    """The answer is a problem of the right kind, and the server answers others afterwards."""
    got, content_type, body = ask(system.stack.url, sent)

    assert (status, "application/problem+json") == (got, content_type), body
    assert TYPE + name == json.loads(body)["type"], body
    assert status == json.loads(body)["status"]


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_not_http_is_refused(system, sent):
    """The answer is a 4xx, or the connection is closed; never a 5xx, and the server answers others afterwards."""
    status, _, body = ask(system.stack.url, sent)

    assert status == 0 or 400 <= status < 500, (status, body)


def test_a_client_that_goes_away_is_not_missed(system):
    """A body that ends before its length says, or a client that does not wait for its answer, harms nobody."""
    url = urlsplit(system.stack.url)
    for sent in (request(PUT, b"{}", "Content-Length: 1000", length=False), request("GET /v1/users/x")):
        for _ in range(20):
            with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
                connection.sendall(sent)
