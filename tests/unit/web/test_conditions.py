"""Conditions, as RFC 9110, section 13, has them: each is decided as it says there, or refused."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem
from writebehind.collection import BulkOperation
from writebehind.errors import PreconditionFailedError
from writebehind.flask.conditions import read_tags

ADA = "/v1/users/ada"
OTHER = '"0123456789abcdef0123456789abcdef"'
MERGE = "application/merge-patch+json"
WRITES = {"PUT": {"json": {"n": 1}}, "PATCH": {"data": '{"n":1}', "content_type": MERGE}, "DELETE": {}}
#: What reads something with an ETag.
READS = [ADA, "/v1/people?username=ada", "/v1/asked/queries/all"]


@pytest.fixture
def etags(client) -> dict[str, str]:
    """The ETag of what each path leads to."""
    client.put(ADA, json={"name": "Ada"})
    client.put("/v1/people/ada", json={"username": "ada"})
    client.put("/v1/asked/ada", json={"name": "Ada"})
    return {path: client.get(path).headers["ETag"] for path in READS}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": "{0}"}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": OTHER}, 412),
        ({"If-Match": '"*"'}, 412),
        ({"If-Match": "W/{0}"}, 412),
        ({"If-Match": ""}, 412),
        ({"If-Match": OTHER + " ,, {0}, "}, 200),
        ({"If-None-Match": "{0}"}, 304),
        ({"If-None-Match": "W/{0}"}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"*"'}, 200),
        ({"If-None-Match": OTHER + ",\t{0}"}, 304),
        ({"If-None-Match": '"a,b" , "' + 'c"'}, 200),
        ({"If-Match": OTHER, "If-None-Match": "{0}"}, 412),
        ({"If-Match": "{0}", "If-None-Match": "{0}"}, 304),
        ({"If-Match": "{0}", "If-None-Match": OTHER}, 200),
        ({"If-Modified-Since": "Thu, 01 Jan 2037 00:00:00 GMT"}, 200),
        ({"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ({"Range": "bytes=0-1"}, 200),
        ({"Range": "bytes=0-1", "If-Range": OTHER}, 200),
        ({"If-Match": "abc"}, 400),
        ({"If-None-Match": "abc"}, 400),
    ],
)
def test_reading(client, etags, method, path, headers, status):
    """A read decides If-Match before If-None-Match, and passes over dates and ranges, which nothing here has."""
    headers = {name: value.format(etags[path]) for name, value in headers.items()}
    response = client.open(path, method=method, headers=headers)
    assert status == response.status_code
    if status in {200, 304}:
        assert etags[path] == response.headers["ETag"]
        assert (status == 200 and method == "GET") == bool(response.data)
    elif method == "GET":
        problem(response, status)


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["*", OTHER])
def test_reading_nothing(client, header, value):
    """Where there is no document, a condition changes nothing."""
    problem(client.get(ADA, headers={header: value}), 404, "not-found")


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "value",
    [
        '"',
        '""',
        '"*"',
        '"x"',
        '"\x80"',
        OTHER,
        f'{OTHER}, "*"',
        f'"*", W/{OTHER}',
        "abc",
        '"a" "b"',
        "* ,",
        '*, "a"',
    ],
)
def test_writing_under_a_condition_that_does_not_hold(client, etags, method, value):
    """No text in If-Match makes a write unconditional: it is refused, as no condition or as one that fails."""
    response = client.open(ADA, method=method, headers={"If-Match": value}, **WRITES[method])
    assert response.status_code in {400, 412}
    assert etags[ADA] == client.get(ADA).headers["ETag"]
    response = client.open("/v1/users/bob", method=method, headers={"If-Match": value}, **WRITES[method])
    assert response.status_code in {400, 412}
    assert 404 == client.get("/v1/users/bob").status_code


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("form", ["{}", " {}\t", '"x",{}', 'W/"x" , {}', "{0}, {0}", ", {},"])
def test_writing_under_a_condition_that_holds(client, etags, method, form):
    """A list holds where one of its strong ETags is the document's."""
    headers = {"If-Match": form.format(etags[ADA])}
    assert client.open(ADA, method=method, headers=headers, **WRITES[method]).status_code in {200, 204}


