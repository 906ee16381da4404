"""A file of counts that is taken away under its process: a new one has all of it, and nothing counts twice."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from tests.unit.tallies.test_tallies import in_child
from tests.waiting import wait_until
from writebehind.tallies import directory, families, files
from writebehind.tallies import tallies as module
from writebehind.tallies.directory import MOST_ENDED, Directory
from writebehind.tallies.meters import Meter, OneThreadsMeter
from writebehind.tallies.tallies import Tallies

ONE = (families.WRITES.name, ("users",))


@pytest.fixture(autouse=True)
def by_hand(monkeypatch) -> None:
    """No thread looks: the test does."""
    monkeypatch.setattr(module, "LOOK_EVERY_S", 4e9)


@pytest.fixture
def counts(tmp_path) -> Path:
    return tmp_path / "counts"


def delete(counts: Path) -> None:
    shutil.rmtree(counts)


def move(counts: Path) -> None:
    counts.rename(counts.with_name("away"))


def delete_file(counts: Path) -> None:
    for path in counts.glob("*.tally"):
        path.unlink()


def replace_directory(counts: Path) -> None:
    move(counts)
    counts.mkdir()


def read(counts: Path) -> list[float]:
    """The writes that anybody who reads the directory sees."""
    return Directory(counts).read()[ONE]


@pytest.mark.parametrize("take_away", [delete, move, delete_file, replace_directory])
def test_what_was_counted_is_in_a_new_file(counts, take_away, caplog):
    """And so is what is counted after that, also in series that were not there before; it is said once."""
    tallies = Tallies(counts)
    for number in range(3):
        tallies.add(families.WRITES, ("users",))
        tallies.add(families.READS, (f"c{number}", "hit"))
        take_away(counts)
        shutil.rmtree(counts.with_name("away"), ignore_errors=True)
        tallies.add(families.WRITES, ("users",))
        assert tallies.look()
        assert tallies.look()
        assert [2 * number + 2] == read(counts)

    found = Directory(counts).read()
    assert [[1]] * 3 == [found[families.READS.name, (f"c{number}", "hit")] for number in range(3)]
    assert ["counts_moved"] * 3 == [one.event for one in caplog.records]
    assert 1 == len([*counts.iterdir()])


@pytest.mark.parametrize("left", [0, 100, 4096])
@pytest.mark.parametrize("take_away", [move, lambda _: None])
def test_a_file_that_was_cut_off_is_whole_after_the_next_look(counts, left, take_away, caplog):
    """To read what was cut off would end the process: it counts from 0, in the series that it has."""
    tallies = Tallies(counts)

    def act() -> None:
        meter = Meter(tallies, families.READ_TIMES, ("users", "hit"))
        meter.observe(1)
        tallies.add(families.WRITES, ("users",))
        (path,) = counts.glob("*.tally")
        os.truncate(path, left)
        take_away(counts)
        for _ in range(2):
            assert tallies.look()
        was = [1] if left == 4096 else [0]
        assert was == read(counts)
        meter.observe(2)
        tallies.add(families.WRITES, ("users",))
        tallies.add(families.READS, ("users", "hit"))
        found = Directory(counts).read()
        assert [was[0] + 1] == found[ONE]
        assert was[0] + 2 == found[families.READ_TIMES.name, ("users", "hit")][0]
        assert [1] == found[families.READS.name, ("users", "hit")]
        assert ["counts_cut"] == [one for one in events(caplog) if one != "counts_moved"]

    assert 0 == in_child(act)


@pytest.mark.parametrize("kind", [Meter, OneThreadsMeter])
def test_meters_follow(counts, kind):
    """A meter that has found its series counts in the new file."""
    tallies = Tallies(counts)
    meter = kind(tallies, families.READ_TIMES, ("users", "hit"))
    meter.observe(1)
    delete(counts)
    meter.observe(2)
    tallies.look()
    meter.observe(4)

    total, *buckets = Directory(counts).read()[families.READ_TIMES.name, ("users", "hit")]
    assert (7, 3) == (total, sum(buckets))


def test_a_count_that_was_on_its_way_is_not_lost(counts):
    """A thread may have found the former memory before it was replaced, and count in it after that."""
    tallies = Tallies(counts)
    at = tallies.place(families.WRITES, ("users",))
    found = tallies.numbers
    found[at] += 1
    delete(counts)
    tallies.look()
    found[at] += 1
    tallies.add(families.WRITES, ("users",))
    tallies.look()
    tallies.look()
    assert [3] == read(counts)

    found = tallies.numbers
    delete(counts)
    tallies.look()
    found[at] += 1
    tallies.close()
    assert [4] == read(counts)


def test_threads_lose_nothing_while_files_are_taken_away(counts):
    """However often that happens, between counts or within one."""
    tallies = Tallies(counts)
    taken = Meter(tallies, families.WRITES, ("users",))
    times = Meter(tallies, families.READ_TIMES, ("users", "hit"))
    alone = OneThreadsMeter(tallies, families.READ_TIMES, ("users", "miss"))
    taken.add(0)

    done = [0] * 4

    def count(number: int) -> None:
        for _ in range(3_000):
            taken.add()
            times.observe(1)
            if not number:
                alone.observe(1)
            done[number] += 1

    threads = [threading.Thread(target=count, args=(number,)) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for one in threads:
            one.start()
        while any(one.is_alive() for one in threads):
            delete_file(counts)
            tallies.look()
            before = [*done]  # looks are far apart: no thread is within one count for so long
            while any(one.is_alive() and done[at] == before[at] for at, one in enumerate(threads)):
                pass
    finally:
        sys.setswitchinterval(interval)
        for one in threads:
            one.join()
    tallies.look()

    found = Directory(counts).read()
    some, other = (sum(found[families.READ_TIMES.name, ("users", source)][1:]) for source in ("hit", "miss"))
    assert ([12_000], 12_000, 3_000) == (found[ONE], some, other)


def put_back_over(counts: Path) -> None:
    shutil.rmtree(counts)
    counts.with_name("away").rename(counts)


def put_files_back(counts: Path) -> None:
    for path in counts.with_name("away").iterdir():
        path.rename(counts / path.name)


@pytest.mark.parametrize("put_back", [put_back_over, put_files_back])
def test_what_comes_back_is_not_counted_twice(counts, put_back):
    """Files that were moved away and back stand in the place of the new ones until these are made again."""
    ended, tallies = Tallies(counts), Tallies(counts)
    ended.add(families.WRITES, ("users",), 10)
    ended.close()
    tallies.add(families.WRITES, ("users",))
    move(counts)
    tallies.look()
    tallies.look()
    tallies.add(families.WRITES, ("users",))
    assert [2] == read(counts)

    put_back(counts)
    assert [11] == read(counts)
    tallies.look()
    assert [12] == read(counts)

    tallies.close()
    for _ in range(MOST_ENDED):
        other = Tallies(counts)
        other.add(families.WRITES, ("users",))
        other.close()
    assert [12 + MOST_ENDED] == read(counts)
    assert [12 + MOST_ENDED] == read(counts)


def test_a_process_that_is_killed_after_that_loses_nothing(counts):
    """The new file outlives its process as the former one did, and is then one of a process that has ended."""
    tallies = Tallies(counts)

    def act() -> None:
        tallies.add(families.WRITES, ("users",))
        delete(counts)
        tallies.look()
        tallies.add(families.WRITES, ("users",))
        assert 1 == Directory(counts).living()
        os.kill(os.getpid(), signal.SIGKILL)

    assert signal.SIGKILL == in_child(act)
    assert [2] == read(counts)
    assert 0 == Directory(counts).living()


def test_a_child_holds_no_file_of_its_parent(counts, child_of):
    """Neither the new one nor the former, which is let go of at the next look only."""
    tallies = Tallies(counts)
    tallies.add(families.WRITES, ("users",))
    move(counts)
    tallies.look()
    child_of(lambda: None)
    tallies.close()
    assert [0, 0] == [Directory(one).living() for one in (counts, counts.with_name("away"))]


def events(caplog) -> list[str]:
    return [one.event for one in caplog.records]


def test_where_no_file_can_be_made_it_is_said_once_and_tried_again(counts, caplog):
    """What was counted meanwhile appears when it can; nobody is told that all is nought."""
    tallies = Tallies(counts)
    tallies.add(families.WRITES, ("users",))
    delete(counts)
    with pytest.raises(FileNotFoundError):
        tallies.read()
    counts.touch()
    for _ in range(3):
        assert tallies.look()
        tallies.add(families.WRITES, ("users",))
    with pytest.raises(NotADirectoryError):
        tallies.read()
    assert ["counts_unseen"] == events(caplog)
    assert str(counts) in caplog.messages[0]

    counts.unlink()
    tallies.look()
    assert [4] == tallies.read()[ONE] == read(counts)
    assert ["counts_unseen", "counts_seen"] == events(caplog)


def test_counts_that_had_no_file_from_the_beginning_get_one(counts, caplog):
    """As where the disk was full when the process began."""
    counts.touch()
    tallies = Tallies(counts)
    tallies.add(families.WRITES, ("users",))
    counts.unlink()
    tallies.look()
    tallies.add(families.WRITES, ("users",))

    assert [2] == read(counts)
    assert ["counts_unseen", "counts_seen"] == events(caplog)


def test_the_directory_gets_the_rights_that_it_had(counts):
    """Those of the first one, whatever this process's mask says."""
    counts.mkdir(mode=0o700)
    tallies = Tallies(counts)
    tallies.add(families.WRITES, ("users",))
    delete(counts)
    tallies.look()
    assert 0o700 == stat.S_IMODE(counts.stat().st_mode)


