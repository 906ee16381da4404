"""Any request at all, made at random: a problem that says what is wrong, and never a 5xx."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bson_strategies import relaxed_documents, wrapper_like_trees
from tests.tiers import examples
from tests.unit.web.bad_input import ADA, JSON, MERGE, NO_JSON, OID, PATCH, send
from tests.unit.web.conftest import problem
from writebehind.documents.codec import encode, to_json

FUZZ = settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
methods = st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"])
parts = st.sampled_from(
    [
        *(
            "v1",
            "users",
            "events",
            "orders",
            "numbers",
            "keys",
            "named",
            "free",
            "through",
            "nope",
            "ada",
            OID,
            "5",
        ),
        *(":bulk", ":get", ":increment", ":update", "", "..", "%00", "%2F", "$where"),
        *("healthz", "readyz", "admin", "status"),
    ]
)
paths = st.lists(parts | st.text(max_size=4), max_size=4).map(
    lambda some: ("/" + "/".join(some)).replace("/:", ":").replace("?", "%3F")
)
real_paths = st.sampled_from(
    [
        *(
            ADA,
            "/v1/users",
            "/v1/events",
            "/v1/orders/" + OID,
            "/v1/numbers/5",
            "/v1/named/ada",
            "/v1/through/ada",
        ),
        *(ADA + ":increment", "/v1/users:bulk", "/v1/users:get", "/v1/free:bulk", "/v1/numbers:get"),
    ]
)
types = st.sampled_from(
    [*(one["Content-Type"] for one in (JSON, MERGE, PATCH)), "application/x-ndjson", "text/plain"]
)
queries = st.sampled_from(["", "", "?durability=persisted", "?durability=x", "?x"])
conditions = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(["*", '"x"', "W/", "", '"']) for name in ("If-Match", "If-None-Match")}
)
item = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["put", "patch", "delete"]),
        "id": st.sampled_from(["ada", "bob"]) | wrapper_like_trees,
    },
    optional={"doc": wrapper_like_trees, "if_match": wrapper_like_trees},
)
operation = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
    optional={
        "path": st.sampled_from(["/a", "/a/0", "", "/$x"]),
        "from": st.just("/a"),
        "value": wrapper_like_trees,
    },
)
ids = st.fixed_dictionaries({"ids": st.lists(st.text(max_size=5) | st.integers(), max_size=3)})
trees = (
    wrapper_like_trees
    | st.dictionaries(st.sampled_from(["a", "a.b", "_id", "_v", "name"]), wrapper_like_trees, max_size=3)
    | st.lists(item, max_size=4)
    | st.lists(operation, max_size=4)
    | ids
)
bodies = (
    trees.map(lambda tree: json.dumps(tree).encode())
    | st.lists(item.map(json.dumps), max_size=3).map(lambda lines: "\n".join(lines).encode())
    | relaxed_documents.map(encode).map(to_json)
    | st.binary(max_size=20)
    | st.sampled_from(NO_JSON)
)


@FUZZ
@given(method=methods, path=paths | real_paths, query=queries, headers=conditions, kind=types, body=bodies)
def test_anything(application, method, path, query, headers, kind, body):
    """Nothing that is sent gives a 5xx, and every refusal is a problem."""
    client, headers = application.app.test_client(), headers | {"Content-Type": kind}
    response = send(client, path + query, method=method, headers=headers, data=body)
    assert response.status_code < 500, (method, path, query, headers, kind, body)
    if response.status_code >= 400 and method != "HEAD":
        problem(response, response.status_code)


@FUZZ
@given(path=real_paths, kind=types, body=bodies)
def test_any_body_on_a_real_route(application, path, kind, body):
    """No body on a route that takes one gives a 5xx, nor does an item of a bulk."""
    method = "POST" if ":" in path or path.count("/") == 2 else "PATCH" if "patch" in kind else "PUT"
    response = application.app.test_client().open(path, method=method, headers={"Content-Type": kind}, data=body)
    assert response.status_code < 500, (method, path, kind, body)
    results = response.json.get("results", []) if response.status_code == 207 else []
    assert all(one["status"] < 500 for one in results), (path, body)


@pytest.mark.parametrize("path", ["/v1/users/x", "/", "/healthz", "/console", "/nothing"])
@pytest.mark.parametrize("method", ["get", "Get", "put", "dELETE", "options"])
def test_methods_tell_cases_apart(client, method, path):
    """One in other letters is none that there is, rather than the one in capitals."""
    answer = client.open(path, environ_overrides={"REQUEST_METHOD": method})

    assert 501 == answer.status_code
    assert "urn:problem-type:writebehind:not-implemented" == answer.json["type"]
