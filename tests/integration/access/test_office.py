"""API keys: how they are made, found, changed and ended."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from tests.integration.access.conftest import ask, is_allowed
from tests.integration.conftest import environment, full
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline, connect
from writebehind.access.keys import Token
from writebehind.cli import cli
from writebehind.errors import InvalidArgumentError, KeyConflictError, UnknownKeyError
from writebehind.operations import api_keys
from writebehind.redis.keys import API_KEYS


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


@pytest.mark.parametrize("name", ["shop:rotate", "a/b", ".", "..", "0123456789ab", "0123456789AB"])
def test_names_that_mean_something_else_in_a_path_are_refused(office, name):
    with pytest.raises(InvalidArgumentError, match="the name of a key"):
        office.create(name, ["admin"])


def test_a_key_that_was_named_as_another_ones_id_is_found_by_its_own(office, monkeypatch):
    """As releases before took such a name."""
    key = office.create("one", ["admin"]).key
    monkeypatch.setattr(api_keys, "check_name", lambda _: None)
    other = office.create(key.id, ["admin"]).key

    assert (key, other) == (office.get(key.id), office.get(other.id))
    assert other.id == office.revoke(other.id).key.id
    assert office.get(key.id).revoked_ms is None


def test_an_expired_key_gives_its_name_away(office):
    """The name means the live one; each of them stays in the list under its id."""
    expired = office.create("one", ["admin"], expires_s=1).key
    wait_until(lambda: not expired.is_live(time.time() * 1000), "the key's end", 10)
    assert office.get("one") == expired
    key = office.create("one", ["admin"]).key

    assert office.get("one") == key
    assert [expired.id, key.id] == [one.id for one in office.listed()]
    assert key.id == office.revoke("one").key.id
    assert office.get("one") == expired


def test_keys_over_http(client, office):
    """Made, listed, shown, rotated and revoked; no answer may be kept by a cache."""
    made = ask(client, "POST", "/admin/keys", {"name": "root", "allow": ["admin", "*:read"]})
    assert made.status_code == 201
    token = made.json["token"]
    assert ask(client, "POST", "/admin/keys", {"name": "root", "allow": ["admin"]}, token).status_code == 409
    shop = ask(
        client,
        "POST",
        "/admin/keys",
        {"name": "shop", "allow": ["users:read"], "expires_s": 60, "rate": 0.5, "concurrency": 3},
        token,
    )
    assert [one["name"] for one in ask(client, "GET", "/admin/keys", None, token).json["keys"]] == ["root", "shop"]
    rotated = ask(client, "POST", "/admin/keys/shop:rotate", None, token)
    assert rotated.json["token"] != shop.json["token"]
    assert rotated.headers["Cache-Control"] == "no-store"
    shown = ask(client, "GET", f"/admin/keys/{shop.json['id']}", None, token).json
    assert (shown["state"], shown["rate"], shown["concurrency"]) == ("live", 0.5, 3)
    assert "token" not in shown
    assert ask(client, "DELETE", "/admin/keys/shop", None, token).json["state"] == "revoked"
    assert ask(client, "GET", "/admin/keys/other", None, token).status_code == 404
    for wrong in (
        {},
        {"name": "x"},
        {"name": 1, "allow": []},
        {"name": "x", "allow": ["admin"], "expires_s": True},
        {"name": "x", "allow": ["admin"], "rate": "5"},
        {"name": "x", "allow": ["admin"], "rate": -1},
        {"name": "x", "allow": ["admin"], "concurrency": -1},
        {"name": "x", "allow": ["admin"], "concurrency": 1.5},
        {"$x": 1},  # what no document may have is a wrong request here
    ):
        assert ask(client, "POST", "/admin/keys", wrong, token).status_code == 400


def test_the_root_key_is_told_by_its_id(settings, valkey_wire):
    """It is in no Redis, and may do everything: whoever looks who may do what has to see it, and no secret."""
    del valkey_wire  # it is empty
    root = Token.new("0123456789ab")
    with connect(settings.model_copy(update={"root_key": root.text})) as pipeline:
        client = create_app(pipeline).test_client()
        assert {"keys": [], "root_key": root.id} == ask(client, "GET", "/admin/keys", None, root.text).json
    given = {**environment(settings), "WRITEBEHIND_ROOT_KEY": root.text}
    told = CliRunner().invoke(cli, ["keys", "list"], env=given)
    assert "none in Redis" == told.stdout.strip()
    assert f"WRITEBEHIND_ROOT_KEY gives key {root.id}" in told.stderr
    assert root.secret not in told.output
    assert "ROOT" not in CliRunner().invoke(cli, ["keys", "list"], env=environment(settings)).output


def test_keys_by_the_command_line(client, settings):
    def run(*arguments):
        done = CliRunner().invoke(cli, ["keys", *arguments], env=environment(settings))
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    assert run("list") == "none in Redis"
    token = run(
        "create",
        "shop",
        "--allow",
        "users:read,write",
        "--allow",
        "admin",
        "--expires",
        "90d",
        "--rate",
        "7",
        "--concurrency",
        "2",
    )
    assert is_allowed(ask(client, "GET", "/admin/status", None, token))
    assert "shop" in (listed := run("list"))
    assert "limits" in listed
    assert json.loads(run("show", "shop", "--json"))["allow"] == ["users:read,write", "admin"]
    assert {"state: live", "rate: 7.0", "concurrency: 2"} <= set(run("show", "shop").splitlines())
    second = json.loads(run("rotate", "shop", "--overlap", "0s", "--json"))["token"]
    assert not is_allowed(ask(client, "GET", "/admin/status", None, token))
    assert is_allowed(ask(client, "GET", "/admin/status", None, second))
    assert json.loads(run("revoke", "shop", "--json"))["state"] == "revoked"
    assert not is_allowed(ask(client, "GET", "/admin/status", None, second))


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
