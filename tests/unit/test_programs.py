"""Programs that tests start: none outlives a pytest that is killed."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
#: Those that end by themselves, or are stopped.
END_THEMSELVES = {"sleep", "true", "/bin/sh"}


def lasting(module: str) -> list[int]:
    """The lines in which a module starts a program that goes on when its pytest is killed."""
    tree = ast.parse(module)
    bound = {
        target.id
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign) and "bound_to_parent(" in ast.unparse(one.value)
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    return [
        call.lineno
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in {"Popen", "subprocess.Popen"}
        if not _ends(call, bound)
    ]


def _ends(call: ast.Call, bound: set[str]) -> bool:
    command = call.args[0]
    if isinstance(command, ast.List) and isinstance(command.elts[0], ast.Constant):
        return command.elts[0].value in END_THEMSELVES
    reads_us = any(one.arg == "stdin" and ast.unparse(one.value) == "subprocess.PIPE" for one in call.keywords)
    return (
        reads_us
        or (isinstance(command, ast.Name) and command.id in bound)
        or "bound_to_parent(" in ast.unparse(command)
    )


def test_no_program_outlives_its_pytest():
    """They are bound to it, read what it writes to them, or end by themselves."""
    found = {str(path.relative_to(TESTS)): lasting(path.read_text("utf-8")) for path in TESTS.rglob("*.py")}
    assert {} == {path: lines for path, lines in found.items() if lines}


def test_one_that_does_is_seen():
    """The test above finds what it looks for."""
    assert [1] == lasting("subprocess.Popen(command)")
    assert [] == lasting("subprocess.Popen(bound_to_parent(command))")
    assert [2] == lasting("a = bound_to_parent(b)\nsubprocess.Popen(b)")
