"""Files of tallies: one for each process, mapped into its memory, so that a killed process loses no count.

A file is held by a lock as long as its process lives. Those of processes that have ended are added up in one,
which names them: a crash in between counts nothing twice.

Layout: 8 bytes of magic, then 8 of how many bytes are used, then series. A series is 4 bytes with the length of
its name, 4 with how many numbers it has, the name (JSON, padded to 8 bytes), and the numbers as doubles.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from writebehind.tallies.families import FAMILIES, Kind

#: A series: the family's name, and the values of its labels.
Series = tuple[str, tuple[str, ...]]

#: Bytes of a process's tallies: some thousand series.
SIZE: Final = 1 << 20
#: So many files of ended processes are left before they are added up.
MOST_ENDED: Final = 16

_MAGIC: Final = b"WBTALLY1"
_HEAD: Final = struct.Struct("=8sQ")
_SERIES: Final = struct.Struct("=II")
_SUFFIX: Final = ".tally"
#: The family in the place of which a file names those that were added up in it.
_ADDED_UP: Final = ""
#: How often a directory is looked at again because files were added up meanwhile.
_TRIES: Final = 10


class NoRoomError(Exception):
    """There is no room for another series."""


class TallyMemory:
    """Memory for series, of a file that outlives the process, or of the process's own."""

    def __init__(self, directory: Path | None) -> None:
        """Make a file in a directory, which is made too, or take memory of this process's own.

        Raises:
            OSError: there can be no file, or no room for it.
        """
        self._file = -1 if directory is None else _made(directory)
        # All of it has room on the disk: what is written later can fail no more, which would end the process.
        self._mapped = mmap.mmap(self._file, SIZE)
        self._used = _HEAD.size
        self._mapped[: _HEAD.size] = _HEAD.pack(_MAGIC, self._used)
        self.numbers: memoryview[float] = memoryview(self._mapped).cast("d")

    def place(self, series: Series, slots: int) -> int:
        """Make room for a series; the index of its first number.

        Raises:
            NoRoomError: there is none.
        """
        name = _name(series)
        first = self._used + _SERIES.size + len(name)
        end = first + 8 * slots
        if end > SIZE:
            raise NoRoomError
        self._mapped[self._used : first] = _SERIES.pack(len(name), slots) + name
        self._used = end
        self._mapped[: _HEAD.size] = _HEAD.pack(_MAGIC, end)  # only now do readers see it
        return first // 8

    def read(self) -> dict[Series, list[float]]:
        """The numbers of each series."""
        return dict(_parsed(self._mapped[: self._used]))

    def leave(self) -> None:
        """Be a file of a process that has ended."""
        if self._file >= 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """Close this process's hold on a file of its parent, which goes on to hold it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@dataclass(frozen=True, slots=True)
class _Found:
    """A file's numbers by series, and the files that were added up in it."""

    numbers: dict[Series, list[float]]
    added_up: frozenset[str]
    lives: bool


def read_directory(directory: Path) -> dict[Series, list[float]]:
    """The numbers of all processes that count in a directory, added up by series.

    Files of ended processes are added up where there are many of them.

    Raises:
        OSError: the directory cannot be read.
    """
    found = _read_all(directory)
    if sum(not one.lives for one in found.values()) > MOST_ENDED:
        _add_up(directory)
    return _sums(found.values())


def _made(directory: Path) -> int:
    """A new file, held by this process."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / uuid4().hex
    made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        fcntl.flock(made, fcntl.LOCK_EX)
        os.posix_fallocate(made, 0, SIZE)
        path.rename(path.with_suffix(_SUFFIX))  # nobody sees it before it is held
    except OSError:
        os.close(made)
        path.unlink(missing_ok=True)
        raise
    return made


def _read_all(directory: Path) -> dict[str, _Found]:
    """Every file that counts, by name."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):  # of a file that was added up meanwhile: the sum is there by now
            found = {path.name: _read(path) for path in sorted(directory.glob(f"*{_SUFFIX}"))}
            added_up = {name for one in found.values() for name in one.added_up}
            return {name: one for name, one in found.items() if name not in added_up}
    raise FileNotFoundError(f"files in {directory} come and go")


def _read(path: Path) -> _Found:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            lives = False
        except BlockingIOError:
            lives = True
        content = file.read()
    numbers: dict[Series, list[float]] = {}
    added_up: frozenset[str] = frozenset()
    for (family, labels), values in _parsed(content):
        if family == _ADDED_UP:
            added_up = frozenset(labels)
        else:
            numbers[family, labels] = values
    return _Found(numbers, added_up, lives)


def _parsed(content: bytes) -> Iterator[tuple[Series, list[float]]]:
    """The series of a file; none of what is no such file, or of another version's."""
    if len(content) < _HEAD.size:
        return
    magic, used = _HEAD.unpack_from(content)
    at = _HEAD.size
    while magic == _MAGIC and at + _SERIES.size <= min(used, len(content)):
        length, slots = _SERIES.unpack_from(content, at)
        first = at + _SERIES.size + length
        at = first + 8 * slots
        if at > len(content):
            return
        try:
            family, labels = orjson.loads(content[first - length : first])
        except ValueError:
            return
        yield (family, tuple(labels)), [*struct.unpack_from(f"={slots}d", content, first)]


def _sums(found: Iterable[_Found]) -> dict[Series, list[float]]:
    sums: dict[Series, list[float]] = {}
    for one in found:
        for series, numbers in one.numbers.items():
            family = FAMILIES.get(series[0])
            if family is None or family.slots != len(numbers) or len(family.labels) != len(series[1]):
                continue  # of another version
            if family.kind is Kind.LIVE and not one.lives:
                continue
            before = sums.get(series)
            sums[series] = numbers if before is None else [a + b for a, b in zip(before, numbers, strict=True)]
    return sums


def _add_up(directory: Path) -> None:
    """Put one file in the place of those of ended processes; not while somebody else does."""
    with (directory / "adding-up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        every = {path.name: _read(path) for path in directory.glob(f"*{_SUFFIX}")}
        for name in {name for one in every.values() for name in one.added_up} & every.keys():
            del every[name]  # whoever added it up was ended before this
            (directory / name).unlink()
        ended = {name: one for name, one in every.items() if not one.lives}
        _write(directory / f"{uuid4().hex}{_SUFFIX}", _sums(ended.values()), ended)
        for name in ended:
            (directory / name).unlink()


def _write(path: Path, sums: Mapping[Series, list[float]], added_up: Iterable[str]) -> None:
    series: list[tuple[Series, list[float]]] = [((_ADDED_UP, tuple(added_up)), []), *sums.items()]
    parts = []
    for one, numbers in series:
        name = _name(one)
        parts.append(_SERIES.pack(len(name), len(numbers)) + name + struct.pack(f"={len(numbers)}d", *numbers))
    body = b"".join(parts)
    new = path.with_suffix(".new")
    new.write_bytes(_HEAD.pack(_MAGIC, _HEAD.size + len(body)) + body)
    new.rename(path)


def _name(series: Series) -> bytes:
    name = orjson.dumps(series)
    return name + b" " * (-len(name) % 8)
