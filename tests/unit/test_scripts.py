"""The atomic steps, and what they include."""

from __future__ import annotations

import re
from pathlib import Path

from writebehind.redis.scripts import included, joined, script

ROOT = Path(__file__).parents[2]
LUA = ROOT / "writebehind/redis/lua"
STEPS = {path.stem: path.read_text("utf-8") for path in LUA.glob("*.lua")}
FUNCTIONS = {path.stem: path.read_text("utf-8") for path in (LUA / "include").glob("*.lua")}


def called(source: str) -> set[str]:
    """The functions of `include/` that a text calls; not those that it defines."""
    return set(re.findall(r"(?<!function )\b(\w+)\(", source)) & set(FUNCTIONS)


def test_a_step_includes_exactly_the_functions_that_it_calls():
    """Redis would notice a missing one only when that line runs."""
    for name, source in STEPS.items():
        assert called(joined(source)) == set(included(source)), name
        assert len(included(source)) == len(set(included(source))), name


def test_a_function_stands_before_what_calls_it():
    """Lua sees a local function only from there on."""
    for name, source in STEPS.items():
        before: set[str] = set()
        for one in included(source):
            assert called(FUNCTIONS[one]) <= before, f"{name}: {one}"
            before.add(one)


def test_each_function_is_included_by_several_steps():
    """What one step does alone stands in that step."""
    users = [one for source in STEPS.values() for one in included(source)]
    assert {one for one in FUNCTIONS if users.count(one) > 1} == set(FUNCTIONS)


def test_the_line_that_includes_is_replaced():
    """The text that Redis gets has the functions themselves, after the line with the flags."""
    loaded = script("claim").source
    assert FUNCTIONS["cut_life"] + FUNCTIONS["now_ms"] in loaded
    assert "-- include" not in loaded
    assert loaded.startswith("#!lua flags=allow-oom\n")
