"""What `doctor` says of documents that are overdue: why, and no advice that does not help."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from tests.unit.test_remedies import HEALTHY
from writebehind.operations.doctor.findings import Level
from writebehind.operations.doctor.processes import backlog
from writebehind.remedies import remedies

#: Overdue, though the breaker is closed and documents are persisted, or may be.
LATE = {
    "pending": 9_000,
    "oldest_pending_seconds": 41.0,
    "overdue_seconds": 40.0,
    "seconds_until_drained": None,
    "dead_letters": 0,
    "breaker": "closed",
    "away": [],
    "mongodb_refuses": None,
    "paused": [],
}


@pytest.mark.parametrize(
    ("told", "found", "advice"),
    [
        ({"mongodb_error": "refused"}, "MongoDB does not answer: refused", "bring MongoDB back"),
        (
            {"breaker": "open", "breaker_reason": "MongoDB gives no sign of life: internal server error"},
            "MongoDB answers with an error: internal server error",
            "see what its log says",
        ),
        ({"paused": [{"collection": None, "seconds_left": None}]}, "flushing of all", "writebehind resume"),
        ({"seconds_until_drained": 12.4}, "drained in 12 s", "wait"),
        ({}, "overdue for 40 s", "what holds MongoDB up"),
        ({"paused": [{"collection": "users", "seconds_left": 9.0}]}, "overdue for 40 s", "what holds MongoDB up"),
    ],
)
def test_what_is_overdue_has_its_reason(told, found, advice):
    """More workers help where more comes than goes, which the status says by itself."""
    status = HEALTHY | LATE | told
    to_do = remedies(status, is_stalled=False, is_back=False, could_evict=False)
    finding = backlog({**status, "to_do": [asdict(one) for one in to_do]})
    level = Level.FAILURE if told.keys() & {"mongodb_error", "breaker"} else Level.WARNING
    assert (level, True, True) == (finding.level, found in finding.found, advice in finding.advice), finding
    assert "more comes" not in finding.found
    assert "start more workers" not in finding.advice
