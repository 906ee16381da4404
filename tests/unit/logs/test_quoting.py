"""Ids in lines of the log: nobody takes a part of one for a field, an event or another line."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from writebehind.logs.formats import TextFormat
from writebehind.logs.quoting import quoted
from writebehind.settings.urls import redacted

PRODUCT = Path(__file__).parents[3] / "writebehind"
PLAIN = ["users/s:ada", "users/i:-5", "shop/s:a.b@c.org", "users/s:größe", "flush,refresh", "127.0.0.1:5"]
#: Ids that are more than a word to whoever reads, and how they are written.
ODD = {
    "users/s:ada event=redis_lost": '"users/s:ada event=redis_lost"',
    "users/s:a\nb": '"users/s:a\\nb"',
    "users/s:a\x1b[2Kb": '"users/s:a\\x1b[2Kb"',
    "users/s:\u202eb": '"users/s:\\u202eb"',
    'users/s:" event="x': '"users/s:\\" event=\\"x"',
    "users/s:\\": '"users/s:\\\\"',
    "users/s:a=b": '"users/s:a=b"',
    "": '""',
}
#: Names of what an id is in, as the product has them.
IDS = {"member", "members"}


def test_an_id_is_one_word():
    """It is as it is where it can be; else it is in quotes, with escapes for what cannot be seen."""
    assert PLAIN == [quoted(one) for one in PLAIN]
    assert ODD == {one: quoted(one) for one in ODD}


@pytest.mark.parametrize("member", ODD)
def test_a_field_is_one_word(member):
    """Also where a line of text has it as a field: what follows is the next field."""
    record = logging.LogRecord("here", logging.ERROR, __file__, 1, "it is so", (), None)
    record.event, record.member, record.version = "dead_letter", member, 5
    line = TextFormat().format(record)
    shown = f" member={quoted(member)}" if member else ""
    assert line.endswith(f" ERROR it is so event=dead_letter{shown} version=5")


def test_a_password_in_an_id_is_masked():
    """An id that is a URL with one is told as URLs of servers are."""
    record = logging.LogRecord("here", logging.ERROR, __file__, 1, "it is so", (), None)
    record.member = "pages/s:https://ada:secret@host/a"
    assert "secret" not in TextFormat(redacted).format(record)


def ids_in(node: ast.expr) -> Iterator[str]:
    """Ids that an expression writes as they are: no call is around them."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in IDS:
            yield name
        case ast.Subscript(value=value) | ast.Starred(value=value) | ast.FormattedValue(value=value):
            yield from ids_in(value)
        case ast.JoinedStr(values=parts) | ast.Tuple(elts=parts):
            for one in parts:
                yield from ids_in(one)


def test_each_line_quotes_the_ids_in_it():
    """Whoever logs an id does so by `quoted`."""
    found = []
    for path in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            written: list[ast.expr] = []
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[0] in {"log", "self._log"}:
                written = [] if "%.50r" in ast.unparse(node) else node.args  # which quotes as well
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"line", "said", "words"}:
                written = [node.value]
            found += [(path.name, node.lineno, one) for part in written for one in ids_in(part)]
    assert [] == found, found
