"""Users of Redis as `writebehind doctor --acl` prints them, on each kind of server that is at hand."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.conftest import KINDS_OF_REDIS
from writebehind.cli import cli


@pytest.fixture(params=[kind for kind in KINDS_OF_REDIS if kind != "fakeredis"])
def server(request):
    """A server of this kind, which nobody else asks meanwhile."""
    return request.getfixturevalue("one_valkey" if request.param == "valkey" else "redis_server")


def printed(url: str, monkeypatch, *options: str) -> str:
    """What the command prints for a server."""
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("MONGODB_URL", "mongodb://127.0.0.1:1/")
    done = CliRunner().invoke(cli, ["doctor", "--acl", *options], catch_exceptions=False)
    assert 0 == done.exit_code
    return done.stdout


def test_a_server_takes_the_line(server, monkeypatch):
    """As it is, and once more over itself; a password that was given stays, and what is not in it is refused."""
    line = printed(server.url, monkeypatch)
    with Redis(port=server.port) as client:
        client.execute_command(*line.split())
        client.execute_command("ACL", "SETUSER", "writebehind", ">secret")
        client.execute_command(*line.split())
        try:
            with Redis.from_url(server.url.replace("://", "://writebehind:secret@")) as narrow:
                assert narrow.set("wb:x", 1)
                for command in (
                    ("SET", "x", 1),
                    ("FLUSHALL",),
                    ("KEYS", "*"),
                    ("CONFIG", "SET", "appendonly", "no"),
                ):
                    with pytest.raises(NoPermissionError):
                        narrow.execute_command(*command)
        finally:
            client.delete("wb:x")
            client.acl_deluser("writebehind")


def test_it_is_read_by_programs(server, monkeypatch):
    """One line of JSON for each user has the rules of the other form, and no password."""
    one = json.loads(printed(server.url.replace("://", "://app:secret@"), monkeypatch, "--json"))
    assert {"servers", "name", "keys", "channels", "commands", "rules"} == one.keys()
    assert "app" == one["name"]
    assert "secret" not in str(one)
