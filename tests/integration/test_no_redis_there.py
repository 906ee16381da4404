"""Another program at the address of Redis, as where addresses are given again: it counts as away, and is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.conftest import environment
from tests.servers import http_server
from web.app import create_app
from writebehind import Pipeline, Settings
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.wire import Wire

pytestmark = pytest.mark.one_server("it stands at one address")

SAID = "Redis does not answer: what is at its address is no Redis: Protocol error"


@pytest.fixture
def misled(settings) -> Iterator[Settings]:
    """Settings of which Redis's address leads to a server that speaks HTTP."""
    with http_server() as port:
        yield settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}/0"})


def test_requests_are_told_that_redis_is_away(misled, mongo_client, hints):
    """They were 500."""
    wire = Wire(open_servers(misled.redis_url, misled.redis_timeout_ms))
    client = create_app(Pipeline(misled, hints=hints, wire=wire, client=mongo_client)).test_client()
    for answer in (client.put("/v1/users/ada", json={"n": 1}), client.get("/v1/users/ada")):
        assert (503, True) == (answer.status_code, answer.json["type"].endswith(":redis-unavailable"))
    assert client.get("/readyz").json["redis"].startswith("Redis does not answer")
    wire.close()


@pytest.mark.parametrize("command", ["status", "drain", "doctor"])
def test_commands_say_it_in_a_line(misled, command):
    """They died with a traceback."""
    program = [sys.executable, "-m", "writebehind", command]
    variables = os.environ | environment(misled)
    ended = subprocess.run(program, check=False, env=variables, capture_output=True, text=True)
    said = ended.stdout + ended.stderr
    assert (True, False) == (ended.returncode in {1, 2}, "Traceback" in said)
    assert SAID in said
