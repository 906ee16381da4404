"""The API in an application that was there before: nothing else is any different."""

from __future__ import annotations

import json
import logging
from unittest.mock import Mock

import pytest
from flask import Flask, abort, request
from flask.testing import FlaskClient
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.unit.flask.shop import sent, shop
from tests.unit.web.conftest import problem
from writebehind.collection import Collection
from writebehind.errors import DeadLetterError
from writebehind.flask import api

LONGEST = 1_000


@pytest.fixture
def app(installation) -> Flask:
    app = shop()
    app.register_blueprint(api(installation.pipeline), url_prefix="/store")
    return app


@pytest.fixture
def client(app) -> FlaskClient:
    return app.test_client()


def test_the_application_stays_as_it_is(client):
    """Its routes, converters and JSON are its own, and so are the answers to its errors."""
    gone, unprefixed = client.get("/nothing"), client.get("/v1/users/ada")
    wrong, crash = client.put("/orders"), client.get("/broken")

    assert '{"SHELF":"12"}' == client.get("/shelves/12").text.strip()
    assert ["the shop says 404"] * 2 == [gone.text, unprefixed.text]
    assert ["the shop says 405", "the shop says KeyError"] == [wrong.text, crash.text]
    assert [404, 404, 405, 500] == [one.status_code for one in (gone, unprefixed, wrong, crash)]
    for response in (gone, wrong, crash):
        assert "X-Request-Id" not in response.headers


@pytest.mark.parametrize(
    ("path", "method", "status", "name"),
    [
        ("/store/v1/users/ada", "GET", 404, "not-found"),
        ("/store/v1/nope/ada", "GET", 404, "unknown-collection"),
        ("/store/v1/users?a=1&a=2", "GET", 400, "bad-request"),
        ("/store/v1/users/ada", "POST", 405, "method-not-allowed"),
        ("/store/v1/users", "POST", 400, "malformed-json"),
        ("/store/docs/nothing.js", "GET", 404, "no-such-route"),
    ],
)
def test_the_applications_handlers_do_not_answer_for_the_api(client, path, method, status, name):
    """Also where it has one for the very status."""
    problem(client.open(path, method=method), status, name)


def test_there_are_no_routes_for_operators_unless_guarded(client, installation):
    """Who mounts them says who may use them; dead letters then have no address."""
    assert "the shop says 404" == client.get("/store/admin/status").text
    assert "/admin/status" not in client.get("/store/openapi.json").json["paths"]

    app = shop()
    app.register_blueprint(api(installation.pipeline, admin=lambda: abort(403)), url_prefix="/store")
    problem(app.test_client().get("/store/admin/status"), 403, "forbidden")
    problem(app.test_client().get("/store/admin/dead-letters"), 403, "forbidden")
    assert 404 == app.test_client().get("/store/v1/users/ada").status_code


def test_a_dead_letter_without_routes_for_operators(client, installation, monkeypatch):
    """It has no address, and is a problem all the same."""
    refused = DeadLetterError("no", collection="users", document_id="ada", version=7)
    monkeypatch.setattr(Collection, "put", Mock(side_effect=refused))

    response = client.put("/store/v1/users/ada", json={})

    assert (422, 7, False) == (response.status_code, response.json["version"], "letter" in response.json)


def test_an_error_that_nobody_foresaw_is_the_applications(client, installation, monkeypatch):
    """It has a handler for all errors, which may report them somewhere."""
    monkeypatch.setattr(installation.pipeline.reader, "get_or_bypass", Mock(side_effect=ValueError("secret")))

    assert "the shop says ValueError" == client.get("/store/v1/users/ada").text


def test_an_error_that_nobody_foresaw_without_a_handler(installation, monkeypatch, caplog):
    """It is a problem that gives nothing away, and in the log under the name that the answer has."""
    app = Flask("plain")
    app.register_blueprint(api(installation.pipeline), url_prefix="/store")
    monkeypatch.setattr(installation.pipeline.reader, "get_or_bypass", Mock(side_effect=ValueError("secret")))

    found = problem(app.test_client().get("/store/v1/users/ada"), 500, "internal-error")

    assert "secret" not in str(found)
    assert f"GET /store/v1/users/ada [{found['request_id']}] failed: ValueError('secret')" in [
        one.message for one in caplog.records if one.levelno == logging.ERROR
    ]


