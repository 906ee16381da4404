"""How a mutant is tried: a copy of the package with it, before the package itself, and the tests in a fork."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

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
#: Seconds after which a test has failed; an endless loop is noticed too.
TEST_LIMIT_S = 60
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
    UNDECIDED = "undecided"
    """The process in which it was swapped hangs, or has ended: a run in a copy decides."""


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
class Ended:
    """How some tests have ended.

    Attributes:
        fate: of the mutant, if there was one.
        test: the name of the last one that was begun, which has failed if one has; '' where none was.
        words: pytest's last ones.
    """

    fate: Fate
    test: str
    words: str


@dataclass(frozen=True, slots=True, eq=False)  # pytest 9.0 hashes its plugins
class Chosen:
    """A plugin for pytest: runs some tests only, in their order, until one fails.

    Attributes:
        names: of the tests; where there are none, they are only collected.
        tell: takes the name of each test that begins.
    """

    names: Sequence[str]
    tell: Callable[[str], None]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell(nodeid)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the others out."""
        found = {one.nodeid: one for one in items}
        items[:] = [found[name] for name in self.names if name in found]


def look(tests: str, modules: Sequence[str], directory: Path) -> list[Known]:
    """What the tests of a file touch where nothing is mistaken.

    Raises:
        RuntimeError: they cannot be run.
    """
    _copy(directory)
    out, log = directory / "touched.json", directory / "log"
    out.unlink(missing_ok=True)
    process = _started(directory, [tests], Noting(modules, directory, out))
    process.join()
    if process.exitcode not in {0, _FAILED} or not (known := read(out)):
        raise RuntimeError(f"{tests}: pytest ended with {process.exitcode} without a mutant: {_last(log)}")
    return known


def swap(mutants: Sequence[Mutant], baseline: Baseline, directory: Path) -> list[Trial]:
    """Run for each mutant the tests that touch it, in one process: for mutants of one file that can be swapped."""
    _copy(directory)
    left = [(one, baseline.choice(one)[0]) for one in mutants]
    trials: list[Trial] = []
    while left:
        files = sorted({name.partition("::")[0] for _, names in left for name in names})
        if not files:
            return trials + [Trial(one, Fate.SURVIVED, "no test touches it") for one, _ in left]
        receiver, sender = _processes.Pipe(duplex=False)
        process = _started(directory, files, Swapping(left, sender.send))
        sender.close()
        try:
            for words in (one for one in _told(process, receiver) if one is not None):
                trials.append(Trial(left.pop(0)[0], Fate.KILLED if words else Fate.SURVIVED, words))
                if not left:
                    break
        except TimeoutError:
            _end(process.pid)
        if left:
            trials.append(Trial(left.pop(0)[0], Fate.UNDECIDED, _last(directory / "log")))
        process.join()
    return trials


def try_out(mutant: Mutant, baseline: Baseline, directory: Path, *, swapped: bool) -> Trial:
    """Run the tests of a mutant in a directory of its own; those that touch it first.

    Args:
        mutant: the mutant.
        baseline: which tests touch it.
        directory: for the copy of the package.
        swapped: whether those that touch it have been run.

    Raises:
        RuntimeError: the tests cannot be run.
    """
    touching, others = baseline.choice(mutant)
    names = others if swapped else [*touching, *others]
    files = [*dict.fromkeys(name.partition("::")[0] for name in names)]

    def run(some: Sequence[str], mutated: bool) -> Ended:
        _copy(directory, mutant if mutated else None)
        return _run(files, some, directory)

    ended = judged(names, run)
    return Trial(mutant, ended.fate, ended.words)


def judged(names: Sequence[str], run: Callable[[Sequence[str], bool], Ended]) -> Ended:
    """How tests end with a mutant: one that fails counts if it holds without it, and fails with it again, alone.

    Args:
        names: the tests, in their order.
        run: runs some of them until one fails, with the mutant or without; no names, and it only collects them.

    Raises:
        RuntimeError: they cannot be collected, but not because of the mutant.
    """
    left = list(names)
    while left:
        ended = run(left, True)
        if ended.fate is Fate.SURVIVED:
            return ended
        suspects = [ended.test] if ended.test else []
        without = run(suspects, False)
        if without.fate is Fate.SURVIVED and run(suspects, True).fate is not Fate.SURVIVED:
            return ended
        if not suspects:
            raise RuntimeError(f"pytest has run no test: {ended.words}")
        left = left[left.index(ended.test) + 1 :]
    return Ended(Fate.SURVIVED, "", "no test that holds without it")


