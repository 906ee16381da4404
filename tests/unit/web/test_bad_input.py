"""Whatever a client sends: a problem that says what is wrong, never a 5xx, and nothing is stored."""

from __future__ import annotations

import gzip
import json
from io import BytesIO

import pytest

from tests.unit.web.bad_input import ADA, JSON, MERGE, NO_JSON, OID, PATCH, send
from tests.unit.web.conftest import problem

DEEP = 100_000
MEGABYTES = b'{"a":"' + b"x" * 2_000_000 + b'"}'

#: Each takes a body as JSON.
TAKES_JSON = [
    ("PUT", ADA, JSON),
    ("POST", "/v1/users", JSON),
    ("PATCH", ADA, MERGE),
    ("PATCH", ADA, PATCH),
    ("POST", ADA + ":increment", JSON),
    ("POST", ADA + ":update", JSON),
    ("POST", "/v1/users:get", JSON),
]
#: Each takes an object.
TAKES_OBJECTS = [one for one in TAKES_JSON if one[2] != PATCH]

NO_OBJECT = [b"5", b"-1.5", b'"a"', b"null", b"true", b"false", b"[]", b"[1]", b"[{}]", b"[[]]", b"9" * 30]
DEEP_BODIES = [
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"a":' * 150 + b"1" + b"}" * 150,
    b'{"a":' * 101 + b"1" + b"}" * 101,
]

#: A body that is a document, or would be but for what is said, and the status.
NO_DOCUMENTS = [
    *((body, 422) for body in NO_OBJECT),
    *((json.dumps({name: 1}).encode(), 422) for name in ("_v", "$set", "$where", "$", "$oidx", "$ne", "$ref")),
    *((body, 422) for body in (b'{"_v":null}', b'{"_v":{"a":1}}', b'{"\\u0024set":1}', b'{"a":{"$set":1}}')),
    *((body, 422) for body in (b'{"a":[{"$where":1}]}', b'{"a":{"b":1,"$c":2}}', b'{"a":{"$oid":"x","b":1}}')),
    *((body, 422) for body in (b'{"$oid":"5f43a1b2c3d4e5f601234567"}', b'{"$date":0}', b'{"$numberLong":"1"}')),
    *((body, 400) for body in (b'{"$oid":"x"}', b'{"$oid":1}', b'{"$oid":null}', b'{"$oid":{"$oid":"x"}}')),
    *((b'{"a":' + wrapper + b"}", 400) for wrapper in (b'{"$oid":"x"}', b'{"$oid":[]}', b'{"$date":"yesterday"}')),
    *((b'{"a":' + wrapper + b"}", 400) for wrapper in (b'{"$numberLong":"x"}', b'{"$numberLong":"9e9"}')),
    *((b'{"a":' + wrapper + b"}", 400) for wrapper in (b'{"$numberInt":"2147483648"}', b'{"$numberDecimal":"x"}')),
    *((b'{"a":' + wrapper + b"}", 400) for wrapper in (b'{"$binary":"x"}', b'{"$uuid":"x"}', b'{"$timestamp":1}')),
    *((b'{"a":' + wrapper + b"}", 400) for wrapper in (b'{"$regularExpression":{"pattern":"a"}}', b'{"$code":1}')),
    *((b'{"a":{"$oid":"%s","$oid":%s}}' % (OID.encode(), last), 400) for last in (b"1", b'"x"', b"null")),
    *((b'{"a":%s}' % number, 422) for number in (b"9223372036854775808", b"-9223372036854775809", b"9" * 100)),
    *(
        (b'{"_id":%s}' % other, 422)
        for other in (b'"bob"', b"5", b"null", b"{}", b"[]", b"true", b"1.5", b'"../x"')
    ),
    *((b'{"_id":%s}' % other, 422) for other in (b'{"$oid":"5f43a1b2c3d4e5f601234567"}', b'{"$code":"ada"}')),
    (b'{"_id":{"$binary":{"base64":"aGk=","subType":"04"}}}', 422),
    (b'{"_id":{"$uuid":"00112233-4455-6677-8899-aabbccddeeff"}}', 422),
    (b'{"a\\u0000b":1}', 422),
    (b'{"a":{"\\u0000":1}}', 422),
    (b'{"a":"' + b"x" * (1 << 20) + b'"}', 413),
    (b'{"a":"' + b"x" * ((1 << 20) - 8) + b'"}', 413),
    (b'{"a":[' + b"1," * 150_000 + b"1]}", 413),
]

