"""The API's description: valid, and of exactly the routes that there are."""

from __future__ import annotations

import json
import re
from itertools import permutations

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.unit.web.conftest import QUERIES, problem
from writebehind import load_settings
from writebehind.flask.declarations import Routes
from writebehind.flask.declarations import described as described_by
from writebehind.flask.description.openapi import specification
from writebehind.flask.description.operations import administered
from writebehind.flask.description.schemas import components
from writebehind.flask.problems import PROBLEMS


@pytest.fixture
def described(client) -> dict:
    response = client.get("/openapi.json")
    assert (200, "application/json") == (response.status_code, response.content_type)
    return response.json


def test_valid(described):
    """The document is valid OpenAPI 3.1."""
    assert described["openapi"].startswith("3.1.")
    assert [] == [*OpenAPIV31SpecValidator(described).iter_errors()]


def test_routes(described, installation):
    """Every route and method is described, and nothing else is."""
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in installation.app.url_map.iter_rules()
        for method in rule.methods - {"OPTIONS"}
        if not rule.rule.startswith(("/docs", "/console", "/static"))
    }
    queries = {f"/v1/asked/queries/{name}" for name in QUERIES}  # of which each is served by the route for all
    paths = {path: operations for path, operations in described["paths"].items() if path not in queries}
    assert queries == described["paths"].keys() - paths.keys()
    found = {(path, method) for path, operations in paths.items() for method in operations}
    implied = {(path, "head") for path, method in served if method == "get"}  # Flask serves it beside each GET
    assert served - implied == found - implied
    assert ("/v1/{collection}/{id}", "head") in found


def test_operations(described):
    """Each operation has a summary, describes its path's parameters, and says what it answers."""
    for path, operations in described["paths"].items():
        for operation in operations.values():
            named = {one["$ref"].rpartition("/")[2] for one in operation["parameters"] if "$ref" in one}
            assert set(re.findall(r"{(\w+)}", path)) <= named
            assert operation["summary"]
            assert operation["responses"]


def test_operations_have_names(described):
    """A generated client has a function of its own for each operation, whose name says what it does."""
    names = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    assert sorted(set(names)) == sorted(names)
    assert {"put_document", "increment_document", "bulk_write", "replay_dead_letters"} <= set(names)
    assert [] == [one for one in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+", one)]


def test_a_body_that_no_operation_has_is_refused(described, client):
    """What it asks for would be left undone, as a time at which a pause ends; and nothing is done without it."""
    client.put("/v1/users/1", json={})
    bare = {
        (path.format(collection="users", id="1", key="k", name="n"), method)
        for path, operations in described["paths"].items()
        for method, one in operations.items()
        if method not in {"get", "head"} and "requestBody" not in one
    }
    assert {("/admin/pause", "post"), ("/v1/users/1", "delete"), ("/admin/keys/k", "delete")} <= bare
    for path, method in sorted(bare):
        assert (
            "takes no body" in problem(client.open(path, method=method.upper(), json={"for_s": 60}), 400)["detail"]
        ), path
    assert 200 == client.get("/v1/users/1").status_code
    assert 204 == client.delete("/v1/users/1", content_type="application/json").status_code


def test_answers_have_schemas(described):
    """Each answer in JSON has a schema that says what is in it; only this description has its own standard."""
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            answers = [
                media["schema"]
                for answer in operation["responses"].values()
                for form, media in answer.get("content", {}).items()
                if "json" in form and "ndjson" not in form
            ]
            assert path == "/openapi.json" or {"type": "object"} not in answers, (method, path)
            assert all("$ref" in one or "anyOf" in one for one in answers) or path == "/openapi.json"


def test_patterns_are_those_of_every_language(described):
    """No pattern has what only Python's have."""
    assert r"\\Z" not in json.dumps(described)


def test_problems_are_described(described):
    """Each kind of problem is named under its status, and every operation says what its problems look like."""
    operations = [one for path in described["paths"].values() for one in path.values()]
    texts = {
        status: answer["description"]
        for operation in operations
        for status, answer in operation["responses"].items()
        if answer["description"].startswith("A problem:")
    }
    assert [] == [one.name for one in PROBLEMS.values() if f"`{one.name}`" not in texts.get(str(one.status), "")]
    for operation in operations:
        problems = {one for one in operation["responses"] if one >= "400"} - {
            "503"
        }  # which `/readyz` has of its own
        assert {"400", "421", "500", "501"} <= problems
        forms = [[*operation["responses"][one]["content"]] for one in problems]
        assert [["application/problem+json"]] * len(forms) == forms


def test_bounds_are_described(described, installation):
    """Numbers, times and lists have the bounds and formats that are checked."""
    parameters = {
        one["name"]: one["schema"] for one in described["paths"]["/admin/dead-letters"]["get"]["parameters"]
    }
    assert {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100} == parameters["limit"]
    assert {"type": "integer", "minimum": 0, "maximum": 2**31 - 1} == parameters["code"]
    assert {"type": "string", "format": "date-time"} == parameters["after"]
    schemas = described["components"]["schemas"]
    most = installation.pipeline.settings.max_bulk_items
    assert most == schemas["Operations"]["maxItems"] == schemas["Ids"]["properties"]["ids"]["maxItems"]
    [typed] = [one for path, one in described["paths"].items() if path.endswith("/queries/typed")]
    assert {"int64", "date-time", "uuid", None} == {
        one["schema"].get("format") for one in typed["get"]["parameters"] if "schema" in one
    }


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/users/ada", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("/v1/users/ada:increment", {"POST"}),
        ("/v1/users/ada:update", {"POST"}),
        ("/v1/users", {"GET", "HEAD", "POST"}),
        ("/v1/users:bulk", {"POST"}),
        ("/v1/asked/queries/all", {"GET", "HEAD"}),
        ("/admin/dead-letters", {"GET", "HEAD", "DELETE"}),
        ("/admin/dead-letters/users/ada", {"GET", "HEAD", "DELETE"}),
        ("/admin/dead-letters/users/ada:replay", {"POST"}),
        ("/healthz", {"GET", "HEAD"}),
    ],
)
def test_allowed_methods(client, path, allowed):
    """OPTIONS tells the methods that are described for a path."""
    response = client.options(path)
    assert (200, allowed | {"OPTIONS"}) == (response.status_code, set(response.headers["Allow"].split(", ")))


