"""Flower is for operators, with the keys of the API."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from contextlib import contextmanager

import httpx
import pytest

from tests.integration.conftest import environment
from tests.waiting import wait_until
from writebehind.access import keyring as keyrings
from writebehind.access.keys import Token, new_id
from writebehind.access.operators import Operators
from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

PAGE = {"page": "Flower", "instead": "give Flower --basic-auth"}


def basic(password: str, name: str = "me") -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture
def operators(pipeline, monkeypatch) -> Operators:
    monkeypatch.setattr(keyrings, "FRESH_S", 0)
    return Operators(pipeline.keyring, is_open=True, **PAGE)


def test_an_operator_is_let_in(office, operators):
    """By the key as a bearer's, or as password with any name; where there are no keys everybody is."""
    assert operators.refusal("") is None
    token, other = (office.create(one, [grant]).token.text for one, grant in (("a", "admin"), ("b", "*:read")))
    assert [None, None, None] == [
        operators.refusal(one) for one in (f"Bearer {token}", basic(token), basic(token, ""))
    ]
    assert 403 == operators.refusal(basic(other))
    others = ("", "Bearer", f"Bearer {token[:-1]}", "Basic", "Basic é", "Basic ====", basic(""), f"Digest {token}")
    assert {401} == {operators.refusal(one) for one in others}


def test_while_it_is_not_known_whether_there_are_keys_nobody_is(operators, monkeypatch):
    """Redis was never asked, and does not answer."""

    def no_redis() -> None:
        raise RedisUnavailableError

    monkeypatch.setattr(operators._keyring, "is_on", no_redis)
    assert 503 == operators.refusal("")
    operators.check()


def test_nobody_serves_all_beyond_this_machine(office, pipeline):
    """Without a key there is no start; with one there is."""
    beyond = Operators(pipeline.keyring, is_open=False, **PAGE)
    with pytest.raises(ConfigurationError, match="there is no API key"):
        beyond.check()
    office.create("a", ["admin"])
    Operators(pipeline.keyring, is_open=False, **PAGE).check()


@contextmanager
def flower(settings, *arguments: str, **env: str):
    """Flower as a process, with a client of it."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "writebehind", "run", "flower", f"--port={port}", *arguments]
    variables = {**os.environ, **environment(settings), **env}
    group = Group(
        subprocess.Popen(bound_to_parent(command), env=variables, stderr=subprocess.PIPE, start_new_session=True)
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield group.leader, client
    finally:
        end([group])
        group.leader.stderr.close()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthcheck").status_code == 200
    except httpx.TransportError:
        return False


def test_flower_asks_for_a_key(settings, pipeline):
    """Each page but that of probes, in a way in which a browser asks a person."""
    root = Token.new(new_id()).text
    with flower(settings, "--address=127.0.0.1", WRITEBEHIND_ROOT_KEY=root) as (_, client):
        wait_until(lambda: answers(client), "Flower", 60)
        for path in ("/", "/tasks", "/api/workers", "/metrics"):
            refused = client.get(path)
            assert (401, "Basic ") == (refused.status_code, refused.headers["WWW-Authenticate"][:6]), path
        assert 401 == client.post("/api/task/apply/writebehind.sweep", json={}).status_code
        assert 200 == client.get("/tasks", auth=("me", root)).status_code
        key = {"Authorization": f"Bearer {root}"}
        told = [client.get(path, headers=key) for path in ("/api/tasks", "/tasks")]
        assert [(200, False)] * 2 == [
            (one.status_code, "Access-Control-Allow-Origin" in one.headers) for one in told
        ]


def test_flower_does_not_start_where_it_can_keep_nothing(settings, pipeline, tmp_path):
    """It ends, and names the setting."""
    (tmp_path / "file").touch()
    with flower(settings, WRITEBEHIND_FLOWER_DB=str(tmp_path / "file" / "state")) as (process, _):
        said = process.communicate(timeout=60)[1].decode()
    assert 1 == process.returncode
    assert "writebehind: flower_db: nothing can be kept in" in said
    assert "Traceback" not in said


def test_flower_is_not_for_everybody_beyond_this_machine(settings, pipeline):
    """It ends, and says what to do."""
    with flower(settings, "--address=0.0.0.0") as (process, _):
        said = process.communicate(timeout=60)[1].decode()
    assert 1 == process.returncode
    assert "writebehind: Flower is reached beyond this machine, and there is no API key" in said
    assert "Traceback" not in said
