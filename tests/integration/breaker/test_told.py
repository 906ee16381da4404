"""States of the breaker in the log: once for each process, however often one is noted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.waiting import wait_until
from writebehind.errors import MongoRefusesError, MongoUnavailableError
from writebehind.logs import states
from writebehind.mongodb import breaker as breaker_module
from writebehind.mongodb import breaker_log
from writebehind.mongodb.breaker import FAILURES


@pytest.mark.usefixtures("long_intervals")
def test_each_process_logs_each_state_once(one, other, caplog):
    """Who sees the breaker open, half-open or closed logs it, once for an outage, however many probes fail."""
    caplog.set_level("WARNING", breaker_log.__name__)

    events: list[str] = []

    def told() -> list[str]:
        lines = [record.getMessage().removeprefix("the breaker before MongoDB is ") for record in caplog.records]
        lines = [line.removesuffix(breaker_log.ADVICE) for line in lines]
        events.extend(record.event for record in caplog.records)
        caplog.clear()
        return lines

    one.fail(FAILURES - 1)
    assert [] == told()
    one.fail(1)
    assert ["open: it is down"] == told()
    assert not one.use()
    assert [] == told()
    assert not other.use()
    assert ["open: it is down"] == told()
    for _ in range(2):
        one.let_interval_end()
        one.fail_as_probe()
    assert ["half-open: one caller finds out whether it serves again"] == told()
    one.let_interval_end()
    assert one.use()
    wait_until(other.use, "the other to see it")
    assert 2 == len([line for line in told() if line.startswith("closed, after ")])
    assert one.use()
    assert other.use()
    assert [] == told()
    assert ["breaker_opened"] * 2 + ["breaker_half_opened"] + ["breaker_closed"] * 2 == events


@pytest.mark.usefixtures("long_intervals")
@pytest.mark.parametrize("closes", ["itself", "another one"])
def test_time_in_which_nothing_was_asked_is_no_outage(one, other, caplog, monkeypatch, closes):
    """A process that has asked nothing since it saw the breaker open does not know when MongoDB came back."""
    caplog.set_level("WARNING", breaker_log.__name__)
    now = [1_000.0]
    for module in (breaker_module, breaker_log):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    one.fail()
    now[0] += 7.5
    assert not one.use()
    now[0] += 330.0
    one.let_interval_end()
    if closes == "another one":
        assert other.use()
        now[0] += 5.0
    caplog.clear()
    assert one.use()

    last = caplog.messages[-1]
    idle = 335.0 if closes == "another one" else 330.0
    wanted = f"closed: it was open for at least 7.5 s; then this process did not look for {idle} s"
    assert f"the breaker before MongoDB is {wanted}; 2 calls failed meanwhile" == last


def test_what_never_opened_is_not_told_closed(one, caplog):
    """A failure or two, and a success after them, are no change of the breaker."""
    caplog.set_level("WARNING", breaker_log.__name__)
    one.fail(FAILURES - 1)
    assert one.use()
    assert [] == caplog.records


@pytest.mark.usefixtures("long_intervals")
def test_what_the_outage_has_cost_is_told_at_its_end(one, caplog):
    """Calls that fail while it is open need no line of their own, and are counted; a refused one is none."""
    caplog.set_level("WARNING", breaker_log.__name__)

    def failure(error: MongoUnavailableError | None = None) -> MongoUnavailableError:
        with pytest.raises(MongoUnavailableError) as failed, one.breaker.guard():
            raise error or AssertionError("it was let through")
        return failed.value

    assert not failure(MongoUnavailableError(outage=True)).logged
    one.fail(FAILURES - 1)
    for _ in range(4):
        assert failure().logged
    one.let_interval_end()
    assert not failure(MongoRefusesError()).logged
    assert one.use()
    assert "; 5 calls failed meanwhile" in caplog.messages[-1]
    assert 5 == caplog.records[-1].count


@pytest.mark.usefixtures("long_intervals")
def test_a_patient_process_keeps_a_short_outage_to_itself(one, caplog, monkeypatch):
    """Others tell it at once."""
    monkeypatch.setattr(states, "_patience_s", 60.0)
    one.fail()
    assert not one.use()
    one.let_interval_end()
    assert one.use()
    assert [] == caplog.records
