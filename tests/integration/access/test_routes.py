"""What each route asks of API keys."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.integration.access.conftest import GRANTS, ROUTES, ask, is_allowed
from writebehind.flask import access as access_module


def test_everybody_may_do_everything_as_long_as_there_is_no_key(client):
    for method, path, body, _ in ROUTES:
        assert is_allowed(ask(client, method, path, body)), (method, path)


@pytest.mark.parametrize("grant", GRANTS)
def test_a_key_allows_what_it_grants_and_no_more(client, office, grant):
    """Each route of documents and for operators, with a key for something."""
    token = office.create("one", [grant]).token.text
    collection, _, rights = grant.partition(":")
    for method, path, body, wanted in ROUTES:
        of, _, right = wanted.partition(":")
        is_granted = wanted == grant or (collection in {of, "*"} and right in rights.split(","))
        answer = ask(client, method, path, body, token)
        assert is_allowed(answer) == is_granted, (method, path)
        if not is_granted and method != "HEAD":
            assert answer.status_code == 403
            assert answer.json["detail"].endswith(f"does not grant {wanted}")


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wb_", "Basic d2I6d2I=", "Bearer wb_000000000000_" + "a" * 43]
)
def test_without_a_key_that_is_known_nothing_is_allowed(client, office, authorization):
    office.create("one", ["users:read"])
    for method, path, body, _ in ROUTES:
        headers = {"Authorization": authorization} if authorization else {}
        answer = client.open(path, method=method, json=body, headers=headers)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="writebehind API"')
        if method != "HEAD":
            assert answer.json["type"] == "urn:problem-type:writebehind:unauthorized"


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json", "/docs/", "/console/app.js"])
def test_what_tells_of_no_document_needs_no_key(client, office, path):
    office.create("one", ["users:read"])
    assert is_allowed(client.get(path))


def test_refusals_are_few_lines(client, office, caplog):
    """The first of each kind says which request it was; whoever sends many fills no disk."""
    access_module._refusals.begin_anew()
    token = office.create("one", ["users:read"]).token.text
    for number in range(50):
        ask(client, "GET", f"/v1/users/{number}", None)
        ask(client, "PUT", f"/v1/other{number}/x", {}, token)
    found = [one for one in caplog.records if one.name == "writebehind.flask.access"]
    assert [one.event for one in found] == ["access_refused"] * 2
    assert "/v1/users/0" in found[0].message
    assert "/v1/other0/x" in found[1].message


def test_the_console_asks_for_a_key(client, office):
    """Its page comes with 401, and asks."""
    office.create("one", ["users:read"])
    answer = client.get("/console")
    assert answer.status_code == 401
    assert answer.mimetype == "text/html"


def increment(client, token: str, path: str = "/v1/users/ada") -> Any:
    given = {"Authorization": f"Bearer {token}", "Idempotency-Key": "one"}
    return client.post(f"{path}:increment", json={"n": 1}, headers=given)


def test_an_idempotency_key_is_that_of_an_api_key(client, office):
    """Two clients that have drawn the same name make two writes, which count once each."""
    tokens = [office.create(one, ["users:read,write"]).token.text for one in ("a", "b")]

    answers = [increment(client, token) for token in (*tokens, *tokens)]

    assert [1, 2, 1, 2] == [one.json["values"]["n"] for one in answers]
    known = [ask(client, "GET", "/v1/receipts/one", None, one).json for one in tokens]
    assert [one.json["version"] for one in answers[:2]] == [one["version"] for one in known]
    assert "unknown" == ask(client, "GET", "/v1/receipts/other", None, tokens[0]).json["state"]
    assert ask(client, "GET", "/v1/receipts/one", None).status_code == 401


def test_a_new_secret_is_the_same_client(client, office):
    """A request that is repeated after its key was rotated counts once."""
    created = office.create("one", ["users:read,write"])
    first = increment(client, created.token.text)
    again = increment(client, office.rotate(created.key.id).token.text)
    assert (1, "true") == (again.json["values"]["n"], again.headers["Idempotency-Replayed"])
    assert first.json["version"] == again.json["version"]


@pytest.mark.parametrize("grant", GRANTS)
def test_receipts_of_others_are_for_operators(client, office, grant):
    """They name the key whose write it was, whatever collections they may see; an ETag is for who may read it."""
    writer = office.create("writer", ["users:read,write"])
    done = increment(client, writer.token.text)
    operator = office.create("operator", ["admin", grant]).token.text
    asked = f"/v1/receipts/one?owner={writer.key.id}"

    answer = ask(client, "GET", asked, None, operator)

    told = (200, "buffered", done.json["version"])
    assert told == (answer.status_code, answer.json["state"], answer.json["version"])
    collection, _, rights = grant.partition(":")
    assert (collection in {"users", "*"} and "read" in rights) == ("etag" in answer.json)
    refused = ask(client, "GET", asked, None, writer.token.text)
    assert (403, True) == (refused.status_code, refused.json["detail"].endswith("does not grant admin"))
    assert ask(client, "GET", "/v1/receipts/one", None, operator).json["state"] == "unknown"


def test_a_404_tells_nobody_of_a_document_who_may_not_read_it(client, office):
    writer = office.create("writer", ["users:write"]).token.text
    reader = office.create("reader", ["users:read,write"]).token.text
    for token, status in ((writer, 403), (reader, 404)):
        assert ask(client, "PATCH", "/v1/users/nobody", {"n": 1}, token).status_code == status


def test_who_may_write_and_not_read_is_told_no_state_of_a_document(client, office):
    """Neither that there is none, nor a hash of it, nor whether it has one; of all that readers are told."""
    writer, reader = (office.create(one, [f"users:{one}"]).token.text for one in ("write", "read,write"))
    etag = ask(client, "PUT", "/v1/users/ada", {"pin": 7}, reader).headers["ETag"]
    changes = [("PATCH", "/v1/users/ada", {}), ("POST", "/v1/users/ada:update", {"$max": {"pin": 1}})]
    changes.append(("POST", "/v1/users/ada:increment", {"n": 1}))
    for method, path, body in changes:
        assert [(200, False), (200, True)] == [
            (one.status_code, "ETag" in one.headers)
            for one in (ask(client, method, path, body, token) for token in (writer, reader))
        ], path
    bulk = [
        {"op": "patch", "id": "ada", "doc": {}},
        {"op": "patch", "id": "nobody", "doc": {}},
        {"op": "patch", "id": "ada", "doc": {}, "if_match": etag},
        {"op": "patch", "id": "ada", "doc": {}, "if_match": "*"},
    ]
    hidden, shown = (
        ask(client, "POST", "/v1/users:bulk", bulk, token).json["results"] for token in (writer, reader)
    )
    assert [200, 403, 403, 200] == [one["status"] for one in hidden]
    assert [200, 404, 412, 200] == [one["status"] for one in shown]
    assert ([], 2) == ([one for one in hidden if "etag" in one], sum("etag" in one for one in shown))
    assert hidden[1]["error"]["detail"].endswith("does not grant users:read")
    for method in ("PUT", "PATCH", "DELETE"):
        given = {
            "Authorization": f"Bearer {writer}",
            "If-Match": etag,
            "Content-Type": "application/merge-patch+json",
        }
        refused = client.open("/v1/users/ada", method=method, json={}, headers=given)
        assert (403, True) == (refused.status_code, refused.json["detail"].endswith("does not grant users:read"))
    named = {"Authorization": f"Bearer {writer}", "Idempotency-Key": "one"}
    client.post("/v1/users/ada:increment", json={"n": 1}, headers=named)
    assert "etag" not in ask(client, "GET", "/v1/receipts/one", None, writer).json
    increment(client, reader)
    assert "etag" in ask(client, "GET", "/v1/receipts/one", None, reader).json


def test_each_route_of_the_description_asks_for_what_it_says(client, office):
    """Whatever is described is refused without a key, and with a poor one, unless it says that it needs none."""
    poor = office.create("poor", ["other:read,write"]).token.text
    described = client.get("/openapi.json").json
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    filled = {"{collection}": "users", "{id}": "ada", "{key}": "x", "{name}": "x"}
    for path, operations in described["paths"].items():
        address = functools.reduce(lambda text, pair: text.replace(*pair), filled.items(), path)
        for method, operation in operations.items():
            is_kept = bool(operation["security"])
            without = client.open(address, method=method.upper())
            with_poor = client.open(address, method=method.upper(), headers={"Authorization": f"Bearer {poor}"})
            statuses = [without.status_code, with_poor.status_code]
            if is_kept:
                # A receipt of what a key may not see is unknown to it, as one that there is not.
                assert statuses == [401, 200 if path.startswith("/v1/receipts") else 403], (method, path)
            else:
                assert not {401, 403} & set(statuses), (method, path)
            assert is_kept == ({"401", "403"} <= operation["responses"].keys())


def test_who_may_operate_and_read_nothing_is_told_that_there_is_no_dead_letter(client, office):
    """It is 404, not 403: `admin` is all that the routes for operators ask for."""
    operator = office.create("operator", ["admin"]).token.text
    for method, end in (("GET", ""), ("DELETE", ""), ("POST", ":replay")):
        answer = ask(client, method, f"/admin/dead-letters/users/nobody{end}", None, operator)
        assert answer.status_code == 404, (method, end)
