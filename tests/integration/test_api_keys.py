"""API keys: what each route asks of them, and how they are made, changed and ended."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from tests.integration.conftest import environment, full
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline
from writebehind.access import keyring as keyrings
from writebehind.access.keys import Token, new_id
from writebehind.cli import cli
from writebehind.errors import ConfigurationError, InvalidArgumentError, KeyConflictError, UnknownKeyError
from writebehind.flask import access as access_module
from writebehind.local.embedded import free_port
from writebehind.operations import api_keys
from writebehind.operations.api_keys import KeyOffice
from writebehind.operations.doctor import Level, access
from writebehind.redis.keys import API_KEYS

ROUTES = [
    ("GET", "/v1/users/ada", None, "users:read"),
    ("HEAD", "/v1/users/ada", None, "users:read"),
    ("GET", "/v1/users?email=x", None, "users:read"),
    ("POST", "/v1/users:get", {"ids": ["ada"]}, "users:read"),
    ("PUT", "/v1/users/ada", {"n": 1}, "users:write"),
    ("PATCH", "/v1/users/ada", {"n": 1}, "users:write"),
    ("DELETE", "/v1/users/ada", None, "users:write"),
    ("POST", "/v1/users", {"n": 1}, "users:write"),
    ("POST", "/v1/users/ada:increment", {"n": 1}, "users:write"),
    ("POST", "/v1/users:bulk", [], "users:write"),
    ("GET", "/admin/status", None, "admin"),
    ("GET", "/admin/keys", None, "admin"),
    ("GET", "/admin/dead-letters", None, "admin"),
    ("GET", "/metrics", None, "admin"),
]
GRANTS = ["users:read", "users:write", "pages:read,write", "admin", "*:read", "*:write"]


@pytest.fixture
def office(pipeline) -> KeyOffice:
    return KeyOffice(pipeline.store.api_keys, pipeline.keyring)


@pytest.fixture
def client(pipeline, monkeypatch):
    monkeypatch.setattr(keyrings, "FRESH_S", 0)  # each request knows what was done just before
    return create_app(pipeline).test_client()


def ask(client, method, path, body, token=""):
    headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return client.open(path, method=method, data=None if body is None else json.dumps(body), headers=headers)


def is_allowed(answer) -> bool:
    return answer.status_code not in {401, 403}


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
    found = [one for one in caplog.records if one.name == "writebehind.audit"]
    assert [one.event for one in found] == ["access_refused"] * 2
    assert "/v1/users/0" in found[0].message
    assert "/v1/other0/x" in found[1].message


def test_no_two_keys_have_a_name(office):
    """Of those that are made at the same time one stays at most."""

    def create(_):
        try:
            return office.create("same", ["admin"]).key.id
        except KeyConflictError:
            return None

    with ThreadPoolExecutor(8) as threads:
        made = [one for one in threads.map(create, range(8)) if one is not None]
    assert len(made) <= 1
    assert [one.id for one in office.listed()] == made


def test_the_console_asks_for_a_key(client, office):
    """Its page comes with 401, and asks."""
    office.create("one", ["users:read"])
    answer = client.get("/console")
    assert answer.status_code == 401
    assert answer.mimetype == "text/html"


@pytest.mark.parametrize("grant", GRANTS)
def test_a_receipt_is_for_who_may_read_or_write_its_document(client, office, grant):
    """For all others nobody has made the write; without a key nobody is told anything."""
    client.put("/v1/users/ada", json={}, headers={"Idempotency-Key": "one"})
    token = office.create("one", [grant]).token.text

    answer = ask(client, "GET", "/v1/receipts/one", None, token)

    state = "buffered" if grant.split(":")[0] in {"users", "*"} else "unknown"
    assert (200, state) == (answer.status_code, answer.json["state"])
    assert ask(client, "GET", "/v1/receipts/one", None).status_code == 401


def test_a_receipt_is_not_hidden_by_what_one_may_not_see(client, office):
    """A later write with the same key, to a collection that a key does not allow, is none to it."""
    client.put("/v1/users/ada", json={}, headers={"Idempotency-Key": "one"})
    client.put("/v1/orders/1", json={}, headers={"Idempotency-Key": "one"})
    token = office.create("one", ["users:read"]).token.text

    found = [
        ask(client, "GET", f"/v1/receipts/one{asked}", None, token).json for asked in ("", "?collection=orders")
    ]

    assert ["users", None] == [one.get("collection") for one in found]


def test_a_404_tells_nobody_of_a_document_who_may_not_read_it(client, office):
    writer = office.create("writer", ["users:write"]).token.text
    reader = office.create("reader", ["users:read,write"]).token.text
    for token, status in ((writer, 403), (reader, 404)):
        assert ask(client, "PATCH", "/v1/users/nobody", {"n": 1}, token).status_code == status


def test_a_key_that_is_revoked_or_has_expired_is_refused_and_leaves_nothing_open(client, office):
    revoked, expired = office.create("revoked", ["*:read"]), office.create("expired", ["*:read"], expires_s=1)
    office.revoke("revoked")
    wait_until(lambda: not expired.key.is_live(time.time() * 1000), "the key's end", 10)
    for one in (revoked, expired):
        assert ask(client, "GET", "/v1/users/ada", None, one.token.text).status_code == 401
    assert ask(client, "GET", "/v1/users/ada", None).status_code == 401
    assert {one.name: one.as_dict(time.time() * 1000)["state"] for one in office.listed()} == {
        "revoked": "revoked",
        "expired": "expired",
    }


def test_two_secrets_are_live_while_a_key_is_rotated(client, office):
    first = office.create("one", ["users:read"]).token
    second = office.rotate("one").token
    third = office.rotate(first.id, overlap_s=0).token

    def status(token: Token) -> int:
        return ask(client, "GET", "/v1/users/ada", None, token.text).status_code

    assert [status(one) for one in (first, second, third)] == [401, 401, 404]
    fourth = office.rotate("one").token
    assert [status(one) for one in (first, second, third, fourth)] == [401, 401, 404, 404]


def test_secrets_are_kept_as_hashes_only(office, pipeline):
    issued = office.create("one", ["users:read"])
    rotated = office.rotate("one")
    office.revoke("one")
    kept = b"".join(pipeline.store._wire.call("HGETALL", API_KEYS))
    for one in (issued, rotated):
        assert one.token.secret.encode() not in kept
        assert one.token.digest.encode() in kept


def test_what_is_no_key_of_ours_opens_nothing_and_leaves_nothing_open(client, office, pipeline):
    """Fields that other hands have put among the keys, each by itself."""
    key = office.create("one", ["users:read"])
    for field, value in [("", b""), ("x", b"x"), (key.key.id, b"[]"), (f"{key.key.id}:1", b"{}")]:
        pipeline.store._wire.call("DEL", API_KEYS)
        pipeline.store._wire.call("HSET", API_KEYS, field, value)
        assert ask(client, "GET", "/v1/users/ada", None, key.token.text).status_code == 401
        assert list(office.listed()) == []


def test_names_and_ids_find_a_key(office):
    key = office.create("one", ["admin"]).key
    assert office.get("one") == office.get(key.id) == key
    with pytest.raises(KeyConflictError):
        office.create("one", ["admin"])
    office.revoke("one")
    again = office.create("one", ["admin"]).key
    assert office.get("one") == again
    with pytest.raises(UnknownKeyError):
        office.get("other")


@pytest.mark.parametrize(
    "grants", [[], ["users"], ["users:"], ["users:admin"], ["a b:read"], [":read"], ["users:read,"]]
)
def test_grants_that_grant_nothing_are_refused(office, grants):
    with pytest.raises(InvalidArgumentError, match="users:read,write"):
        office.create("one", grants)


@pytest.mark.parametrize("name", ["", " one", "two\nlines", "x" * 101, "\x00"])
def test_names_that_nobody_could_read_are_refused(office, name):
    with pytest.raises(InvalidArgumentError, match="one line"):
        office.create(name, ["admin"])


def test_keys_over_http(client, office):
    """Made, listed, shown, rotated and revoked; no answer may be kept by a cache."""
    made = ask(client, "POST", "/admin/keys", {"name": "root", "allow": ["admin", "*:read"]})
    assert made.status_code == 201
    token = made.json["token"]
    assert ask(client, "POST", "/admin/keys", {"name": "root", "allow": ["admin"]}, token).status_code == 409
    shop = ask(client, "POST", "/admin/keys", {"name": "shop", "allow": ["users:read"], "expires_s": 60}, token)
    assert [one["name"] for one in ask(client, "GET", "/admin/keys", None, token).json["keys"]] == ["root", "shop"]
    rotated = ask(client, "POST", "/admin/keys/shop:rotate", None, token)
    assert rotated.json["token"] != shop.json["token"]
    assert rotated.headers["Cache-Control"] == "no-store"
    shown = ask(client, "GET", f"/admin/keys/{shop.json['id']}", None, token).json
    assert shown["state"] == "live"
    assert "token" not in shown
    assert ask(client, "DELETE", "/admin/keys/shop", None, token).json["state"] == "revoked"
    assert ask(client, "GET", "/admin/keys/other", None, token).status_code == 404
    for wrong in (
        {},
        {"name": "x"},
        {"name": 1, "allow": []},
        {"name": "x", "allow": ["admin"], "expires_s": True},
    ):
        assert ask(client, "POST", "/admin/keys", wrong, token).status_code == 400


def test_keys_by_the_command_line(client, settings):
    def run(*arguments):
        done = CliRunner().invoke(cli, ["keys", *arguments], env=environment(settings))
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    assert run("list") == "none in Redis"
    token = run("create", "shop", "--allow", "users:read,write", "--allow", "admin", "--expires", "90d")
    assert is_allowed(ask(client, "GET", "/admin/status", None, token))
    assert "shop" in run("list")
    assert json.loads(run("show", "shop", "--json"))["allow"] == ["users:read,write", "admin"]
    assert "state: live" in run("show", "shop")
    second = json.loads(run("rotate", "shop", "--overlap", "0s", "--json"))["token"]
    assert not is_allowed(ask(client, "GET", "/admin/status", None, token))
    assert is_allowed(ask(client, "GET", "/admin/status", None, second))
    assert json.loads(run("revoke", "shop", "--json"))["state"] == "revoked"
    assert not is_allowed(ask(client, "GET", "/admin/status", None, second))


def test_every_process_refuses_a_revoked_key_within_5_s(settings, office):
    """Each has read the keys by itself, and asks Redis again in time; not with each request."""
    token = office.create("one", ["users:read"]).token.text
    with Pipeline(settings) as other:
        client = create_app(other).test_client()
        assert is_allowed(ask(client, "GET", "/v1/users/ada", None, token))
        office.revoke("one")
        wait_until(lambda: not is_allowed(ask(client, "GET", "/v1/users/ada", None, token)), "the refusal", 5)


def test_no_request_asks_redis_for_keys(pipeline, office, monkeypatch):
    office.create("one", ["users:read"])
    asked = []
    read = pipeline.store.api_keys.read
    monkeypatch.setattr(pipeline.store.api_keys, "read", lambda: asked.append(1) or read())
    monkeypatch.setattr(keyrings, "FRESH_S", 60)
    for _ in range(50):
        pipeline.keyring.find("wb_000000000000_" + "a" * 43)
    assert len(asked) <= 1


EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens there
BEYOND = [EVERYWHERE, "::", "192.0.2.1", "api.example.com"]


def reached_at(settings, host, **more):
    """A pipeline of a process that listens there."""
    return Pipeline(settings.model_copy(update={"host": host, **more}))


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_loopback_nothing_starts_without_a_key(settings, office, host):
    """Neither a key that is revoked, nor one that other hands have spoiled, lets anybody in."""
    with reached_at(settings, host) as pipeline, pytest.raises(ConfigurationError, match="there is no API key"):
        create_app(pipeline)
    key = office.create("one", ["users:read"])
    with reached_at(settings, host) as pipeline:
        client = create_app(pipeline).test_client()
        assert ask(client, "GET", "/v1/users/ada", None).status_code == 401
        assert ask(client, "GET", "/v1/users/ada", None, key.token.text).status_code == 404


def test_the_server_says_in_one_line_why_it_does_not_start(settings, pipeline, tmp_path):
    given = environment(settings) | {"WRITEBEHIND_HOST": EVERYWHERE, "WRITEBEHIND_PORT": str(free_port())}
    command = [sys.executable, "-m", "writebehind", "run", "web"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=os.environ | given, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("writebehind: WRITEBEHIND_HOST is reached beyond this machine")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_loopback_everybody_may_do_everything_until_there_is_a_key(settings, pipeline, host):
    with reached_at(settings, host) as ours:
        assert is_allowed(ask(create_app(ours).test_client(), "GET", "/admin/status", None))


def test_who_asks_for_it_is_insecure(settings, pipeline):
    with reached_at(settings, EVERYWHERE, insecure=True) as ours:
        assert is_allowed(ask(create_app(ours).test_client(), "GET", "/admin/status", None))


def test_a_system_without_redis_lets_nobody_in_until_it_knows_its_keys(settings):
    """It starts, as Redis may come, and nobody knows yet whether there are keys."""
    with reached_at(settings, EVERYWHERE, redis_url="redis://127.0.0.1:1/0") as pipeline:
        answer = ask(create_app(pipeline).test_client(), "GET", "/v1/users/ada", None)
    assert answer.status_code == 503


def test_the_root_key_may_do_everything_and_is_in_no_redis(settings, pipeline):
    token = Token.new(new_id()).text
    with reached_at(settings, EVERYWHERE, root_key=token) as ours:
        client = create_app(ours).test_client()
        for method, path, body, _ in ROUTES:
            assert is_allowed(ask(client, method, path, body, token)), (method, path)
            assert not is_allowed(ask(client, method, path, body))
    assert pipeline.store.api_keys.count() == 0


def test_doctor_tells_who_may_use_the_api(settings, office):
    def told(host, **more):
        with reached_at(settings, host, **more) as pipeline:
            return [(one.level, one.found) for one in access.check(pipeline)]

    token = Token.new(new_id()).text
    assert told("127.0.0.1") == [(Level.OK, "there is no API key: everybody on this machine may do everything")]
    assert told(EVERYWHERE)[0][0] is Level.FAILURE
    assert told(EVERYWHERE, insecure=True)[0][0] is Level.FAILURE
    assert told(EVERYWHERE, root_key=token) == [(Level.OK, "1 live API key: nobody may do anything without one")]
    office.create("one", ["admin"])
    assert told(EVERYWHERE)[0][0] is Level.OK
    office.revoke("one")
    assert told(EVERYWHERE)[0][0] is Level.FAILURE
    with reached_at(settings, EVERYWHERE, redis_url="redis://127.0.0.1:1/0") as away:
        assert [one.level for one in access.check(away)] == [Level.FAILURE]


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


def test_a_key_that_was_found_before_it_was_revoked_is_not_taken_after(office, pipeline):
    """Also where a thread remembers the key that it found among those of before."""
    one = office.create("one", ["users:read"])
    before = pipeline.keyring.all()
    assert pipeline.keyring.find(one.token.text)
    office.revoke("one")
    pipeline.keyring._match(one.token.text, before)
    assert pipeline.keyring.find(one.token.text) is None


def test_nobody_gets_in_while_keys_are_read_for_the_first_time(office, settings):
    """Whoever comes meanwhile waits, or knows that there are some."""
    office.create("one", ["users:read"])
    with Pipeline(settings) as fresh, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: fresh.keyring.is_on(), range(200)))


def test_who_may_operate_and_read_nothing_is_told_that_there_is_no_dead_letter(client, office):
    """It is 404, not 403: `admin` is all that the routes for operators ask for."""
    operator = office.create("operator", ["admin"]).token.text
    for method, end in (("GET", ""), ("DELETE", ""), ("POST", ":replay")):
        answer = ask(client, method, f"/admin/dead-letters/users/nobody{end}", None, operator)
        assert answer.status_code == 404, (method, end)


def test_a_key_can_be_revoked_in_a_full_redis(office, pipeline, client):
    token = office.create("one", ["users:read"]).token.text
    with full(pipeline.store._wire):
        office.revoke("one")
    assert ask(client, "GET", "/v1/users/ada", None, token).status_code == 401


def test_a_key_that_is_rotated_often_takes_no_more_room(office):
    token = office.create("one", ["users:read"]).token
    for _ in range(10):
        token = office.rotate("one").token
    assert office._keys.count() == 3
    assert office.get("one").rotations == 10
    assert office._keyring.find(token.text)


def test_keys_that_ended_long_ago_make_room_and_open_nothing(office, pipeline, client, monkeypatch):
    token = office.create("old", ["users:read"]).token.text
    office.revoke("old")
    monkeypatch.setattr(api_keys, "MOST_RECORDED", 2)
    with pytest.raises(InvalidArgumentError, match="too many"):
        office.create("new", ["users:read"])
    monkeypatch.setattr(api_keys, "FORGOTTEN_S", -60)
    office.create("new", ["users:read"])
    assert [one.name for one in office.listed()] == ["new"]
    office._keys.forget(office.get("new").id, pipeline.store.api_keys.read()[office.get("new").id])
    assert ask(client, "GET", "/v1/users/ada", None, token).status_code == 401
    with Pipeline(pipeline.settings) as later:
        assert later.keyring.is_on()


def test_a_process_that_has_seen_keys_does_not_open_when_they_are_dropped(office, pipeline, client):
    token = office.create("one", ["users:read"]).token.text
    assert ask(client, "GET", "/v1/users/ada", None, token).status_code == 404
    pipeline.store._wire.call("DEL", API_KEYS)
    for given in ("", token):
        assert ask(client, "GET", "/v1/users/ada", None, given).status_code == 401


def test_nobody_goes_by_keys_that_are_too_old_while_somebody_reads_them(office, pipeline, monkeypatch):
    """After a time without requests, the first one reads them, and the others wait for that."""
    one = office.create("one", ["users:read"])
    assert pipeline.keyring.find(one.token.text)
    office.revoke("one")
    pipeline.keyring._due = time.monotonic() - 3_600
    reading, read = threading.Event(), pipeline.store.api_keys.read

    def slowly():
        reading.set()
        time.sleep(0.3)
        return read()

    monkeypatch.setattr(pipeline.store.api_keys, "read", slowly)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pipeline.keyring.find, one.token.text)
        assert reading.wait(10)
        second = threads.submit(pipeline.keyring.find, one.token.text)
        assert (first.result(), second.result()) == (None, None)


def test_the_root_key_opens_also_before_redis_was_ever_asked(settings):
    token = Token.new(new_id()).text
    with reached_at(settings, EVERYWHERE, redis_url="redis://127.0.0.1:1/0", root_key=token) as ours:
        client = create_app(ours).test_client()
        assert ask(client, "GET", "/v1/users/ada", None, token).status_code == 404
        assert ask(client, "GET", "/v1/users/ada", None).status_code == 401
