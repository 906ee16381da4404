"""Figures of a plan, and what it warns of."""

from __future__ import annotations

import pytest

from writebehind.errors import ConfigurationError
from writebehind.planning.load import Load
from writebehind.planning.memory import Footprint, Names
from writebehind.planning.plan import CHECKED_WRITES, make_plan

#: Each write creates a document: nothing is coalesced, and figures follow by simple arithmetic.
NEW = {"writes": 1_000, "reads": 0, "new": 100, "size": "1200", "mongodb_writes": 10_000}


@pytest.fixture
def planned(known):
    """Makes plans."""

    def planned(**load):
        return make_plan(Load(**load), known)

    return planned


def test_each_figure_has_a_derivation(planned):
    """And a name of its own."""
    plan = planned()
    assert all(one.because and one.title for one in plan.figures)
    assert len(plan.figures) == len({one.name for one in plan.figures}) == len({one.title for one in plan.figures})


def test_new_documents_wait_one_by_one(planned):
    """Of 1,000 in a second 900,000 wait after 15 minutes, and some that always do."""
    plan = planned(**NEW, partitions=16, outage=900)
    assert (1.0, 1_000) == (plan.value("operations_per_write"), plan.value("mongodb_operations_per_second"))
    assert 900_000 + 790 == pytest.approx(plan.value("waiting_documents"), abs=20)
    assert 1.1 * 901_000 / 16 == pytest.approx(plan.value("max_pending_per_partition"), rel=0.03)


def test_memory_is_that_of_what_waits_and_is_cached(planned, known):
    """At the end of an outage that is longer than the TTL only what waits is left; else what was cached too."""
    plan = planned(**NEW, outage=900, ttl=60)
    each = Footprint.of(known.memory["jemalloc"], "jemalloc", Load(**NEW).sizes, Names.of(24))
    # A value of 1,255 bytes, a key of 54 and a member of 40, in the least classes of jemalloc that take them.
    assert 1_280 + 64 + 48 + 150 == each.pending
    assert 60_750 == plan.value("cached_documents")  # and those that are pending, for three quarters of a second
    expected = plan.value("waiting_documents") * each.pending / 0.85 / 2**20
    assert expected == pytest.approx(plan.value("maxmemory_mib_per_server"), rel=0.01)

    plan = planned(**NEW, outage=30, ttl=60)
    in_the_end = plan.value("waiting_documents") * each.pending + 60_750 / 2 * each.cached
    assert in_the_end / 0.85 / 2**20 == pytest.approx(plan.value("maxmemory_mib_per_server"), rel=0.05)


def test_memory_is_enough_before_an_outage_too(planned, known):
    """Where most is cached, and leaves in it."""
    plan = planned(writes=1, reads=1_000, documents=60_000, skew=0, ttl=60, outage=900, size="1200")
    each = Footprint.of(known.memory["jemalloc"], "jemalloc", Load(size="1200").sizes, Names.of(24))
    hot = 100 * 60_000
    expected = (2 * 2**20 + 30_000 * each.cached + hot) / 0.85 / 2**20
    assert expected == pytest.approx(plan.value("maxmemory_mib_per_server"), rel=0.04)


def test_cores_are_those_of_requests_documents_and_tasks(planned):
    """Each at what it costs for a document of that size."""
    plan = planned(**NEW)
    assert 1_000 * 500e-6 == pytest.approx(plan.value("web_cores"), rel=0.01)
    tasks = plan.value("flush_tasks_per_second")
    assert 1_000 * 60e-6 + tasks * 2e-3 == pytest.approx(plan.value("worker_cores"), abs=0.006)
    resting = 2 * 0.002 + 0.003
    assert 1_000 * (110 + 50) * 1e-6 + tasks * 2e-4 + resting == pytest.approx(
        plan.value("redis_cores_per_server"), abs=0.006
    )
    assert (1, 2) == (plan.value("web_processes"), plan.value("worker_processes"))


def test_the_cap_is_reached_when_the_fullest_partition_is_full(planned):
    """16 partitions take 50,000 each: 800 s of new documents, a bit less as one is fuller than others."""
    plan = planned(**NEW, partitions=16, outage=900, max_pending_per_partition=50_000, maxmemory_mib=100_000)
    assert 790 / 60 == pytest.approx(plan.value("minutes_until_cap"), abs=0.2)
    assert "max_pending_per_partition is reached after 13.2 min, before the outage is over" in plan.warnings


def test_memory_may_be_the_cap(planned):
    """Writes are refused from 90 % of maxmemory on."""
    plan = planned(**NEW, outage=900, ttl=1, maxmemory_mib=500, max_pending_per_partition=10**9)
    seconds = (0.9 * 500 - 2) * 2**20 / (1_280 + 64 + 48 + 150) / 1_000
    assert seconds / 60 == pytest.approx(plan.value("minutes_until_cap"), abs=0.15)
    assert any(line.startswith("Redis is short of memory after 5") for line in plan.warnings)


