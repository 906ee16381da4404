"""Docstrings that name the thing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Words that a clause begins with.
CLAUSES = {"How", "What", "When", "Where", "Who", "Why"}


def docstrings(source: str) -> Iterator[str]:
    """Each docstring of a module, of its classes, functions and attributes."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.value.value


def test_docstrings_name_the_thing():
    """A docstring begins with the thing, "Outcome of a fill", and not with a clause, "What became of a fill"."""
    modules = [path for package in ("writebehind", "web", "tasks") for path in ROOT.glob(f"{package}/**/*.py")]
    found = {path: list(docstrings(path.read_text("utf-8"))) for path in modules}
    assert any(found.values())
    clauses = [
        (str(path), text) for path, texts in found.items() for text in texts if set(text.split()[:1]) & CLAUSES
    ]
    assert [] == clauses
