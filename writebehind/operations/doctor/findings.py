"""Findings of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from writebehind.conditions import CONDITIONS, Remedy, Severity
from writebehind.pipeline import Pipeline
from writebehind.remedies import runs_here
from writebehind.settings.installation import Settings
from writebehind.settings.running import process_of


class Level(IntEnum):
    """Severity of a finding; also the command's exit status for the worst of all.

    A failure is what is critical to the other views: `writebehind.conditions` has the table.
    """

    OK = Severity.OK
    WARNING = Severity.WARNING
    FAILURE = Severity.CRITICAL


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


#: All servers and processes are asked side by side, and each has so long to answer, seconds.
PATIENCE_S: Final = 2.0

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


def of(remedy: Remedy, check: str = "") -> Finding:
    """The finding of what a status shows to be wrong, as bad as it says; about that, or what `check` names."""
    level = Level(CONDITIONS[remedy.condition].severity)
    return Finding(check or remedy.about, level, remedy.found, remedy.advice)


def away(settings: Settings, server: str, *, hangs: bool = False, reason: str = "") -> str:
    """Advice about `redis`, `mongodb` or `broker` that does not answer: to start it, or where it runs already.

    Args:
        settings: have its URL.
        server: which it is.
        hangs: whether nothing refuses what is asked of it: its process may be frozen.
        reason: the words by which that was seen.
    """
    pid = process_of(server, getattr(settings, f"{server}_url"))
    if pid is None and hangs:
        return (
            "start no other on its data, as nothing says that it has ended: look on its host whether its process "
            "is stopped (`ps -o stat` says T; `kill -CONT` lets it go on) or busy, and at the network; "
            f"or set {server.upper()}_URL"
        )
    if pid is None:
        return f"start it, or set {server.upper()}_URL"
    return f"`writebehind up` has started it: {runs_here(pid, reason)}"
