"""States of the breaker in the log: once for each process, however often one is noted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.waiting import wait_until
from writebehind.mongodb import breaker as breaker_module
from writebehind.mongodb.breaker import FAILURES


@pytest.mark.usefixtures("long_intervals")
def test_each_process_logs_each_state_once(one, other, caplog):
    """Who sees the breaker open, half-open or closed logs it, once for an outage, however many probes fail."""
    caplog.set_level("WARNING", breaker_module.__name__)

    events: list[str] = []

    def told() -> list[str]:
        lines = [record.getMessage().removeprefix("the breaker before MongoDB is ") for record in caplog.records]
        lines = [line.removesuffix(breaker_module._ADVICE["open"]) for line in lines]
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
    caplog.set_level("WARNING", breaker_module.__name__)
    now = [1_000.0]
    monkeypatch.setattr(breaker_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
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
    assert f"the breaker before MongoDB is {wanted}" == last


def test_what_never_opened_is_not_told_closed(one, caplog):
    """A failure or two, and a success after them, are no change of the breaker."""
    caplog.set_level("WARNING", breaker_module.__name__)
    one.fail(FAILURES - 1)
    assert one.use()
    assert [] == caplog.records
