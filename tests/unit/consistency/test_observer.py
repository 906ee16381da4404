"""An observer that cannot look, or whose looks take long: it goes on soon, and says why nobody looks."""

from __future__ import annotations

import time
from contextlib import nullcontext as nothing_waits
from unittest.mock import Mock

from writebehind.consistency import comparing, observer
from writebehind.consistency.comparing import READ_FOR_S, Comparison
from writebehind.consistency.judging import Fault
from writebehind.consistency.observer import LEASE_MS, Observer
from writebehind.consistency.suspects import FIRST_S, Look
from writebehind.consistency.tally import ENTRIES
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import ConfigurationError
from writebehind.outage_log import OutageLog
from writebehind.redis.unsettled import Shown

OLD, NEW = Entry.loaded(b"1", 1), Entry.loaded(b"2", 2)
SHOWN = Shown(OLD.header.encode(), 1_000, unsettled=False)


def test_the_log_says_why_nobody_looks(monkeypatch, caplog):
    """Once, where it lasts: nothing else tells it of an exporter, which goes on recording."""
    monkeypatch.setattr(observer, "OutageLog", lambda log, **_: OutageLog(log))
    store = Mock()
    store.lease().take.side_effect = ConfigurationError("this Redis belongs to another database")
    one = Observer(store, Mock(), Mock(), settings=Mock(), read=Mock(), part=0.5)
    waits = [one.step() for _ in range(3)]
    assert all(0 < each <= LEASE_MS / 1000 for each in waits)
    told = [each.getMessage() for each in caplog.records]
    assert ["nobody looks what readers see: this Redis belongs to another database"] == told


def test_a_costly_step_is_waited_for_by_one_that_still_observes(monkeypatch, caplog):
    """It uses no more than its part, keeps the right to observe and its mark, and says once why it waits."""
    ticks = {"monotonic": 1_000.0, "thread_time": 0.0}
    for clock in ("monotonic", "thread_time"):
        monkeypatch.setattr(time, clock, lambda clock=clock: ticks[clock])
    store = Mock()
    one, worked = Observer(store, Mock(), Mock(), settings=Mock(), read=Mock(), part=0.009), []

    def work() -> None:
        worked.append(ticks["monotonic"])
        ticks["thread_time"] += 1
        ticks["monotonic"] += 1

    monkeypatch.setattr(one, "_work", work)
    while len(worked) < 3:
        takes, marks = store.lease().take.call_count, store.samples.note_observed.call_count
        wait_s = one.step()
        assert 0 < wait_s <= LEASE_MS / 2_000
        assert len(worked) == 1 or store.lease().take.call_count > takes
        assert len(worked) == 1 or store.samples.note_observed.call_count > marks
        ticks["monotonic"] += wait_s
    assert 3 / (ticks["monotonic"] - worked[0]) > 0.009  # the last one is not paid yet
    assert 2 / (worked[-1] - worked[0]) <= 0.0091
    told = [each.getMessage() for each in caplog.records if "CPU" in each.getMessage()]
    assert 2 == len(told)  # the last wait has not begun
    assert "for 1" in told[0]


def test_nobody_who_fails_marks_that_he_looks(monkeypatch):
    """Not while it waits for what a step has cost, either, that has failed after all."""
    store = Mock()
    one = Observer(store, Mock(), Mock(), settings=Mock(), read=Mock(), part=0.009)
    monkeypatch.setattr(one, "_work", Mock(side_effect=[None, ConfigurationError("no"), None]))
    monkeypatch.setattr(one.budget, "wait_s", lambda: 60.0 if one.failure else 0.0)
    monkeypatch.setattr(observer, "FLUSH_S", 1e-9)
    for marks in (0, 1, 1):
        one.step()
        assert marks == store.samples.note_observed.call_count
    assert 3 == store.lease().take.call_count


def test_reading_many_suspects_anew_keeps_nobody_from_looking(monkeypatch):
    """A step ends while the right to observe lasts, however slow each read is; the others have their turn next."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(comparing, "is_stale", lambda *_: True)
    monkeypatch.setattr(comparing, "is_served", lambda *_: True)
    read: list[str] = []

    def slow(one: DocumentId) -> None:
        now[0] += 0.9
        read.append(one.member)

    store, sink = Mock(), Mock()
    store.unsettled.observe.side_effect = lambda members, **_: dict.fromkeys(members, SHOWN)
    sink.find_states.side_effect = lambda some: [NEW] * len(some)
    one = Comparison(store, sink, settings=Mock(), read=slow, hears=Mock(), budget=Mock(waiting=nothing_waits))
    for number in range(200):
        each = DocumentId.of("users", f"u{number}")
        one.suspects.add(each, Fault.OLDER, SHOWN, NEW, Look(now[0], ENTRIES, (True,) * 3))
    now[0] = FIRST_S
    for _ in range(3):
        began = now[0]
        one.look_again()
        assert now[0] - began < READ_FOR_S + 1
    assert 9 == len(read) == len(set(read))
    assert 200 == len(one.suspects)
