"""Targets of the Makefile: `clean` deletes nothing beneath a running system, Helm is built once; topologies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from writebehind.local.embedded import lock_directory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The data directory of a system that ran in the current directory, which has a virtual environment."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    monkeypatch.chdir(tmp_path)
    os.close(lock_directory(tmp_path / ".writebehind"))
    return tmp_path / ".writebehind"


def test_clean_refuses_while_a_system_runs(data):
    """It says so in one line, and deletes nothing; once the system has ended, it deletes all."""
    lock = lock_directory(data)
    try:
        refused = _clean()
    finally:
        os.close(lock)
    assert (True, True, True) == (refused.returncode != 0, data.is_dir(), Path(".venv").is_dir())
    assert "a system runs in .writebehind: stop it (Ctrl-C where `make run` runs)\n" == refused.stdout

    assert 0 == _clean().returncode
    assert (False, False) == (data.exists(), Path(".venv").exists())


def test_clean_deletes_what_no_system_has_used(data):
    """Also without a data directory."""
    shutil.rmtree(data)

    assert 0 == _clean().returncode
    assert not Path(".venv").exists()


def test_helm_is_built_once_for_each_user(data):
    """Where the cache has it, nothing is built. What a build has left unfinished is not taken for it."""
    [version] = re.findall(r"^HELM_VERSION := (\S+)$", Path("Makefile").read_text("utf-8"), re.MULTILINE)
    half = data.parent / f"cache/writebehind/helm-{version}.new/helm"
    kept = data.parent / f"cache/writebehind/helm-{version}/helm"
    tools = data.parent / "tools"
    for program, text in ((half, "exit 9"), (kept, 'echo "$@"'), (tools / "go", "exit 9")):
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    environment = os.environ | {
        "XDG_CACHE_HOME": str(data.parent / "cache"),
        "PATH": f"{tools}:{os.environ['PATH']}",
    }
    command = ["make", "--no-print-directory", "helm"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (kept, "version --short\n") == (Path(".helm/bin/helm").resolve(), done.stdout)

    kept.unlink()
    assert subprocess.run(command, capture_output=True, check=False, env=environment).returncode != 0


def test_run_prints_what_the_system_prints(data):
    """Its first line is an object too where lines are JSON: make does not say what it runs."""
    program = Path(".venv/bin/writebehind")
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "{\\"message\\": \\"$1\\"}"\n')
    program.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        Path(name).touch()
    done = subprocess.run(["make", "--no-print-directory", "run"], capture_output=True, text=True, check=True)
    assert ('{"message": "up"}\n', "") == (done.stdout, done.stderr)


@pytest.mark.parametrize("target", ["topologies", "promises"])
def test_one_topology_that_fails_keeps_no_other_from_being_tried(data, target):
    """Each is tried; the last lines say what came of each, and make fails."""
    tests = Path(".venv/bin/python")
    tests.parent.mkdir()
    tests.write_text('#!/bin/sh\n[ "$TEST_TOPOLOGY" != second ]\n')
    tests.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        Path(name).touch()

    def run(topologies: str) -> tuple[int, list[str]]:
        command = ["make", "--no-print-directory", target, f"TOPOLOGIES={topologies}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, [one for one in done.stdout.splitlines() if ":" in one]

    code, told = run("first second third")
    assert (True, ["first:passed", "second:failed", "third:passed"]) == (code != 0, told)
    assert (0, ["first:passed", "third:passed"]) == run("first third")


def test_what_a_topology_lacks_is_said_and_left_out(data):
    """As on a machine on which no server could be fetched: the others are tried."""
    tests = Path(".venv/bin/python")
    tests.parent.mkdir()
    tests.write_text("#!/bin/sh\n")
    tests.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        Path(name).touch()
    Path(".redis").mkdir()
    Path(".redis/redis-server").touch()

    command = ["make", "--no-print-directory", "promises", "MISSING=rabbitmq"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "rabbitmq is left out, as there is no server; make rabbitmq fetches it" in done.stdout.splitlines()
    assert ["redis:passed", "servers:passed", "sentinel:passed", "cluster:passed"] == done.stdout.splitlines()[-4:]


def test_continuous_integration_tries_each_topology_before_all_tests():
    """With tests that exist; and the last closing line is that of all tests."""
    shown = subprocess.run(
        ["make", "--dry-run", "promises", "TOPOLOGIES=cluster"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = re.findall(r" (tests/\S+?)[; ]", shown.stdout.partition("TEST_TOPOLOGY")[2])

    assert paths
    assert [] == [one for one in paths if not (ROOT / one).exists()]
    assert ["make promises", "make test"] == (ROOT / ".ci/run").read_text("utf-8").splitlines()[-2:]


def test_a_comparison_says_what_it_needs(data):
    """A revision to compare with; nothing is measured without one."""
    python = Path(".venv/bin/python")
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        Path(name).touch()

    def run(*more: str) -> tuple[int, list[str]]:
        command = ["make", "--no-print-directory", "--silent", "bench-compare", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines()

    code, told = run()
    assert (True, ["make bench-compare BASE=<revision>"]) == (code != 0, told)
    assert (0, ["-m bench.revisions --json rows.json main"]) == run("BASE=main", "OPTIONS=--json rows.json")


def _clean():
    return subprocess.run(["make", "--no-print-directory", "clean"], capture_output=True, text=True, check=False)
