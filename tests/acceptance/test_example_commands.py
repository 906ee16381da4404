"""The commands that the examples of applications show work in the repository's root, where a system runs."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import ROOT, SERVERS
from tests.acceptance.variants import VARIANT
from tests.waiting import wait_until
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is what they show, and is not installed"),
    pytest.mark.skipif(bool(VARIANT), reason="they are for the system that `make run` starts"),
]

#: The port that the examples name.
PORT = "8001"


def shown(example: str) -> list[str]:
    """The commands of an example's first lines."""
    words = ast.get_docstring(ast.parse((ROOT / "examples" / example).read_text("utf-8")), clean=False) or ""
    return [line.partition("  # ")[0].strip() for line in words.splitlines() if line.startswith("    ")]


class Root:
    """The repository's root in which a system runs: terminals in which nothing is set but what must be."""

    def __init__(self, directory: Path, started: ExitStack, env: Mapping[str, str]) -> None:
        self._directory = directory
        self._started = started
        self._port = str(free_port())
        outside = {name: value for name, value in os.environ.items() if name not in SERVERS | {"PYTHONPATH"}}
        self._env = {name: value for name, value in outside.items() if not name.startswith("WRITEBEHIND_")} | env

    def _words(self, lines: list[str]) -> list[str]:
        here = [line.replace(PORT, self._port) for line in (". .venv/bin/activate", *lines)]
        return ["bash", "-c", " && ".join(here)]

    def start(self, *lines: str) -> Path:
        """Start what the last line says, until the end of the test; its log."""
        log = self._directory / f"{len(list(self._directory.glob('*.log')))}.log"
        with log.open("wb") as out:
            leader = subprocess.Popen(
                bound_to_parent(self._words([*lines[:-1], f"exec {lines[-1]}"])),
                cwd=self._directory,
                env=self._env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.callback(end, [Group(leader)])
        return log

    def run(self, *lines: str) -> subprocess.CompletedProcess[str]:
        """Run lines to their end."""
        return subprocess.run(
            self._words([*lines]),
            cwd=self._directory,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def root(system, tmp_path) -> Iterator[Root]:
    (tmp_path / ".writebehind").symlink_to(system.stack.data_dir)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for name in ("examples", "writebehind.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    with ExitStack() as started:
        yield Root(tmp_path, started, system.broker)


def test_the_flask_application(system, root):
    """It serves its own data and the API, and the workers of the system persist what it writes."""
    server, *requests = filter(None, shown("flask_app/shop.py"))
    assert len(requests) == 3
    log = root.start(server)
    quiet = [one.replace("curl ", "curl --silent --show-error --fail ") for one in requests]
    wait_until(lambda: root.run(quiet[0]).returncode == 0, f"the shop: {log.read_text()}", 60)

    for request in quiet:
        answer = root.run(request)
        assert 0 == answer.returncode, answer.stderr + log.read_text()
    orders = system.database.orders
    wait_until(lambda: orders.find_one({"_id": "A1", "items": ["tea"]}), "the order in MongoDB", 30)
    assert all(line in (ROOT / "docs/flask.md").read_text("utf-8") for line in (server, requests[1]))


def test_the_celery_application(system, root):
    """Its worker takes its task, its schedule runs, and what both have written is in MongoDB."""
    setting, worker, beat, send, look = filter(None, shown("celery_app/shop.py"))
    log = root.start(setting, worker)
    root.start(setting, beat)

    assert 0 == root.run(setting, send).returncode
    wait_until(
        lambda: system.database.orders.find_one({"_id": "A1", "confirmed": True}),
        f"the order: {log.read_text()}",
        30,
    )
    wait_until(lambda: system.database.counters.find_one({"_id": "schedule"}), "the shop's schedule", 30)
    assert "{'_id': 'A1', 'items': ['tea'], 'confirmed': True}\n" == root.run(setting, look).stdout
    assert all(line in (ROOT / "docs/celery.md").read_text("utf-8") for line in (setting, worker))
    broker = urlsplit(system.settings.broker)
    assert f"{broker.hostname}:{broker.port}/" in log.read_text()
