"""Counts of a process: exact between threads, forks and kills, bounded, and never an error."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from writebehind import forks
from writebehind.errors import RedisUnavailableError
from writebehind.tallies import families
from writebehind.tallies.directory import MOST_ENDED
from writebehind.tallies.families import MOST_UNLISTED, OTHER
from writebehind.tallies.files import read_file
from writebehind.tallies.meters import Meter, Meters, OneThreadsMeter
from writebehind.tallies.tallies import Tallies

ACKNOWLEDGED = families.WRITES.name
READ_TIMES = families.READ_TIMES.name


@pytest.fixture(params=["memory", "file"])
def tallies(request, tmp_path) -> Tallies:
    return Tallies(None if request.param == "memory" else tmp_path / "counts")


def test_counts_add_up(tallies):
    """A counter has the sum of what was added, by its labels."""
    tallies.add(families.WRITES, ("users",))
    tallies.add(families.WRITES, ("users",), 4)
    tallies.add(families.WRITES, ("pages",))

    assert {(ACKNOWLEDGED, ("users",)): [5], (ACKNOWLEDGED, ("pages",)): [1]} == tallies.read()


@pytest.mark.parametrize("value", [0, *families.LATENCIES, 31])
def test_a_value_is_in_the_bucket_of_the_least_bound_that_is_not_below_it(tallies, value):
    """As Prometheus has it: `le` is inclusive, and what is above all bounds is in the last bucket."""
    tallies.observe(families.READ_TIMES, ("users", "hit"), value)

    total, *buckets = tallies.read()[READ_TIMES, ("users", "hit")]
    at = sum(bound < value for bound in families.LATENCIES)
    assert (value, 1, 1) == (total, sum(buckets), buckets[at])


def test_threads_lose_nothing(tallies):
    """Many threads count at once, also series that none has counted before."""

    def count() -> None:
        for number in range(2_000):
            tallies.add(families.WRITES, (f"c{number % 7}",))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert sum(value for (value,) in tallies.read().values()) == 16_000


def test_nothing_is_made_before_something_is_counted(tmp_path):
    """A command that only looks leaves no file behind."""
    assert Tallies(tmp_path / "counts").read() == {}
    assert not (tmp_path / "counts").exists()


def test_collections_of_clients_are_bounded(tallies):
    """Names that are one too many are counted together, and those before go on by their names."""
    for number in range(MOST_UNLISTED + 50):
        tallies.add(families.WRITES, (f"c{number}",))
    tallies.add(families.WRITES, ("c0",))

    counts = tallies.read()
    assert len(counts) == MOST_UNLISTED + 1
    assert [50] == counts[ACKNOWLEDGED, (OTHER,)]
    assert [2] == counts[ACKNOWLEDGED, ("c0",)]


def test_configured_collections_are_always_told_apart(tmp_path):
    """However many other names clients have chosen before, also in other processes."""
    for life in range(3):
        tallies = Tallies(tmp_path, ["orders"])
        for number in range(MOST_UNLISTED):
            tallies.add(families.READS, (f"junk-{life}-{number}", "miss"))
        tallies.add(families.READS, ("orders", "hit"))

    counts = tallies.read()
    assert [3] == counts[families.READS.name, ("orders", "hit")]
    assert [2 * MOST_UNLISTED] == counts[families.READS.name, (OTHER, "miss")]
    assert MOST_UNLISTED + 2 == len(counts)


def agreeing() -> Callable[[list[str]], list[str]]:
    """The list that all processes share."""
    first: dict[str, None] = {}

    def agree(names: list[str]) -> list[str]:
        first.update(dict.fromkeys([one for one in names if one not in first][: MOST_UNLISTED - len(first)]))
        return [*first]

    return agree


def labels_of(tallies: Tallies) -> set[str]:
    return {collection for _, (collection,) in tallies.read()}


def test_all_hosts_tell_the_same_collections_apart(tmp_path):
    """Whichever each meets first, and after restarts; and nothing is asked where nothing is new."""
    agree = agreeing()
    hosts = [Tallies(tmp_path / f"host{number}") for number in range(2)]
    for number, one in enumerate(hosts):
        one.apart.by = agree
        for name in range(80):
            one.add(families.WRITES, (f"h{number}-{name}",))
    here, there = map(labels_of, hosts)
    assert ({f"h0-{name}" for name in range(80)}, 21) == (here, len(there))
    agreed = {*agree([])}
    for one in hosts:
        assert one.look()
        for name in ("late", "h0-7", "h1-3"):  # what one host has met first is told apart by the other one too
            one.add(families.WRITES, (name,))
    assert agreed | {OTHER} == set().union(*map(labels_of, hosts))
    later = Tallies(tmp_path / "host1")
    later.apart.by = agree
    assert labels_of(hosts[1]) == labels_of(later)
    later.apart.by = lambda _: pytest.fail("it knows the list")
    later.read()


def away(_: list[str]) -> list[str]:
    raise RedisUnavailableError("away")


def test_while_redis_is_away_labels_are_bounded_all_the_same(tallies):
    """What was shown then goes on, and the sum of others does not leap, once the list is known and is full."""
    tallies.apart.by = away
    for number in range(MOST_UNLISTED + 50):
        tallies.add(families.WRITES, (f"c{number}",))
    shown = tallies.read()
    assert MOST_UNLISTED + 1 == len(shown)
    tallies.apart.by = agreeing()
    tallies.apart.by([f"d{number}" for number in range(MOST_UNLISTED - 1)])
    assert shown == tallies.read()
    for name in ("c0", "d0"):
        tallies.add(families.WRITES, (name,))
    assert shown | {(ACKNOWLEDGED, ("c0",)): [2], (ACKNOWLEDGED, (OTHER,)): [51]} == tallies.read()


def test_what_is_asked_for_by_mistake_takes_no_place(tallies):
    """Names of which there is no document: they are none's, or another process has written there."""
    agree = agreeing()
    tallies.apart.by = agree
    for number in range(MOST_UNLISTED + 5):
        tallies.add(families.READS, (f"typo{number}", "miss"))
        tallies.add(families.REFUSED_WRITES, (f"typo{number}", "pending"))
    assert {(families.READS.name, (OTHER, "miss")), (families.REFUSED_WRITES.name, (OTHER, "pending"))} == {
        *tallies.read()
    }
    assert [] == agree([])
    agree(["pages"])
    tallies.add(families.READS, ("pages", "hit"))
    tallies.read()
    tallies.add(families.READS, ("pages", "hit"))
    counts = tallies.read()
    assert ([1], [1]) == tuple(counts[families.READS.name, (name, "hit")] for name in (OTHER, "pages"))


