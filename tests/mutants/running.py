"""How a mutant is tried: a copy of the package with it, before the package itself, and the tests in a fork."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path

import psutil

from tests.mutants.source import ROOT, Mutant

#: What takes long to import, and no mutant changes.
SLOW_IMPORTS = [
    "pytest",
    "hypothesis",
    "fakeredis",
    "pymongo",
    "pydantic_settings",
    "flask",
    "celery",
    "click.testing",
]
#: The contract of the atomic steps need not be tried on each kind of Redis.
ONE_KIND_OF_REDIS = "not (fakeredis or redis])"
#: Seconds after which a test has failed, and after which a mutant has; an endless loop is noticed too.
TEST_LIMIT_S, LIMIT_S = 60, 400

_processes = get_context("forkserver")
_processes.set_forkserver_preload(SLOW_IMPORTS)


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    """A test fails, or the code cannot even be imported."""
    SURVIVED = "survived"
    """No test fails."""
    TIMEOUT = "timeout"
    """The tests come to no end, which is as good as a failure."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A mutant, what became of it, and the last words of its tests: which has noticed it."""

    mutant: Mutant
    fate: Fate
    words: str


def try_out(mutant: Mutant, directory: Path) -> Trial:
    """Run the tests of a mutant in a directory of its own; a test that fails without it as well does not count."""
    unsound: tuple[str, ...] = ()
    while True:
        fate, words = _run(mutant.file, mutant.source, mutant.tests, directory, without=unsound)
        test = _test_of(words)
        if fate is not Fate.KILLED or not test or _is_sound(test, mutant.file, directory):
            return Trial(mutant, fate, words)
        unsound = (*unsound, test)


_sound: dict[str, bool] = {}


def _is_sound(test: str, file: str, directory: Path) -> bool:
    """Whether a test passes on what is no mutant."""
    if test not in _sound:
        fate, _ = _run(file, (ROOT / file).read_text("utf-8"), (test,), directory)
        _sound[test] = fate is Fate.SURVIVED
    return _sound[test]


def unsound() -> list[str]:
    """The tests that were seen to fail on what is no mutant."""
    return sorted(test for test, passes in _sound.items() if not passes)


def _run(
    file: str, source: str, tests: tuple[str, ...], directory: Path, *, without: tuple[str, ...] = ()
) -> tuple[Fate, str]:
    package = directory / "writebehind"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "writebehind", package)  # with what is compiled already
    (directory / file).write_text(source, "utf-8")
    log = directory / "log"
    process = _processes.Process(target=_run_tests, args=(directory, tests, without, log))
    process.start()
    process.join(LIMIT_S)
    if process.is_alive():
        _end(process.pid)
        return Fate.TIMEOUT, _last(log)
    if process.exitcode not in {0, _FAILED, _INTERRUPTED, _CONFTEST_FAILED}:
        raise RuntimeError(f"pytest ended with {process.exitcode}: {_last(log)}")
    return (Fate.KILLED if process.exitcode else Fate.SURVIVED), _last(log)


#: What pytest ends with where a test fails, or what it imports.
_FAILED, _INTERRUPTED, _CONFTEST_FAILED = 1, 2, 4


def _run_tests(directory: Path, tests: tuple[str, ...], without: tuple[str, ...], log: Path) -> None:
    """What the fork does: the copy of the package hides the other one, from processes that tests start too."""
    import pytest  # noqa: PLC0415 - is there already in the fork

    os.chdir(ROOT)
    with log.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    places = [str(directory), str(ROOT)]
    os.environ["COLUMNS"] = "400"
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    options = [
        "-x",
        "-q",
        "-n0",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        f"--timeout={TEST_LIMIT_S}",
        "-k",
        ONE_KIND_OF_REDIS,
    ]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is imported before the fork
    options += ["-o", f"pythonpath={' '.join(places)}", f"--basetemp={directory / 'tmp'}", "--tb=short"]
    options += [f"--deselect={test}" for test in without]
    code = pytest.main([*options, *tests])
    loaded = sys.modules.get("writebehind")
    if loaded is not None and not str(loaded.__file__).startswith(str(directory)):
        raise RuntimeError(f"{loaded.__file__} was tested, and not the mutant")
    sys.stdout.flush()
    os._exit(code)


def _end(pid: int | None) -> None:
    """End a process and those that it has started."""
    process = psutil.Process(pid)
    family = [*process.children(recursive=True), process]
    for one in family:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)


def _test_of(words: str) -> str:
    """The name of the test that failed, '' where none was run."""
    kind, _, rest = words.partition(" ")
    name = rest.partition(" - ")[0]
    return name if kind in {"FAILED", "ERROR"} and "::" in name else ""


def _last(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    told = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (told or lines or [""])[-1][:300]
