"""Names that clients choose, on an operator's terminal: none forges a line or drives the terminal."""

from __future__ import annotations

import json

import flask
import pytest

from tests.integration.dead_letters.conftest import bury
from writebehind import Pipeline
from writebehind.flask import api

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
    assert lines[1].endswith(" since it was written or replayed")  # which begins its attempts anew


def test_what_has_failed_last_comes_first(pipeline: Pipeline, run):
    """On the terminal, as JSON and in the API, whichever partitions the letters are in."""
    times = {f"u{n}": 1_000.0 + (n * 7) % 20 for n in range(20)}
    for name, failed_at in times.items():
        bury(pipeline.store, name, failed_at=failed_at)
    expected = sorted(times, key=times.__getitem__, reverse=True)
    app = flask.Flask(__name__)
    app.register_blueprint(api(pipeline, admin=lambda: None))

    text = run("dead-letters", "list").stdout.splitlines()
    lines = run("dead-letters", "list", "--json").stdout.splitlines()
    listed = app.test_client().get("/admin/dead-letters").json["dead_letters"]

    assert expected == [one.removeprefix("users/") for one in text if one.startswith("users/")]
    assert expected == [json.loads(one)["id"] for one in lines]
    assert expected == [one["id"] for one in listed]