def test_a_directory_that_another_user_has_made_meanwhile_is_not_used(counts, caplog, monkeypatch):
    """Below a directory for all, others could make a file shorter under the process that writes to it."""
    tallies = Tallies(counts)
    tallies.add(families.WRITES, ("users",))
    delete(counts)
    counts.mkdir()
    found = [*counts.stat()]
    found[4] += 1
    with monkeypatch.context() as patch:
        patch.setattr(directory.Path, "stat", lambda path, **_: os.stat_result(found))
        tallies.look()
    assert ["counts_unseen"] == events(caplog)
    assert [] == [*counts.iterdir()]


def test_a_fault_does_not_end_the_looks_of_a_process(counts, caplog, monkeypatch):
    """It is logged once while it lasts, and a file that is taken away meanwhile is made anew all the same."""
    monkeypatch.setattr("writebehind.tallies.tallies.LOOK_EVERY_S", 0.05)
    tallies = Tallies(counts)
    tallies.apart.by = lambda _: 1 // 0
    tallies.add(families.WRITES, ("users",))
    wait_until(lambda: events(caplog), "the fault", 10)
    delete(counts)
    wait_until(lambda: counts.is_dir() and [*counts.glob("*.tally")], "another file", 10)
    assert ["fault", "counts_moved"] == events(caplog)
    tallies.close()


