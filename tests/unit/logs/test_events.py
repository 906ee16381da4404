"""Every event that the code logs is in the table of the documentation, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
TABLE = re.compile(r"(?m)^\| (`[^|]+) \|")


def logged() -> Iterator[str]:
    """Patterns of the names of events in the product, as literals, and as what a state is made with."""
    for package in ("writebehind", "web", "tasks"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Dict):
                    pairs = zip(node.keys, node.values, strict=True)
                    yield from (one for key, value in pairs if _is_event(key) for one in names(value))
                if isinstance(node, ast.Call):
                    called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    wanted = (
                        node.args[1:]
                        if called in {"StateLog", "StateLogs"}
                        else node.args[:1]
                        if called == "_say"
                        else []
                    )
                    wanted += [one.value for one in node.keywords if one.arg == "event"]
                    yield from (
                        one for value in wanted for one in names(value) if re.fullmatch(r"[a-z_.*\\-]+", one)
                    )


def _is_event(key: ast.expr | None) -> bool:
    return isinstance(key, ast.Constant) and key.value == "event"


def names(value: ast.expr) -> list[str]:
    """The names that an expression can have, as patterns; none for a variable."""
    match value:
        case ast.Constant(value=str() as name):
            return [re.escape(name)]
        case ast.BoolOp():
            return [name for one in value.values for name in names(one)]
        case ast.IfExp():
            return names(value.body) + names(value.orelse)
        case ast.JoinedStr():
            return [
                "".join(re.escape(one.value) if isinstance(one, ast.Constant) else ".*" for one in value.values)
            ]
    return []


def test_events_are_those_of_the_documentation():
    """So that who searches by one finds what it means, and what is to be done."""
    text = (ROOT / "docs" / "logs.md").read_text().partition("## Events")[2].partition("\n## ")[0]
    documented = set(re.findall("`([a-z_-]+)`", " ".join(TABLE.findall(text))))
    patterns = {*logged()}
    assert {"started", "ready", "redis_lost", "outage_began", "request"} <= documented
    assert not [name for name in documented if "-" in name]  # who searches need not guess which has dashes
    assert set() == {one for one in patterns if not any(re.fullmatch(one, name) for name in documented)}
    assert set() == {name for name in documented if not any(re.fullmatch(one, name) for one in patterns)}
