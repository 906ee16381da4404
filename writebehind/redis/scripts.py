"""Atomic steps: the files in `lua/`, each of which Redis runs as a whole.

What several do the same way is a function in `lua/include/`. A line `-- include: <name>, <name>` in a script
is replaced by those files when the script is loaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources

_FOLDER = resources.files("writebehind.redis").joinpath("lua")
_INCLUDE = re.compile(r"^-- include: (.+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic step: a Lua file with what it includes, and its digest."""

    name: str
    source: str
    sha1: str


@cache
def script(name: str) -> Script:
    """Load `lua/<name>.lua`."""
    source = joined(_FOLDER.joinpath(f"{name}.lua").read_text("utf-8"))
    return Script(name, source, digest(source))


def steps() -> list[Script]:
    """All atomic steps."""
    names = sorted(one.name for one in _FOLDER.iterdir() if one.name.endswith(".lua"))
    return [script(one.removesuffix(".lua")) for one in names]


def included(source: str) -> list[str]:
    """The names of the functions that a script includes."""
    return [name for names in _INCLUDE.findall(source) for name in names.split(", ")]


def function(name: str) -> str:
    """The text of `lua/include/<name>.lua`."""
    return _FOLDER.joinpath("include", f"{name}.lua").read_text("utf-8")


def joined(source: str, text_of: Callable[[str], str] = function) -> str:
    """The text of a script with the functions that it includes, in the place of the line that names them."""
    return _INCLUDE.sub(lambda found: "".join(map(text_of, included(found[0]))), source)


def digest(source: str) -> str:
    """The name by which Redis knows a script."""
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
