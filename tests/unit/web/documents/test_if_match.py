"""Conditions on writes of single documents: If-Match and If-None-Match."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem
from tests.unit.web.documents.conftest import MERGE, WRONG, document

WRITES = {
    "PUT": {"json": {"n": 1}},
    "PATCH": {"data": '{"n":1}', "content_type": MERGE},
    "DELETE": {},
}


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("form", ["{}", '"x", {}', "*"])
def test_if_match(client, ada, method, form):
    """A write whose If-Match names the document's ETag is carried out."""
    headers = {"If-Match": form.format(ada.headers["ETag"])}
    response = client.open("/v1/users/ada", method=method, headers=headers, **WRITES[method])
    assert (204 if method == "DELETE" else 200) == response.status_code
    assert (method == "DELETE") == (client.get("/v1/users/ada").status_code == 404)


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("condition", [WRONG, WRONG + ', "x"'])
def test_if_match_of_another_state(client, ada, method, condition):
    """A write whose If-Match names other ETags is refused and changes nothing."""
    response = client.open("/v1/users/ada", method=method, headers={"If-Match": condition}, **WRITES[method])
    problem(response, 412, "precondition-failed")
    assert ada.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"]


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("condition", [WRONG, "*"])
def test_if_match_of_nothing(client, installation, method, condition):
    """No If-Match holds for a document that does not exist."""
    response = client.open("/v1/users/ada", method=method, headers={"If-Match": condition}, **WRITES[method])
    problem(response, 412, "precondition-failed")
    assert [] == installation.stored()


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": "W/" + WRONG},
        {"If-Match": ""},
        {"If-None-Match": WRONG},
        {"If-None-Match": "*", "If-Match": WRONG},
    ],
)
def test_conditions_that_say_nothing(client, ada, method, headers):
    """A condition that could not be decided is refused, not ignored."""
    problem(client.open("/v1/users/ada", method=method, headers=headers, **WRITES[method]), 400)
    assert ada.headers["ETag"] == client.get("/v1/users/ada").headers["ETag"]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_if_none_match_is_for_put(client, ada, method):
    """`If-None-Match: *` makes no sense on a change or a deletion."""
    response = client.open("/v1/users/ada", method=method, headers={"If-None-Match": "*"}, **WRITES[method])
    problem(response, 400, "bad-request")


def test_create_only(client):
    """`If-None-Match: *` creates a document once."""
    headers = {"If-None-Match": "*"}
    assert 201 == client.put("/v1/users/ada", json={"n": 1}, headers=headers).status_code
    problem(client.put("/v1/users/ada", json={"n": 2}, headers=headers), 412, "precondition-failed")
    assert {"_id": "ada", "n": 1} == document(client)


def test_create_only_where_mongodb_has_it(client, sink):
    """`If-None-Match: *` sees a document that only MongoDB has."""
    sink.has("users", "ada", {})
    problem(client.put("/v1/users/ada", json={}, headers={"If-None-Match": "*"}), 412, "precondition-failed")


def test_create_only_again_after_a_deletion(client, ada):
    """`If-None-Match: *` creates a deleted document again."""
    client.delete("/v1/users/ada")
    assert 201 == client.put("/v1/users/ada", json={}, headers={"If-None-Match": "*"}).status_code


@pytest.mark.parametrize("path", ["/v1/users", "/v1/users/ada:increment", "/v1/users:bulk"])
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_conditions_where_none_is_decided(client, installation, path, header):
    """A route that decides no condition refuses one."""
    problem(client.post(path, json={"n": 1}, headers={header: "*"}), 400, "bad-request")
    assert [] == installation.stored()
