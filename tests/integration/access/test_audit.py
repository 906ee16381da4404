"""The audit log: who did what as an operator, and who was refused."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from http import HTTPStatus

import pytest
from flask import Flask

from tests.integration.access.conftest import ask
from tests.integration.conftest import environment
from tests.waiting import wait_until
from web.limits import Door
from writebehind import allowance
from writebehind.access import refused as calls
from writebehind.access.limits import Clients, Limit
from writebehind.access.operators import Operators
from writebehind.access.refused import Call
from writebehind.flask import api
from writebehind.local.embedded import free_port
from writebehind.logs.audit import begin_audit


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "audit.log"
    begin_audit(path, "web")
    yield path
    begin_audit(None, "web")


def noted(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_call_of_an_operator_says_who_did_what(client, office, file):
    """Its key, the action, its target and outcome, and the name of the request; nothing for figures."""
    key = office.create("boss", ["admin"])
    named = {"X-Request-Id": "mine", "Authorization": f"Bearer {key.token.text}"}
    asked = [
        ("GET", "/admin/status", 200),
        ("GET", "/admin/history", 200),
        ("GET", "/admin/keys", 200),
        ("DELETE", "/admin/dead-letters?collection=users&all=true", 200),
        ("GET", "/admin/explorer/users/ada", 200),
        ("POST", "/admin/keys", 400),
    ]
    for method, path, status in asked:
        assert status == client.open(path, method=method, headers=named).status_code, path

    found = noted(file)
    assert [(method, path, status) for method, path, status in asked[2:]] == [
        (one["action"], one["target"], one["outcome"]) for one in found
    ]
    assert {("mine", key.token.id, "127.0.0.1", "web")} == {
        (one["request_id"], one["key"], one["client"], one["process"]) for one in found
    }
    assert key.token.text not in file.read_text()


def test_each_refusal_says_why(client, office, file):
    """Also those of documents."""
    key = office.create("reader", ["users:read"])
    ask(client, "GET", "/v1/users/ada", None)
    ask(client, "PUT", "/v1/users/ada", {}, key.token.text)
    ask(client, "GET", "/admin/status", None, key.token.text)
    ask(client, "GET", "/v1/users/ada", None, "wb_wrong")
    ask(client, "GET", "/v1/users/ada", None, key.token.text)  # which is allowed

    assert [
        (None, "GET", "/v1/users/ada", 401, "no key"),
        (key.token.id, "PUT", "/v1/users/ada", 403, "a key without the right to write"),
        (key.token.id, "GET", "/admin/status", 403, "a key without the right to admin"),
        (None, "GET", "/v1/users/ada", 401, "a wrong key"),
    ] == [(one.get("key"), one["action"], one["target"], one["outcome"], one["reason"]) for one in noted(file)]
    assert {"access_refused"} == {one["event"] for one in noted(file)}
    assert "wb_wrong" not in file.read_text()


def test_a_refusal_names_the_key_that_has_ended_or_has_another_secret(client, office, file):
    """By its secret: whoever knows its id alone, which is in logs, is nobody who had it."""
    revoked, expired = office.create("revoked", ["users:read"]), office.create("expired", ["*:read"], expires_s=1)
    office.revoke("revoked")
    wait_until(lambda: not expired.key.is_live(time.time() * 1000), "the key's end", 10)
    rotated = office.create("rotated", ["users:read"])
    office.rotate("rotated", overlap_s=0)
    wrong = revoked.token._replace(secret=expired.token.secret)
    for token in (revoked.token, expired.token, rotated.token, wrong):
        assert 401 == ask(client, "GET", "/v1/users/ada", None, token.text).status_code

    assert [
        (revoked.token.id, "a key that is revoked"),
        (expired.token.id, "a key that has expired"),
        (rotated.token.id, "a secret that was replaced"),
        (None, "a wrong key"),
    ] == [(one.get("key"), one["reason"]) for one in noted(file)]


def test_what_the_gate_refuses_is_noted_with_its_key(client, office, file):
    """No route was asked: a page of another origin, or a name that is not this server's, had somebody's key."""
    token = office.create("boss", ["admin"]).token
    assert 200 == ask(client, "GET", "/admin/status", None, token.text).status_code  # so that it is known here
    key = {"Authorization": f"Bearer {token.text}"}
    for more, status in (({"Origin": "https://evil.example"}, 403), ({"Host": "evil.example"}, 421)):
        assert status == client.delete("/admin/keys/boss", headers=key | more).status_code
    assert 421 == client.get("/v1/users/ada", headers={"Host": "evil.example"}).status_code

    target, reasons = "/admin/keys/boss", [one["reason"] for one in noted(file)]
    assert [(token.id, target, 403), (token.id, target, 421), (None, "/v1/users/ada", 421)] == [
        (one.get("key"), one["target"], one["outcome"]) for one in noted(file)
    ]
    assert ["another origin" in reasons[0], "not this server" in reasons[1]] == [True, True]


def test_figures_are_none_of_it_wherever_the_api_is_mounted(pipeline, file):
    app = Flask("shop")
    app.register_blueprint(api(pipeline, admin=lambda: None), url_prefix="/store")
    for path in ("status", "history", "keys"):
        assert 200 == app.test_client().get(f"/store/admin/{path}").status_code

    assert ["/store/admin/keys"] == [one["target"] for one in noted(file)]


def test_who_uses_up_a_limit_is_noted(pipeline, office, file):
    """At the door, under the name that the answer has."""
    key = office.create("one", ["users:read"], concurrency=1)
    pipeline.keyring.all()
    door = Door(Clients(Limit(), pipeline.store.spending), pipeline.keyring)
    scope = {
        "method": "GET",
        "path": "/v1/users/ada",
        "query_string": b"a=1",
        "headers": [(b"authorization", f"Bearer {key.token.text}".encode()), (b"x-request-id", b"mine")],
        "client": ("127.0.0.1", 4711),
    }
    assert [False, True] == [door.enter(scope).refusal is not None for _ in range(2)]

    (found,) = noted(file)
    assert (key.key.id, "GET", "/v1/users/ada?a=1", 429, "mine", "127.0.0.1") == tuple(
        found[one] for one in ("key", "action", "target", "outcome", "request_id", "client")
    )
    assert "concurrency" in found["reason"]


def test_pages_of_operators_note_whom_they_refuse(pipeline, office, file):
    """Flower and the exporter do so as the API does."""
    operators = Operators(pipeline.keyring, is_open=True, page="Flower", instead="…")
    key = office.create("reader", ["*:read"])
    call = Call("GET", "/workers", "127.0.0.1")
    bearer = f"Bearer {key.token.text}"
    assert [401, 401, 403] == [operators.refusal(one, call) for one in ("", "Bearer wb_wrong", bearer)]
    operators.refused_by_gate(bearer, call, "a page of another origin", HTTPStatus.FORBIDDEN)

    assert [
        (None, 401, "no key"),
        (None, 401, "a wrong key"),
        (key.key.id, 403, "a key without the right to admin"),
        (key.key.id, 403, "a page of another origin"),
    ] == [(one.get("key"), one["outcome"], one["reason"]) for one in noted(file)]
    assert {("GET", "/workers", "127.0.0.1")} == {
        (one["action"], one["target"], one["client"]) for one in noted(file)
    }


def test_whoever_is_refused_often_fills_no_disk(client, office, file, monkeypatch):
    """So many in a second are written down; how many more there were, the next one says."""
    office.create("reader", ["users:read"])
    now = [1_000.0]
    monkeypatch.setattr(allowance, "monotonic", lambda: now[0])
    for _ in range(calls.MOST_REFUSALS + 7):
        ask(client, "GET", "/v1/users/ada", None)
    assert calls.MOST_REFUSALS == len(noted(file))
    now[0] += 1
    ask(client, "GET", "/v1/users/ada", None)
    assert 7 == noted(file)[-1]["omitted"]


def test_a_file_that_is_moved_away_is_made_anew(client, office, file):
    """As logrotate does it. Only its owner reads it."""
    ask(client, "GET", "/admin/keys", None)
    file.rename(file.with_suffix(".1"))
    ask(client, "GET", "/admin/keys", None)

    assert [1, 1] == [len(noted(one)) for one in (file, file.with_suffix(".1"))]
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)


def test_calls_go_on_where_nothing_can_be_written(client, office, file, caplog):
    """It is told once."""
    ask(client, "GET", "/admin/keys", None)
    file.unlink()
    file.mkdir()
    for _ in range(3):
        assert 200 == ask(client, "GET", "/admin/keys", None).status_code
    file.rmdir()
    ask(client, "GET", "/admin/keys", None)

    assert ["audit_unwritten"] == [one.event for one in caplog.records if one.name == "writebehind.logs.audit"]
    assert 1 == len(noted(file))


def test_nothing_starts_that_could_not_be_audited(settings, pipeline, tmp_path):
    """The server says so in one line."""
    given = environment(settings) | {"WRITEBEHIND_AUDIT_LOG": str(tmp_path), "WRITEBEHIND_PORT": str(free_port())}
    command = [sys.executable, "-m", "writebehind", "run", "web"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=os.environ | given, capture_output=True, text=True, timeout=60, check=False
    )
    assert 1 == ended.returncode
    assert f"writebehind: audit_log: {tmp_path} cannot be written: Is a directory\n" == ended.stderr
