"""The last known figures of what is only in Redis: they outlive Redis, and the process that has seen them.

While Redis is away nobody can ask it how much would be lost with it. Whoever has looked last has noted it: in its
own memory, and in a file beside the counts of this host's processes, where commands find it too.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from writebehind import forks
from writebehind.errors import UnavailableError
from writebehind.plurals import counted, size_of
from writebehind.times import duration, shown

log = logging.getLogger(__name__)

#: The file, in the directory in which the processes of this host count.
FILE: Final = "last-known.json"
#: From this age on somebody else has to look, seconds: an exporter looks each second.
DUE_S: Final = 2.0
#: From this age on the day is told as well, seconds.
_DAY_S: Final = 12 * 3_600
#: No figure is so large, be it of bytes.
_BEYOND_ALL: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class AtStake:
    """Documents that were only in Redis at a moment.

    Attributes:
        at: that moment by the clock of this host, seconds since the epoch.
        pending: how many waited for MongoDB.
        pending_bytes: about how many bytes their entries had.
        dead_letters: how many MongoDB had refused.
    """

    at: float
    pending: int
    pending_bytes: int
    dead_letters: int

    @classmethod
    def parse(cls, text: bytes) -> Self | None:
        """Read what `dump` wrote; `None` for what other hands have put there."""
        try:
            match json.loads(text):
                case {
                    "at": int() | float() as at,
                    "pending": int() as pending,
                    "pending_bytes": int() as size,
                    "dead_letters": int() as dead,
                } if all(type(one) is not bool and 0 <= one < _BEYOND_ALL for one in (at, pending, size, dead)):
                    return cls(float(at), pending, size, dead)
        except (ValueError, RecursionError):
            pass
        return None

    def dump(self) -> bytes:
        """The figures as they stand in the file."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    def as_dict(self) -> dict[str, Any]:
        """The figures for programs: the time as RFC 3339 has it, and how long ago that is in seconds."""
        return {
            "at": shown(self.at),
            "seconds_ago": round(self._age_s(), 1),
            "pending": self.pending,
            "pending_bytes": self.pending_bytes,
            "dead_letters": self.dead_letters,
        }

    def __str__(self) -> str:
        """The figures in one line for people, with the time of day on this host."""
        age_s = self._age_s()
        form = "%H:%M:%S" if age_s < _DAY_S else "%Y-%m-%d %H:%M:%S"
        when = f"at {time.strftime(form, time.localtime(self.at))} ({duration(age_s)} ago)"
        every = self.pending + self.dead_letters
        were = "document was" if every == 1 else "documents were"
        if not every:
            return f"{when} no {were} only in Redis"
        size = f" of {size_of(self.pending_bytes)}" if self.pending else ""
        dead = counted(self.dead_letters, "dead letter")
        return f"{when} {every:,} {were} only in Redis: {self.pending:,} pending{size}, {dead}"

    def _age_s(self) -> float:
        return max(0.0, time.time() - self.at)


class LastKnown:
    """The last known figures of one installation, as this host has seen them. Safe to share between threads."""

    def __init__(self, directory: Path | None = None) -> None:
        """Keep them in memory, and in this directory once it is there."""
        self._directory = directory
        self._own: AtStake | None = None
        self._lock = forks.lock()

    def keep_in(self, directory: Path) -> None:
        """Keep them in this directory too, and look there."""
        self._directory = directory

    def is_due(self) -> bool:
        """Whether nobody on this host has noted any lately."""
        latest = self.latest()
        return latest is None or time.time() - latest.at >= DUE_S

    def note(self, *, pending: int, pending_bytes: int, dead_letters: int) -> None:
        """Note what is only in Redis now, of all partitions. Where no file can be written, memory has it."""
        if not self._lock.acquire(blocking=False):
            return  # another thread does
        try:
            self._own = AtStake(time.time(), pending, pending_bytes, dead_letters)
            if self._directory is not None:
                self._write(self._directory / FILE, self._own)
        finally:
            self._lock.release()

    def note_where_due(self, *, pending: int, size: Callable[[], int], dead_letters: int) -> None:
        """Note it where nobody on this host has lately: only then the bytes of what is pending are asked for.

        Where Redis does not say them nothing is noted: whoever looks there for something else goes on.
        """
        if not self.is_due():
            return
        try:
            pending_bytes = size()
        except UnavailableError as error:
            log.debug("the last known figures stay as they are: %s", error)
            return
        self.note(pending=pending, pending_bytes=pending_bytes, dead_letters=dead_letters)

    def latest(self) -> AtStake | None:
        """The latest that anybody on this host has noted; `None` for nothing. It never raises.

        After a step of the clock some seem to be of the future: they do not count.
        """
        now = time.time() + DUE_S
        found = [one for one in (self._own, self._read()) if one is not None and one.at <= now]
        return max(found, key=lambda one: one.at, default=None)

    def told(self) -> str:
        """The latest for the end of a line of the log; '' where nothing is known."""
        latest = self.latest()
        return f"; {latest}" if latest is not None else ""

    def _write(self, path: Path, noted: AtStake) -> None:
        new = path.with_name(f"{FILE}.{os.getpid()}")
        try:
            new.write_bytes(noted.dump())
            new.replace(path)
        except OSError as error:  # such as a full disk, or a directory that nobody has made yet
            log.debug("the last known figures are not kept in a file: %s", error)

    def _read(self) -> AtStake | None:
        if self._directory is None:
            return None
        try:
            return AtStake.parse((self._directory / FILE).read_bytes())
        except OSError:
            return None
