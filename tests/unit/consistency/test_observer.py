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
from writebehind.redis.unsettled import Shown

OLD, NEW = Entry.loaded(b"1", 1), Entry.loaded(b"2", 2)
SHOWN = Shown(OLD.header.encode(), 1_000, unsettled=False)


def test_the_log_says_why_nobody_looks(monkeypatch, caplog):
    """Once, where it lasts: nothing else tells it of an exporter, which goes on recording."""
    monkeypatch.setattr(observer, "UNOBSERVED_S", 0.0)
    store = Mock()
    store.lease().take.side_effect = ConfigurationError("this Redis belongs to another database")
    one = Observer(store, Mock(), Mock(), settings=Mock(), read=Mock(), part=0.5)
    waits = [one.step() for _ in range(3)]
    assert all(0 < each <= LEASE_MS / 1000 for each in waits)
    told = [each.getMessage() for each in caplog.records]
    assert ["nobody looks what readers see: this Redis belongs to another database"] == told


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
