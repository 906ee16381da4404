"""Files of tallies: those of ended processes are added up, once, whatever interrupts it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from writebehind.tallies import families, files
from writebehind.tallies.files import MOST_ENDED, TallyMemory, read_directory
from writebehind.tallies.tallies import Tallies

ONE = (families.WRITES.name, ("users",))


def end_some(directory: Path, number: int) -> None:
    """Let so many processes have counted one write each, and have ended."""
    for _ in range(number):
        tallies = Tallies(directory)
        tallies.add(families.WRITES, ("users",))
        tallies.close()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.tally")}


def test_files_of_ended_processes_are_added_up(tmp_path):
    """However many there were, few files are left, and the sums are the same."""
    alive = Tallies(tmp_path)
    alive.add(families.WRITES, ("users",))
    for round_ in range(1, 4):
        end_some(tmp_path, MOST_ENDED + 1)

        assert [1 + round_ * (MOST_ENDED + 1)] == read_directory(tmp_path)[ONE]
        assert len(names(tmp_path)) == 2

    alive.add(families.WRITES, ("users",))
    assert [2 + 3 * (MOST_ENDED + 1)] == read_directory(tmp_path)[ONE]


@pytest.mark.parametrize("removed", [0, 1, MOST_ENDED])
def test_who_dies_while_adding_up_counts_nothing_twice(tmp_path, monkeypatch, removed):
    """The sum names what it is of: a file that is still there counts no more, and the next one removes it."""
    end_some(tmp_path, MOST_ENDED + 1)
    left, unlink = removed, Path.unlink

    def dies(path: Path, *args, **kwargs) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        unlink(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            read_directory(tmp_path)

    assert [MOST_ENDED + 1] == read_directory(tmp_path)[ONE]
    end_some(tmp_path, MOST_ENDED + 1)
    assert [2 * (MOST_ENDED + 1)] == read_directory(tmp_path)[ONE]
    assert [2 * (MOST_ENDED + 1)] == read_directory(tmp_path)[ONE]
    assert len(names(tmp_path)) == 1


def test_readers_and_processes_that_come_and_go_agree(tmp_path):
    """While processes end and files are added up, no reader sees less than was counted before."""
    ended, seen, faults = 0, 0, []
    done = threading.Event()

    def read() -> None:
        nonlocal seen
        while not done.is_set():
            before = ended
            (now,) = read_directory(tmp_path).get(ONE, [0])
            if now < max(seen, before):
                faults.append((now, seen, before))
            seen = now

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(8 * MOST_ENDED):
        end_some(tmp_path, 1)
        ended += 1
    done.set()
    reader.join()

    assert [] == faults
    assert [8 * MOST_ENDED] == read_directory(tmp_path)[ONE]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"WBTALLY1", b"WBTALLY9" + bytes(100), b"WBTALLY1" + b"\xff" * 64], ids=repr
)
def test_what_is_no_file_of_tallies_counts_nothing(tmp_path, content):
    """Other hands' files, or another release's, keep nobody from the others."""
    end_some(tmp_path, 1)
    (tmp_path / "other.tally").write_bytes(content)

    assert {ONE: [1]} == read_directory(tmp_path)


def test_families_of_another_release_are_left_out(tmp_path):
    """A histogram with other bounds, and a family that is unknown, are no sums with ours."""
    memory = TallyMemory(tmp_path)
    memory.place(("writebehind_other", ()), 1)
    memory.place((families.READ_TIMES.name, ("users", "hit")), 3)
    memory.place((families.READS.name, ("users",)), 1)
    memory.leave()

    assert {} == read_directory(tmp_path)


def test_a_full_disk_is_seen_when_the_file_is_made(tmp_path, monkeypatch):
    """Later it would end the process: writing to a mapped file that has no room is SIGBUS."""

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        TallyMemory(tmp_path)
    assert [] == list(tmp_path.iterdir())
