"""Whatever the README shows works on a running system, in a second terminal in which nothing is set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import ROOT, SERVERS
from tests.waiting import wait_until
from writebehind.settings.urls import redacted

pytestmark = pytest.mark.acceptance

README = (ROOT / "README.md").read_text("utf-8")
#: Answers with the status alone, in the place of curl.
STATUS_ONLY = """curl() { command curl --silent --output /dev/null --write-out '%{http_code}\\n' "$@"; }\n"""

SUCCESS = {"200", "201", "204", "207"}

Terminal = Callable[[list[str]], subprocess.CompletedProcess[str]]


def blocks(language: str, mark: str) -> list[str]:
    """The README's blocks in a language that have a mark in them."""
    return [one for one in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if mark in one]


@pytest.fixture
def terminal(system, tmp_path) -> Terminal:
    """Runs a command in a directory in which the system runs."""
    (tmp_path / ".writebehind").symlink_to(system.stack.data_dir)
    shutil.copy(ROOT / "writebehind.toml", tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    env = {name: value for name, value in os.environ.items() if name not in SERVERS}
    env = {name: value for name, value in env.items() if not name.startswith("WRITEBEHIND_")} | system.broker

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is what it is about, and is not installed")
def test_every_curl_works(system, terminal):
    """Each answers with success, or with the status that the README says."""
    script = "".join(blocks("sh", "curl"))
    told = [line for line in script.replace("\\\n", "").splitlines() if line.startswith("curl")]
    here = script.replace("localhost:8000", urlsplit(system.stack.url).netloc)
    done = terminal(["bash", "-c", STATUS_ONLY + here])
    statuses = done.stdout.splitlines()

    assert len(told) >= 14
    assert len(told) == len(statuses), done.stderr
    wrong = {
        line: status
        for line, status in zip(told, statuses, strict=True)
        if status not in (re.findall(r"# (\d{3}):", line) or SUCCESS)
    }
    assert {} == wrong


def test_every_command_works(system, terminal):
    """Each finds the system, and says on which servers it acts."""
    lines = "".join(blocks("sh", ".venv/bin/activate")).splitlines()
    commands = [line.partition("#")[0] for line in lines if line.startswith("writebehind ")]
    system.wait_for_workers()
    wait_until(lambda: "sweep" in system.status()["periodic"], "the first sweep, for which doctor looks", 30)
    system.wait_until_drained()  # of what tests before have written, which is late on a busy machine

    servers = f"on {system.stack.redis_url} and {system.stack.mongodb_url}"
    assert len(commands) >= 2
    for command in commands:
        told = []

        def is_well(command: str = command, told: list = told) -> bool:
            told.append(terminal(["bash", "-c", f". .venv/bin/activate && {command}"]))
            return told[-1].returncode < 2

        # On a busy machine MongoDB may be late with the answer to one.
        wait_until(is_well, f"{command} to find all well", 60)
        assert told[-1].stderr.startswith(redacted(servers)), command


def test_the_program_works(terminal):
    """The example of the library prints what its comment says."""
    (program,) = blocks("python", "connect()")
    done = terminal([sys.executable, "-c", program])

    assert "" == done.stderr
    assert re.findall(r"print\(.*\)  # (.+)", program) == done.stdout.splitlines()
