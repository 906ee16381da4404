"""Findings of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from writebehind.pipeline import Pipeline


class Level(IntEnum):
    """Severity of a finding; also the command's exit status for the worst of all."""

    OK = 0
    WARNING = 1
    FAILURE = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """Finding of one check.

    Attributes:
        check: its name.
        level: how bad it is.
        found: what there is.
        advice: what to do about it; '' where it is in order.
        fatal: whether no process may start with it: it would lose what it acknowledges, until somebody mends it.
    """

    check: str
    level: Level
    found: str
    advice: str = ""
    fatal: bool = False


Check = Callable[[Pipeline], Iterator[Finding]]


def ok(check: str, found: str) -> Finding:
    """In order."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """It works, and may cost something some day."""
    return Finding(check, Level.WARNING, found, advice)


def failure(check: str, found: str, advice: str, *, fatal: bool = False) -> Finding:
    """It does not work, or loses what was acknowledged."""
    return Finding(check, Level.FAILURE, found, advice, fatal)
