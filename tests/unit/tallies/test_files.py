"""Files of tallies: those of ended processes are added up, once, whatever interrupts it."""

from __future__ import annotations

import errno
import gc
import os
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from writebehind.tallies import families, files
from writebehind.tallies.directory import MOST_ENDED, Directory
from writebehind.tallies.families import MOST_UNLISTED
from writebehind.tallies.files import Key, Series, TallyFile, TallyMemory, read_file
from writebehind.tallies.tallies import Tallies

ONE = (families.WRITES.name, ("users",))


def end_some(directory: Path, number: int) -> None:
    """Let so many processes have counted one write each at the same time, and have ended."""
    processes = [Tallies(directory) for _ in range(number)]
    for one in processes:
        one.add(families.WRITES, ("users",))
    for one in processes:
        one.close()


def read_directory(directory: Path) -> dict[Series, list[float]]:
    return Directory(directory).read()


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
    "content", [b"", b"x", b"WBTALLY2", b"WBTALLY9" + bytes(100), b"WBTALLY2" + b"\xff" * 64, bytes(99)], ids=repr
)
def test_what_is_no_file_of_tallies_counts_nothing(tmp_path, content):
    """Other hands' files, or another release's, keep nobody from the others."""
    end_some(tmp_path, 1)
    (tmp_path / "other.tally").write_bytes(content)

    assert {ONE: [1]} == read_directory(tmp_path)


UNKNOWN = families.Family("writebehind_of_the_next_release", "", ("collection",))
OTHER_BOUNDS = replace(families.READ_TIMES, bounds=(1,))
OTHER_LABELS = replace(families.READS, labels=("collection", "reason"))


def count_of_next_release(directory: Path) -> None:
    """Let a process of another release have counted, and have ended."""
    tallies = Tallies(directory)
    tallies.add(UNKNOWN, ("users",))
    tallies.observe(OTHER_BOUNDS, ("users", "hit"), 0.5)
    tallies.add(OTHER_LABELS, ("users", "hit"))
    tallies.close()


def test_families_of_another_release_are_left_out(tmp_path):
    """A histogram with other bounds, one with other labels, and an unknown one are no sums with ours."""
    count_of_next_release(tmp_path)

    assert {} == read_directory(tmp_path)


def test_families_of_another_release_are_kept(tmp_path, monkeypatch):
    """Who knows them finds them, though files were added up by somebody who does not."""
    for _ in range(MOST_ENDED):
        count_of_next_release(tmp_path)
    end_some(tmp_path, 1)
    assert {ONE: [1]} == read_directory(tmp_path)
    assert 1 == len(names(tmp_path))

    for one in (UNKNOWN, OTHER_BOUNDS, OTHER_LABELS):
        monkeypatch.setitem(families.FAMILIES, one.name, one)
    assert {
        ONE: [1],
        (UNKNOWN.name, ("users",)): [MOST_ENDED],
        (OTHER_BOUNDS.name, ("users", "hit")): [MOST_ENDED / 2, MOST_ENDED, 0],
        (OTHER_LABELS.name, ("users", "hit")): [MOST_ENDED],
    } == read_directory(tmp_path)


def test_files_of_another_format_are_left_alone(tmp_path):
    """Who knows them adds them up."""
    (tmp_path / "other.tally").write_bytes(b"WBTALLY9" + bytes(100))
    end_some(tmp_path, MOST_ENDED + 1)
    read_directory(tmp_path)

    assert 2 == len(names(tmp_path))
    assert "other.tally" in names(tmp_path)


def test_files_do_not_become_more_where_nobody_reads(tmp_path):
    """A process that makes its file adds up those of ended ones."""
    for _ in range(4 * MOST_ENDED):
        end_some(tmp_path, 1)

    assert MOST_ENDED + 1 >= len(names(tmp_path))
    assert {ONE: [4 * MOST_ENDED]} == read_directory(tmp_path)


def test_what_was_not_made_to_its_end_is_removed(tmp_path):
    """But for what may still become a file, and for files of others."""
    minutes_ago = time.time() - 600
    for name in ("a.making", "b.new", "of-others"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (minutes_ago, minutes_ago))
    (tmp_path / "c.making").touch()
    end_some(tmp_path, MOST_ENDED + 1)
    read_directory(tmp_path)

    left = {path.name for path in tmp_path.iterdir()} - names(tmp_path)
    assert {"adding-up.lock", "c.making", "of-others"} == left


@pytest.mark.parametrize("fails", ["write_bytes", "rename", "unlink", "open"])
def test_reads_answer_where_nothing_can_be_added_up(tmp_path, monkeypatch, caplog, fails):
    """A full disk, or a directory of another user: it is said once, and nothing is left or counts twice."""
    end_some(tmp_path, MOST_ENDED + 1)
    true = getattr(Path, fails)

    def fail(path: Path, *args, **kwargs) -> None:
        if fails == "write_bytes":
            true(path, b"x")
        if fails != "unlink" or path.suffix == ".tally":
            raise OSError(errno.ENOSPC, "No space left on device")
        true(path, *args, **kwargs)

    read = Directory(tmp_path).read
    with monkeypatch.context() as patch:
        patch.setattr(Path, fails, fail)
        for _ in range(3):
            assert {ONE: [MOST_ENDED + 1]} == read()
        Tallies(tmp_path).add(families.WRITES, ("users",))

    assert [] == [*tmp_path.glob("*.new")]
    assert 2 == len([one for one in caplog.messages if "added up" in one])  # of two objects
    makes_none = fails == "rename"
    assert {ONE: [MOST_ENDED + 1 if makes_none else MOST_ENDED + 2]} == read()


