"""Counts of things: their words agree with them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import writebehind
from writebehind.plurals import counted

#: A count that is put before a noun in the plural, whatever it is: `{dead} dead letters`.
_ALWAYS_MANY = re.compile(
    r"(?:\{[\w.()\[\]'\"]+\}|%d) (?:[a-z]+ )?"
    r"(?:documents|letters|partitions|entries|keys|items|writes|hints|lines|replicas|workers)\b"
)


@pytest.mark.parametrize(
    ("count", "words", "expected"),
    [
        (1, ("dead letter",), "1 dead letter"),
        (0, ("dead letter",), "0 dead letters"),
        (2, ("entry", "entries"), "2 entries"),
        (1, ("document is", "documents are"), "1 document is"),
    ],
)
def test_counts(count, words, expected):
    """One is one, and none or several are many."""
    assert expected == counted(count, *words)


def test_no_text_says_processs():
    """A noun whose plural is more than an s is given with it, wherever things are counted."""
    files = Path(writebehind.__file__).parent.rglob("*.py")
    calls = [
        (file.name, one.args[1].value)
        for file in files
        for one in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "counted" and len(one.args) == 2
        if isinstance(one.args[1], ast.Constant)
    ]
    assert calls
    assert [] == [one for one in calls if re.search(r"(?:s|x|ch|sh|[^aeiou]y)$", str(one[1]))]


def test_no_text_says_one_documents():
    """No text of the product puts a count before a plural by itself: `counted` does."""
    files = Path(writebehind.__file__).parent.rglob("*.py")
    found = [
        (file.name, line.strip())
        for file in files
        for line in file.read_text("utf-8").splitlines()
        if _ALWAYS_MANY.search(line) and '"""' not in line
    ]
    assert [] == found
