"""Many mutants in one process: an atomic step, or the code of a function, is swapped. Servers and tests stay."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.mutants.source import ROOT, Mutant


@dataclass(eq=False)  # pytest keeps plugins in sets
class Swapping:
    """A plugin for pytest: in place of a run of all tests, for each mutant those that touch it.

    Attributes:
        mutants: with the names of the tests.
        tell: takes for each the words of the test that notices it, '' where none does; before each test, `None`.
    """

    mutants: Sequence[tuple[Mutant, Sequence[str]]]
    tell: Callable[[str | None], None]
    _failed: str = field(default="", init=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash is not None else str(report.longrepr)
            self._failed = f"FAILED {report.nodeid} - {' '.join(why.split())[:200]}"

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {one.nodeid: one for one in session.items}
        for mutant, names in self.mutants:
            found = (self._notices(items[name], mutant) for name in names if name in items)
            self.tell(next(filter(None, found), ""))
        return True

    def _notices(self, item: pytest.Item, mutant: Mutant) -> str:
        """What a test says of a mutant: it has to fail twice with it, and not without it in between."""
        with swapped(mutant):
            words = self._run(item)
        if not words or self._run(item):
            return ""
        with swapped(mutant):
            return self._run(item)

    def _run(self, item: pytest.Item) -> str:
        self._failed = ""
        self.tell(None)
        # Whatever comes next, what is set up for all tests stays.
        item.ihook.pytest_runtest_protocol(item=item, nextitem=item.session)
        return self._failed


@contextmanager
def swapped(mutant: Mutant) -> Iterator[None]:
    """Have the mistake in this process, for a while."""
    if mutant.file.endswith(".lua"):
        mistaken = _mistaken(mutant)
        was = [(step, step.source) for step, _ in mistaken]
        for step, source in mistaken:
            _set(step, source)
        try:
            yield
        finally:
            for step, source in was:
                _set(step, source)
        return
    found = _code(mutant)
    if found is None:
        raise ValueError(f"not in a function: {mutant.old}")
    function, code = found
    function.__code__, was_code = code, function.__code__
    try:
        yield
    finally:
        function.__code__ = was_code


def can_be_swapped(mutant: Mutant) -> bool:
    """Whether it is an atomic step, or in a function; not what is evaluated when a module is imported."""
    return mutant.file.endswith(".lua") or _code(mutant) is not None


def _mistaken(mutant: Mutant) -> list[tuple[Any, str]]:
    """The atomic steps that have the mistake, each with its text: one, or all that include the function."""
    scripts, path = importlib.import_module("writebehind.redis.scripts"), PurePosixPath(mutant.file)
    if path.parent.name != "include":
        return [(scripts.script(path.stem), scripts.joined(mutant.source))]
    return [
        (
            scripts.script(file.stem),
            scripts.joined(source, lambda name: mutant.source if name == path.stem else scripts.function(name)),
        )
        for file in sorted((ROOT / path.parents[1]).glob("*.lua"))
        if path.stem in scripts.included(source := file.read_text("utf-8"))
    ]


def _set(step: Any, source: str) -> None:
    digest = importlib.import_module("writebehind.redis.scripts").digest(source)
    for name, value in {"source": source, "sha1": digest}.items():
        object.__setattr__(step, name, value)  # it is frozen, and modules hold it


def _code(mutant: Mutant) -> tuple[FunctionType, CodeType] | None:
    """The function that is mistaken, and its code with the mistake."""
    old = compile((ROOT / mutant.file).read_text("utf-8"), mutant.file, "exec")
    new = compile(mutant.source, mutant.file, "exec")
    owner: Any = importlib.import_module(mutant.file.removesuffix(".py").replace("/", "."))
    while True:
        children = [(a, b) for a, b in zip(_inner(old), _inner(new), strict=False) if a != b]
        if len(children) != 1 or _shell(old) != _shell(new):
            return None
        old, new = children[0]
        thing = _member(owner, old.co_name)
        if isinstance(thing, FunctionType):
            return (thing, new) if thing.__code__.co_freevars == new.co_freevars else None
        if not isinstance(thing, type):
            return None
        owner = thing


def _member(owner: ModuleType | type, name: str) -> object:
    thing = inspect.getattr_static(owner, name, None)
    if isinstance(thing, property):
        thing = thing.fget
    elif isinstance(thing, functools.cached_property):
        thing = thing.func
    elif isinstance(thing, staticmethod | classmethod):
        thing = thing.__func__
    return inspect.unwrap(thing) if callable(thing) else thing


def _inner(code: CodeType) -> list[CodeType]:
    return [one for one in code.co_consts if isinstance(one, CodeType)]


def _shell(code: CodeType) -> tuple[object, ...]:
    """A code without that of what it defines."""
    consts = [repr(one) for one in code.co_consts if not isinstance(one, CodeType)]
    return code.co_code, consts, code.co_names
