"""Changes of state as events: each is logged once."""

from __future__ import annotations

import logging

import pytest

from tests.waiting import wait_until
from writebehind.logs import states as module
from writebehind.logs.states import StateLog, StateLogs

log = logging.getLogger(__name__)


def states(again_s: float = 10.0) -> StateLog:
    return StateLog(log, "redis_lost", "redis_back", again_s=again_s)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records]


def test_a_state_has_a_line_at_each_end(caplog):
    """One where it begins and one where it is over, however often either is noted."""
    state = states()
    state.end("back")
    for _ in range(3):
        state.begin("lost", cap="pending")
    for _ in range(3):
        state.end("back")
    assert ["redis_lost", "redis_back"] == events(caplog)
    assert ["lost", "back, after 0.0 s; nothing is to be done"] == caplog.messages
    assert "pending" == caplog.records[0].cap


def test_a_state_that_flickers_is_told_once(caplog):
    """What is not told to have begun is not told to be over; one that lasts is told later."""
    state = states()
    for _ in range(5):
        state.begin("lost")
        state.end("back")
    assert ["redis_lost", "redis_back"] == events(caplog)
    state.begin("lost")
    state._told_at -= 11
    assert 2 == len(caplog.records)
    state.begin("lost")
    state.end("back")
    assert ["redis_lost", "redis_back"] * 2 == events(caplog)


def test_an_outage_is_told_once_a_minute(caplog):
    """Nobody has to wait for its end to know that it lasts, and what it costs; a state is no outage."""
    for is_outage in (True, False):
        state = StateLog(log, "redis_lost", "redis_back", is_outage=is_outage)
        for _ in range(3):
            state.begin("lost")
            state._told_at -= 61
    assert ["redis_lost", "outage_lasts", "outage_lasts", "redis_lost"] == events(caplog)
    assert "lost; it has lasted for 0 s, in which 3 calls failed" == caplog.messages[2]
    assert ("redis_lost", 3) == (caplog.records[2].kind, caplog.records[2].count)


def test_another_reason_is_told(caplog):
    """A server that has gone, and then answers and refuses, has a line for each, if not within ten seconds."""
    state = states()
    state.begin("gone")
    state.begin("alone", cause="alone")
    state._told_at -= 11
    for _ in range(2):
        state.begin("alone", cause="alone")
    state.end("back")
    assert ["gone", "alone"] == caplog.messages[:-1]
    assert ["redis_lost", "redis_lost", "redis_back"] == events(caplog)


def test_an_outage_counts_what_failed(caplog):
    """Its last line says how many calls failed meanwhile; of the next one, those of the next."""
    state = StateLog(log, "redis_lost", "redis_back", again_s=0.0, is_outage=True)
    for failures in (3, 1):
        state.begin("lost")
        for _ in range(failures - 1):
            state.fails()
        state.end("back")
        counted = "1 call" if failures == 1 else f"{failures} calls"
        assert f"back, after 0.0 s in which {counted} failed; nothing is to be done" == caplog.messages[-1]
        assert failures == caplog.records[-1].count


def test_a_patient_process_tells_an_outage_that_lasts(caplog, monkeypatch):
    """One that is over soon has no line at all; other states it tells at once."""
    monkeypatch.setattr(module, "_patience_s", 0.2)
    outage = StateLog(log, "redis_lost", "redis_back", is_outage=True)
    outage.begin("lost")
    outage.end("back")
    assert [] == caplog.records
    wait_until(lambda: outage.begin("lost") or caplog.records, "it to be told")
    outage.end("back")
    states().begin("full")
    assert ["redis_lost", "redis_back", "redis_lost"] == events(caplog)


def test_a_child_process_tells_what_it_sees_itself(caplog):
    """What the parent has seen begin, the child has not."""
    state = states()
    state.begin("lost")
    state.begin_anew()
    assert not state.lasts
    state.end("back")
    state.begin("lost")
    assert ["redis_lost"] * 2 == events(caplog)


def test_states_of_several_things_are_told_apart(caplog):
    """Each has its own two lines; what is one too many is told once for all."""
    several = StateLogs(log, "collection_refused", "collection_served")
    several.end("users", "users again")
    for _ in range(3):
        several.begin("users", "users refused", collection="users")
        several.begin("shop", "shop refused", collection="shop")
    several.end("users", "users again", collection="users")
    assert ["collection_refused"] * 2 + ["collection_served"] == events(caplog)
    assert ["users", "shop", "users"] == [one.collection for one in caplog.records]

    caplog.clear()
    for number in range(2 * module.MOST_APART):
        several.begin(f"c{number}", "refused")
        several.end("another", "again")
    assert module.MOST_APART - 1 == len(caplog.records)
