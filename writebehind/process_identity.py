"""Marks of processes, by which others of this machine see whether one lives: an id alone is given again.

On Linux; elsewhere, and in another container or on another machine, nothing is known of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
#: The boot of this machine: process ids, and those of namespaces, are of one boot.
_BOOT: Final = _PROC / "sys/kernel/random/boot_id"
#: After a process's name in its `stat`, which may have any character: its state, and when it started, in ticks.
_STATE, _STARTED = 0, 19
#: States of one that has ended, and whose parent has not asked yet.
_ENDED: Final = {"Z", "X"}


def mark(pid: int | None = None) -> str:
    """The mark of a process, by default of this one, without blanks; '' where the system does not tell of it."""
    pid = os.getpid() if pid is None else pid
    here, found = _here(), _stat(pid)
    return f"{here}:{pid}:{found[1]}" if here and found else ""


def has_ended(one: str) -> bool:
    """Whether the process with a mark has ended; false where that cannot be seen from here."""
    here, _, process = one.partition(":")
    pid, _, started = process.partition(":")
    if not here or here != _here() or not (pid.isdecimal() and started.isdecimal() and 0 < int(pid) < 1 << 31):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is another user's, or another process that has its id by now
    found = _stat(int(pid))
    return found is not None and (found[1] != started or found[0] in _ENDED)


def _here() -> str:
    """The namespace in which process ids mean what they mean here; '' where the system does not tell."""
    try:
        return f"{_BOOT.read_text().strip()}/{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str] | None:
    """The state of a process, and when it started; `None` where neither can be read."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[_STATE], fields[_STARTED]
    except (OSError, IndexError):
        return None
