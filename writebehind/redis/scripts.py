"""Atomic steps: the files in `lua/`, each of which Redis runs as a whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic step: a Lua file and its digest."""

    name: str
    source: str
    sha1: str


@cache
def script(name: str) -> Script:
    """Load `lua/<name>.lua`."""
    source = resources.files("writebehind.redis").joinpath("lua", f"{name}.lua").read_text("utf-8")
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
