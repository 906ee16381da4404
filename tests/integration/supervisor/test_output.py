"""Lines that supervised processes print."""

from __future__ import annotations

import json
import os

import pytest

from writebehind.local.output import MOST_WAITING, ConsoleOutput, FileOutput, JsonOutput, spoken


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


LOGGED = {"time": "2026-11-26T21:00:00.000Z", "level": "info", "process": "worker", "message": "so"}


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        (json.dumps(LOGGED), LOGGED),
        ('{"message": "so", "level": "info"}', {"process": "web", "level": "info", "message": "so"}),
        ("not so", {"process": "web", "level": "warning", "message": "not so"}),
        ('{"message": "so"', {"process": "web", "level": "warning", "message": '{"message": "so"'}),
        ("[1, 2]", {"process": "web", "level": "warning", "message": "[1, 2]"}),
        ("a\u2028b\x1b\x85", {"process": "web", "level": "warning", "message": "a\u2028b\x1b\x85"}),
    ],
)
def test_each_line_is_an_object_where_lines_are_json(tmp_path, written, printed):
    """On the console and in files: a process's own object, with its name, and of other lines one is made."""
    source, sink = os.pipe()
    with os.fdopen(source, encoding="utf-8") as reader, os.fdopen(sink, "w", encoding="utf-8") as stream:
        console = JsonOutput(["web"], stream)
        console("web", b" \n")
        console("web", f"{written}\n".encode())
        line = reader.readline()
    file = FileOutput(tmp_path, json=True)
    file("web", b" \n")
    file("web", f"{written}\n".encode())
    [kept] = (tmp_path / "web.log").read_text().splitlines()

    for one in (line, kept):
        assert one.isascii()
        assert printed.items() <= json.loads(one).items()
    assert {"time", "level", "logger", "process", "pid", "message"} <= json.loads(line).keys()


def test_a_line_that_is_made_an_object_says_who_wrote_it(tmp_path):
    """The supervisor's own has its logger and id; another process's has that one's, and how grave it is."""
    file = FileOutput(tmp_path, json=True)
    file("system", b"web ended with 1", level="warning")
    file("web", b"panic", 4711)
    file("web", b'{"message": "so"}', 4711)
    file("web", b'{"message": "so", "pid": 5}', 4711)
    [own] = (tmp_path / "system.log").read_text().splitlines()
    others = [json.loads(one) for one in (tmp_path / "web.log").read_text().splitlines()]

    assert {"logger": "writebehind.local", "pid": os.getpid(), "level": "warning"}.items() <= json.loads(
        own
    ).items()
    assert [("stdout", 4711)] * 2 + [("stdout", 5)] == [(one["logger"], one["pid"]) for one in others]


def test_bytes_that_are_no_text_are_an_object_too(tmp_path):
    """They stand in it as escapes."""
    file = FileOutput(tmp_path, json=True)
    file("web", b"\xff\xfe\n")
    assert "\\xff\\xfe" == json.loads((tmp_path / "web.log").read_text())["message"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"writebehind: it is wrong\n", "writebehind: it is wrong"),
        (b'{"message": "writebehind: it is wrong"}\n', "writebehind: it is wrong"),
        (b'{"other": 1}\n', '{"other": 1}'),
        (b"", ""),
    ],
)
def test_the_last_words_of_a_process_are_its_message(line, words):
    """Whatever the format, the supervisor repeats what was said."""
    assert words == spoken(line)
