"""How a mutant is tried: a copy of the package with it, before the package itself, and the tests in a fork."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from tests.mutants.baseline import Baseline, Known, Noting, read
from tests.mutants.source import ROOT, Mutant
from tests.mutants.swapping import Swapping

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
#: Seconds after which a test that pytest cannot end hangs.
HANGS_S = 3 * TEST_LIMIT_S

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

    @property
    def is_explained(self) -> bool:
        """Whether nobody needs to notice it."""
        return self.fate is Fate.SURVIVED and bool(self.mutant.harmless)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plugin for pytest: runs some tests only, in their order."""

    names: Sequence[str]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the others out."""
        found = {one.nodeid: one for one in items}
        items[:] = [found[name] for name in self.names if name in found]


def look(tests: str, modules: Sequence[str], directory: Path) -> list[Known]:
    """What the tests of a file touch where nothing is mistaken.

    Raises:
        RuntimeError: they come to no end, or cannot be collected.
    """
    _copy(directory)
    out = directory / "touched.json"
    out.unlink(missing_ok=True)
    fate, words = _run([tests], Noting(modules, directory, out), directory)
    if not out.exists():
        raise RuntimeError(f"{tests}: {fate.value} without a mutant: {words}")
    return read(out)


def swap(mutants: Sequence[Mutant], baseline: Baseline, directory: Path) -> list[Trial]:
    """Run for each mutant the tests that touch it, in one process: for mutants of one file that can be swapped.

    Raises:
        RuntimeError: the process has ended before.
    """
    _copy(directory)
    left = [(one, baseline.choice(one)[0]) for one in mutants]
    trials: list[Trial] = []
    while left:
        files = sorted({name.partition("::")[0] for _, names in left for name in names})
        if not files:
            return trials + [Trial(one, Fate.SURVIVED, "no test touches it") for one, _ in left]
        receiver, sender = _processes.Pipe(duplex=False)
        log = directory / "log"
        process = _processes.Process(target=_run_tests, args=(directory, files, Swapping(left, sender.send), log))
        process.start()
        sender.close()
        for words in _told(receiver, log):
            fate = Fate.TIMEOUT if words is None else Fate.KILLED if words else Fate.SURVIVED
            trials.append(Trial(left.pop(0)[0], fate, words or ""))
            if not left or words is None:
                break
        if left:
            _end(process.pid)
        process.join()
    return trials


def _told(receiver: Connection, log: Path) -> Iterator[str | None]:
    """What `Swapping` tells of one mutant after the other; `None` where that comes to no end."""
    try:
        while True:
            if not receiver.poll(HANGS_S):
                yield None
            elif (words := receiver.recv()) is not None:
                yield words
    except EOFError as error:
        raise RuntimeError(f"pytest has ended: {_last(log)}") from error


def try_out(mutant: Mutant, baseline: Baseline, directory: Path, *, swapped: bool) -> Trial:
    """Run the tests of a mutant in a directory of its own: the others only where none that touches it notices.

    Those may fail through a process that they start, or by chance: so one of them has to fail twice.

    Args:
        mutant: the mutant.
        baseline: which tests touch it.
        directory: for the copy of the package.
        swapped: whether those that touch it have been run.
    """
    _copy(directory, mutant)
    touching, others = baseline.choice(mutant)
    fate, words = _try(() if swapped else touching, directory)
    while fate is Fate.SURVIVED and others:
        fate, words = _try(others, directory)
        test = _test_of(words)
        if fate is not Fate.KILLED or not test or _try([test], directory)[0] is not Fate.SURVIVED:
            break
        fate, others = Fate.SURVIVED, others[others.index(test) + 1 :]
    return Trial(mutant, fate, words)


def _try(names: Sequence[str], directory: Path) -> tuple[Fate, str]:
    if not names:
        return Fate.SURVIVED, "no tests"
    files = dict.fromkeys(name.partition("::")[0] for name in names)
    return _run([*files], Chosen(names), directory)


def _copy(directory: Path, mutant: Mutant | None = None) -> None:
    """Put a copy of the package there, with what is compiled already."""
    package = directory / "writebehind"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "writebehind", package)
    if mutant is not None:
        (directory / mutant.file).write_text(mutant.source, "utf-8")


def _run(tests: Sequence[str], plugin: Chosen | Noting, directory: Path) -> tuple[Fate, str]:
    log = directory / "log"
    process = _processes.Process(target=_run_tests, args=(directory, tests, plugin, log))
    process.start()
    process.join(LIMIT_S if isinstance(plugin, Chosen) else None)
    if process.is_alive():
        _end(process.pid)
        return Fate.TIMEOUT, _last(log)
    if process.exitcode not in {0, _FAILED, _INTERRUPTED, _CONFTEST_FAILED}:
        raise RuntimeError(f"pytest ended with {process.exitcode}: {_last(log)}")
    return (Fate.KILLED if process.exitcode else Fate.SURVIVED), _last(log)


#: What pytest ends with where a test fails, or what it imports.
_FAILED, _INTERRUPTED, _CONFTEST_FAILED = 1, 2, 4


def _run_tests(directory: Path, tests: Sequence[str], plugin: Chosen | Noting | Swapping, log: Path) -> None:
    """What the fork does: the copy of the package hides the other one, from processes that tests start too."""
    os.chdir(ROOT)
    with log.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    places = [str(directory), str(ROOT)]
    os.environ["COLUMNS"] = "400"
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    options = [
        *(["-x"] if isinstance(plugin, Chosen) else []),
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
    code = pytest.main([*options, *tests], plugins=[plugin])
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
