"""Prometheus's programs, which Debian's package `prometheus` has: installed, or fetched by `make prometheus`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from writebehind.monitoring.families import PAGE
from writebehind.tallies.families import Family, Kind

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
_FETCHED = ROOT / ".prometheus/usr/bin"
PROMTOOL, PROMETHEUS = (
    shutil.which(one) or shutil.which(one, path=_FETCHED) for one in ("promtool", "prometheus")
)

needs_prometheus = pytest.mark.skipif(
    not (PROMTOOL and PROMETHEUS), reason="Prometheus is not installed: `make prometheus` fetches it on Debian"
)
_SUFFIXES = {Kind.COUNTER: ("_total",), Kind.LIVE: ("",), Kind.HISTOGRAM: ("_bucket", "_sum", "_count")}
#: Every name of a series on the page, with its family.
SERIES: dict[str, Family] = {
    name + suffix: family for name, family in PAGE.items() for suffix in _SUFFIXES[family.kind]
}
#: A series and what it is selected by; no part of the name of a recorded one.
SELECTOR = re.compile(r"(?<![:\w])(writebehind_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')


def promtool(*words: object, text: str | None = None) -> str:
    """Call it; what it says. Fails where it finds a fault."""
    command = [str(PROMTOOL), *map(str, words)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def faults(expr: str) -> list[str]:
    """Names and labels of an expression that are not on the page."""
    found = []
    for name, selected in SELECTOR.findall(expr):
        if name not in SERIES:
            found.append(name)
            continue
        known = {"job", "instance", *SERIES[name].labels}
        found += [f"{name}: {label}" for label in LABEL.findall(selected) if label not in known]
    return found