def test_names_of_clients_are_bounded_over_all_lives(tmp_path):
    """The sum, and the page, have as many collections as one process may, and what is on the page stays there."""
    seen: dict[Series, list[float]] = {}
    alive = []
    for life in range(3 * MOST_ENDED):
        tallies = Tallies(tmp_path)
        for number in range(10):
            tallies.add(families.WRITES, (f"junk-{life}-{number}",))
        if life % 4:
            tallies.close()
        else:
            alive.append(tallies)
        counts = read_directory(tmp_path)

        assert MOST_UNLISTED + 1 >= len(counts)
        assert all(numbers <= counts[series] for series, numbers in seen.items())
        assert 10 * (life + 1) == sum(number for (number,) in counts.values())
        seen = counts
    for one in alive:
        one.close()
    end_some(tmp_path, MOST_ENDED + 1)
    read_directory(tmp_path)
    assert 1 == len(names(tmp_path))
    assert MOST_UNLISTED + 1 == len(read_file(next(tmp_path.glob("*.tally"))).numbers)


def test_what_a_page_has_shown_stays_on_it(tmp_path):
    """Also where a process that was there before gets so many collections later."""
    older, newer = Tallies(tmp_path), Tallies(tmp_path)
    directory = Directory(tmp_path)
    for number in range(10):
        newer.add(families.WRITES, (f"new-{number}",))
    shown = directory.read()
    for number in range(2 * MOST_UNLISTED):
        older.add(families.WRITES, (f"old-{number}",))

    found = directory.read()

    assert shown.items() <= found.items()
    assert MOST_UNLISTED + 1 == len(found)
    assert 10 + 2 * MOST_UNLISTED == sum(number for (number,) in found.values())
    for one in (older, newer):
        one.close()


def test_a_reader_sees_what_an_ended_file_becomes(tmp_path):
    """A reader remembers only ended files, and only while they are there."""
    gc.collect()
    before = sum(type(one) is TallyFile for one in gc.get_objects())  # of other tests
    directory = Directory(tmp_path)
    alive = Tallies(tmp_path)
    for number in range(1, 3 * MOST_ENDED):
        end_some(tmp_path, 1)
        alive.add(families.WRITES, ("users",))
        assert {ONE: [2 * number]} == directory.read()
        assert {ONE: [2 * number]} == directory.read()
    gc.collect()
    assert MOST_ENDED + 1 >= sum(type(one) is TallyFile for one in gc.get_objects()) - before
    alive.add(families.IN_PROGRESS)
    assert [1] == directory.read()[families.IN_PROGRESS.name, ()]
    alive.close()
    assert {ONE: [2 * number]} == directory.read()


def counts_as_live(directory: Path) -> bool:
    return (families.IN_PROGRESS.name, ()) in read_directory(directory)


def test_a_child_that_keeps_its_parents_memory_does_not_hold_the_file(tmp_path, child_of):
    """A thread of the parent that was just counting leaves its references in the child for ever."""
    memory = TallyMemory(tmp_path)
    memory.place(Key(families.IN_PROGRESS.name, (), families.IN_PROGRESS.shape), 1)
    child_of(memory.leave_to_parent)
    assert counts_as_live(tmp_path)

    memory.leave_to_parent()  # as its death does

    assert not counts_as_live(tmp_path)


def test_a_fork_waits_for_a_file_that_is_being_made(tmp_path, monkeypatch, child_of):
    """A child that does not know of it would hold its parent's file."""
    opened, forked, allocate = threading.Event(), threading.Event(), os.posix_fallocate

    def wait(*args) -> None:
        opened.set()
        forked.wait(0.3)
        allocate(*args)

    monkeypatch.setattr(files.os, "posix_fallocate", wait)
    tallies = Tallies(tmp_path)
    thread = threading.Thread(target=tallies.add, args=(families.IN_PROGRESS,))
    thread.start()
    assert opened.wait(5)
    child_of(lambda: None)
    forked.set()
    thread.join()
    assert counts_as_live(tmp_path)

    tallies.begin_anew()  # lets go, as its death does

    assert not counts_as_live(tmp_path)


def test_a_full_disk_is_seen_when_the_file_is_made(tmp_path, monkeypatch):
    """Later it would end the process: writing to a mapped file that has no room is SIGBUS."""

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        TallyMemory(tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_what_other_hands_have_put_there(tmp_path):
    """What is no file of tallies takes no count from the page, and nobody waits for it."""
    end_some(tmp_path, 2)
    (tmp_path / "0000-folder.tally").mkdir()
    (tmp_path / "0000-link.tally").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "0000-pipe.tally")
    name = b'["x",5,"y"]     '  # labels that are no list
    series = struct.pack("=II", len(name), 1) + name + bytes(8)
    (tmp_path / "0000-shape.tally").write_bytes(b"WBTALLY2" + struct.pack("=Q", 16 + len(series)) + series)

    assert read_directory(tmp_path)[ONE] == [2]
