"""What an import brings along: nothing that its user has no use for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context

import writebehind
from writebehind.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement."""
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def core() -> set[str]:
    return modules_after("from writebehind import connect")


@pytest.mark.parametrize(
    "name", ["flask", "celery", "kombu", "honcho", "click", "rich", "granian", "web", "tasks"]
)
def test_the_core_stands_alone(core, name):
    """`from writebehind import connect` imports no web framework, no task queue and no command line."""
    assert name not in core


def test_the_core_is_there(core):
    """`from writebehind import connect` imports what it is made of: the test above looks at the right thing."""
    assert {"writebehind.pipeline", "pymongo", "redis"} <= core


def test_the_web_application_is_no_worker():
    """`import web.app` imports what publishes tasks, and neither the worker's entry point nor a server."""
    assert {"writebehind.celery.publisher"} == modules_after("import web.app") & {
        *("writebehind.celery.publisher", "tasks", "tasks.celery", "granian")
    }


def test_a_worker_is_no_other_command():
    """A worker and beat import Celery's commands only as they run them, nor Flower, nor what draws prompts."""
    found = modules_after("import tasks.processes")
    assert "celery.bin.base" in found
    assert not found & {"celery.bin.celery", "flower", "tornado", "click_repl", "prompt_toolkit"}


def test_a_command_is_loaded_when_it_is_called():
    """What starts a process of the service loads no other command, nor what draws tables and bars."""
    found = modules_after("from writebehind.cli import cli; cli(['run', 'web', '--help'], standalone_mode=False)")
    assert {"cli", "cli.extras", "cli.run"} == {
        one.removeprefix("writebehind.") for one in found if one.startswith("writebehind.cli")
    }
    assert not found & {"rich", "writebehind.pipeline"}


def test_the_listener_draws_nothing():
    """As each process that goes on for days, it has nothing in memory that only tables need."""
    found = modules_after("import writebehind.cli.listen")
    assert "writebehind.change_stream.listener" in found
    assert "rich" not in found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_its_name(command):
    """Each module has the commands that are said to be there."""
    assert command == cli.get_command(Context(cli), command).name


def test_a_supervisor_publishes_nothing():
    """`writebehind up` starts processes that speak to Celery's broker, and loads Celery for none of its own."""
    found = modules_after("import writebehind.cli.run, writebehind.local.up")
    assert "honcho" in found
    assert not found & {"celery", "kombu"}


def test_the_package_costs_nothing():
    """The package alone, and the plugin that pytest loads wherever it is installed, import none of the drivers."""
    found = modules_after("import writebehind.pytest_plugin")
    assert {"writebehind", "writebehind.pytest_plugin"} == {one for one in found if one.startswith("writebehind")}
    assert not found & {"redis", "pymongo", "bson", "pydantic", "orjson"}


def test_every_name_is_there():
    """The package offers what it lists, and nothing else is taken for a part of it."""
    assert set(writebehind.__all__) <= set(dir(writebehind))
    for name in (*writebehind.__all__, "__version__"):
        assert getattr(writebehind, name) is getattr(writebehind, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        writebehind.nothing  # noqa: B018 - the access is what is tested


#: Counts how often garbage is looked for while a command is loaded and run.
COLLECTIONS = """
import gc, json, sys
looks = []
gc.callbacks.append(lambda phase, info: looks.append(info["generation"]))
from writebehind.__main__ import main
sys.argv = ["writebehind", "settings"]
try:
    main()
except SystemExit:
    print(json.dumps([len(looks), gc.isenabled(), gc.get_freeze_count()]))
"""


def test_a_command_is_loaded_without_looking_for_garbage():
    """It is looked for once it runs, and then not among what was loaded, which took a quarter of its start."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECTIONS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    looks, on, loaded = json.loads(done.stdout.splitlines()[-1])

    assert looks < 20
    assert on
    assert loaded > 50_000
