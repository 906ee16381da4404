"""Points of the history in Redis: bounded, of one recorder, and readable after the clock has stepped."""

from __future__ import annotations

import orjson

from writebehind.history.points import BREAKER, COLUMNS, Point, read
from writebehind.redis import keys
from writebehind.redis.shared.history import HistoryLog
from writebehind.redis.store import Store


def add(log: HistoryLog, lease, *points: Point, coarse: bytes = b"", most: int = 3) -> list[bool]:
    return [log.add(lease, one.dump(), coarse, most=most, most_coarse=2) for one in points]


def test_no_more_points_are_kept_than_may_be(store, wire):
    """The oldest give way, of a second and of longer times alike."""
    lease = store.lease(keys.HISTORY_LEASE, 5_000)
    assert lease.take()
    add(store.history, lease, *(Point(at, {"pending": at}) for at in range(1, 6)))
    for at in (10, 25, 40):
        add(store.history, lease, Point(at), coarse=Point(at).dump())
    add(store.history, lease, Point(41))

    fine, coarse = store.history.all()
    assert [41, 40, 25] == [orjson.loads(one)[0] for one in fine]
    assert [40, 25] == [orjson.loads(one)[0] for one in coarse]
    assert store.history.points(2) == fine[:2]


def test_only_who_has_the_lease_records(store):
    """So of two exporters one does."""
    first, second = (store.lease(keys.HISTORY_LEASE, 5_000) for _ in range(2))
    assert (True, False) == (first.take(), second.take())
    assert [True, False] == [*add(store.history, first, Point(1)), *add(store.history, second, Point(2))]
    first.release()
    assert second.take()
    assert [False, True] == [*add(store.history, first, Point(3)), *add(store.history, second, Point(4))]
    assert [4, 1] == [orjson.loads(one)[0] for one in store.history.all()[0]]


def test_a_full_redis_takes_points_in_the_place_of_others(valkey_wire):
    """The history goes on when it matters most, and takes no more room."""
    store = Store(valkey_wire, database="shop", partitions=1, max_pending=1, tombstone_ttl_ms=1)
    lease = store.lease(keys.HISTORY_LEASE, 5_000)
    assert lease.take()
    add(store.history, lease, *(Point(at) for at in range(1, 4)))
    valkey_wire.call("CONFIG", "SET", "maxmemory", 1)
    try:
        assert [True] == add(store.history, lease, Point(9))
    finally:
        valkey_wire.call("CONFIG", "SET", "maxmemory", 0)
    assert [9, 3, 2] == [orjson.loads(one)[0] for one in store.history.all()[0]]


def test_points_that_a_clock_has_left_behind_are_left_out():
    """After a step back those that lie ahead, or come before earlier ones; and what other hands have put there."""
    noted = [Point(at).dump() for at in (103, 102, 101, 250, 100, 99)]
    assert [99, 100, 101, 102, 103] == [one.at for one in read(noted, 104.0)]
    assert [99, 100, 101, 102, 103] == [one.at for one in read([b"no", b"[]", b'["x"]', b"[true]", *noted], 104.0)]
    assert [] == read(noted, 98.0)


def test_a_point_survives_redis():
    """What is not known is not there afterwards, and what is has its name again."""
    figures = {"pending": 3, "hit_ratio": 0.123456789, BREAKER: "open", "latency.miss.p99": 0.25}
    found = Point.parse(Point(7.1234, figures).dump())
    assert (7.123, figures | {"hit_ratio": 0.123457}) == (found.at, found.figures)


def test_points_of_another_version_are_read():
    """One with fewer figures lacks the last ones, and one with more has what this one knows."""
    assert {COLUMNS[0]: 1.5} == Point.parse(b"[7,1.5]").figures
    longer = orjson.dumps([7, *range(len(COLUMNS) + 2)])
    assert dict(zip(COLUMNS, range(len(COLUMNS)), strict=True)) == Point.parse(longer).figures


def test_figures_are_only_added_at_the_end():
    """Or points that another version has recorded would be taken for others."""
    assert (
        "acknowledged_per_second persisted_per_second operations_per_second evictions_per_second hit_ratio "
        "mongodb_operations_per_second pending pending_bytes oldest_pending_seconds dead_letters used_memory "
        "max_memory mongodb_connections breaker latency.hit.p50 latency.hit.p99 latency.stale.p50 "
        "latency.stale.p99 latency.revalidated.p50 latency.revalidated.p99 latency.miss.p50 latency.miss.p99 "
        "latency.collapsed.p50 latency.collapsed.p99 latency.bypass.p50 latency.bypass.p99 "
        "broker.flush broker.refresh broker.maintenance reads_per_second partitions_away redis_away_seconds"
    ) == " ".join(COLUMNS)


def test_a_longer_time_has_the_mean_of_rates_and_the_peak_of_others():
    """So no second of an outage is lost among the others."""
    points = [
        Point(1, {"acknowledged_per_second": 2.0, "pending": 9, BREAKER: "open"}),
        Point(2, {"acknowledged_per_second": 4.0, "pending": 1, BREAKER: "closed"}),
        Point(3, {}),
    ]
    joined = Point.joined(points)
    assert (3, {"acknowledged_per_second": 3.0, "pending": 9, BREAKER: "open"}) == (joined.at, joined.figures)