def test_documents_that_all_fit_are_never_refused(planned):
    """Each waits once, however long MongoDB is away."""
    plan = planned(writes=10_000, documents=10_000, mongodb_writes=20_000)
    assert plan.value("minutes_until_cap") is None
    assert 10_000 == pytest.approx(plan.value("waiting_documents"), rel=0.01)


def test_what_waits_is_drained_by_what_is_spare(planned):
    """MongoDB takes 10,000 a second, of which 1,000 are new."""
    plan = planned(**NEW, outage=900)
    of_partitions = 64 * 1_000 / (0.004 + 0.2)
    assert 900_790 / (min(10_000, of_partitions) - 1_000) / 60 == pytest.approx(
        plan.value("minutes_to_drain"), abs=0.06
    )
    assert planned(**NEW | {"mongodb_writes": 900}).value("minutes_to_drain") is None


def test_reads_miss_what_has_expired(planned):
    """A document that is read once in its TTL, and not written, is there half of the time."""
    plan = planned(writes=0, reads=1_000, documents=60_000, skew=0, ttl=60)
    assert 30_000 == pytest.approx(plan.value("cached_documents"), rel=0.01)
    assert 500 == pytest.approx(plan.value("mongodb_reads_per_second"), rel=0.01)


@pytest.mark.parametrize(
    ("replicas", "servers", "told"), [(0, 3, "no replicas"), (1, 6, "nothing is written"), (2, 9, "writes go on")]
)
def test_replicas_are_planned_for(planned, replicas, servers, told):
    """Each needs the memory of its primary: of three servers that fail over there are nine, two replicas each."""
    plan = planned(servers=3, replicas=replicas, maxmemory_mib=100)
    assert servers == plan.value("redis_servers_with_replicas")
    assert 100 * servers == plan.value("redis_mib_in_all")
    assert told in next(one.because for one in plan.figures if one.name == "redis_servers_with_replicas")
    assert 9 == planned(servers=3).value("redis_servers_with_replicas")  # as the guide says


def test_a_busy_server_becomes_several(planned):
    """As many as need less than the part of a core that is allowed; with partitions that spread over them."""
    plan = planned(writes=40_000, reads=0, skew=0, documents=10**8, mongodb_writes=10**6)
    assert 11 <= plan.value("redis_servers") <= 16
    assert plan.value("redis_cores_per_server") <= 0.6
    assert plan.value("partitions") >= 64 * plan.value("redis_servers")


def test_a_slow_flush_needs_more_partitions(planned):
    """A partition is being flushed for half of the time at most."""
    plan = planned(writes=240_000, new=100, size="1200", servers=1, mongodb_writes=10**6)
    assert plan.value("partitions") == 128


def test_more_load_never_needs_less(planned):
    """Of anything."""
    names = ("waiting_documents", "maxmemory_mib_per_server", "web_cores", "worker_cores", "partitions")
    before = [0.0] * len(names)
    for writes in (1, 10, 100, 1_000, 10_000, 100_000):
        plan = planned(writes=writes, servers=1)
        now = [plan.value(name) for name in names]
        assert all(new >= old for new, old in zip(now, before, strict=True))
        before = now


def test_a_load_of_nothing_needs_next_to_nothing(planned):
    """And is no error."""
    plan = planned(writes=0, reads=0)
    assert (0, 0, 1, 64) == tuple(
        plan.value(name)
        for name in ("mongodb_operations_per_second", "waiting_documents", "redis_servers", "partitions")
    )


@pytest.mark.parametrize(
    ("load", "line"),
    [
        ({"mongodb_writes": None}, "Give --mongodb-writes"),
        ({"mongodb_writes": 100}, "MongoDB takes 100 writes/s"),
        ({"size": "100"}, "CPU was measured for documents of 200 to 1,200 bytes"),
        ({"size": "500:99,5000:1"}, "CPU was measured for documents of 200 to 1,200 bytes"),
        ({"writes": CHECKED_WRITES + 1, "new": 100}, "plans were held against systems"),
        ({"writes": 100_000, "documents": 1, "mongodb_writes": 10**6}, "the most popular document alone needs"),
        (
            {"writes": 9_000, "servers": 1, "skew": 0, "mongodb_writes": 10**6},
            "the busiest server with Redis needs",
        ),
        ({"servers": 8, "partitions": 16}, "16 partitions are few for 8 servers"),
        ({"writes": 9_000, "new": 100, "partitions": 1, "mongodb_writes": 10**6}, "a partition is being flushed"),
        ({"max_pending_per_partition": 10}, "max_pending_per_partition is reached after"),
        ({"maxmemory_mib": 10}, "Redis is short of memory after"),
    ],
)
def test_what_is_not_to_be_relied_on_is_told(planned, load, line):
    """Each by a warning, which a load without that does not have."""
    fine = {"writes": 250, "reads": 500, "size": "800", "mongodb_writes": 5_000, "skew": 0.8}
    assert () == planned(**fine).warnings
    assert any(one.startswith(line) or one.endswith(line) for one in planned(**fine | load).warnings)


def test_an_allocator_that_was_not_measured_is_refused(planned):
    """There is nothing to calculate with."""
    with pytest.raises(ConfigurationError, match="nothing of the allocator libc"):
        planned(allocator="libc")
