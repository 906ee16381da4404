"""Passwords stay where they were given: no process tells them, and what is written nobody else may read."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis import AuthenticationError, Redis

from writebehind.cli import COMMANDS, cli
from writebehind.cli.run import announcement
from writebehind.errors import ConfigurationError
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, lock_directory
from writebehind.local.passwords import kept_password
from writebehind.local.procfile import default_procfile, read_procfile
from writebehind.local.stack import Stack

ROOT = Path(__file__).parents[2]
PROCESSES = read_procfile(default_procfile())
WRITEBEHIND = [sys.executable, "-m", "writebehind"]
#: How a process is started, and which URL is malformed: each kind of process, and each URL.
STARTS = {
    "web": (["/bin/sh", "-c", PROCESSES["web"]], "BROKER_URL"),
    "worker": (["/bin/sh", "-c", PROCESSES["worker"]], "REDIS_URL"),
    "beat": (["/bin/sh", "-c", PROCESSES["beat"]], "MONGODB_URL"),
    "flower": (["/bin/sh", "-c", PROCESSES["flower"]], "BROKER_URL"),
    "listen": ([*WRITEBEHIND, "listen"], "MONGODB_URL"),
    "up": ([*WRITEBEHIND, "up", "--port", "0"], "REDIS_URL"),
}
MALFORMED = {
    "REDIS_URL": "redis://:pwSecr1/x@h",
    "MONGODB_URL": "mongodb://u:pwSecr1/x@h/",
    "BROKER_URL": "amqp://u:pwSecr1/x@h//",
}
WEB = """
import http.server, os
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
print("as told:", os.environ["REDIS_URL"], flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["WRITEBEHIND_PORT"])), Ok).serve_forever()
"""


@pytest.mark.parametrize("name", STARTS)
def test_every_process_refuses_a_malformed_url_in_one_line(tmp_path, name):
    """Whatever is started with it ends at once, with one line that says what to do and has no secret."""
    command, variable = STARTS[name]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), variable: MALFORMED[variable]}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode != 0
    assert 1 == len(ended.stderr.splitlines())
    assert ended.stderr.startswith(f"writebehind: {variable} is malformed: write it as ")
    assert "pwSecr1" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("variable", MALFORMED)
@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in {"settings", "metrics", "demo", "run", "plan"}]
)
def test_every_command_refuses_a_malformed_url(monkeypatch, command, variable):
    """Each command that reads the settings raises the error that becomes one line."""
    monkeypatch.setenv(variable, MALFORMED[variable])
    arguments = {"repartition": ["4"], "dead-letters": ["list"], "keys": ["list"]}.get(command, [])
    told = CliRunner().invoke(cli, [command, *arguments])

    assert isinstance(told.exception, ConfigurationError)
    assert str(told.exception).startswith(f"{variable} is malformed")
    assert "pwSecr1" not in told.output


def test_what_up_writes_has_no_password_and_is_private(tmp_path):
    """Its processes get the password, and nothing else does; nobody else may read what is written."""
    (tmp_path / "stub.py").write_text(WEB)
    (tmp_path / "Procfile").write_text("web: exec python stub.py\n")
    data = tmp_path / "data"
    (data / "log").mkdir(parents=True)  # of a former version, that everybody may read
    (data / "log" / "web.log").touch()
    with EmbeddedRedis(tmp_path / "redis") as server:
        url = f"redis://127.0.0.1:{server.port}/0?password=pwSecr1"
        broker = f"amqp://app:{{}}@127.0.0.1:{server.port}//"
        env = {"REDIS_URL": url, "MONGODB_URL": "mongodb://127.0.0.1:2/", "BROKER_URL": broker.format("pwSecr2")}
        arguments = ("--procfile", str(tmp_path / "Procfile"))
        with Stack(data, cwd=tmp_path, env=env, arguments=arguments) as stack:
            state = (data / "up.json").read_text()
            commands = [" ".join(psutil.Process(pid).cmdline()) for pid in [stack.pid, *stack.pids().values()]]
            written = {path: path.stat().st_mode for path in data.rglob("*")}

    assert f"as told: {url}" in (data / "log" / "web.log").read_text()
    assert "pwSecr" not in state + announcement(json.loads(state)) + "".join(commands)
    assert (url, f"redis://127.0.0.1:{server.port}/0?password=***") == (
        *(stack.redis_url, json.loads(state)["redis_url"]),
    )
    assert broker.format("***") == json.loads(state)["broker_url"]
    assert {data / "up.json", data / "log" / "web.log"} <= written.keys()
    assert {} == {path: stat.filemode(mode) for path, mode in written.items() if mode & 0o077}


def test_an_embedded_server_is_private_whoever_starts_it(tmp_path):
    """Its data and log may be read by its owner alone, also where a former version made their directories."""
    (tmp_path / "redis" / "data").mkdir(parents=True)
    with EmbeddedRedis(tmp_path):
        modes = {name: (tmp_path / name).stat().st_mode & 0o077 for name in ("redis", "redis/data", "log")}

    assert {"redis": 0, "redis/data": 0, "log": 0} == modes


def test_an_embedded_server_asks_for_its_password(tmp_path):
    """Also one whose data is of a time without; no command, environment, log or file of it shows the password."""
    key, document = "before", {"_id": "before"}
    with EmbeddedRedis(tmp_path) as server, EmbeddedMongo(tmp_path) as mongo:
        open_to_all = (server.url, mongo.url)
        with Redis.from_url(server.url) as client, MongoClient(mongo.url) as another:
            client.set(key, 1)
            another.db.c.insert_one(document)
    password = "pwSecr1_-pwSecr1_-"  # noqa: S105 - for a moment
    with EmbeddedRedis(tmp_path, password=password) as server, EmbeddedMongo(tmp_path, password=password) as mongo:
        with Redis.from_url(server.url) as let_in, Redis.from_url(open_to_all[0]) as refused:
            assert let_in.get(key) == b"1"
            with pytest.raises(AuthenticationError):
                refused.get(key)
        with MongoClient(mongo.url) as let_in, MongoClient(open_to_all[1]) as refused:
            assert document == let_in.db.c.find_one()
            with pytest.raises(OperationFailure, match="requires authentication"):
                refused.db.c.find_one()
        with (
            MongoClient(mongo.url.replace(password, password[1:])) as wrong,
            pytest.raises(OperationFailure, match="authentication failed"),
        ):
            wrong.db.c.find_one()
        # Another thread than the one that waits for SIGTERM would take it, and the server would not end.
        if sys.platform == "linux":
            tasks = [one.read_text() for one in Path(f"/proc/{mongo.pid}/task").glob("*/status")]
            blocked = [int(one.partition("SigBlk:")[2].split()[0], 16) for one in tasks]
            assert 1 == sum(not mask >> (signal.SIGTERM - 1) & 1 for mask in blocked)
        shown = [f"{one.cmdline()}{one.environ()}" for one in map(psutil.Process, (server.pid, mongo.pid))]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]

    assert (password in "".join(shown), password.encode() in b"".join(written)) == (False, False)


def test_a_password_is_made_once(tmp_path):
    """It stays over restarts, its owner alone can read it, and what is none is replaced."""
    file = tmp_path / "redis" / "password"
    first = kept_password(file)
    assert (first, 0o600) == (kept_password(file), file.stat().st_mode & 0o777)
    assert len(b64decode(f"{first}=", "-_")) * 8 == 256
    made = {first}
    for damaged in ("", "short", "two\nlines of a file of something else", first[:-1] + "@"):
        file.write_text(damaged)
        file.chmod(0o644)
        made.add(kept_password(file))
        assert 0o600 == file.stat().st_mode & 0o777
    assert 5 == len(made)


def test_a_directory_of_somebody_is_left_as_it_is(tmp_path):
    """A data directory that exists keeps its mode: it may be somebody's home; a new one is private."""
    (tmp_path / "old").mkdir(mode=0o755)
    for name in ("old", "new"):
        os.close(lock_directory(tmp_path / name))

    assert (0o755, 0o700) == (*((tmp_path / name).stat().st_mode & 0o777 for name in ("old", "new")),)
