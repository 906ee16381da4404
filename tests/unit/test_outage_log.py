"""Log lines of outages: few, and with every failure counted."""

from __future__ import annotations

import logging
import re
import threading

import pytest

from tests.waiting import wait_until
from writebehind.outage_log import OutageLog

log = logging.getLogger(__name__)


@pytest.fixture
def outages() -> OutageLog:
    """An outage is over after 0.2 s without a failure, and has a line every 0.1 s."""
    return OutageLog(log, quiet_s=0.2, every_s=0.1)


def test_one_failure_is_one_line(outages, caplog):
    """A single failure is told once, and nobody says that it is over; the next one is told again."""
    for _ in range(2):
        outages.note("redis", "no answer")
        wait_until(lambda: not outages._outages, "it to be over")
    assert ["no answer"] * 2 == caplog.messages


def test_every_failure_is_counted(outages, caplog):
    """The lines of an outage add up to all failures, of each kind by itself, from however many threads."""

    def fail(kind: str) -> None:
        for at in range(50):
            outages.note(kind, f"{kind} {at}")

    threads = [threading.Thread(target=fail, args=(kind,)) for kind in ("redis", "mongodb") * 2]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    wait_until(lambda: 2 == caplog.text.count(": over, "), "both to be over")
    for kind in ("redis", "mongodb"):
        assert 1 == sum(bool(re.fullmatch(rf"{kind} \d+", one)) for one in caplog.messages)
        more = re.findall(rf"{kind}: (\d+) more failures? in \d s, the last: {kind} \d+", caplog.text)
        assert sum(map(int, more)) <= 99
        assert any(
            re.fullmatch(rf"{kind}: over, 100 failures in all, the last \d s after the first", one)
            for one in caplog.messages
        )
    assert not outages._watching


def test_a_patient_log_tells_an_outage_that_lasts(caplog):
    """One that is over soon has no line; of one that lasts all failures are counted in the end."""
    outages = OutageLog(log, quiet_s=0.2, patience_s=60.0)
    for _ in range(2):
        outages.note("redis", "no answer")
    wait_until(lambda: not outages._outages, "it to be over")
    assert [] == caplog.messages

    outages = OutageLog(log, patience_s=60.0)
    outages.note("redis", "no answer")
    outages._outages["redis"].began -= 61.0
    for _ in range(2):
        outages.note("redis", "no answer")
    assert ["no answer"] == caplog.messages
    outages._outages["redis"].last -= 11.0
    outages.tell()
    assert caplog.messages[1].startswith("redis: over, 3 failures in all, ")


def test_nothing_is_told_of_what_is_gone(caplog):
    """A log that nobody holds any more, as its pipeline is gone, holds no thread and tells nothing."""
    outages = OutageLog(log, quiet_s=0.1)
    for _ in range(2):
        outages.note("redis", "no answer")
    del outages
    wait_until(lambda: "outage-log" not in {one.name for one in threading.enumerate()}, "the thread to end")
    assert ["no answer"] == [one.getMessage() for one in caplog.records if one.name == log.name]


def test_a_child_process_tells_its_own(outages, caplog):
    """A process that is forked in an outage has no thread of its parent's, and tells what it sees itself."""
    outages.note("redis", "of the parent")
    outages.begin_anew()
    for _ in range(2):
        outages.note("redis", "of the child")
    wait_until(
        lambda: "redis: over, 2 failures in all, the last 0 s after the first" in caplog.messages, "it to be over"
    )
    assert "of the child" in caplog.messages


def test_a_first_line_of_its_own(outages, caplog):
    """It may be an event of its own, graver than a warning, with fields and a trace; others are counted."""
    for number in range(3):
        try:
            int(f"fault {number}")
        except ValueError as error:
            outages.note(
                "faults", "it failed", level=logging.ERROR, event="fault", error=error, member="users/ada"
            )
    wait_until(lambda: not outages._outages, "it to be over")
    first, *others = caplog.records
    assert ("fault", "ERROR", "users/ada", "faults") == (first.event, first.levelname, first.member, first.kind)
    assert "fault 0" in str(first.exc_info[1])
    assert {"outage_lasts", "outage_over"} >= {one.event for one in others}
    assert 3 == others[-1].count