@pytest.mark.parametrize("method", WRITES)
def test_writing_under_a_date(client, etags, method):
    """A client who wants protection that cannot be given is told so."""
    headers = {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
    problem(client.open(ADA, method=method, headers=headers, **WRITES[method]), 400, "bad-request")
    assert etags[ADA] == client.get(ADA).headers["ETag"]


@pytest.mark.parametrize(
    "route",
    [
        ("POST", "/v1/users"),
        ("POST", "/v1/users:bulk"),
        ("POST", "/v1/users:get"),
        ("POST", ADA + ":increment"),
        ("DELETE", "/admin/dead-letters?all=true"),
        ("POST", "/admin/dead-letters:replay?all=true"),
        ("GET", "/admin/dead-letters"),
    ],
)
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match", "If-Unmodified-Since"])
def test_where_none_is_decided(client, installation, route, header):
    """A route that decides no condition refuses one."""
    method, path = route
    problem(client.open(path, method=method, json={"n": 1}, headers={header: "*"}), 400, "bad-request")
    assert [] == installation.stored()


@pytest.mark.parametrize(
    ("if_match", "status"),
    [
        ("*", 200),
        ('"*"', 412),
        ("", 400),
        ('""', 412),
        (["*"], 200),
        (['"*"', "x"], 412),
        ("W/{0}", 412),
        ("{0}", 200),
    ],
)
def test_items_of_a_bulk(client, etags, if_match, status):
    """An item's condition means what it would mean in a header."""
    given = if_match.format(etags[ADA]) if isinstance(if_match, str) else if_match
    item = {"op": "put", "id": "ada", "doc": {"n": 1}, "if_match": given}
    assert [status] == [one["status"] for one in client.post("/v1/users:bulk", json=[item]).json["results"]]


@pytest.mark.parametrize("if_match", [("",), ("*x",), ("0" * 31,), ("é",)])
@pytest.mark.parametrize("op", ["put", "patch", "delete"])
def test_conditions_of_the_library(installation, client, etags, op, if_match):
    """What is no ETag matches nothing, whoever calls."""
    users = installation.pipeline.collection("users")
    takes = {"put": {"document": {}}, "patch": {"change": lambda document: document}, "delete": {}}[op]
    operation = BulkOperation(op, "ada", **takes, if_match=if_match)
    assert [PreconditionFailedError] == [type(one) for one in users.bulk([operation])]
    with pytest.raises(PreconditionFailedError):
        users.put("ada", {}, if_match=if_match)


def test_a_long_list_is_read_in_one_go():
    """A header as long as a server takes is read in linear time, wherever it is wrong."""
    assert 20_000 == len(read_tags('"a",' * 20_000, "If-Match").strong)
    for wrong in ('"a" ' * 20_000, " \t," * 30_000 + "x", '"' * 100_000, '"a",' * 20_000 + '"'):
        with pytest.raises(Exception, match="give \\*"):
            read_tags(wrong, "If-Match")


@pytest.mark.parametrize("if_match", ["*", OTHER])
def test_a_condition_on_what_is_not_there(client, if_match):
    """No document has a state: writes are 412, a change too, so that the client learns of it; reads are 404."""
    found = {}
    for method, more in (WRITES | {"GET": {}, "HEAD": {}}).items():
        found[method] = client.open(ADA, method=method, headers={"If-Match": if_match}, **more).status_code
    patch = {"op": "patch", "id": "ada", "doc": {"n": 1}, "if_match": if_match}
    results = client.post(
        "/v1/users:bulk", json=[patch, {**patch, "op": "put"}, {"op": "delete", "id": "ada", "if_match": if_match}]
    )

    assert {"PUT": 412, "PATCH": 412, "DELETE": 412, "GET": 404, "HEAD": 404} == found
    assert [412, 412, 412] == [one["status"] for one in results.json["results"]]
