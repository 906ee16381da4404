"""The help of the commands."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from writebehind.cli import cli


@pytest.mark.parametrize("group", [[], ["dead-letters"]])
def test_descriptions_are_whole(group):
    """In 80 columns no description of a command is cut."""
    shown = CliRunner().invoke(cli, [*group, "--help"], terminal_width=80).output
    assert len(shown.splitlines()) > 10
    _, *lines = shown.splitlines()
    assert [] == [line for line in lines if line.endswith("...")]