#: Paths whose id is wrong in a collection of strings, and the status.
WRONG_IDS = [
    *(
        ("/v1/users/" + text, 400)
        for text in ("..", ".", ".x", "%2e%2e", "$where", "%24where", "a%20b", "%20", "a+b%3F")
    ),
    *(
        ("/v1/users/" + text, 400)
        for text in ("é", "%C3%A9", "%ff", "%ed%a0%80", "☃", "%E2%98%83", "a%F0%9F%92%A9")
    ),
    *(
        ("/v1/users/" + text, 400)
        for text in ("%00", "a%00", "%0A", "a%0A", "a%0D%0AX-Y:%20z", "x" * 513, "x" * 2000)
    ),
    *(("/v1/users/" + text, 400) for text in ("a%5Cb", "a%22", "%7B%7D", "a%25", "%", "%zz", "%2")),
    *(
        ("/v1/users/" + text, 404)
        for text in ("../x", "..%2Fx", "%2e%2e%2fx", "a%2Fb", "a/b", "/a", "a/", "", "/", "a//b")
    ),
    *(("/v1/orders/" + text, 400) for text in ("x", OID[:-1], OID + "0", "g" * 24, "%D9%A1" * 24, OID + "%0A")),
    *(
        ("/v1/numbers/" + text, 400)
        for text in ("x", "01", "+1", "1.0", "9" * 19, "9" * 5000, "%D9%A1", "-0", "1_0")
    ),
    *(("/v1/keys/" + text, 400) for text in ("x", "1" * 32, "%2B" + "1" * 31, "1_" * 15 + "11", "%D9%A1" * 32)),
    *(
        ("/v1/" + name + "/a", 404)
        for name in ("nope", "Users", "system.users", "$cmd", "..", "us%00ers", "é", "%20")
    ),
    *(
        ("/v1/" + name + "/a", 404)
        for name in ("users%2F", "users:bulk", "users:x", "x" * 5000, "%ff", "users%0A")
    ),
    *((path, 404) for path in ("/v1", "/v1/", "/v1//ada", "/v2/users/ada", "/v1/users/ada/x")),
    *(
        (path, 404)
        for path in ("/V1/users/ada", "/admin", "/metrics2", "/../etc/passwd", "/%2e%2e/etc/passwd", "/%00")
    ),
]

WRONG_TYPES = [
    "text/plain",
    "application/xml",
    "multipart/form-data; boundary=x",
    "application/jsonx",
    "json",
    "*/*",
]

BAD_INPUT = [
    *((*route, body, 400) for route in TAKES_JSON for body in NO_JSON),
    *((*route, body, 422) for route in TAKES_JSON for body in DEEP_BODIES),
    *((*route, body, 400) for route in TAKES_OBJECTS[2:] for body in NO_OBJECT),
    *(("PUT", ADA, JSON, body, status) for body, status in NO_DOCUMENTS),
    *(("POST", "/v1/users", JSON, body, status) for body, status in NO_DOCUMENTS if b'{"_id"' not in body),
    *(
        ("POST", "/v1/users", JSON, body, 400)
        for body in (b'{"_id":5}', b'{"_id":null}', b'{"_id":{"$code":"x"}}')
    ),
    *(("PUT", path, JSON, b"{}", status) for path, status in WRONG_IDS),
    *(("GET", path, {}, b"", status) for path, status in WRONG_IDS),
    *(("DELETE", path, {}, b"", status) for path, status in WRONG_IDS),
    *(("PATCH", path, MERGE, b"{}", status) for path, status in WRONG_IDS),
    *(("POST", path + ":increment", JSON, b'{"n":1}', None) for path, _ in WRONG_IDS),
    *((*route, MEGABYTES, 413) for route in TAKES_JSON if route[1] != "/v1/users:get"),
    *((method, path, {"Content-Type": one}, b"{}", 415) for method, path, _ in TAKES_JSON for one in WRONG_TYPES),
    *(
        (*route[:2], route[2] | {"Content-Encoding": one}, gzip.compress(b"{}", mtime=0), 415)
        for route in TAKES_JSON
        for one in ("gzip", "GZIP", "br", "identity, gzip", "x")
    ),
    ("POST", "/v1/users:bulk", {"Content-Encoding": "gzip"}, gzip.compress(b"[]", mtime=0), 415),
    *(("POST", "/v1/users:bulk", {"Content-Type": one}, b"[]", 415) for one in WRONG_TYPES),
    *(("POST", "/v1/users:bulk", {}, body, 422) for body in DEEP_BODIES if body.startswith(b"[")),
    *(
        ("POST", "/v1/users:" + action, JSON, b"[]", 404)
        for action in ("", "nope", "BULK", "increment", "bulk/", "bulk:get")
    ),
    *((method, ADA, JSON, b"{}", 405) for method in ("POST", "TRACE", "COPY", "LINK")),
    *((method, "/v1/users", JSON, b"{}", 405) for method in ("PUT", "PATCH", "DELETE")),
    *(
        ("GET", "/v1/users?" + query, {}, b"", 400)
        for query in ("x=1", "limit=0", "limit=1&x=1", "after=%00", "fields=.")
    ),
    *((method, "/v1/users:bulk", JSON, b"[]", 405) for method in ("GET", "PUT", "PATCH", "DELETE")),
    *((method, "/v1/users:get", JSON, b"{}", 405) for method in ("GET", "PUT", "DELETE")),
    *((method, "/healthz", JSON, b"{}", 405) for method in ("POST", "PUT", "DELETE")),
    *((method, "/admin/status", JSON, b"{}", 405) for method in ("POST", "DELETE")),
    *(("GET", "/admin/status?" + query, {}, b"", 400) for query in ("x=1", "partition=true")),
    *(
        ("PUT", ADA + "?" + query, JSON, b"{}", 400)
        for query in ("durability=x", "durability=%00", "%ff=1", "a=b", "=")
    ),
]


