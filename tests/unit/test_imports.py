"""What an import brings along: nothing that its user has no use for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement."""
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def core() -> set[str]:
    return modules_after("import writebehind")


@pytest.mark.parametrize(
    "name", ["flask", "celery", "kombu", "honcho", "click", "rich", "granian", "web", "tasks"]
)
def test_the_core_stands_alone(core, name):
    """`import writebehind` imports no web framework, no task queue and no command line."""
    assert name not in core


def test_the_core_is_there(core):
    """`import writebehind` imports what it is made of, so that the test above looks at the right thing."""
    assert {"writebehind.pipeline", "pymongo", "redis"} <= core


def test_the_web_application_is_no_worker():
    """`import web.app` imports what publishes tasks, and neither the worker's entry point nor a server."""
    assert {"writebehind.celery.publisher"} == modules_after("import web.app") & {
        *("writebehind.celery.publisher", "tasks", "tasks.celery", "granian")
    }
