"""Commands whose server is away, or hangs: none says that all is well, and each says which server it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson
import pytest
from click.testing import Result

from tests.integration.conftest import Way, flush_all
from tests.waiting import slowness
from writebehind import Pipeline, connect
from writebehind.cli import main
from writebehind.operations.doctor import Level, examine
from writebehind.redis import keys
from writebehind.settings.installation import Settings

#: Which commands need MongoDB, with words that they must not say, as if they had done something.
OF_MONGODB = {
    "reconcile": "keys:",
    "reconcile --all": "looked at",
    "reconcile --all --json": "found",
    "warm": "",
    "drain --timeout 1": "everything",
    "consistency --for 2s": "",
    "init": "created",
}
OF_REDIS = [
    *(one for one in OF_MONGODB if one != "init"),
    *("status", "hot-keys", "conflicts", "consistency", "dead-letters list", "dead-letters replay --all"),
    *("repartition 3", "adopt"),
]
#: Each server is waited for that long at most, seconds, all side by side.
WAITS_S = 6.0


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """One with cached documents, and a pending one."""
    for n in range(5):
        pipeline.collection("users").put(f"u{n}", {"n": n})
    flush_all(pipeline)
    pipeline.collection("users").put("pending", {"n": 1})
    return pipeline


def told(command: str, run: Callable[..., Result], monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit status, output and errors of a command, as `main` has them: an error of ours is a line."""
    done: list[Result] = []
    monkeypatch.setattr("writebehind.cli.cli", lambda: done.append(run(*command.split())))
    try:
        main()
    except SystemExit as ended:
        return int(str(ended.code)), "", capsys.readouterr().err
    return done[0].exit_code, done[0].stdout, done[0].stderr


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("command", OF_MONGODB)
def test_a_command_that_needs_mongodb(command, run, monkeypatch, capsys):
    """Its exit status is not 0, and it says that MongoDB is the reason."""
    monkeypatch.setenv("WRITEBEHIND_COLLECTIONS__users__lookup__name", "string")
    monkeypatch.setenv("MONGODB_URL", "mongodb://127.0.0.1:2/?serverSelectionTimeoutMS=500")
    monkeypatch.setenv("WRITEBEHIND_MONGODB_TIMEOUT_MS", "500")
    status, said, errors = told(command, run, monkeypatch, capsys)
    assert 0 < status, (said, errors)
    assert "MongoDB" in errors, (said, errors)
    assert not (OF_MONGODB[command] and OF_MONGODB[command] in said), said
    if command.startswith("reconcile"):
        assert (3, True) == (status, "nothing was compared: " in errors)


@pytest.mark.parametrize("command", OF_REDIS)
def test_a_command_that_needs_redis(command, run, monkeypatch, capsys):
    """As above, of Redis."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    status, said, errors = told(command, run, monkeypatch, capsys)
    assert 0 < status, (said, errors)
    assert "Redis does not answer" in errors, (said, errors)
    if command.startswith(("reconcile", "consistency")):  # whose 1 says that something was wrong
        assert 3 == status
        assert ("--json" in command) == bool(said)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "command", ["reconcile --all --json", "consistency --json", "consistency --for 1s --json"]
)
@pytest.mark.parametrize("variable", ["REDIS_URL", "MONGODB_URL"])
def test_what_is_unseen_is_told_in_json_too(command, variable, run, monkeypatch, capsys):
    """A script that reads the output learns that nothing is known, and why."""
    scheme = variable.partition("_")[0].lower()
    monkeypatch.setenv(
        variable,
        f"{scheme}://127.0.0.1:1/?serverSelectionTimeoutMS=500"
        if scheme == "mongodb"
        else "redis://127.0.0.1:1/0",
    )
    status, said, errors = told(command, run, monkeypatch, capsys)
    assert said, errors
    figures = orjson.loads(said)
    assert (3, "unseen", True) == (status, figures["outcome"], bool(figures["why"]))


def test_a_part_that_is_not_due_is_told(run, filled):
    """Nothing is compared, and nothing was to be; where somebody else is at it, that is no success."""
    assert "nothing is due just now" in run("reconcile").stderr
    assert filled.store.lease(keys.RECONCILE_LEASE, 60_000).take()
    busy = run("reconcile")
    assert (3, True) == (busy.exit_code, "somebody else reconciles" in busy.stderr)


@pytest.mark.parametrize(
    "which",
    [pytest.param("redis", marks=pytest.mark.one_server("a proxy stands before one port of Redis")), "mongodb"],
)
def test_doctor_waits_for_a_server_that_hangs_once(settings, valkey, way_to, mongo, which):
    """It says which one does not answer, within seconds, and what the other one says."""
    server = valkey if which == "redis" else mongo
    with way_to(which, server.port) as way, connect(_by(settings, way, which)) as pipeline:
        pipeline.status()
        slow = slowness()
        way.proxy.hang()
        began = time.monotonic()
        found = list(examine(pipeline))
        took = time.monotonic() - began
    failures = {one.check for one in found if one.level is Level.FAILURE}
    other = "mongodb" if which == "redis" else "redis"
    assert which in failures
    assert other not in failures
    assert took < WAITS_S * max(slow, slowness())


def _by(settings: Settings, way: Way, which: str) -> Settings:
    return settings.model_copy(update={f"{which}_url": way.url, "broker_url": ""})