def test_nobody_is_asked_while_others_wait(tmp_path, tallies):
    """No count waits for Redis, in no request, and no fork: who reads or looks asks, and holds nothing then."""
    for _ in range(MOST_ENDED + 1):
        ended = Tallies(tmp_path / "counts")
        ended.add(families.WRITES, ("pages",))
        ended.close()
    asked = []

    def agree(names: list[str]) -> list[str]:
        assert all(lock.acquire(blocking=False) for lock in (tallies.lock, tallies.apart._lock))
        tallies.lock.release()
        tallies.apart._lock.release()
        thread = threading.Thread(target=lambda: forks._opening.acquire(timeout=5) and forks._opening.release())
        thread.start()
        thread.join(4)
        assert not thread.is_alive()
        asked.append(names)
        return names

    tallies.apart.by = agree
    for name in ("users", "pages"):
        tallies.add(families.WRITES, (name,))
    assert [] == asked
    tallies.read()
    assert [["pages", "users"]] == asked


def test_files_are_added_up_once_it_is_known_who_is_told_apart(tmp_path):
    """Or a sum would have others for good."""
    for _ in range(MOST_ENDED + 1):
        ended = Tallies(tmp_path)
        ended.add(families.WRITES, ("pages",))
        ended.close()
    tallies = Tallies(tmp_path)
    tallies.apart.by = away
    tallies.add(families.WRITES, ("users",))
    assert tallies.look()
    assert MOST_ENDED + 2 == len([*tmp_path.glob("*.tally")])
    tallies.apart.by = agreeing()
    assert tallies.look()
    assert 2 == len([*tmp_path.glob("*.tally")])


def test_what_a_host_has_shown_before_there_was_a_list_goes_on(tmp_path):
    """Its sums have it: as many as other hosts have added to the list since."""
    for _ in range(MOST_ENDED + 1):
        ended = Tallies(tmp_path)
        for number in range(80):
            ended.add(families.WRITES, (f"c{number}",))
        ended.close()
    before = Tallies(tmp_path).read()
    agree = agreeing()
    agree([f"d{number}" for number in range(MOST_UNLISTED)])
    tallies = Tallies(tmp_path)
    tallies.apart.by = agree
    assert before == tallies.read()


def test_what_has_no_room_is_left_out_and_said_once(tallies, caplog):
    """More series than there is room for cost their counts, and nothing else."""
    for number in range(20_000):
        tallies.add(families.REFUSED, (f"reason {number}",))
    tallies.add(families.REFUSED, ("reason 0",))

    assert [2] == tallies.read()[families.REFUSED.name, ("reason 0",)]
    assert 1 == len([one for one in caplog.messages if "no room" in one])


def test_a_directory_that_cannot_be_used_costs_no_request(tmp_path, caplog):
    """The process counts for itself, and says once that nobody else sees it."""
    (tmp_path / "file").touch()
    tallies = Tallies(tmp_path / "file" / "counts")

    tallies.add(families.WRITES, ("users",))
    tallies.add(families.WRITES, ("pages",))

    assert [1] == tallies.read()[ACKNOWLEDGED, ("users",)]
    assert 1 == len([one for one in caplog.messages if "metrics_dir" in one])


