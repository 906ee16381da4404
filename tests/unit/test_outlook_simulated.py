"""What is foretold while documents come and go by a simulated clock is what then happens."""

from __future__ import annotations

import pytest

from tests.unit.simulated_flushes import NOTICED_S, PACE, STEPS, Seen, World

#: Documents that come in a second, their flush delay in seconds, and how many can be flushed in a second.
LOADS = [(1, 1.0, 1_000), (200, 1.0, 1_000), (900, 1.0, 1_000), (50, 0.0, 100), (20, 10.0, 500), (30, 60.0, 500)]
#: An instant of what happens, and of rounding.
SLACK_S = 1 / STEPS


def finite(some: list[Seen]) -> list[Seen]:
    return [one for one in some if one.foretold.seconds_until_safe is not None]


def assert_possible(world: World) -> None:
    """Nothing is safe before it is due, and nothing that is pending is safe now."""
    for one in world.seen:
        until_s = one.foretold.seconds_until_safe
        assert one.foretold.safe == (not one.pending)
        if one.pending:
            assert until_s is None or until_s > 0, one
            assert until_s is None or until_s >= one.due_within_s, one
        else:
            assert 0.0 == until_s, one


def assert_near(world: World, some: list[Seen], *, within: float, and_s: float = 1.0) -> None:
    """What is foretold is what was needed, but for a part of it and some time."""
    for one in some:
        needed_s, until_s = world.needed_s(one), one.foretold.seconds_until_safe
        assert until_s is not None, one
        assert abs(until_s - needed_s) <= within * needed_s + and_s, (needed_s, one)


def steady(arrivals: float, delay_s: float, capacity: float, **more) -> World:
    world = World(capacity, delay_s, **more)
    world.go_on(delay_s + 35, arrivals=arrivals)
    return world


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(("arrivals", "delay_s", "capacity"), LOADS)
def test_while_workers_keep_up(arrivals, delay_s, capacity, recorded):
    """All is safe once the youngest document is due and flushed, from the first one on, whoever records."""
    world = steady(arrivals, delay_s, capacity, recorded=recorded)
    seen = [*world.seen]
    world.go_on(delay_s + 5)
    assert_near(world, seen, within=0.0)
    assert_possible(world)


@pytest.mark.parametrize(("arrivals", "delay_s", "capacity"), LOADS)
@pytest.mark.parametrize("away", ["worker", "MongoDB"])
def test_nothing_is_known_once_documents_are_overdue(arrivals, delay_s, capacity, away):
    """No rate of before says when a frozen worker goes on; but what is not due yet may wait."""
    world = steady(arrivals, delay_s, capacity)
    world.go_on(delay_s + 20, arrivals=arrivals, flushed=away != "worker", mongodb=away != "MongoDB")
    gone = world.since(delay_s + 20)
    overdue = [one for one in gone if one.late_s >= PACE.overdue_s + 1]  # and the rest of the last second of work
    assert overdue
    assert [] == finite(overdue)
    assert all("persisted" in one.foretold.not_safe_because or away == "MongoDB" for one in overdue)
    early = [one for one in gone if one.late_s < PACE.overdue_s]
    if away == "worker":
        assert early == finite(early)
    else:
        assert [] == finite(gone[round(NOTICED_S * STEPS) + 1 :])
    assert_possible(world)


def assert_never_too_soon(world: World, some: list[Seen]) -> None:
    """Nothing is safe later than was foretold, by more than a batch; and hardly sooner than by a sweep."""
    for one in finite(some):
        needed_s, until_s = world.needed_s(one), one.foretold.seconds_until_safe
        assert needed_s - PACE.batch_s - SLACK_S <= until_s <= needed_s + PACE.sweep_s + 1, (needed_s, one)


@pytest.mark.parametrize("left", ["claimed", "lost"])
@pytest.mark.parametrize("arrivals", [0, 200])
def test_partitions_that_nobody_is_at_work_on_are_not_hidden_by_others(left, arrivals):
    """After a freeze of Redis: flushers that it has cut off have claimed two of many, or their tasks were lost."""
    world = steady(200, 1.0, 1_000, partitions=16)
    world.go_on(8, flushed=False, arrivals=20)
    world.leave(**{left: (3, 5)})
    world.go_on(25, arrivals=arrivals)
    back = world.since(25)
    world.go_on(20)
    assert_never_too_soon(world, back)
    assert_possible(world)
    known = finite(back[3 * STEPS :])
    assert known == back[3 * STEPS :] if arrivals else {0.0} == {one.foretold.seconds_until_safe for one in known}
    assert max(world.needed_s(one) for one in back[3 * STEPS :]) > 7


