"""Lines that supervised processes print."""

from __future__ import annotations

import os

import pytest

from writebehind.local.output import MOST_WAITING, ConsoleOutput


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("[2026-11-26 17:55:11,123: WARNING/MainProcess] it is late", "[WARNING/MainProcess] it is late"),
        ("2026-11-26 17:55:11,123 WARNING it is late", "WARNING it is late"),
        ("[2026-11-26 17:55:11 +0000] [1] [INFO] it is late", "[1] [INFO] it is late"),
        ("[W 261126 18:17:50 state:109] it is late", "[W state:109] it is late"),
        ("it is late since 2026-11-26 17:55:11", "it is late since 2026-11-26 17:55:11"),
    ],
)
def test_a_line_has_one_time(written, printed):
    """The supervisor says when a line was written: what the process says of that is left out, and blank lines."""
    source, sink = os.pipe()
    with os.fdopen(source, encoding="utf-8") as reader, os.fdopen(sink, "w", encoding="utf-8") as stream:
        console = ConsoleOutput(["web"], stream)
        console("web", b" \n")
        console("web", f"{written}\n".encode())
        line = reader.readline()

    assert printed == line.partition("| ")[2].strip()


def test_lines_that_nobody_reads_are_left_out():
    """Who writes them does not wait; once they are read, they come in order, and how many do not is told."""
    source, sink = os.pipe()
    count = 3 * MOST_WAITING
    with os.fdopen(source, encoding="utf-8") as reader, os.fdopen(sink, "w", encoding="utf-8") as stream:
        console = ConsoleOutput(["web"], stream)
        for number in range(count):
            console("web", b"line %d" % number)
        lines = []
        while not (lines and "are left out" in lines[-1]):
            lines.append(reader.readline().partition("| ")[2].strip())

    *lines, last = lines
    numbers = [int(line.removeprefix("line ")) for line in lines]
    assert sorted(set(numbers)) == numbers
    assert len(numbers) >= MOST_WAITING
    assert f"{count - len(lines)} lines are left out, as nobody has read in time" == last
