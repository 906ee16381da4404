"""Starts commands, starts those anew that die, and leaves nothing behind when it stops."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self, TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Popen

from writebehind.errors import WritebehindError

GRACE_S = 10.0
#: A process that lived this long has started well; one that did not, and failed, may be configured wrongly.
SETTLED_S = 10.0
MOST_FAILED_STARTS = 5
LONGEST_DELAY_S = 5.0
SUPERVISOR = "system"

#: Takes a process's name and a line that it wrote.
Output = Callable[[str, bytes], None]

# Not `preexec_fn`: that runs Python in a forked child of a process with threads.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class CrashLoopError(WritebehindError):
    """A process fails whenever it is started."""


def bound_to_parent(command: Sequence[str]) -> list[str]:
    """Wrap a command so that, on Linux, it gets SIGTERM when the thread that starts it ends, however it ends."""
    if not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


class Group:
    """A process that leads a session of its own: one signal reaches it and all that it started."""

    def __init__(self, leader: subprocess.Popen[Any]) -> None:
        """Take a process that was started with `start_new_session`."""
        self.leader = leader

    def signal(self, signum: int) -> None:
        """Send a signal to every process of the group that is left."""
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM where only zombies are left
            os.killpg(self.leader.pid, signum)

    def is_gone(self) -> bool:
        """Whether no process of the group is left."""
        if self.leader.poll() is None:
            return False
        try:
            os.killpg(self.leader.pid, 0)
        except (ProcessLookupError, PermissionError):
            return True
        return False


def end(groups: Iterable[Group], grace_s: float = GRACE_S, hurry: Callable[[], bool] = lambda: False) -> None:
    """End groups: SIGTERM to all, then SIGKILL to those left after `grace_s`, or as soon as `hurry` says so."""
    left = list(groups)
    for group in left:
        # First of all: of a process that is stopped, any thread may get the other; Python needs its main thread.
        group.signal(signal.SIGCONT)
        group.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while left := [group for group in left if not group.is_gone()]:
        if time.monotonic() >= deadline or hurry():
            break
        time.sleep(0.02)
    for group in left:
        group.signal(signal.SIGKILL)
    for group in left:
        group.leader.wait()


class Interruptions:
    """Counts the signals that ask this process to end, so that none of them cuts a clean-up short."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        """Nothing is counted before the `with` block."""
        self.count = 0

    def __enter__(self) -> Self:
        self._former = {signum: signal.signal(signum, self._note) for signum in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)

    def _note(self, _signum: int, _frame: FrameType | None) -> None:
        self.count += 1


class ConsoleOutput:
    """Prints lines with time, name and colour, as `honcho start` does."""

    def __init__(self, names: Iterable[str], stream: TextIO) -> None:
        """Give each name a colour."""
        self._colours = dict(zip(names, get_colours(), strict=False))
        self._printer = Printer(stream, width=max(map(len, [SUPERVISOR, *self._colours])))
        self._lock = threading.Lock()

    def __call__(self, name: str, line: bytes) -> None:
        """Print a line."""
        now = dt.datetime.now()  # noqa: DTZ005 - for a person at this terminal
        message = Message("line", line, now, name, self._colours.get(name))
        with self._lock, suppress(OSError, ValueError):  # nobody reads any more: not this process's affair
            self._printer.write(message)


class FileOutput:
    """Appends lines to `<name>.log` in a directory."""

    def __init__(self, directory: Path) -> None:
        """Take the directory; it is created if need be."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def __call__(self, name: str, line: bytes) -> None:
        """Append a line."""
        with suppress(OSError), (self._directory / f"{name}.log").open("ab") as log:
            log.write(line.rstrip(b"\n") + b"\n")


class Process:
    """One command, and how its starts went so far."""

    def __init__(self, name: str, command: str, env: Mapping[str, str], output: Output) -> None:
        """Describe it; `start` starts it."""
        self.name = name
        self.group: Group | None = None
        self.due = 0.0
        self.last_line = b""
        self._command = bound_to_parent(["/bin/sh", "-c", command])
        self._env = {**env, "HONCHO_PROCESS_NAME": name}
        self._output = output
        self._started = 0.0
        self._quick_ends = 0
        self._failed_starts = 0
        self._settled = False
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it, for the first time or anew."""
        leader = Popen(self._command, shell=False, env=self._env, stdin=subprocess.DEVNULL)
        self.group = Group(leader)
        self._started = time.monotonic()
        self._reader = threading.Thread(target=self._read, args=(leader.stdout,), name=self.name, daemon=True)
        self._reader.start()

    def note_end(self) -> int | None:
        """Return its exit status once it has ended, and set when it is `due` again; else return `None`.

        Raises:
            CrashLoopError: it never ran for long and failed time after time.
        """
        if self.group is None or (status := self.group.leader.poll()) is None:
            return None
        self.group.signal(signal.SIGKILL)  # what it left behind would hold its port
        self.group = None
        self.join()
        now = time.monotonic()
        if now - self._started >= SETTLED_S:
            self._settled, self._quick_ends = True, 0
        self._quick_ends += 1
        # Ended by a signal is somebody's will, no wrong configuration; a shell reports signals from 128 on.
        self._failed_starts += 0 < status < 128  # noqa: PLR2004 - see above
        if not self._settled and self._failed_starts >= MOST_FAILED_STARTS:
            last = self.last_line.decode(errors="replace").strip()
            raise CrashLoopError(f"{self.name} does not start, its last exit status is {status}: {last}")
        self.due = now + min(LONGEST_DELAY_S, 0.1 * 2**self._quick_ends)
        return int(status)

    def join(self) -> None:
        """Wait until what it wrote was put out; not for ever, as somebody may have inherited its output."""
        if self._reader is not None:
            self._reader.join(1)

    def _read(self, lines: Any) -> None:
        with lines:
            for line in lines:
                self.last_line = line if line.strip() else self.last_line
                self._output(self.name, line)


class Supervisor:
    """Keeps commands running.

    On Linux the processes die with the thread that started them: use it from the main thread.
    """

    def __init__(self, commands: Mapping[str, str], env: Mapping[str, str], output: Output) -> None:
        """Take shell commands by name, and the environment for all of them."""
        self._processes = [Process(name, command, env, output) for name, command in commands.items()]
        self._output = output

    @property
    def pids(self) -> dict[str, int]:
        """The ids of the processes that run now, by name."""
        return {process.name: process.group.leader.pid for process in self._processes if process.group}

    def check(self) -> None:
        """Start what does not run and is due. Call it a few times a second.

        Raises:
            CrashLoopError: a process fails whenever it is started.
        """
        for process in self._processes:
            if (status := process.note_end()) is not None:
                delay = max(0.0, process.due - time.monotonic())
                self.say(f"{process.name} ended with {status}, starting it again in {delay:.1f} s")
            if process.group is None and time.monotonic() >= process.due:
                process.start()

    def stop(self, grace_s: float = GRACE_S, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop everything, as `end` does."""
        end([process.group for process in self._processes if process.group], grace_s, hurry)
        for process in self._processes:
            process.group = None
            process.join()

    def say(self, line: str) -> None:
        """Put out a line of the supervisor's own."""
        self._output(SUPERVISOR, line.encode())
