"""Marks of processes, by which others of this machine see whether one lives: an id alone is given again.

A mark has the host by its name, the boot of its kernel, the namespace of process ids, the id, and when it started.
Only who shares the first three judges a process: containers of one machine have one boot, and so have machines
that were copied while they ran, which are told apart only if they have got names of their own. A machine that has
got another name still knows its processes that live. On Linux; elsewhere nothing is known of it.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

_PROC: Final = Path("/proc")
#: The boot of this machine: process ids, and those of namespaces, are of one boot.
_BOOT: Final = _PROC / "sys/kernel/random/boot_id"
#: After a process's name in its `stat`, which may have any character: its state, and when it started, in ticks.
_STATE, _STARTED = 0, 19
#: States of one that has ended, and whose parent has not asked yet; and of one that SIGSTOP has stopped.
_ENDED: Final = {"Z", "X"}
_STOPPED: Final = "T"


def mark(pid: int | None = None) -> str:
    """The mark of a process, by default of this one, without blanks; '' where the system does not tell of it."""
    pid = os.getpid() if pid is None else pid
    here, found = _here(), _stat(pid)
    return f"{here}:{pid}:{found[1]}" if here and found else ""


def has_ended(one: str) -> bool:
    """Whether the process with a mark has ended; false where that cannot be seen from here."""
    pid, started = _parted(one)
    if pid is None or not is_here(one):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is another user's, or another process that has its id by now
    found = _stat(pid)
    return found is not None and (found[1] != started or found[0] in _ENDED)


def is_stopped(one: str) -> bool:
    """Whether the process with a mark is stopped, as by SIGSTOP; false where that cannot be seen from here."""
    pid, started = _parted(one)
    return pid is not None and is_here(one) and _stat(pid) == (_STOPPED, started)


def age_s(pid: int) -> float | None:
    """The time since a process was started, seconds; `None` where that cannot be seen from here."""
    found = _stat(pid)
    try:
        up_s = float((_PROC / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return max(0.0, up_s - int(found[1]) / os.sysconf("SC_CLK_TCK")) if found else None


def stopped_of(pid: int) -> list[int]:
    """Which of a process and its children are stopped, as by SIGSTOP; none where that cannot be seen from here."""
    try:
        tasks = [one.read_text() for one in (_PROC / str(pid) / "task").glob("*/children")]
    except OSError:
        tasks = []
    family = [pid, *(int(child) for children in tasks for child in children.split())]
    return [one for one in family if (found := _stat(one)) and found[0] == _STOPPED]


def pid_of(one: str) -> int | None:
    """The id of the process with a mark, among those of its machine or container; `None` where it has none."""
    return _parted(one)[0]


def host_of(one: str) -> str | None:
    """The name of the machine or container of the process with a mark; `None` where it has none."""
    host, *rest = one.partition(":")[0].split("/")
    return unquote(host) or None if len(rest) == len(("boot", "namespace")) else None


def is_here(one: str) -> bool:
    """Whether the process with a mark is one of this machine, and of this container.

    A machine may have got another name since: one that lives here, and began when the mark says, is of here.
    """
    here, place = _here(), one.partition(":")[0]
    if not here or place == here:
        return bool(here)
    return place.partition("/")[2] == here.partition("/")[2] and _lives(*_parted(one))


def _parted(one: str) -> tuple[int | None, str]:
    """The id of a process and when it started, by its mark."""
    pid, _, started = one.partition(":")[2].partition(":")
    if not (pid.isdecimal() and pid.isascii() and started.isdecimal() and 0 < int(pid) < 1 << 31):
        return None, ""
    return int(pid), started


def _lives(pid: int | None, started: str) -> bool:
    """Whether a process with this id began then, in the namespace of this one, and has not ended."""
    found = None if pid is None else _stat(pid)
    return found is not None and found[1] == started and found[0] not in _ENDED


def _here() -> str:
    """The namespace in which process ids mean what they mean here; '' where the system does not tell."""
    try:
        boot, namespace = _BOOT.read_text().strip(), (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return f"{quote(socket.gethostname(), safe='')}/{boot}/{namespace}"


def _stat(pid: int) -> tuple[str, str] | None:
    """The state of a process, and when it started; `None` where neither can be read."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[_STATE], fields[_STARTED]
    except (OSError, IndexError):
        return None
