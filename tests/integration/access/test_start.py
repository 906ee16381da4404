"""Who may use the API where there is no key yet, on loopback and beyond."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.integration.access.conftest import ROUTES, ask, is_allowed
from tests.integration.conftest import environment
from web.app import create_app
from writebehind import Pipeline
from writebehind.access.keys import Token, new_id
from writebehind.errors import ConfigurationError
from writebehind.local.embedded import free_port
from writebehind.operations.doctor import Level, access, examine

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
        assert Level.FAILURE is next(one.level for one in examine(away) if "access" in one.check)


def test_the_root_key_opens_also_before_redis_was_ever_asked(settings):
    token = Token.new(new_id()).text
    with reached_at(settings, EVERYWHERE, redis_url="redis://127.0.0.1:1/0", root_key=token) as ours:
        client = create_app(ours).test_client()
        assert ask(client, "GET", "/v1/users/ada", None, token).status_code == 404
        assert ask(client, "GET", "/v1/users/ada", None).status_code == 401
