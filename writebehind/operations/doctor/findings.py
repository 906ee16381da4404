"""Findings of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from writebehind.pipeline import Pipeline
from writebehind.settings.installation import Settings
from writebehind.settings.running import process_of


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


def away(settings: Settings, server: str, *, hangs: bool = False) -> str:
    """Advice about `redis`, `mongodb` or `broker` that does not answer: to start it, or where it runs already.

    Args:
        settings: have its URL.
        server: which it is.
        hangs: whether nothing refuses what is asked of it: its process may be frozen.
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
    return (
        f"it runs here, started by `writebehind up`, and is frozen or overloaded: look at process {pid}; "
        f"`kill -CONT {pid}` lets a frozen one go on"
    )