def test_head_and_options_of_every_path(described, client):
    """OPTIONS tells what is described of each path; HEAD answers as GET does, and has no body."""
    filled = {"collection": "users", "id": "ada", "name": "none", "key": "none", "idempotency_key": "none"}
    for path, operations in described["paths"].items():
        address = re.sub(r"{(\w+)}", lambda found: filled[found[1]], path)
        methods = {one.upper() for one in operations} | ({"HEAD"} if "get" in operations else set())
        allowed = client.options(address)
        assert (200, methods | {"OPTIONS"}) == (allowed.status_code, set(allowed.headers["Allow"].split(", "))), (
            path
        )
        assert b"" == allowed.data
        if "get" in operations:
            with client.get(address) as got, client.head(address) as head:
                assert (got.status_code, got.content_type, b"") == (
                    head.status_code,
                    head.content_type,
                    head.data,
                ), path


def test_answers_have_the_described_shape(described, client):
    """The answer to a write and a problem have the members that their schemas require."""
    schemas = described["components"]["schemas"]
    assert set(schemas["Written"]["required"]) <= client.put("/v1/users/ada", json={}).json.keys()
    assert set(schemas["Problem"]["required"]) <= client.get("/nothing").json.keys()


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_docs(client, path):
    """The page to try the API answers HTML that leads to the description."""
    response = client.get(path)
    assert (200, "text/html") == (response.status_code, response.mimetype)
    assert "/openapi.json" in response.text


def test_assets_of_the_docs(client):
    """What the page loads is there."""
    page = client.get("/docs").text
    found = re.findall(r'(?:src|href)="(/docs/[^"]+)"', page)
    assert len(found) >= 3
    for path in found:
        with client.get(path) as response:
            assert 200 == response.status_code


@pytest.mark.parametrize("path", ["/docs/nothing.js", "/docs/../app.py", "/docs/%2e%2e/app.py", "/static/x"])
def test_no_other_files(client, path):
    """Nothing but the page is served from the disk."""
    assert 404 == client.get(path).status_code


def test_a_route_that_names_no_method_is_a_get():
    """As Flask has it."""
    routes = Routes("some", __name__)
    routes.route("/some", operation=administered("get_some", "Health"))(lambda: "")
    declared = described_by(routes.declared)
    assert {"/some": ["get"]} == {path: [*operations] for path, operations in declared.items()}


@pytest.mark.parametrize("settings", [{}, {"allow_unlisted": True}, {"collections": {"users": {}}}])
def test_a_path_is_that_of_one_route_only(described, settings):
    """No word that a route has where others have a collection, and nothing else differs, is one's name."""
    name = components(load_settings(**settings))["Collection"]
    routes = [path.split("/") for path in described["paths"] if "/queries/" not in path]
    words = set()
    for general, special in permutations(routes, 2):
        places = [(one, word) for one, word in zip(general, special, strict=False) if one != word]
        differ = [word for one, word in places if one == "{collection}" and "{" not in word]
        if len(general) == len(special) and all(one.startswith("{") for one, _ in places):
            words |= {*differ}
    assert {"receipts"} == words
    assert not words & {*name.get("enum", ())}
    assert not any(re.search(name.get("pattern", "^$"), word) for word in words)


def test_a_listed_collection_may_be_called_as_a_route():
    """Its routes take the place of that one."""
    name = components(load_settings(allow_unlisted=True, collections={"receipts": {}}))["Collection"]
    assert re.search(name["pattern"], "receipts")


@pytest.mark.parametrize("metrics_open", [False, True])
def test_figures_that_are_open_ask_for_no_key(metrics_open):
    """As the route does."""
    paths = {"/metrics": {"get": {"responses": {"200": {}}}}}
    settings = load_settings(metrics_open=metrics_open)
    one = json.loads(specification(settings, "", paths=paths, keys=True))["paths"]["/metrics"]["get"]

    asks = not metrics_open
    assert ([{"key": []}] if asks else [], asks) == (one["security"], "401" in one["responses"])
