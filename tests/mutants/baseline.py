"""What each test touches while nothing is broken: so a mutant meets those tests first that may notice it."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.mutants.source import ROOT, Mutant


@dataclass(frozen=True, slots=True)
class Known:
    """A test as it was without a mutant.

    Attributes:
        name: pytest's name of it.
        passed: whether it holds; else what it says of a mutant counts for nothing.
        took_s: seconds.
        touched: atomic steps by their path, and lines of Python as `path:line`.
    """

    name: str
    passed: bool
    took_s: float
    touched: frozenset[str]


class Baseline:
    """All that is known of the tests."""

    def __init__(self, tests: Iterable[Known]) -> None:
        """Take them in any order."""
        self._tests = sorted(tests, key=lambda one: one.took_s)

    def choice(self, mutant: Mutant) -> tuple[list[str], list[str]]:
        """The tests of a mutant, the fastest first: those that touch what is mistaken, and the others."""
        of = [one for one in self._tests if one.passed and one.name.partition("::")[0] in mutant.tests]
        places = {f"{mutant.file}:{line}" for line in mutant.lines} if mutant.lines else {mutant.file}
        return (
            [one.name for one in of if one.touched & places],
            [one.name for one in of if not one.touched & places],
        )

    def failed(self) -> list[str]:
        """The tests that fail without a mutant."""
        return sorted(one.name for one in self._tests if not one.passed)


@dataclass(eq=False)  # pytest keeps plugins in sets
class Noting:
    """A plugin for pytest: notes what each test touches, into a file.

    Attributes:
        modules: the Python of which lines are noted, as paths from the root of the project.
        package: the directory that has the package.
        out: what `read` reads.
    """

    modules: Sequence[str]
    package: Path
    out: Path
    _touched: set[str] = field(default_factory=set)
    _tests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def pytest_collection_finish(self) -> None:
        """Begin as soon as the package is imported."""
        files = {str(self.package / one): one for one in self.modules}
        self._note_steps()
        if files:
            trace = self._tracer(files)
            threading.settrace(trace)
            sys.settrace(trace)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._touched.clear()
        self._tests[item.nodeid] = {"passed": True, "took_s": 0.0}
        result = yield
        self._tests[item.nodeid]["touched"] = sorted(self._touched)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self._tests[report.nodeid]
        test["passed"] &= not report.failed
        if report.when == "call":  # what is set up for several tests would be counted for one
            test["took_s"] = report.duration

    def pytest_sessionfinish(self) -> None:
        sys.settrace(None)
        self.out.write_text(json.dumps(self._tests), "utf-8")

    def _note_steps(self) -> None:
        from writebehind.redis import scripts  # noqa: PLC0415 - the copy that is tested
        from writebehind.redis.wire import Wire  # noqa: PLC0415

        folder, files = "writebehind/redis/lua/", {}
        for path in (self.package / folder).glob("*.lua"):
            functions = scripts.included(path.read_text("utf-8"))
            names = [path.name, *(f"include/{one}.lua" for one in functions)]
            step = scripts.script(path.stem)
            files[step.sha1] = files[step.source] = [folder + one for one in names]  # one is sent as text
        exchange = Wire.exchange  # whatever is sent comes by here

        def noted(wire: Wire, commands: Sequence[Sequence[Any]]) -> list[Any]:
            for one in commands:
                self._touched.update(files.get(one[1], ()) if one[0] in {"EVALSHA", "EVAL"} else ())
            return exchange(wire, commands)

        Wire.exchange = noted  # type: ignore[method-assign]

    def _tracer(self, files: dict[str, str]) -> Callable[[FrameType, str, Any], Any]:
        def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
            file = files.get(frame.f_code.co_filename)
            if file is None:
                return None

            def of_file(frame: FrameType, event: str, _argument: Any) -> Any:
                if event == "line":
                    self._touched.add(f"{file}:{frame.f_lineno}")
                return of_file

            return of_file

        return trace


def read(out: Path) -> list[Known]:
    """What `Noting` has noted.

    Raises:
        FileNotFoundError: the tests could not even be collected.
    """
    return _parsed(json.loads(out.read_text("utf-8")))


class Kept:
    """What was noted is kept in a file: a test that passed needs no other look until it or the product changes."""

    def __init__(self, file: Path, modules: Sequence[str]) -> None:
        """Read what is there; `modules` is what `Noting` takes."""
        self._file = file
        self._of_all = _digest(
            [*modules, *_sources("writebehind"), *_sources("tests/*.py", "tests/integration/**/conftest.py")]
        )
        self._kept: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}

    def get(self, tests: str) -> list[Known] | None:
        """What is known of a file of tests."""
        key, noted = self._kept.get(tests, ("", {}))
        return _parsed(noted) if key == self._key(tests) else None

    def put(self, tests: str, known: Sequence[Known]) -> None:
        """Keep what is known of a file of tests, if all of it has passed."""
        if all(one.passed for one in known):
            noted = {
                one.name: {"passed": True, "took_s": one.took_s, "touched": sorted(one.touched)} for one in known
            }
            self._kept[tests] = (self._key(tests), noted)
            self._file.write_text(json.dumps(self._kept), "utf-8")

    def _key(self, tests: str) -> str:
        return self._of_all + _digest([(ROOT / tests).read_text("utf-8")])


def _parsed(noted: dict[str, Any]) -> list[Known]:
    return [
        Known(name, one["passed"], one["took_s"], frozenset(one.get("touched", ()))) for name, one in noted.items()
    ]


def _sources(*patterns: str) -> list[str]:
    paths = [path for one in patterns for path in ROOT.glob(f"{one}/**/*" if "*" not in one else one)]
    return [path.read_text("utf-8") for path in sorted(paths) if path.suffix in {".py", ".lua"}]


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
