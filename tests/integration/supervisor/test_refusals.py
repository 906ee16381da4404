"""`up` ends with one line where it cannot work."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.supervisor.conftest import NOBODY, _up, _write_procfile
from tests.tiers import cases
from writebehind.cli import main
from writebehind.local.stack import Stack


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `up` in this process, for what ends before it starts another: its own takes a second of CPU."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["writebehind", "up", *arguments])
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, ended.value.code, told.out, told.err)

    return run


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"BROKER_URL": "sqs://h"}, "BROKER_URL: Celery cannot use it"),
        ({"REDIS_URL": "redis+cluster://127.0.0.1:1"}, "BROKER_URL: Celery cannot use a Redis Cluster as broker"),
    ],
    ids=["unknown", "cluster"],
)
def test_up_refuses_a_broker_that_celery_cannot_use(tmp_path, procfile, variables, said):
    """Every process would end with this line, again and again: no process is started."""
    procfile.write_text("web: touch started; exec sleep 60")

    ended = _up(tmp_path, "--port", "0", "--procfile", str(procfile), **(NOBODY | variables))

    assert (2, 1, "") == (ended.returncode, len(ended.stderr.splitlines()), ended.stdout)
    assert said in ended.stderr
    assert not (tmp_path / "started").exists()


def test_up_refuses_to_be_reached_by_everybody_where_there_is_no_key(tmp_path, procfile):
    """It is known once Redis runs, and told in one line then: no process is started."""
    procfile.write_text("web: touch started; exec sleep 60")

    ended = _up(tmp_path, "--port", "0", "--procfile", str(procfile), WRITEBEHIND_HOST="0.0.0.0")  # noqa: S104 - refused

    assert (2, 1, "") == (ended.returncode, len(ended.stderr.splitlines()), ended.stdout)
    assert "there is no API key: let `writebehind keys generate FILE` make one" in ended.stderr
    assert not (tmp_path / "started").exists()


@pytest.fixture(scope="module")
def used(tmp_path_factory) -> Path:
    """A data directory that a system has run in."""
    directory = tmp_path_factory.mktemp("used")
    arguments = ("--procfile", str(_write_procfile(directory)))
    with Stack(directory / "data", cwd=directory, arguments=arguments) as stack:
        return stack.data_dir


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [("WRITEBEHIND_PARTITIONS", "32", "partitions"), ("MONGODB_DATABASE", "shop", "belongs to database")],
)
def test_up_refuses_what_does_not_fit_its_data(tmp_path, procfile, used, variable, value, said):
    """It says so in one line, before any process is started."""
    procfile.write_text("web: touch started; exec sleep 60")

    ended = _up(tmp_path, "--port", "0", "--procfile", str(procfile), "--data-dir", str(used), **{variable: value})

    assert (2, 1, "") == (ended.returncode, len(ended.stderr.splitlines()), ended.stdout)
    assert said in ended.stderr
    assert not (tmp_path / "started").exists()


def test_up_refuses_a_data_directory_in_use(stack, tmp_path):
    """A second `up` on the same data directory fails with one clear line."""
    ended = _up(tmp_path, "--port", "0", "--data-dir", str(stack.data_dir))

    assert (1, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert "in use by another process" in ended.stderr
    assert f"`writebehind up` runs there as process {stack.pid}\n" in ended.stderr


def test_up_refuses_a_taken_port(refused):
    """A port that somebody else listens on is told in one line, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        ended = refused("--port", str(other.getsockname()[1]))

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert "is taken: choose another with --port or WRITEBEHIND_PORT" in ended.stderr


@pytest.mark.parametrize(("given", "missing"), [("REDIS_URL", "MONGODB_URL"), ("MONGODB_URL", "REDIS_URL")])
def test_up_refuses_one_server_without_the_other(refused, tmp_path, given, missing):
    """Beside a Redis of others it would write into a MongoDB of its own what is theirs: it starts nothing."""
    ended = refused("--port", "0", **{given: NOBODY[given]})

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert f"{given} is set and {missing} is not: set both, or neither for embedded servers" in ended.stderr
    assert [] == list(tmp_path.iterdir())


def test_up_refuses_a_wrong_setting(tmp_path):
    """A wrong setting is told in one line, before anything is started."""
    ended = _up(tmp_path, WRITEBEHIND_PARTITIONS="none")

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert ended.stderr.startswith("writebehind: partitions: ")


#: What is a file where a directory is needed, and the other way round.
FILES, DIRECTORIES = ("redis", "log"), ("lock", "redis/port", "redis/lock")


@pytest.mark.parametrize(
    ("place", "quiet"),
    cases(
        {f"{place}-{quiet}": (place, quiet) for place in (*FILES, *DIRECTORIES) for quiet in (True, False)},
        short={"redis-True", "lock-False"},
    ),
)
def test_up_refuses_a_data_directory_that_cannot_be_used(refused, tmp_path, place, quiet):
    """Whatever stands in the way there, as where nothing may be written: one line says so."""
    data = tmp_path / "data"
    if place in DIRECTORIES:
        (data / place).mkdir(parents=True)
    else:
        (data / place).parent.mkdir(exist_ok=True)
        (data / place).write_text("")

    ended = refused("--port", "0", "--data-dir", str(data), *(["--quiet"] if quiet else []))

    assert (1, 1) == (ended.returncode, len(ended.stderr.splitlines())), ended.stderr
    assert "cannot be" in ended.stderr


@pytest.mark.parametrize("host", cases({one: one for one in ("a" * 70, "no such host", "256.1.1.1")}, {"a" * 70}))
def test_up_refuses_a_host_that_is_none(refused, host):
    """It is told in one line, before anything is started."""
    ended = refused(WRITEBEHIND_HOST=host)

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert ended.stderr.startswith(f"writebehind: host {host}: ")


def test_up_refuses_a_procfile_that_is_none(refused, tmp_path):
    """What is no text is told in one line."""
    (tmp_path / "Procfile").write_bytes(b"web: \xff\n")

    ended = refused("--procfile", "Procfile")

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert ended.stderr.startswith("writebehind: Procfile: ")


SECRET = "pwSecr1"  # noqa: S105 - this is what must not be shown


WRONG_URLS = [
    f'redis_url = "redis://:{SECRET}/x@h"',
    f'redis_url = ["redis://:{SECRET}@h"]',
    f'mongodb_url = "mongodb://u:{SECRET}/x@h"',
    f'broker_url = "amqp://u:{SECRET}/x@h"',
    f'broker_url = "redis://u:{SECRET}/x@h"',
    f'redis_url = "redis://:{SECRET}@h',
    f'[redis_url]\nurl = "redis://:{SECRET}@h"',
    f'redis_uri = "redis://:{SECRET}@h"',
]


@pytest.mark.parametrize("line", cases({one: one for one in WRONG_URLS}, {WRONG_URLS[0], WRONG_URLS[5]}))
def test_up_refuses_a_malformed_url_in_the_settings_file(refused, tmp_path, line):
    """In one line, which does not repeat its password."""
    (tmp_path / "wrong.toml").write_text(line + "\n")

    ended = refused(WRITEBEHIND_CONFIG=str(tmp_path / "wrong.toml"))

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert SECRET not in ended.stderr + ended.stdout