@pytest.mark.parametrize("left", ["claimed", "lost"])
def test_a_worker_of_several_is_killed(left):
    """As soon as what it had is overdue; before that nobody can tell."""
    world = steady(200, 1.0, 1_000, partitions=16)
    world.leave(**{left: (3, 5)})
    world.go_on(25, arrivals=200)
    seen = world.since(25)
    world.go_on(5)
    overdue = [one for one in seen if one.late_s >= PACE.overdue_s]
    assert overdue
    assert overdue == finite(overdue)
    assert_never_too_soon(world, overdue)


def test_a_partition_that_no_sweep_comes_to():
    """It has no end that could be foretold."""
    world = steady(200, 1.0, 1_000, partitions=16, is_swept=False)
    world.leave(claimed=(3,))
    world.go_on(25, arrivals=200)
    overdue = [one for one in world.since(25) if one.late_s >= PACE.overdue_s]
    assert overdue
    assert [] == finite(overdue)
    assert "nobody is at work on partition 3" in overdue[-1].foretold.not_safe_because


@pytest.mark.parametrize("arrivals", [1, 40, 200])
def test_the_figure_does_not_swing_once_the_only_worker_is_killed(arrivals):
    """It is when the last one is due, as long as none is overdue; then none at all; then a rate."""
    world = steady(arrivals, 1.0, 1_000)
    world.go_on(20, arrivals=arrivals, flushed=False)
    world.go_on(10, arrivals=arrivals)
    known = [one.foretold.seconds_until_safe for one in world.since(30)]
    first, last = known.index(None), len(known) - known[::-1].index(None)
    assert max(known[:first]) <= 1.0 + PACE.batch_s + SLACK_S
    assert {None} == {*known[first:last]}
    assert 20 * STEPS <= last <= 22.5 * STEPS


@pytest.mark.parametrize("arrivals", [0, 200])
@pytest.mark.parametrize("away_s", [8, 25, 90])
@pytest.mark.parametrize("away", ["worker", "MongoDB"])
@pytest.mark.parametrize("recorded", [True, False])
def test_after_an_outage(arrivals, away_s, away, recorded):
    """Soon it is known again, by what is persisted since: the outage itself says nothing."""
    world = steady(200, 1.0, 1_000, recorded=recorded)
    world.go_on(away_s, arrivals=400, flushed=away != "worker", mongodb=away != "MongoDB")
    world.go_on(60, arrivals=arrivals)
    back = world.since(60)
    first = next(at for at, one in enumerate(back) if one.foretold.seconds_until_safe is not None)
    assert first <= 2.5 * STEPS
    assert back[first:] == finite(back[first:])
    world.go_on(30)
    assert_near(world, back[first:], within=0.5)
    assert_near(world, [one for one in back[first:] if one.at > back[0].at + 10], within=0.15)
    assert_possible(world)


@pytest.mark.parametrize(
    ("burst", "delay_s", "capacity"), [(1_000, 1.0, 200), (20_000, 1.0, 1_000), (5_000, 30.0, 500)]
)
def test_after_a_burst(burst, delay_s, capacity):
    """Never sooner than the flush delay allows; and once it is seen how fast it goes, by that."""
    world = steady(5, delay_s, capacity)
    world.come(burst)
    world.go_on(delay_s + burst / capacity - 1, arrivals=5)
    seen = world.since(delay_s + burst / capacity - 1)
    assert seen == finite(seen)
    world.go_on(delay_s + 20)
    assert_near(world, [one for one in seen if one.late_s >= PACE.overdue_s], within=0.15)
    assert_possible(world)


def test_under_more_than_can_be_persisted():
    """What is acknowledged by now is not put off by what comes later."""
    world = steady(100, 1.0, 1_000)
    world.go_on(60, arrivals=1_500)
    seen = [one for one in world.since(60) if one.late_s >= PACE.overdue_s]
    world.go_on(60)
    assert_near(world, seen, within=0.1)
    assert_possible(world)


@pytest.mark.parametrize(("arrivals", "delay_s", "capacity"), LOADS)
@pytest.mark.parametrize("away", ["worker", "MongoDB"])
def test_the_cap_of_an_outage(arrivals, delay_s, capacity, away):
    """Nothing leaves as soon as nothing is persisted: by what comes, and not by what came and left before."""
    cap = max(100, int(arrivals * (delay_s + 600)))
    world = steady(arrivals, delay_s, capacity, cap=cap)
    world.go_on(delay_s + 20, arrivals=arrivals, flushed=away != "worker", mongodb=away != "MongoDB")
    known_s = delay_s + PACE.overdue_s + 1 if away == "worker" else NOTICED_S + 1
    for one in world.since(delay_s + 20 - known_s):
        until_s = (cap - one.pending) / arrivals
        assert one.foretold.seconds_until_cap == pytest.approx(until_s, rel=0.02, abs=2), one
        assert "pending" == one.foretold.cap


