"""Atomic steps: the files in `lua/`, each of which Redis runs as a whole.

A line `-- include: time` stands for what is in `lua/include/time.lua`, so that it is written once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^-- include: ([a-z_]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic step: a Lua file and its digest."""

    name: str
    source: str
    sha1: str


@cache
def script(name: str) -> Script:
    """Load `lua/<name>.lua`, with what it includes."""
    source = _INCLUDE.sub(lambda found: _read("include", f"{found[1]}.lua"), _read(f"{name}.lua"))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _read(*path: str) -> str:
    return resources.files("writebehind.redis").joinpath("lua", *path).read_text("utf-8").rstrip("\n")