def _copy(directory: Path, mutant: Mutant | None = None) -> None:
    """Put a copy of the package there, with what is compiled already."""
    package = directory / "writebehind"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "writebehind", package)
    if mutant is not None:
        (directory / mutant.file).write_text(mutant.source, "utf-8")


def _run(files: Sequence[str], names: Sequence[str], directory: Path) -> Ended:
    """Run tests of some files with the copy in the directory, until one fails.

    Raises:
        RuntimeError: pytest has come to no verdict, twice.
    """
    for _ in range(2):
        if (ended := _run_once(files, names, directory)) is not None:
            return ended
    raise RuntimeError(f"pytest has come to no verdict: {_last(directory / 'log')}")


def _run_once(files: Sequence[str], names: Sequence[str], directory: Path) -> Ended | None:
    receiver, sender = _processes.Pipe(duplex=False)
    process = _started(directory, files, Chosen(names, sender.send))
    sender.close()
    test, log = "", directory / "log"
    try:
        for test in _told(process, receiver):  # noqa: B007 - the last one counts
            pass
    except TimeoutError:
        _end(process.pid)
        return Ended(Fate.TIMEOUT, test, _last(log))
    process.join()
    code = process.exitcode
    if code not in {0, _FAILED, _INTERRUPTED, _CONFTEST_FAILED} and (names or code != _NO_TESTS):
        return None
    survived = code in {0, _NO_TESTS}
    return Ended(Fate.SURVIVED if survived else Fate.KILLED, test, _last(log))


def _told(process: ForkServerProcess, receiver: Connection) -> Iterator[Any]:
    """What a plugin tells, until its process ends.

    Raises:
        TimeoutError: it hangs.
    """
    while ready := wait([receiver, process.sentinel], HANGS_S):
        if receiver not in ready:
            return
        try:
            yield receiver.recv()
        except EOFError:
            return
    raise TimeoutError


#: What pytest ends with where a test fails, or what it imports, or where no test is chosen.
_FAILED, _INTERRUPTED, _CONFTEST_FAILED, _NO_TESTS = 1, 2, 4, 5
#: What a process ends with that could not run pytest, or did with another package.
_BROKEN = 70


def _started(directory: Path, tests: Sequence[str], plugin: Chosen | Noting | Swapping) -> ForkServerProcess:
    process = _processes.Process(target=_run_tests, args=(directory, tests, plugin))
    process.start()
    return process


def _run_tests(directory: Path, tests: Sequence[str], plugin: Chosen | Noting | Swapping) -> None:
    """What the fork does."""
    os.chdir(ROOT)
    with (directory / "log").open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    try:
        code = _tested(directory, tests, plugin)
    except BaseException:  # noqa: BLE001 - else the process would end as if a test had failed
        traceback.print_exc()
        code = _BROKEN
    sys.stdout.flush()
    os._exit(code)


def _tested(directory: Path, tests: Sequence[str], plugin: Chosen | Noting | Swapping) -> int:
    """Run pytest. The copy of the package hides the other one, from plugins and processes that tests start too.

    Raises:
        RuntimeError: the other one was tested.
    """
    places = [str(directory), str(ROOT)]
    os.environ |= {"COLUMNS": "400", "PYTHONPATH": os.pathsep.join(places), "PYTHONSAFEPATH": "1"}
    options = [
        *(["-x"] if isinstance(plugin, Chosen) else []),
        "-q",
        "-n0",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "-p",
        "no:cloudcoil",
        f"--timeout={TEST_LIMIT_S}",
        "--hypothesis-profile=long",
        "-k",
        ONE_KIND_OF_REDIS,
    ]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is imported before the fork
    options += ["-o", f"pythonpath={' '.join(places)}", f"--basetemp={directory / 'tmp'}", "--tb=short"]
    code = pytest.main([*options, *tests], plugins=[plugin])
    loaded = sys.modules.get("writebehind")
    if loaded is not None and not str(loaded.__file__).startswith(str(directory)):
        raise RuntimeError(f"{loaded.__file__} was tested, and not the mutant")
    return int(code)


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


def _last(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    told = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (told or lines or [""])[-1][:300]
