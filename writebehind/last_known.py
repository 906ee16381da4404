"""The last known figures of what is only in Redis: they outlive Redis, and the process that has seen them.

While Redis is away nobody can ask it how much would be lost with it. Whoever has looked last has noted it: in its
own memory, and in a file beside the counts of this host's processes, where commands find it too.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from writebehind import forks
from writebehind.errors import UnavailableError
from writebehind.plurals import counted, size_of
from writebehind.times import duration, shown

log = logging.getLogger(__name__)

#: The file, in the directory in which the processes of this host count: its name tells installations apart.
FILES: Final = "last-known*.json"
#: From this age on somebody else has to look, seconds: an exporter looks each second.
DUE_S: Final = 2.0
#: From this age on the day is told as well, seconds.
_DAY_S: Final = 12 * 3_600
#: What figures that were seen now and then leave open.
LATER: Final = "what was written after that is not counted"
#: No figure is so large, be it of bytes.
_BEYOND_ALL: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Part:
    """The data that stands in one partition: after a loss it is other data.

    Attributes:
        born: the version of the first write in it, which tells it from any other.
        pending: how many documents waited for MongoDB.
        dead_letters: how many MongoDB had refused.
    """

    born: str
    pending: int = 0
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Data:
    """The data that stands in Redis.

    Attributes:
        database: whose documents it has: the name of the MongoDB database; '' where that is not known.
        parts: that of each partition that was ever written to, by its number.
        lost: what was only in data that Redis has lost, and no operator has seen yet, by partition and data.
        servers: the names of its servers, as `writebehind.settings.running.servers_of` gives them.
    """

    database: str = ""
    parts: Mapping[int, Part] = field(default_factory=dict)
    lost: Mapping[str, AtStake] = field(default_factory=dict)
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AtStake:
    """Documents that were only in Redis at a moment.

    Attributes:
        at: that moment by the clock of this host, seconds since the epoch.
        pending: how many waited for MongoDB.
        pending_bytes: about how many bytes their entries had.
        dead_letters: how many MongoDB had refused.
        data: in which data of Redis that was.
    """

    at: float
    pending: int
    pending_bytes: int
    dead_letters: int
    data: Data = Data()

    @classmethod
    def parse(cls, text: bytes) -> Self | None:
        """Read what `dump` wrote; `None` for what other hands have put there."""
        try:
            return cls._read(json.loads(text))
        except (ValueError, RecursionError):
            return None

    @classmethod
    def _read(cls, told: object) -> Self | None:
        match told:
            case {
                "at": int() | float() as at,
                "pending": int() as pending,
                "pending_bytes": int() as size,
                "dead_letters": int() as dead,
                **more,
            } if all(type(one) is not bool and 0 <= one < _BEYOND_ALL for one in (at, pending, size, dead)):
                return cls(float(at), pending, size, dead, cls._read_data(more.get("data")))
        return None

    @classmethod
    def _read_data(cls, told: object) -> Data:
        """The data that figures are of; files of older releases do not say it."""
        match told:
            case {"database": str() as database, "parts": dict() as parts, "lost": dict() as lost, **more}:
                servers = more.get("servers")
                return Data(
                    database,
                    {int(at): part for at, value in parts.items() if at.isdecimal() and (part := _part(value))},
                    {name: one for name, value in lost.items() if (one := cls._read(value))},
                    tuple(map(str, servers)) if isinstance(servers, list) else (),
                )
        return Data()

    @property
    def documents(self) -> int:
        """The number of documents that were only in Redis."""
        return self.pending + self.dead_letters

    def dump(self) -> bytes:
        """The figures as they stand in the file."""
        parts = {at: (one.born, one.pending, one.dead_letters) for at, one in self.data.parts.items()}
        lost = {name: asdict(one.figures) for name, one in self.data.lost.items()}
        data = {"database": self.data.database, "servers": self.data.servers, "parts": parts, "lost": lost}
        return json.dumps(asdict(self.figures) | {"data": data}).encode()

    @property
    def figures(self) -> Self:
        """The same without the data."""
        return replace(self, data=Data())

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
        """The figures in one line for people, with the time of day on this host: no fewer were there then."""
        return f"{self.told(at_least='at least ')}; {LATER}"

    def told(self, *, at_least: str = "") -> str:
        """The same of figures that nothing was written after, or with these words before the number."""
        age_s = self._age_s()
        form = "%H:%M:%S" if age_s < _DAY_S else "%Y-%m-%d %H:%M:%S"
        when = f"at {time.strftime(form, time.localtime(self.at))} ({duration(age_s)} ago)"
        every = self.documents
        were = "document was" if every == 1 else "documents were"
        if not every:
            return f"{when} no {were} only in Redis"
        size = f" of {size_of(self.pending_bytes)}" if self.pending else ""
        dead = counted(self.dead_letters, "dead letter")
        return f"{when} {at_least}{every:,} {were} only in Redis: {self.pending:,} pending{size}, {dead}"

    def _age_s(self) -> float:
        return max(0.0, time.time() - self.at)


def _part(told: object) -> Part | None:
    match told:
        case [str() as born, int() as pending, int() as dead] if born and pending >= 0 and dead >= 0:
            return Part(born, pending, dead)
    return None


class LastKnown:
    """The last known figures of one installation, as this host has seen them. Safe to share between threads."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        of: Sequence[str] = (),
        judge: Callable[[Iterable[AtStake], AtStake], Data | None] = lambda *_: Data(),
    ) -> None:
        """Keep them in memory, and in this directory once it is there.

        Args:
            directory: this directory.
            of: the names of the installation's servers; without them all that stands in the directory is told.
                Figures of an installation that has none of them are another's.
            judge: tells which data stands in Redis, given what was last known, and what is there now: `None`
                where it is not known.
        """
        self._directory = directory
        self._of = tuple(of)
        self._own: AtStake | None = None
        self._lock = forks.lock()
        self._judge = judge

    def keep_in(self, directory: Path, *, of: Sequence[str] | None = None) -> None:
        """Keep them in this directory too, and look there; where told, as of an installation of these names."""
        self._directory = directory
        self._of = self._of if of is None else tuple(of)

    def is_due(self) -> bool:
        """Whether nobody on this host has noted any lately; who does not say of which data does not count."""
        now = time.time()
        return not any(abs(now - one.at) < DUE_S and one.data.database for one in self._noted())

    def note(self, *, pending: int, pending_bytes: int, dead_letters: int) -> Data | None:
        """Note what is only in Redis now, of all partitions. Where no file can be written, memory has it.

        What was known of data that Redis has lost is judged first. While it cannot be, it stays as it is.

        Returns:
            The data that this is of; `None` where nothing was noted.
        """
        if not self._lock.acquire(blocking=False):
            return None  # another thread does
        try:
            figures = AtStake(time.time(), pending, pending_bytes, dead_letters)
            data = self._judge(self._noted(), figures)
            if data is None:
                return None
            self._own = replace(figures, data=replace(data, servers=self._of))
            if self._directory is not None:
                self._write(self._directory, self._own)
            return data
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
        return max((one for one in self._noted() if one.at <= now), key=lambda one: one.at, default=None)

    def forget(self) -> None:
        """Forget what was noted: whoever emptied Redis knows that nothing in it was missed."""
        self._own = None
        for path, _ in self._files():
            path.unlink(missing_ok=True)

    def told(self, *, is_final: bool = False) -> str:
        """The latest for the end of a line of the log; '' where nothing is known.

        Args:
            is_final: whether nothing was written after it was noted.
        """
        latest = self.latest()
        if latest is None:
            return ""
        return f"; {latest.told() if is_final else latest}"

    def _noted(self) -> list[AtStake]:
        """The figures of memory, and of the files."""
        own = [] if self._own is None else [self._own]
        return own + [one for _, one in self._files()]

    def _write(self, directory: Path, noted: AtStake) -> None:
        name = FILES.replace("*", f"-{self._of[0]}" if self._of else "")
        new = directory / f"{name}.{os.getpid()}"
        try:
            new.write_bytes(noted.dump())
            new.replace(directory / name)
        except OSError as error:  # such as a full disk, or a directory that nobody has made yet
            log.debug("the last known figures are not kept in a file: %s", error)

    def _files(self) -> Iterator[tuple[Path, AtStake]]:
        """The files that are of this installation, and what they say."""
        for path in sorted(self._directory.glob(FILES)) if self._directory is not None else ():
            try:
                one = AtStake.parse(path.read_bytes())
            except OSError:  # such as one that somebody else may read alone
                continue
            if one is not None and (not self._of or not set(self._of).isdisjoint(one.data.servers)):
                yield path, one
