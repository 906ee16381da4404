"""The directory in which the processes of a host count: read as one, and kept small.

Files of processes that have ended are added up in one, which names them: a crash in between counts nothing twice.
Series of another release are kept as they are, for whoever knows them.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from operator import add
from pathlib import Path
from typing import Final

from writebehind import forks
from writebehind.tallies.apart import ToldApart
from writebehind.tallies.families import FAMILIES, OTHER, is_by_collection, is_live
from writebehind.tallies.files import (
    MAKING,
    NEW,
    SUFFIX,
    DamagedFileError,
    Key,
    Series,
    TallyFile,
    is_held,
    read_file,
    write_sum,
)

log = logging.getLogger(__name__)

#: So many files of ended processes are left before they are added up.
MOST_ENDED: Final = 16

_DAMAGED: Final = (
    "metrics_dir: %s is no whole file of counts, and is left out: %s; remove it unless a process of this "
    "installation runs that holds it"
)
#: How often the directory is looked at again because files were added up meanwhile.
_TRIES: Final = 10
#: Seconds after which a file that is being made, and that nobody holds, is one that will never be.
_MAKING_S: Final = 60


class Directory:
    """The files of a directory. Safe to share between threads.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, apart: ToldApart | None = None) -> None:
        """Read this directory, and tell these collections apart."""
        self.path = path
        self._apart = apart if apart is not None else ToldApart()
        #: As it was found first, or made; `None` where it was not there yet.
        self._was = path.stat() if path.is_dir() else None
        #: What files of ended processes have, by name: when each was changed last, and its content.
        self._ended: dict[str, tuple[int, TallyFile]] = {}
        self._says_so = True
        #: The files that are left out, by name, and why.
        self._damaged: dict[str, str] = {}

    @property
    def was_there(self) -> bool:
        """Whether it has been there, so that it was taken away where it is not."""
        return self._was is not None

    def make(self) -> None:
        """Make it, unless it is there: where it was taken away, with the rights that it had.

        Raises:
            OSError: it cannot be made, or is another user's now, who could make files shorter under this process.
        """
        was = self._was
        if was is not None and not self.path.is_dir():
            self.path.mkdir(stat.S_IMODE(was.st_mode), parents=True, exist_ok=True)
            self.path.chmod(stat.S_IMODE(was.st_mode))
        self.path.mkdir(parents=True, exist_ok=True)
        found = self.path.stat()
        if was is not None and was.st_uid != found.st_uid:
            raise PermissionError(errno.EPERM, "it belongs to another user now", str(self.path))
        self._was = was or found

    def living(self) -> int:
        """So many processes that live count in it.

        Raises:
            OSError: it cannot be read, or is not there.
        """
        return sum(not _has_ended(path) for path in self._names())

    def damaged(self) -> dict[str, str]:
        """The files that are left out, by name, and why.

        Raises:
            OSError: it cannot be read, or is not there.
        """
        self._read()
        return dict(self._damaged)

    def read(self) -> dict[Series, list[float]]:
        """The numbers of all processes, added up by series.

        Files of ended processes are added up where there are many of them; one that cannot be is only logged. One
        that is damaged is left out, which is logged once: the figures of the others are shown.

        Raises:
            OSError: the directory cannot be read.
        """
        files = self._read()
        self._was = self._was or self.path.stat()
        self._apart.shown(_collections(one for one in files.values() if one.added_up))  # as it was on pages before
        self._apart.agree(_collections(files.values()))
        if sum(not one.lives for one in files.values()) > MOST_ENDED:
            self._add_up()
        shapes = {name: family.shape for name, family in FAMILIES.items()}
        sums = _sums(files.values(), self._apart)
        return {key[:2]: numbers for key, numbers in sums.items() if shapes.get(key.name) == key.shape}

    def add_up(self) -> None:
        """Add up the files of ended processes where there are many of them; an error is only logged.

        Of those that have no bytes any more, nothing is left to be added up: they are removed.
        """
        with suppress(OSError):  # of a directory that cannot be read, which `read` says
            for path in self._names():
                if not path.stat().st_size and _has_ended(path):
                    path.unlink()
            if sum(map(_has_ended, self._names())) > MOST_ENDED:
                self._add_up()

    def _names(self) -> list[Path]:
        """The files that count, in the order in which they were made; sums first."""
        # What is no file is other hands': to open a pipe would wait for ever. The listing itself says what is one:
        # who looked anew would take one that was added up meanwhile for none, and miss its counts.
        with os.scandir(self.path) as entries:
            return sorted(Path(one) for one in entries if one.name.endswith(SUFFIX) and one.is_file())

    def _read(self) -> dict[str, TallyFile]:
        """Every file that counts, by name."""
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):  # of a file that was added up meanwhile: the sum is there by now
                found = self._read_once()
                added_up = {name for one in found.values() for name in one.added_up}
                return {name: one for name, one in found.items() if name not in added_up}
        raise FileNotFoundError(f"files in {self.path} come and go")

    def _read_once(self) -> dict[str, TallyFile]:
        known, ended = self._ended, {}
        found: dict[str, TallyFile] = {}
        for path in self._names():
            changed = path.stat().st_mtime_ns
            before = known.get(path.name)
            file = before[1] if before is not None and before[0] == changed else self._file(path)
            if file is not None:
                found[path.name] = file
                if not file.lives:
                    ended[path.name] = changed, file
        self._ended = ended
        self._damaged = {name: why for name, why in self._damaged.items() if (self.path / name).exists()}
        return found

    def _file(self, path: Path) -> TallyFile | None:
        """A file, or `None` if it is another release's or damaged.

        Raises:
            FileNotFoundError: it is not there any more.
        """
        try:
            file = read_file(path)
        except FileNotFoundError:
            raise
        except (DamagedFileError, OSError) as error:
            if path.name not in self._damaged:
                log.warning(_DAMAGED, path, error, extra={"event": "counts_damaged"})
            self._damaged[path.name] = str(error)
            return None
        self._damaged.pop(path.name, None)
        return file

    def _add_up(self) -> None:
        if not self._apart.is_known:  # or a sum would have others for good
            return
        try:
            # A child that had the lock too would keep it when this process lets it go.
            with forks.none_meanwhile(), (self.path / "adding-up.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._put_sum_in_place()
                self._remove_leftovers()
        except BlockingIOError:
            pass  # somebody else does
        except OSError as error:  # such as a full disk, or another user's directory
            said = "metrics_dir: files of ended processes in %s cannot be added up: %s"
            log.log(logging.WARNING if self._says_so else logging.DEBUG, said, self.path, error)
            self._says_so = False
        else:
            self._says_so = True

    def _put_sum_in_place(self) -> None:
        every = {path.name: one for path in self._names() if (one := self._file(path)) is not None}
        for name in {name for one in every.values() for name in one.added_up} & every.keys():
            del every[name]  # whoever added it up was ended before this
            (self.path / name).unlink()
        ended = {name: one for name, one in every.items() if not one.lives}
        if len(ended) < 2:  # noqa: PLR2004 - one is a sum already
            return
        self._apart.shown(_collections(every.values()))  # also those of the living: it is them that pages show
        write_sum(self.path, _sums(ended.values(), self._apart), ended)
        for name in ended:
            (self.path / name).unlink()

    def _remove_leftovers(self) -> None:
        """Remove files that were not made to their end."""
        for path in self.path.glob(f"*{NEW}"):  # only who has the lock makes them
            path.unlink()
        for path in self.path.glob(f"*{MAKING}"):
            if _has_ended(path) and time.time() - path.stat().st_mtime > _MAKING_S:
                path.unlink()


def _has_ended(path: Path) -> bool:
    """Whether no living process holds a file that is there, and that may be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        return not is_held(file)
    finally:
        os.close(file)


def _collections(files: Iterable[TallyFile]) -> list[str]:
    """Those that have counts there, in the order of the files."""
    return _of(one.numbers for one in files)


def _of(counts: Iterable[Iterable[Key]]) -> list[str]:
    return [*dict.fromkeys(key.labels[0] for one in counts for key in one if is_by_collection(key.shape))]


def _sums(files: Collection[TallyFile], apart: ToldApart) -> dict[Key, list[float]]:
    """The numbers of files; what is live in those of ended processes is gone."""
    return folded(
        [
            one.numbers
            if one.lives
            else {key: numbers for key, numbers in one.numbers.items() if not is_live(key.shape)}
            for one in files
        ],
        apart,
    )


def folded(counts: Collection[Mapping[Key, list[float]]], apart: ToldApart) -> dict[Key, list[float]]:
    """The numbers, added up by series; one label stands in the place of collections that are not told apart."""
    own = apart.shown(_of(counts))
    sums: dict[Key, list[float]] = {}
    for one in counts:
        for key, numbers in one.items():
            of = key
            if is_by_collection(key.shape) and key.labels[0] not in own:
                of = key._replace(labels=(OTHER, *key.labels[1:]))
            before = sums.get(of)
            sums[of] = numbers if before is None else [*map(add, before, numbers)]
    return sums
