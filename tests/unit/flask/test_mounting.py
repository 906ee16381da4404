"""The API under any prefix, behind any proxy: what it says of addresses leads where it should."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from unittest.mock import Mock

import pytest
from flask import Blueprint, Flask, Response
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.unit.flask.shop import sent, shop
from tests.unit.web.conftest import problem
from writebehind.collection import Collection
from writebehind.errors import DeadLetterError
from writebehind.flask import api


def at_the_root(app: Flask, routes: Blueprint) -> str:
    app.register_blueprint(routes)
    return ""


def below_a_prefix(app: Flask, routes: Blueprint) -> str:
    app.register_blueprint(routes, url_prefix="/store")
    return "/store"


def in_a_blueprint(app: Flask, routes: Blueprint) -> str:
    parts = Blueprint("parts", __name__, url_prefix="/parts")
    parts.register_blueprint(routes, url_prefix="/store/v1")
    app.register_blueprint(parts)
    return "/parts/store/v1"


class Mounted:
    """A client from outside a proxy, which may strip a prefix, and the prefix of the API as it sees it."""

    def __init__(self, app: Flask, inner: str, stripped: str, headers: dict[str, str]) -> None:
        self._client = app.test_client()
        self.stripped, self._headers = stripped, headers
        self.prefix = stripped + inner

    def open(self, path: str, **options: object) -> Response:
        """Ask for a path as the world outside knows it."""
        assert path.startswith(self.stripped + "/")
        path = path.removeprefix(self.stripped)
        return self.open_inner(path, **options)

    def open_inner(self, path: str, **options: object) -> Response:
        """Ask for a path as the proxy does: also for one that begins with slashes."""
        given = options.pop("headers", {})
        environ = {} if self._headers else {"SCRIPT_NAME": self.stripped}
        if path.startswith("//"):  # which would be a host for this client
            environ, path = environ | {"PATH_INFO": path}, "/"
        return self._client.open(path, headers=self._headers | given, environ_overrides=environ, **options)

    def get(self, path: str, **options: object) -> Response:
        return self.open(path, method="GET", **options)

    def post(self, path: str, **options: object) -> Response:
        return self.open(path, method="POST", **options)


PROXIES: dict[str, tuple[str, dict[str, str]]] = {
    "no proxy": ("", {}),
    "SCRIPT_NAME": ("/shop", {}),
    "X-Forwarded-Prefix": ("/shop/x", {"X-Forwarded-Prefix": "/shop/x"}),
}


@pytest.fixture(params=[at_the_root, below_a_prefix, in_a_blueprint])
def mount(request) -> Callable[[Flask, Blueprint], str]:
    return request.param


@pytest.fixture(params=PROXIES.values(), ids=PROXIES)
def mounted(request, installation, mount) -> Mounted:
    app = shop()
    inner = mount(app, api(installation.pipeline, admin=lambda: None))
    stripped, headers = request.param
    if headers:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)
    return Mounted(app, inner, stripped, headers)


@pytest.mark.parametrize("name", ["ada", "a b+é?#%", "ada:increment"])
def test_a_location_leads_to_the_document(mounted, name):
    """Wherever the API is mounted, and whatever a proxy has taken away before."""
    response = mounted.post(f"{mounted.prefix}/v1/free", **sent({"_id": name, "n": 1}))

    assert 201 == response.status_code
    assert response.location.startswith(f"{mounted.prefix}/v1/free/")
    assert {"_id": name, "n": 1} == json.loads(mounted.get(response.location).data)


def test_a_lookup_says_where_the_document_is(mounted):
    """As a path that can be asked for from outside."""
    mounted.post(f"{mounted.prefix}/v1/people", **sent({"_id": "ada", "username": "ada"}))

    response = mounted.get(f"{mounted.prefix}/v1/people", query_string={"username": "ada"})

    assert f"{mounted.prefix}/v1/people/ada" == response.headers["Content-Location"]
    assert 200 == mounted.get(response.headers["Content-Location"]).status_code


@pytest.mark.parametrize(("name", "end"), [("ada", "/users/ada?version=7"), ("a/b", "?collection=users")])
def test_a_dead_letter_says_where_it_is(mounted, installation, monkeypatch, name, end):
    """As a path below the same prefix."""
    refused = DeadLetterError("no", collection="users", document_id=name, version=7)
    monkeypatch.setattr(Collection, "put", Mock(side_effect=refused))

    found = problem(mounted.open(f"{mounted.prefix}/v1/users/ada", method="PUT", json={}), 422, "dead-letter")

    assert f"{mounted.prefix}/admin/dead-letters{end}" == found["letter"]


def test_the_description_is_of_the_api_where_it_is(mounted):
    """Valid OpenAPI, whose server is the prefix; the service's own routes are not in it."""
    described = mounted.get(f"{mounted.prefix}/openapi.json").json

    assert ([{"url": mounted.prefix}] if mounted.prefix else None) == described.pop("servers", None)
    assert [] == _flaws(json.dumps(described))
    assert {"/v1/{collection}/{id}", "/admin/status"} <= described["paths"].keys()
    assert described["paths"].keys().isdisjoint({"/healthz", "/readyz"})


