"""Watches of `up`: that the API answers, that no process is stopped, and that its directories are there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from writebehind.operations.probing import all_refused

#: Between two looks whether the API answers, while it does and while it does not, seconds.
EVERY_S: Final = 5.0
AGAIN_S: Final = 1.0
#: A web process that was ended has so long to serve anew before connections that are refused are told, seconds.
STARTS_WITHIN_S: Final = 10.0


class ApiWatch:
    """Says that the API does not answer, and that it does again: a web process that is frozen says nothing."""

    def __init__(
        self,
        ask: Callable[[], Sequence[str]],
        stopped: Callable[[], Sequence[int]],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin while the API answers.

        Args:
            ask: returns why requests get no answer; nothing where all do.
            stopped: returns the web processes that are stopped, as by SIGSTOP.
            say: takes a line.
            clock: seconds.
        """
        self._ask = ask
        self._stopped = stopped
        self._say = say
        self._clock = clock
        self._answered_at = clock()
        self._is_silent = self._is_told = False
        self._told_stopped: Sequence[int] = ()

    @property
    def due_s(self) -> float:
        """The time until the next look, seconds."""
        return AGAIN_S if self._is_silent else EVERY_S

    def look(self) -> None:
        """Ask, and say what has changed."""
        asked_at = self._clock()
        silences, stopped = self._ask(), self._stopped()
        self._is_silent = bool(silences)
        if silences:
            self._tell_silence(silences, stopped)
        else:
            if self._is_told:
                self._say(f"the API answers again, {asked_at - self._answered_at:.0f} s after its last answer")
            self._answered_at, self._is_told = asked_at, False
            if stopped and stopped != self._told_stopped:
                one = _named(stopped)
                self._say(
                    f"process {one} of web is stopped, and starts none anew: `kill -CONT {one}` lets it go on"
                )
        self._told_stopped = stopped

    def _tell_silence(self, silences: Sequence[str], stopped: Sequence[int]) -> None:
        is_starting = all_refused(silences) and self._clock() - self._answered_at < STARTS_WITHIN_S
        if (self._is_told and {*stopped} <= {*self._told_stopped}) or (is_starting and not stopped):
            return
        named = _named(stopped)
        advice = f"process {named} is stopped, `kill -CONT {named}` lets it go on" if stopped else silences[0]
        self._say(f"the API leaves requests without an answer: {advice}; `writebehind doctor` says more")
        self._is_told = True


class StoppedWatch:
    """Says that processes are stopped, as by SIGSTOP, and that they are not any more: they themselves say nothing.

    Processes watch one another, but those that do may be stopped as well.
    """

    def __init__(self, stopped: Callable[[], Mapping[str, Sequence[int]]], say: Callable[[str], None]) -> None:
        """Begin while none is.

        Args:
            stopped: returns those that are stopped, by the name of the process that has started them.
            say: takes a line.
        """
        self._stopped = stopped
        self._say = say
        self._told: dict[int, str] = {}

    def look(self) -> None:
        """See which are stopped, and say what has changed."""
        now = {pid: name for name, pids in self._stopped().items() for pid in pids}
        for pid in now.keys() - self._told.keys():
            self._say(f"process {pid} of {now[pid]} is stopped: `kill -CONT {pid}` lets it go on")
        for pid in self._told.keys() - now.keys():
            self._say(f"process {pid} of {self._told[pid]} is stopped no more")
        self._told = now


class Places:
    """Directories in which programs have files: one that was deleted or moved is seen, also if another follows."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Remember which directories these are now; those that are not there are none of them."""
        self._known = {path: found for path in paths if (found := _identity(path))}

    def gone(self) -> list[Path]:
        """Those that are not where they were."""
        return [path for path, known in self._known.items() if _identity(path) != known]


def _identity(path: Path) -> tuple[int, int] | None:
    """The device and the inode of a directory; `None` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _named(pids: Sequence[int]) -> str:
    return " ".join(map(str, pids))