def test_nobody_looks_after_the_end(counts):
    """A pipeline that was closed makes no file any more; the thread ends, also with its owner."""
    tallies = Tallies(counts)
    tallies.add(families.WRITES, ("users",))
    tallies.close()
    delete(counts)
    assert not tallies.look()
    assert not counts.exists()

    gone = Tallies(counts)
    gone.add(families.WRITES, ("users",))
    known = weakref.ref(gone)
    del gone
    assert known() is None


PROCESS = """
import sys
from pathlib import Path
from writebehind.tallies import families, tallies
tallies.LOOK_EVERY_S = 0.2
one = tallies.Tallies(Path(sys.argv[1]))
one.add(families.WRITES, ("users",))
print("counted", flush=True)
sys.stdin.read()
"""


def test_a_process_looks_by_itself(counts):
    """Whatever else it does: also one that counts nothing more."""
    start = [sys.executable, "-c", PROCESS, str(counts)]
    with subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert b"counted\n" == process.stdout.readline()
        move(counts)
        wait_until(lambda: counts.is_dir() and Directory(counts).read().get(ONE) == [1], "a new file")
        process.stdin.close()
        assert 0 == process.wait(10)


def test_a_fork_waits_for_a_file_that_is_made_anew(counts, monkeypatch, child_of):
    """A child that does not know of it would hold its parent's file."""
    opened, forked, allocate = threading.Event(), threading.Event(), os.posix_fallocate

    def wait(*args) -> None:
        opened.set()
        forked.wait(0.3)
        allocate(*args)

    tallies = Tallies(counts)
    tallies.add(families.WRITES, ("users",))
    delete(counts)
    monkeypatch.setattr(files.os, "posix_fallocate", wait)
    thread = threading.Thread(target=tallies.look)
    thread.start()
    assert opened.wait(5)
    child_of(lambda: None)
    forked.set()
    thread.join()
    assert 1 == Directory(counts).living()

    tallies.close()

    assert 0 == Directory(counts).living()