@pytest.mark.parametrize("idle_s", [5, 30, 90])
def test_the_cap_of_an_outage_after_a_quiet_spell(idle_s):
    """The time in which nobody wrote is in no rate: neither in that of documents, nor in that of memory."""
    pending, memory = World(1_000, cap=600), World(1_000, memory_of_one=100_000, max_memory=64_000_000)
    for world in (pending, memory):
        world.go_on(40, arrivals=8)
        world.go_on(idle_s)
        world.go_on(NOTICED_S + 1, mongodb=False)
        world.go_on(30, arrivals=8, mongodb=False)
    for one in pending.since(27):
        assert one.foretold.seconds_until_cap == pytest.approx((600 - one.pending) / 8, rel=0.05, abs=2), one
    for one in memory.since(24):
        left = 0.9 * 64_000_000 - 100_000 * one.acknowledged
        assert ("memory", one.foretold.seconds_until_cap) == (
            one.foretold.cap,
            pytest.approx(left / 800_000, rel=0.05, abs=2),
        ), one


@pytest.mark.parametrize("away", ["worker", "MongoDB"])
def test_no_cap_is_near_after_an_outage(away):
    """What is pending falls then, and what grew before does not go on."""
    world = steady(200, 1.0, 1_000, cap=100_000)
    world.go_on(20, arrivals=200, flushed=away != "worker", mongodb=away != "MongoDB")
    world.go_on(60, arrivals=200)
    assert {None} == {one.foretold.seconds_until_cap for one in world.since(59)}


@pytest.mark.parametrize(("before", "after"), [(0, 50), (100, 300)])
@pytest.mark.parametrize("delay_s", [1.0, 10.0])
def test_clients_that_begin_to_write_are_no_growth(before, after, delay_s):
    """What is pending grows for a flush delay, as nothing of it is due, and then no more: no cap is near."""
    world = steady(before, delay_s, 1_000, cap=20_000)
    world.go_on(delay_s + 40, arrivals=after)
    assert {None} == {one.foretold.seconds_until_cap for one in world.seen}


def test_more_than_can_be_persisted_is_growth():
    """It is told once documents are overdue, and goes on."""
    world = steady(100, 1.0, 1_000, cap=40_000)
    world.go_on(60, arrivals=1_500)
    overdue = [one for one in world.since(50) if one.late_s >= PACE.overdue_s]
    assert len(overdue) > 40 * STEPS
    for one in overdue[20 * STEPS :]:
        assert one.foretold.seconds_until_cap == pytest.approx((40_000 - one.pending) / 500, rel=0.3, abs=2), one


def test_short_gaps_of_mongodb_are_no_outage_and_more_comes_than_goes():
    """It is there for 0.1 s of each 0.8: that is told as what it is, and does not change each second."""
    world = steady(100, 1.0, 400)
    for _ in range(60):
        world.go_on(0.7, arrivals=400, mongodb=False)
        world.go_on(0.1, arrivals=400)
    seen = world.since(40)
    assert seen == finite(seen)
    assert {""} == {one.foretold.not_safe_because for one in seen}
    for one in world.since(30):
        assert one.foretold.grows_per_second == pytest.approx(350, rel=0.1), one


def test_more_than_can_be_persisted_is_told_until_it_is_no_more():
    """And neither while workers keep up, nor of a burst that drains, nor after an outage."""
    world = steady(800, 1.0, 1_000, cap=50_000)
    world.come(15_000)
    world.go_on(60, arrivals=300)
    world.go_on(20, arrivals=300, mongodb=False)
    world.go_on(60, arrivals=300)
    assert {None} == {one.foretold.grows_per_second for one in world.seen}
    world.go_on(40, arrivals=1_500)
    for one in world.since(15):
        assert one.foretold.grows_per_second == pytest.approx(500, rel=0.1), one
    world.go_on(40, arrivals=100)
    assert {None} == {one.foretold.grows_per_second for one in world.since(15)}


def test_a_cap_may_be_met_before_anything_is_due():
    """With a long flush delay: what comes meanwhile is more than may wait."""
    world = steady(0, 60.0, 1_000, cap=5_000)
    world.go_on(49, arrivals=100)
    for one in world.since(15):
        assert one.foretold.seconds_until_cap == pytest.approx((5_000 - one.pending) / 100, rel=0.3, abs=2), one
