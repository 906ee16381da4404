"""Who was last at work, and when Redis was away: decided by what nobody has noted, whatever one process sees."""

from __future__ import annotations

import pytest

from writebehind.redis import keys
from writebehind.redis.shared.attendance import AWAY_MS, BEAT, Attendance

HOUR_MS = 3_600_000


@pytest.fixture
def attendance(store) -> Attendance:
    return store.attendance


def passed(store, ms: int) -> None:
    """Let time have passed since everything was noted."""
    noted = store._wire.call("ZRANGE", keys.OBSERVED, 0, -1)
    for name in noted:
        store._wire.call("ZINCRBY", keys.OBSERVED, -ms, name)


def seen_by_another(store) -> None:
    Attendance(store._wire).note_seen()


def test_nobody_has_noted_anything_for_long(store, attendance):
    """So Redis was away; the last such time is told, until it is a day ago."""
    seen_by_another(store)
    assert None is attendance.look(store.now_ms()).outage
    for away_ms in (AWAY_MS + 1, 300_000):
        passed(store, away_ms)
        seen_by_another(store)
        outage = attendance.look(store.now_ms()).outage
        assert away_ms / 1000 == pytest.approx(outage.began_s - outage.ended_s, abs=1)
        assert outage.ended_s < 5
    assert 2 == store._wire.call("ZCARD", keys.OBSERVED)
    passed(store, 25 * HOUR_MS)
    attendance.note(BEAT)
    assert outage.ended_s < 5


def test_one_that_could_not_reach_redis_while_others_did(store, attendance):
    """Its way there was broken: nobody else is to be excused."""
    attendance.note_seen()
    for _ in range(4):
        passed(store, AWAY_MS - 3000)
        seen_by_another(store)
    attendance._saw_s = float("-inf")
    attendance.note_seen()
    assert None is attendance.look(store.now_ms()).outage


def test_it_is_noted_every_few_seconds_only(store, attendance):
    """As each worker does at each look."""
    attendance.note_seen()
    passed(store, 2 * AWAY_MS)
    attendance.note_seen()
    assert None is attendance.look(store.now_ms()).outage


def test_what_lies_ahead_says_nothing(store, attendance):
    """A clock was set back; what was noted by it is dropped as soon as somebody notes anything."""
    attendance.note(BEAT)
    passed(store, 2 * AWAY_MS)
    seen_by_another(store)
    assert attendance.look(store.now_ms()).outage
    passed(store, -HOUR_MS)
    found = attendance.look(store.now_ms())
    assert ({}, None) == (found.by_role, found.outage)
    seen_by_another(store)
    assert [b"redis-seen"] == store._wire.call("ZRANGE", keys.OBSERVED, 0, -1)
    assert None is attendance.look(store.now_ms()).outage


def test_complaints_that_lie_ahead_hide_no_other(store):
    store.complaints.note("the disk is full")
    ahead = store.now_ms() + HOUR_MS
    store._wire.call("ZADD", keys.COMPLAINTS, ahead, "of an hour ahead")
    assert "the disk is full" == store.complaints.latest(store.now_ms())
