"""Recent writes: what is kept, what is forgotten, and what is known of what was dropped."""

from __future__ import annotations

from writebehind.redis.recent import BESIDE, Dropped, Recent, RecentWrites


def writes(*versions: int) -> list[Recent]:
    return [Recent(f"users/s:{one}", one, b"x" * (1_000 - BESIDE)) for one in versions]


def recent(most: int) -> RecentWrites:
    made = RecentWrites(lambda _: 7, most_bytes=most * 1_000)
    made.there_are_replicas()
    return made


def versions(of: RecentWrites) -> list[int]:
    return [one.version for _, one in of.since(0)[0]]


def test_the_oldest_are_dropped_and_counted():
    """What takes too much memory goes, and it is known how much that was and up to which version."""
    some = recent(3)
    some.add(writes(1, 2, 3, 4, 5))
    assert [3, 4, 5] == versions(some)
    assert {7: Dropped(2, 2)} == some.take_dropped()
    assert {} == some.take_dropped()


def test_what_replicas_have_is_forgotten_and_what_was_dropped_before_it():
    """It cannot be lost any more."""
    some = recent(3)
    some.add(writes(1, 2, 3, 4, 5))
    some.release(4)
    assert [5] == versions(some)
    assert {} == some.take_dropped()


def test_what_was_dropped_later_is_not_forgotten():
    """Replicas may not have it."""
    some = recent(3)
    some.add(writes(1, 2))
    position = some.position
    some.add(writes(3, 4, 5, 6, 7, 8))
    some.release(position)
    assert Dropped(5, 5) == some.take_dropped()[7]


def test_what_is_too_old_is_dropped():
    """As if it had taken too much memory."""
    some = recent(3)
    some.add(writes(1, 2, 3))
    some.drop(2)
    assert ([3], {7: Dropped(2, 2)}) == (versions(some), some.take_dropped())


def test_what_is_needed_no_more_is_neither_there_nor_dropped():
    """And what is put in the place of a write takes its own memory."""
    some = recent(3)
    some.add(writes(1, 2, 3))
    some.replace({0: None, 1: Recent("users/s:2", 2, b"", again_after=1), 9: None})
    assert [2, 3] == versions(some)
    some.add(writes(4, 5, 6))
    assert [4, 5, 6] == versions(some)
    assert {7: Dropped(2, 3)} == some.take_dropped()


def test_who_watches_is_told_once_until_nothing_is_left():
    """The next write calls again."""
    calls = []
    some = recent(3)
    some.begun = lambda: calls.append(some.position)
    some.add(writes(1, 2))
    assert not some.unwatch()
    some.add(writes(3))
    some.release(3)
    assert some.unwatch()
    some.add([])
    some.add(writes(4))
    assert [2, 4] == calls


def test_a_write_stands_where_nobody_can_watch_it(caplog):
    """It is acknowledged by then: the next one tries again, and the log says so once."""
    some = recent(3)
    tries = []

    def refuse() -> None:
        tries.append(some.position)
        raise RuntimeError("can't start new thread")

    some.begun = refuse
    some.add(writes(1))
    some.add(writes(2))
    assert ([1, 2], [1, 2]) == (tries, versions(some))
    assert 1 == len(caplog.records)
    some.begun = lambda: tries.append(0)
    some.add(writes(3))
    some.add(writes(4))
    assert [1, 2, 0] == tries


def test_nothing_is_kept_where_it_may_take_no_memory():
    """The setting says so."""
    some = recent(0)
    assert not some.is_on
