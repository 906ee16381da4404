"""Files of tallies: one for each process, mapped into its memory, so that a killed process loses no count.

A file is held by a lock as long as its process lives.

Layout: 8 bytes of magic, then 8 of how many bytes are used, then series. A series is 4 bytes with the length of
its name, 4 with how many numbers it has, the name (JSON, padded to 8 bytes), and the numbers as doubles.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import orjson

from writebehind.tallies.families import FAMILIES, is_by_collection, is_countable

#: A series: the family's name, and the values of its labels.
Series = tuple[str, tuple[str, ...]]

#: Bytes of a process's tallies: some thousand series.
SIZE: Final = 1 << 20
#: The largest file that is read, bytes: a sum may have series of many processes.
MOST_BYTES: Final = SIZE << 6
#: What no number of a process can be above: seconds, documents and bytes since it began.
MOST: Final = 1e18
#: The end of the names of files that count.
SUFFIX: Final = ".tally"
#: The same of files that are being made, and count from when they are renamed: one that a process holds.
MAKING: Final = ".making"
#: The same of a sum.
NEW: Final = ".new"

_MAGIC: Final = b"WBTALLY2"
#: How those of all releases begin.
_ANY_MAGIC: Final = b"WBTALLY"
#: What a crash of the machine leaves of a file that had only its room.
_BLANK: Final = bytes(len(_MAGIC))
_HEAD: Final = struct.Struct("=8sQ")
_SERIES: Final = struct.Struct("=II")


class Key(NamedTuple):
    """The name of a series in a file. The numbers of two files are added up where it is the same in both."""

    name: str
    """Name of the family."""
    labels: tuple[str, ...]
    shape: str
    """See `Family.shape`: releases may differ in it."""


#: The family in the place of which a file names, as labels, those that were added up in it.
_ADDED_UP: Final = ""


class NoRoomError(Exception):
    """There is no room for another series."""


class DamagedFileError(ValueError):
    """A file is none that was written here, or no more: nothing of it counts."""


class TallyMemory:
    """Memory for series, of a file that outlives the process, or of the process's own.

    Attributes:
        numbers: all of it.
        name: of its file, without the ending.
        has_file: whether it is a file's.
    """

    def __init__(self, directory: Path | None, before: TallyMemory | None = None) -> None:
        """Make a file in a directory, which is made too, or take memory of this process's own.

        Args:
            directory: where the file is to be.
            before: memory whose content it takes over, each number at its index, and whose file's name: if that
                file comes back, it stands in the place of this one, and never beside it.

        Raises:
            OSError: there can be no file, or no room for it.
        """
        self.name: str = _file_name(time.time_ns()) if before is None else before.name
        content = _HEAD.pack(_MAGIC, _HEAD.size) if before is None else before.content()
        self._used = len(content)
        self.has_file = directory is not None
        if directory is None:
            self._held, self._mapped = -1, mmap.mmap(-1, SIZE)
            self._mapped[: self._used] = content
        else:
            self._path = (directory / self.name).with_suffix(SUFFIX)
            self._held, self._mapped = _made(self._path, content)
        self.numbers: memoryview[float] = memoryview(self._mapped).cast("d")

    def place(self, key: Key, slots: int) -> int:
        """Make room for a series; the index of its first number.

        Raises:
            NoRoomError: there is none.
        """
        name = _name(key)
        first = self._used + _SERIES.size + len(name)
        end = first + 8 * slots
        if end > SIZE:
            raise NoRoomError
        self._mapped[self._used : first] = _SERIES.pack(len(name), slots) + name
        self._used = end
        self._mapped[: _HEAD.size] = _HEAD.pack(_MAGIC, end)  # only now do readers see it
        return first // 8

    def read(self) -> dict[Key, list[float]]:
        """The numbers of each series."""
        return dict(_parsed(self.content()))

    def content(self) -> bytes:
        """All that is used of it."""
        return self._mapped[: self._used]

    def added_since(self, content: bytes) -> Iterator[tuple[int, float]]:
        """The amounts that were added to numbers since it had this content, by their indices."""
        now = self.content()
        if now != content:
            for at in range(0, len(content), 8):
                was, one = content[at : at + 8], now[at : at + 8]
                if was != one:
                    yield at // 8, struct.unpack("=d", one)[0] - struct.unpack("=d", was)[0]

    def is_in_place(self) -> bool:
        """Whether it is a file's that is still where it was made, so that others find it."""
        if self._held < 0:
            return False
        try:
            return os.path.samestat(os.fstat(self._held), self._path.stat())
        except OSError:
            return False

    def is_whole(self) -> bool:
        """Whether all of it is there. To touch what was cut off of its file would end this process by SIGBUS."""
        return self._held < 0 or os.fstat(self._held).st_size >= SIZE

    def mend(self, series: Iterable[tuple[int, Key, int]]) -> None:
        """Have a file whole again that was cut off, with numbers that are 0 where it was.

        Args:
            series: all that have a place, with the index of their first number, and how many they have.

        Raises:
            OSError: the disk has no room for it.
        """
        os.posix_fallocate(self._held, 0, SIZE)
        for at, key, slots in series:
            name = _name(key)
            self._mapped[8 * at - _SERIES.size - len(name) : 8 * at] = _SERIES.pack(len(name), slots) + name
        self._mapped[: _HEAD.size] = _HEAD.pack(_MAGIC, self._used)

    def leave(self) -> None:
        """Be a file of a process that has ended."""
        if self._held >= 0:
            fcntl.flock(self._held, fcntl.LOCK_UN)
            self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """Close this process's hold on a file of its parent, which goes on to hold it."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


@dataclass(frozen=True, slots=True)
class TallyFile:
    """The content of a file.

    Attributes:
        numbers: by series.
        added_up: names of the files that were added up in it.
        lives: whether a process holds it.
    """

    numbers: Mapping[Key, list[float]]
    added_up: frozenset[str]
    lives: bool


def is_held(file: int) -> bool:
    """Whether a process that lives holds an open file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def read_file(path: Path) -> TallyFile | None:
    """Content of a file; `None` if it is another release's.

    Raises:
        DamagedFileError: it is no whole file of tallies.
        OSError: it cannot be read, or is not there any more.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lives = is_held(file)  # before its content: what has ended changes no more
        head = os.pread(file, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            raise DamagedFileError(f"it has {len(head)} bytes")
        magic, used = _HEAD.unpack(head)
        if magic == _BLANK:
            used = 0
        elif not magic.startswith(_ANY_MAGIC):
            raise DamagedFileError("it does not begin as one of counts")
        elif magic != _MAGIC:
            return None
        elif not _HEAD.size <= used <= min(os.fstat(file).st_size, MOST_BYTES):
            raise DamagedFileError(f"it says that it has {used} bytes, and has {os.fstat(file).st_size}")
        content = os.pread(file, used, 0)
    finally:
        os.close(file)
    series = [*_parsed(content)]
    numbers = dict(series)
    if len(numbers) < len(series):
        raise DamagedFileError("it has a series twice")
    added_up = {name for key in numbers if key.name == _ADDED_UP for name in key.labels}
    return TallyFile({key: of for key, of in numbers.items() if key.name != _ADDED_UP}, frozenset(added_up), lives)


def write_sum(directory: Path, sums: Mapping[Key, list[float]], added_up: Iterable[str]) -> None:
    """Make a file of sums, which names those that it is of.

    Raises:
        OSError: it cannot be written. Nothing is left of it.
    """
    series = [(Key(_ADDED_UP, tuple(added_up), ""), []), *sums.items()]
    parts = []
    for key, numbers in series:
        name = _name(key)
        parts.append(_SERIES.pack(len(name), len(numbers)) + name + struct.pack(f"={len(numbers)}d", *numbers))
    body = b"".join(parts)
    path = directory / _file_name(made_ns=0)  # the first in their order
    new = path.with_suffix(NEW)
    try:
        new.write_bytes(_HEAD.pack(_MAGIC, _HEAD.size + len(body)) + body)
        new.rename(path.with_suffix(SUFFIX))
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _made(path: Path, content: bytes) -> tuple[int, mmap.mmap]:
    """A new file, in the place of what is there: the descriptor by which this process holds it, and its memory.

    They are of two open files. A mapping keeps its own, and a child may keep its parent's mapping, which must not
    hold its parent's file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(MAKING)
    held = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        file = os.open(new, os.O_RDWR | os.O_CLOEXEC)
        try:
            # All of it has room on the disk: what is written later can fail no more, which would end the process.
            os.posix_fallocate(file, 0, SIZE)
            mapped = mmap.mmap(file, SIZE)
        finally:
            os.close(file)
        mapped[: len(content)] = content
        new.rename(path)  # nobody sees it before it is held
    except OSError:
        os.close(held)
        new.unlink(missing_ok=True)
        raise
    return held, mapped


