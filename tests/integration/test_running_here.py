"""What the machine of a running system shows to be wrong with it, and no server tells."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from click.testing import CliRunner

from tests.waiting import wait_until
from writebehind import load_settings
from writebehind.cli import cli
from writebehind.local.embedded import free_port
from writebehind.operations.running_here import remedies_here
from writebehind.process_identity import is_stopped, mark
from writebehind.settings.running import DATA_DIR, STATE_FILE


@pytest.fixture
def frozen():
    """The id of a process that SIGSTOP has stopped."""
    process = subprocess.Popen(["/bin/sh", "-c", "kill -STOP $$"])
    wait_until(lambda: is_stopped(mark(process.pid)), "its stop")
    yield process.pid
    process.kill()
    process.wait()


def _state(**more):
    return {"url": f"http://127.0.0.1:{free_port()}", "pid": os.getpid(), "process": mark(), "pids": {}, **more}


def test_a_refused_connection_is_no_answer(frozen):
    """Nobody listens, as the parent of the web processes is stopped: it is named."""
    (plain,) = remedies_here(load_settings(), _state(), timeout_s=2)
    (named,) = remedies_here(load_settings(), _state(pids={"web": frozen}), timeout_s=2)

    assert ("api", "critical", True) == (plain.condition, plain.severity, "connection refused" in plain.found)
    assert f"`kill -CONT {frozen}`" in named.advice


def test_a_stopped_up_is_named(frozen):
    """Nothing is started anew meanwhile."""
    (one,) = remedies_here(load_settings(), _state(url=None, pid=frozen, process=mark(frozen)), timeout_s=2)

    assert ("up", "warning", True) == (one.condition, one.severity, f"`kill -CONT {frozen}`" in one.advice)


def test_a_status_tells_of_an_api_that_does_not_answer(pipeline, settings, tmp_path, monkeypatch):
    """As the doctor does: with what to do, and the exit status of what is critical."""
    pipeline.store.check()
    monkeypatch.chdir(tmp_path)
    (tmp_path / DATA_DIR).mkdir()
    urls = {name: getattr(settings, name) for name in ("redis_url", "mongodb_url", "mongodb_database")}
    (tmp_path / DATA_DIR / STATE_FILE).write_text(json.dumps(_state() | urls))
    monkeypatch.setenv("WRITEBEHIND_PARTITIONS", str(settings.partitions))

    told = CliRunner().invoke(cli, ["status", "--json"])

    assert 2 == told.exit_code, told.output
    found = json.loads(told.stdout)
    assert "api" in {one["condition"] for one in found["to_do"]}
