"""The atomic steps, what they include, and what is said of them."""

from __future__ import annotations

import re
from pathlib import Path

from writebehind.redis.scripts import included, joined, script

ROOT = Path(__file__).parents[2]
LUA = ROOT / "writebehind/redis/lua"
STEPS = {path.stem: path.read_text("utf-8") for path in LUA.glob("*.lua")}
FUNCTIONS = {path.stem: path.read_text("utf-8") for path in (LUA / "include").glob("*.lua")}
PROTOCOL = (ROOT / "docs/protocol.md").read_text("utf-8")

#: The first line of a step that runs in a Redis that is full.
RUNS_WHEN_FULL = re.compile(r"#!lua flags=(no-writes,)?allow-oom\n")
#: Commands that change nothing.
READ_ONLY = frozenset(
    {
        *("EXISTS", "GET", "GETRANGE", "MGET", "PTTL", "STRLEN", "TIME", "TYPE"),
        *("HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN", "HSTRLEN", "HVALS"),
        *("SISMEMBER", "SMEMBERS", "SCARD"),
        *("ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZSCORE"),
    }
)


def called(source: str) -> set[str]:
    """The functions of `include/` that a text calls; not those that it defines."""
    return set(re.findall(r"(?<!function )\b(\w+)\(", source)) & set(FUNCTIONS)


def keys(source: str) -> str:
    """What the header of a step says of its keys, as the table has it."""
    block = re.search(r"^-- KEYS  (.*?)^-- (?:ARGV|Returns)", source, re.MULTILINE | re.DOTALL)[1]
    found = re.findall(r"\b\d+(…?) ([a-z_ ]+?)(?=:|  |$)", re.sub(r"\n(?:-- +)?", "  ", block))
    return ", ".join(
        (name if name.startswith("any ") else " or ".join(f"`{one}`" for one in name.split(" or ")))
        + (" …" if repeated else "")
        for repeated, name in found
    )


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


def test_the_protocol_describes_each_step():
    """Each file has one row, and each row a file: its keys, and whether it runs in a Redis that is full."""
    rows = re.findall(r"^\| `(\w+)` \| \S.* \| (.*) \| (runs|refused) \|$", PROTOCOL, re.MULTILINE)
    described = {name: (of_keys, runs) for name, of_keys, runs in rows}
    expected = {
        name: (keys(source), "runs" if RUNS_WHEN_FULL.match(source) else "refused")
        for name, source in STEPS.items()
    }
    assert expected == described
    assert len(described) == len(rows)


def test_steps_that_only_read_say_so():
    """Redis runs these also while it refuses writes: its disk is full, or it is a replica by now."""
    calls = {name: re.findall(r"redis\.p?call\((['\"]\w+|)", script(name).source) for name in STEPS}
    reading = {name for name, found in calls.items() if {one[1:].upper() for one in found} <= READ_ONLY}
    said = {name for name, source in STEPS.items() if "no-writes" in source.partition("\n")[0]}
    assert {"count_unsettled", "observe"} <= said
    assert reading == said


def test_the_protocol_says_what_the_keys_of_steps_hold():
    """Each name that the header of a step has stands in the table of keys."""
    names = {name for source in STEPS.values() for name in re.findall(r"`(\w+)`", keys(source))}
    table = PROTOCOL.partition("## Keys in Redis")[2].partition("## ")[0]
    assert not names - set(re.findall(r"`wb:(?:\{p\}:)?(\w+)", table))