def test_the_application_guards_the_api(installation):
    """By `before_request`, before a body is read; what it refuses is a problem."""
    routes, looked = api(installation.pipeline), []

    @routes.before_request
    def guard() -> None:
        looked.append(request.environ["wsgi.input"].tell())
        if request.headers.get("Authorization") != "Bearer 1":
            abort(401)

    app = shop()
    app.register_blueprint(routes, url_prefix="/store")
    client = app.test_client()

    problem(client.put("/store/v1/users/ada", **sent({})), 401, "unauthorized")
    assert [] == installation.stored()
    assert client.put("/store/v1/users/ada", **sent({}), headers={"Authorization": "Bearer 1"}).status_code < 300
    assert [0, 0] == looked
    assert 200 == client.get("/shelves/1").status_code


def test_limits_of_the_application(installation):
    """Its limit of bodies holds for its own routes and for the API's; the API's for the API only."""
    app = shop(MAX_CONTENT_LENGTH=LONGEST)
    app.register_blueprint(api(installation.pipeline), url_prefix="/store")
    client, long = app.test_client(), {"a": "x" * LONGEST}

    problem(client.put("/store/v1/users/ada", **sent(long)), 413, "too-large")
    assert "the shop says 413" == client.post("/orders", **sent(long)).text
    assert client.put("/store/v1/users/ada", **sent({"a": "x" * (LONGEST // 2)})).status_code < 300


def test_limits_of_the_api(client, installation):
    """What is larger than a document may be is refused there, and nowhere else."""
    longest = installation.pipeline.settings.max_document_bytes
    long = {"a": "x" * longest}

    problem(client.put("/store/v1/users/ada", **sent(long)), 413, "too-large")
    assert longest < json.loads(client.post("/orders", **sent(long)).text)["SIZE"]


def test_a_body_that_breaks_off_is_refused(client, installation):
    """Nothing is carried out of it, under whatever server."""
    response = client.put(
        "/store/v1/users/ada",
        data=b'{"n":1}',
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "9"},
    )

    problem(response, 400, "bad-request")
    assert [] == installation.stored()


@pytest.mark.parametrize(
    "read", [lambda *_: request.get_data(), lambda *_: request.get_json(silent=True)], ids=["data", "json"]
)
def test_a_body_that_the_application_has_read_before(app, read):
    """A log, or a signature that is checked, does no harm: what it reads is kept."""
    app.before_request(lambda: read() and None)
    client = app.test_client()

    assert 201 == client.post("/store/v1/events", **sent({"n": 1})).status_code
    problem(client.put("/store/v1/users/ada", **sent({"a": "x" * (17 << 20)})), 413, "too-large")


def test_a_body_that_the_application_has_taken(installation, caplog):
    """Who reads it past Flask is told what to do; nothing is written."""
    app = Flask("plain")
    app.register_blueprint(api(installation.pipeline), url_prefix="/store")
    app.before_request(lambda: request.stream.read() and None)

    problem(app.test_client().post("/store/v1/users", **sent({"_id": "ada"})), 500, "internal-error")

    assert "have it call request.get_data()" in caplog.text
    assert [] == installation.stored()


@pytest.mark.parametrize("path", ["//ada", "/ada/", "/", "/ada//"])
def test_slashes_are_part_of_an_id(installation, path):
    """An application may merge or forget slashes in its own paths; here that would be another document."""
    app = shop()
    app.url_map.strict_slashes = False
    app.register_blueprint(api(installation.pipeline), url_prefix="/store")
    client = app.test_client()

    problem(client.put(f"/store/v1/users{path}", **sent({})), 404, "no-such-route")
    problem(client.post(f"/store/v1/users{path}", **sent({})), 404, "no-such-route")
    assert [] == installation.stored()


@pytest.mark.parametrize("text", ["\xfe", "\xc3", "a\xe2\x98"])
def test_a_path_that_is_not_utf_8(client, installation, text):
    """It names nothing: of two such paths one would be taken for the other."""
    for collection in ("free", "users"):
        environ = {"PATH_INFO": f"/store/v1/{collection}/{text}"}
        problem(client.put("/", **sent({}), environ_overrides=environ), 400, "invalid-id")
    environ = {"QUERY_STRING": f"username={text}"}
    problem(client.get("/store/v1/people", environ_overrides=environ), 400, "bad-request")
    assert [] == installation.stored()


def test_a_name_with_the_sign_for_what_is_wrong(client):
    """U+FFFD is a character like others, where it is one."""
    assert client.put("/store/v1/free/\ufffd", **sent({})).status_code < 300
    assert "\ufffd" == json.loads(client.get("/store/v1/free/\ufffd").data)["_id"]


PAGES = {
    "another site": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    "another site, an old browser": {"Origin": "https://evil.example"},
    "a file": {"Origin": "null"},
    "a page that tells where it is only": {"Referer": "https://evil.example/form"},
}


@pytest.mark.parametrize("headers", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_no_page_of_others_writes_by_a_form(client, installation, headers, kind):
    """Whatever it says that it sends; a person's cookies would make it theirs."""
    response = client.post("/store/v1/users", data='{"_id": "ada"}', content_type=kind, headers=headers)

    problem(response, 403, "forbidden")
    assert [] == installation.stored()
    assert client.get("/store/v1/users/ada", headers=headers).status_code == 404


def test_a_page_of_the_application_writes(client):
    """As JSON; a form is refused also there, as nobody means that."""
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}

    assert 201 == client.post("/store/v1/events", **sent({}), headers=headers).status_code
    form = client.post("/store/v1/events", data={"a": "1"}, headers=headers)
    problem(form, 415, "unsupported-media-type")


def test_pages_of_origins_that_are_allowed_write(installation):
    """Those that the application names, and no others."""
    app = shop()
    app.register_blueprint(api(installation.pipeline, origins=["https://app.example"]), url_prefix="/store")
    client = app.test_client()

    for site in ({}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.post("/store/v1/events", **sent({}), headers={"Origin": "https://app.example"} | site)
        assert 201 == answer.status_code
        answer = client.post("/store/v1/events", **sent({}), headers={"Origin": "https://evil.example"} | site)
        problem(answer, 403, "forbidden")


def test_the_applications_own_routes_take_any_page(client):
    """Who may use them is not for the API to say."""
    assert 200 == client.post("/orders", data={"a": "1"}, headers=PAGES["another site"]).status_code


def test_the_origin_behind_a_proxy(installation):
    """It is compared with the host that browsers see, as far as the application knows it."""
    app = shop()
    app.register_blueprint(api(installation.pipeline), url_prefix="/store")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)
    headers = {"Host": "inner:8000", "X-Forwarded-Host": "shop.example", "Origin": "https://shop.example"}

    assert 201 == app.test_client().post("/store/v1/events", **sent({}), headers=headers).status_code


@pytest.mark.parametrize("method", ["put", "Delete"])
def test_methods_are_in_capitals(client, installation, method):
    """Others are other methods, which there are none of."""
    problem(client.open("/store/v1/users/ada", environ_overrides={"REQUEST_METHOD": method}), 501)
    assert [] == installation.stored()


def test_the_page_is_in_no_frame(client):
    """Others could have a person click in it; headers of the application's pages are its own."""
    assert "frame-ancestors 'none'" == client.get("/store/docs").headers["Content-Security-Policy"]
    assert "Content-Security-Policy" not in client.get("/shelves/1").headers


def test_a_name_that_the_client_gives(client):
    """Answers of the API have it, others do not."""
    headers = {"X-Request-Id": "abc"}

    for path in ("/store/v1/users/ada", "/store/v1/a/b/c", "/store/openapi.json"):
        assert "abc" == client.get(path, headers=headers).headers["X-Request-Id"]
    assert "X-Request-Id" not in client.get("/shelves/1", headers=headers).headers
