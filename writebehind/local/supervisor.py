"""Starts commands, starts those anew that die, and leaves nothing behind when it stops."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from honcho.process import Popen

from writebehind.errors import WritebehindError
from writebehind.local.endings import ended
from writebehind.local.output import SUPERVISOR, Output, spoken
from writebehind.settings.urls import redacted

GRACE_S = 10.0
#: A process that lived this long has started well; one that did not, and failed, may be configured wrongly. On a
#: busy machine it takes 10 s to find that out.
SETTLED_S = 60.0
MOST_FAILED_STARTS = 5
#: Longest time before a process is started anew, seconds: one that was ended, and one that failed.
LONGEST_DELAY_S, LONGEST_FAILING_DELAY_S = 5.0, 30.0
FIRST_DELAY_S = 0.2
#: A longer line of a process is several, bytes.
LONGEST_LINE = 64 << 10

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
        #: Whether the last one came from a keyboard, as Ctrl-C.
        self.is_typed = False

    def __enter__(self) -> Self:
        self._former = {signum: signal.signal(signum, self._note) for signum in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self.count += 1
        self.is_typed = signum == signal.SIGINT


class Process:
    """One command, and how its starts went so far."""

    def __init__(self, name: str, command: str, env: Mapping[str, str], output: Output) -> None:
        """Describe it; `start` starts it."""
        self.name = name
        self.group: Group | None = None
        self.due = 0.0
        #: How long it lives, seconds, once it has started well.
        self.settled_s = SETTLED_S
        #: The last line that it wrote before it ended.
        self.last_words = ""
        self._last_line = b""
        self._command = bound_to_parent(["/bin/sh", "-c", command])
        # No other system on this host may have such a name: workers are told apart by it.
        self._env = {**env, "HONCHO_PROCESS_NAME": f"{name}.{os.getpid()}"}
        self._output = output
        self._started = 0.0
        self._quick_ends = 0
        self._failed_starts = 0
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it, for the first time or anew.

        Raises:
            OSError: the system has no room for it; it is `due` again later.
        """
        self._started = time.monotonic()
        self._last_line = b""
        try:
            leader = Popen(self._command, shell=False, env=self._env, stdin=subprocess.DEVNULL)
        except OSError:
            self._put_off(failed=True)
            raise
        self.group = Group(leader)
        arguments = (leader.stdout, leader.pid)
        self._reader = threading.Thread(target=self._read, args=arguments, name=self.name, daemon=True)
        self._reader.start()

    def note_end(self) -> int | None:
        """Return its exit status once it has ended, and set when it is `due` again; else return `None`."""
        if self.group is None or (status := self.group.leader.poll()) is None:
            return None
        self.group.signal(signal.SIGKILL)  # what it left behind would hold its port
        self.group = None
        self.join()
        self.last_words = redacted(spoken(self._last_line))
        # Ended by a signal is somebody's will, no wrong configuration; a shell reports signals from 128 on.
        self._put_off(failed=0 < status < 128)  # noqa: PLR2004 - see above
        return int(status)

    @property
    def fails(self) -> bool:
        """Whether it failed whenever it was started lately."""
        settled = self.group is not None and time.monotonic() - self._started >= self.settled_s
        return self._failed_starts >= MOST_FAILED_STARTS and not settled

    def join(self) -> None:
        """Wait until what it wrote was put out; not for ever, as somebody may have inherited its output."""
        if self._reader is not None:
            self._reader.join(1)

    def _put_off(self, *, failed: bool) -> None:
        now = time.monotonic()
        if now - self._started >= self.settled_s:
            self._quick_ends = self._failed_starts = 0
        self._quick_ends += 1
        self._failed_starts += failed
        longest = LONGEST_FAILING_DELAY_S if failed else LONGEST_DELAY_S
        self.due = now + min(longest, FIRST_DELAY_S * 2 ** min(self._quick_ends - 1, 16))

    def _read(self, lines: Any, pid: int) -> None:
        with lines:
            for line in iter(lambda: lines.readline(LONGEST_LINE), b""):
                self._last_line = line if line.strip() else self._last_line
                self._output(self.name, line, pid)


class Supervisor:
    """Keeps commands running.

    On Linux the processes die with the thread that started them: use it from the main thread.
    """

    def __init__(
        self,
        commands: Mapping[str, str],
        env: Mapping[str, str],
        output: Output,
        *,
        essential: Collection[str] = (),
    ) -> None:
        """Take shell commands by name, their environment, and the names of those without which nothing works."""
        self._processes = [Process(name, command, env, output) for name, command in commands.items()]
        self._output = output
        self._essential = frozenset(essential)
        for process in self._processes:
            if process.name in self._essential:
                process.settled_s = math.inf  # it has started well once the whole works

    @property
    def pids(self) -> dict[str, int]:
        """The ids of the processes that run now, by name."""
        return {process.name: process.group.leader.pid for process in self._processes if process.group}

    @property
    def failing(self) -> dict[str, str]:
        """The last words of the processes that fail whenever they are started, by name."""
        return {process.name: process.last_words for process in self._processes if process.fails}

    def has_started(self) -> None:
        """Note that the whole works: from now on no process that fails is taken for configured wrongly."""
        self._essential = frozenset()
        for process in self._processes:
            process.settled_s = SETTLED_S

    def check(self) -> None:
        """Start what does not run and is due. Call it a few times a second.

        Raises:
            CrashLoopError: an essential process fails whenever it is started.
        """
        for process in self._processes:
            if (status := process.note_end()) is not None:
                self._note(process, ended(status))
            if process.group is None and time.monotonic() >= process.due:
                try:
                    process.start()
                except OSError as error:
                    self._note(process, f"cannot be started: {error}")

    def stop(self, grace_s: float = GRACE_S, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop everything, as `end` does."""
        end([process.group for process in self._processes if process.group], grace_s, hurry)
        for process in self._processes:
            process.group = None
            process.join()

    def say(self, line: str) -> None:
        """Put out a line of the supervisor's own: that something is not as it should be."""
        self._output(SUPERVISOR, line.encode(), level="warning")

    def _note(self, process: Process, what: str) -> None:
        if process.fails and process.name in self._essential:
            raise CrashLoopError(f"{process.name} does not start, it {what}: {process.last_words}")
        delay_s = max(0.0, process.due - time.monotonic())
        self.say(f"{process.name} {what}, starting it again in {delay_s:.1f} s")
        if process.fails:
            self.say(f"{process.name} fails whenever it is started, all else goes on: {process.last_words}")