@cache
def _flaws(description: str) -> list[Exception]:
    """Flaws of a description. It is looked at once, as it is the same everywhere, but for its servers."""
    return [*OpenAPIV31SpecValidator(json.loads(description)).iter_errors()]


@pytest.mark.parametrize("page", ["/docs", "/docs/"])
def test_the_page_loads_what_it_needs(mounted, page):
    """Its files, and the description."""
    text = mounted.get(mounted.prefix + page).text

    assets = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(assets) >= 3
    for path in (*assets, f"{mounted.prefix}/openapi.json"):
        assert path in text
        with mounted.get(path) as response:
            assert 200 == response.status_code


def test_what_has_no_route_below_the_prefix_is_a_problem(mounted):
    """It says where to look; a wrong method says which are right."""
    found = problem(mounted.get(f"{mounted.prefix}/v1/users/ada/more"), 404, "no-such-route")
    wrong = mounted.post(f"{mounted.prefix}/v1/users/ada")

    assert f"{mounted.prefix}/openapi.json" in found["detail"]
    problem(wrong, 405, "method-not-allowed")
    assert {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} == set(wrong.headers["Allow"].split(", "))


@pytest.mark.parametrize("path", ["/admin/keys", "/v1/users/ada", "/openapi.json", "/console", "/docs"])
def test_no_further_slash_leads_to_a_route(mounted, path):
    """Whoever lets no request for `/admin` through, as a proxy may, has no second name to look for."""
    inner = mounted.prefix.removeprefix(mounted.stripped)
    assert 404 != mounted.open(f"{mounted.prefix}{path}", method="OPTIONS").status_code
    for given in (f"/{inner}{path}", f"//{inner}{path}"):
        for method in ("GET", "OPTIONS"):
            assert 404 == mounted.open_inner(given, method=method).status_code, given
        assert mounted.open_inner(given, method="PATCH").status_code in {404, 405}


def test_options_tell_the_methods_of_a_path(mounted):
    """Of the path that is meant: `:increment` could be the end of an id as well."""
    one = mounted.open(f"{mounted.prefix}/v1/users/ada", method="OPTIONS")
    increment = mounted.open(f"{mounted.prefix}/v1/users/ada:increment", method="OPTIONS")

    assert {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} == set(one.headers["Allow"].split(", "))
    assert {"POST", "OPTIONS"} == set(increment.headers["Allow"].split(", "))
    assert (b"", None) == (one.data, one.headers.get("Content-Type"))


def test_two_apis_in_one_application(installation):
    """Each answers with paths to itself."""
    app = shop()
    app.register_blueprint(api(installation.pipeline), url_prefix="/one")
    app.register_blueprint(api(installation.pipeline, name="other"), url_prefix="/two")
    client = app.test_client()

    for prefix in ("/one", "/two"):
        assert client.post(f"{prefix}/v1/events", **sent({})).location.startswith(f"{prefix}/v1/events/")
