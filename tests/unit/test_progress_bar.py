"""The bar of commands that take long."""

from __future__ import annotations

import re

import pytest

from writebehind.cli.operations import _progress

WHY = (
    "MongoDB has failed lately, and nobody asks it for 0.3 s: MongoDB does not answer: 127.0.0.1:27017: timed out"
)


def left_on_screen(printed: str) -> str:
    """Text of the lines that nothing has cleared."""
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed.rpartition("\x1b[2K")[2]).split())


@pytest.mark.parametrize("ends", [KeyboardInterrupt, None], ids=["interrupted", "done"])
def test_a_bar_that_is_interrupted_stays(ends, monkeypatch, capsys):
    """With how far it has come, and the whole reason, on 80 columns; one that is done leaves nothing."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)

    def work() -> None:
        with _progress("draining") as bar:
            bar(completed=1203, total=2000, description=WHY)
            if ends:
                raise ends

    if ends:
        with pytest.raises(ends):
            work()
    else:
        work()
    left = left_on_screen(capsys.readouterr().err)
    assert ("1203" in left, left.endswith("timed out")) == ((True, True) if ends else (False, False))
