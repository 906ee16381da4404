"""Names that clients choose, on an operator's terminal: none forges a line or drives the terminal."""

from __future__ import annotations

import pytest

from tests.integration.dead_letters.conftest import bury
from writebehind import Pipeline

NAMES = [
    "a\nERROR forged event=x",
    "\x1b[31mred",
    "\x00nul",
    "\x9b31m",
    "\u202edrow",
    "[red]x[/red]",
    "\u2028line",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_dead_letter_is_one_line_without_control_characters(pipeline: Pipeline, run, name):
    """The list escapes what cannot be seen; the JSON has the id as it is, for `show` and `replay`."""
    bury(pipeline.store, name)
    told = run("dead-letters", "list").stdout
    lines = told.splitlines()

    assert all(one.isprintable() for one in told.split("\n"))
    assert [at for at, one in enumerate(lines) if one.startswith("users/")] == [0]
    assert not any(one.startswith("ERROR") for one in lines)
    shown = name if name.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    assert f"users/{shown}" == lines[0]