def label(one: object) -> str:
    text = one.decode("latin-1") if isinstance(one, bytes) else str(one)
    return ascii(text[:30])[1:-1]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), BAD_INPUT, ids=label)
def test_bad_input(client, installation, method, path, headers, body, status):
    """Wrong input is answered with a problem of the right status, and nothing is stored."""
    response = send(client, path, method=method, headers=headers, data=body)
    assert 400 <= response.status_code < 500
    problem(response, status or response.status_code)
    assert [] == installation.stored()


@pytest.mark.parametrize(("method", "path", "headers"), TAKES_JSON)
def test_large_body_without_a_length(client, installation, method, path, headers):
    """A large body that does not tell its length is refused too."""
    stream = BytesIO(b'{"a":"' + b"x" * (17 << 20) if path.endswith(":get") else MEGABYTES)
    response = client.open(
        path,
        method=method,
        headers=headers,
        input_stream=stream,
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    problem(response, 413, "too-large")
    assert [] == installation.stored()


def test_large_ndjson_without_a_length(client, installation):
    """Of a bulk body that is too large and does not tell its length, no part is carried out."""
    line = b'{"op":"put","id":"ada","doc":{}}\n'
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    stream = BytesIO(line + b" " * (16 << 20) + b"\n" + line)
    problem(client.post("/v1/users:bulk", input_stream=stream, environ_overrides=environ), 413, "too-large")
    assert [] == installation.stored()


@pytest.mark.parametrize("length", ["", "x", "-5", "+2", "0x2", "2.0", "9" * 5000, "3", "\u0663"])
def test_wrong_content_lengths(client, installation, length):
    """A body that is not as long as it claims, or claims nothing, is refused."""
    environ = {"CONTENT_LENGTH": length}
    response = client.put(ADA, headers=JSON, input_stream=BytesIO(b"{}"), environ_overrides=environ)
    assert response.status_code in {400, 413}
    problem(response, response.status_code)
    assert [] == installation.stored()


def test_large_bulk(client, installation):
    """A bulk body beyond its own limit is refused."""
    body = b" " * ((16 << 20) + 1)
    problem(client.post("/v1/users:bulk", data=body), 413, "too-large")
    assert [] == installation.stored()


@pytest.mark.parametrize(
    ("patch", "headers"),
    [
        (b'{"a":{"$oid":"x"}}', MERGE),
        (b'{"a":{"$set":1}}', MERGE),
        (b'{"$set":1}', MERGE),
        (b'{"_v":1}', MERGE),
        (b'{"a":%s}' % (b"9" * 30), MERGE),
        (b'[{"op":"add","path":"/a/0","value":1}]', PATCH),
        (b'[{"op":"add","path":"/$a","value":1}]', PATCH),
        (b'[{"op":"add","path":"/a","value":{"$set":1}}]', PATCH),
        (b'[{"op":"replace","path":"","value":5}]', PATCH),
        (json.dumps([{"op": "copy", "from": "", "path": f"/{number}"} for number in range(60)]).encode(), PATCH),
        (json.dumps([{"op": "test", "path": "/n", "value": 1}] * 1001).encode(), PATCH),
    ],
    ids=label,
)
def test_bad_patches_of_a_document(client, patch, headers):
    """A wrong patch of a document that exists is refused, and the document stays as it was."""
    etag = client.put(ADA, json={"n": 1}).headers["ETag"]
    response = client.patch(ADA, headers=headers, data=patch)
    assert 400 <= response.status_code < 500
    problem(response, response.status_code)
    assert etag == client.get(ADA).headers["ETag"]


def test_digging_patch(client):
    """A JSON Patch that nests more levels than Python recurses into is refused."""
    client.put(ADA, json={"a": 1})
    value: object = {}
    for _ in range(90):
        value = {"n": value}
    dig = [
        {"op": "add", "path": "/b", "value": value},
        {"op": "move", "from": "/a", "path": "/b" + "/n" * 90 + "/x"},
        {"op": "move", "from": "/b", "path": "/a"},
    ]
    for last in ({"op": "copy", "from": "/a", "path": "/c"}, {"op": "test", "path": "/a", "value": 1}):
        response = client.patch(ADA, headers=PATCH, data=json.dumps([*dig * 20, last]))
        assert 400 <= response.status_code < 500
    assert {"_id": "ada", "a": 1} == client.get(ADA).json


def test_deep_increment(client, installation):
    """An increment whose path has more levels than a document may is refused."""
    path = ".".join("a" * DEEP)
    problem(client.post(ADA + ":increment", json={path: 1}), 422, "invalid-document")
    assert [] == installation.stored()