def _file_name(made_ns: int) -> str:
    """A name without its suffix, in the order in which files are made."""
    return f"{made_ns:016x}-{uuid4().hex}"


def _parsed(content: bytes) -> Iterator[tuple[Key, list[float]]]:
    """The series of a file.

    Raises:
        DamagedFileError: something in it is none.
    """
    all_numbers: memoryview[float] = memoryview(content)[: len(content) & ~7].cast("d")
    at = _HEAD.size
    while at + _SERIES.size <= len(content):
        length, slots = _SERIES.unpack_from(content, at)
        first = at + _SERIES.size + length
        at = first + 8 * slots
        if at > len(content) or length % 8:
            raise DamagedFileError("a series is longer than the file")
        numbers: list[float] = all_numbers[first // 8 : at // 8].tolist()  # type: ignore[assignment] # typeshed
        key = _key(content[first - length : first], slots)
        if not sum(map(abs, numbers)) <= MOST or not is_countable(
            key.shape, numbers
        ):  # which no sum with a NaN is
            raise DamagedFileError("numbers that nobody has counted")
        yield key, numbers
    if at < len(content):
        raise DamagedFileError("a series is cut off")


def _name(key: Key) -> bytes:
    name = orjson.dumps(tuple(key))
    return name + b" " * (-len(name) % 8)


@lru_cache(1 << 14)  # the same ones are read again and again
def _key(name: bytes, slots: int) -> Key:
    """The name of a series that has so many numbers.

    Raises:
        DamagedFileError: it is none, or one of another family, or has other numbers.
    """
    match _loaded(name):
        case [str(family), [*labels], str(shape)]:
            key = Key(family, tuple(one for one in labels if isinstance(one, str)), shape)
            is_whole = len(key.labels) == len(labels)
        case _:
            is_whole = False
    if not is_whole:
        raise DamagedFileError(f"{name!r} names no series")
    known = FAMILIES.get(family)
    if known is not None and known.shape == shape:
        is_whole = (len(labels), slots) == (len(known.labels), known.slots)
    elif family == _ADDED_UP:
        is_whole = not slots
    else:
        is_whole = slots > 0 and (bool(labels) or not is_by_collection(shape))
    if not is_whole:
        raise DamagedFileError(f"{name!r} has other labels or numbers than its family")
    return key


def _loaded(name: bytes) -> object:
    try:
        return orjson.loads(name)
    except ValueError as error:
        raise DamagedFileError(f"{name!r} names no series") from error