def in_child(act) -> int:
    """Fork, act in the child, and return the status with which it ended."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("end", [lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_a_child_counts_for_itself_and_what_it_counted_stays(tmp_path, end):
    """However a forked process ends: nothing of it is lost, and nothing of the parent's is counted twice."""
    tallies = Tallies(tmp_path)
    tallies.add(families.WRITES, ("users",), 10)
    tallies.add(families.IN_PROGRESS)

    def act() -> None:
        tallies.add(families.WRITES, ("users",))
        tallies.add(families.IN_PROGRESS, amount=5)
        end()

    for _ in range(3):
        in_child(act)

    assert {(ACKNOWLEDGED, ("users",)): [13], (families.IN_PROGRESS.name, ()): [1]} == tallies.read()


def test_a_child_keeps_its_parents_file_held(tmp_path):
    """The end of a child does not make its parent's file one of a process that has ended."""
    tallies = Tallies(tmp_path)
    tallies.add(families.IN_PROGRESS)

    in_child(lambda: tallies.add(families.WRITES, ("users",)))

    assert [1] == tallies.read()[families.IN_PROGRESS.name, ()]


def test_after_the_end_counts_stay_and_what_was_live_is_gone(tmp_path):
    """A pipeline that was closed has no requests any more."""
    tallies = Tallies(tmp_path)
    tallies.add(families.WRITES, ("users",))
    tallies.add(families.IN_PROGRESS)

    tallies.close()
    tallies.add(families.WRITES, ("users",))

    assert {(ACKNOWLEDGED, ("users",)): [2]} == Tallies(tmp_path).read()


@pytest.mark.parametrize("kind", [Meter, OneThreadsMeter])
def test_a_meter_counts_as_tallies_do(tallies, kind):
    """Both count in the same series: the sum, and each value in its bucket."""
    meter = kind(tallies, families.READ_TIMES, ("users", "hit"))
    for value in (0, *families.LATENCIES, 31):
        meter.observe(value)
        tallies.observe(families.READ_TIMES, ("users", "miss"), value)

    counts = tallies.read()
    assert counts[READ_TIMES, ("users", "miss")] == counts[READ_TIMES, ("users", "hit")]


def test_a_meter_counts_each_value_once_more_beside(tallies):
    """The counter that is named has the number of values; nothing is made before the first."""
    meter = Meter(tallies, families.READ_TIMES, ("users", "hit"), counter=families.READS)
    assert {} == tallies.read()

    meter.observe(0.001)
    meter.observe(0.002)

    assert [2] == tallies.read()[families.READS.name, ("users", "hit")]


def test_threads_lose_nothing_by_a_meter(tallies):
    """Many threads count in one series at once, however often they take turns."""
    taken, times = (
        Meter(tallies, families.WRITES, ("users",)),
        Meter(tallies, families.READ_TIMES, ("users", "hit")),
    )

    def count() -> None:
        for _ in range(2_000):
            taken.add()
            times.observe(1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        sys.setswitchinterval(interval)

    counts = tallies.read()
    total, *buckets = counts[READ_TIMES, ("users", "hit")]
    assert ([16_000], 16_000, 16_000) == (counts[ACKNOWLEDGED, ("users",)], total, sum(buckets))


@pytest.mark.parametrize("kind", [Meter, OneThreadsMeter])
def test_a_meter_counts_in_the_file_of_its_process(tmp_path, kind):
    """A child that has its parent's meter counts for itself, and nothing in its parent's file."""
    tallies = Tallies(tmp_path)
    meter = kind(tallies, families.READ_TIMES, ("users", "hit"))
    meter.observe(1)

    def act() -> None:
        meter.observe(2)
        own = [path for path in tmp_path.glob("*.tally") if read_file(path).numbers]
        assert 2 == len(own)
        os.kill(os.getpid(), signal.SIGKILL)

    assert signal.SIGKILL == in_child(act)
    meter.observe(4)

    total, *buckets = tallies.read()[READ_TIMES, ("users", "hit")]
    assert (7, 3) == (total, sum(buckets))


def test_a_meter_without_room_is_left_out(tallies):
    """It destroys nothing, and those that have room go on."""
    first = Meter(tallies, families.REFUSED, ("first",))
    first.add()
    for number in range(20_000):
        tallies.add(families.REFUSED, (f"reason {number}",))
    Meter(tallies, families.REFUSED, ("last",)).add()
    Meter(tallies, families.READ_TIMES, ("last", "hit"), counter=families.READS).observe(1)
    OneThreadsMeter(tallies, families.READ_TIMES, ("last", "hit")).observe(1)
    first.add()

    counts = tallies.read()
    assert [2] == counts[families.REFUSED.name, ("first",)]
    assert not [one for one in counts if "last" in one[1]]


def test_meters_are_kept_unless_their_names_are_one_too_many(tallies):
    """Clients choose names of collections: no more of them are remembered than are told apart."""
    meters: Meters[str] = Meters(lambda name: Meter(tallies, families.WRITES, (name,)))
    for number in range(MOST_UNLISTED + 50):
        meters[f"c{number}"].add()
    meters["c0"].add()

    counts = tallies.read()
    assert MOST_UNLISTED == len(meters)
    assert ([50], [2]) == (counts[ACKNOWLEDGED, (OTHER,)], counts[ACKNOWLEDGED, ("c0",)])
