"""The plan of which tests share a process names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import scheduling

ROOT = Path(__file__).parents[2]
ACCEPTANCE = ROOT / "tests/acceptance"


def test_what_begins_first_is_there():
    """Each module and folder; and each half of those that share a system."""
    assert [one for one in scheduling._FIRST if not ((ROOT / one).exists() or one in scheduling._HALVES)] == []
    assert [one for one in scheduling._OF_SYSTEM if not (ROOT / one).exists()] == []


def test_whoever_uses_the_shared_system_is_in_a_half():
    """Else a process of pytest-xdist would start one more system for it."""
    texts = {f"tests/acceptance/{one.name}": one.read_text("utf-8") for one in ACCEPTANCE.glob("test_*.py")}
    users = {name for name, text in texts.items() if re.search(r"\(.*\bsystem\b.*\):|\(.*\bsystem\b.*\) ->", text)}
    own = {name for name, text in texts.items() if "def system(" in text}

    assert scheduling._OF_SYSTEM.keys() == users - own


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/acceptance/test_listen.py::test_a[b::c]", "pipeline"),
        ("tests/acceptance/console/test_views.py::test_a", "tests/acceptance/console"),
        ("tests/unit/test_imports.py::test_a", "tests/unit/test_imports.py"),
    ],
)
def test_a_test_belongs_to_one_unit(nodeid, unit):
    """Modules that share a system to the same, a folder that has one of its own to itself, all others alone."""
    assert unit == scheduling.unit_of(nodeid)


def test_what_takes_long_comes_first():
    """Before what is not in the plan."""
    assert scheduling.rank("tests/acceptance/test_forks.py::test_a") < scheduling.rank(
        "tests/acceptance/test_logs.py::a"
    )
