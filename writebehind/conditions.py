"""Conditions: what may be wrong with an installation, and how bad each is, in one table.

A status, `writebehind doctor`, the console and the alerts take the severity from here, so that they say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Severity(IntEnum):
    """Urgency of a condition; also the exit status of `writebehind status` and `writebehind doctor` for the worst.

    Attributes:
        OK: nothing is wrong.
        WARNING: all works, and somebody should look today.
        CRITICAL: writes are refused, or what is acknowledged does not go to MongoDB: somebody should look now.
    """

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that may be wrong.

    Attributes:
        severity: how bad it is.
        chapter: the chapter of the runbook about it, which has the name of an alert.
        is_alert: whether that alert, of this severity, is about this condition.
    """

    severity: Severity
    chapter: str
    is_alert: bool = True


#: The runbook, which has a chapter for each alert.
RUNBOOK: Final = "https://github.com/writebehind/writebehind/tree/main/docs/runbook.md"
#: From this part of the partitions on, that they refuse new documents is critical: fewer have met a hot spot.
MOST_FULL: Final = 0.1

CONDITIONS: Final[Mapping[str, Fault]] = {
    "redis": Fault(Severity.CRITICAL, "WritebehindRedisDown"),
    "lost-data": Fault(Severity.CRITICAL, "WritebehindDataLost"),
    "lost-keys": Fault(Severity.CRITICAL, "WritebehindKeysLost"),
    "redis-server": Fault(Severity.CRITICAL, "WritebehindRedisServerDown"),
    "redis-file": Fault(Severity.CRITICAL, "WritebehindRedisNotDurable"),
    "redis-refuses": Fault(Severity.CRITICAL, "WritebehindRedisRefuses"),
    "mongodb": Fault(Severity.CRITICAL, "WritebehindMongodbDown"),
    "inconsistent": Fault(Severity.WARNING, "WritebehindConsistencyBelowOne"),
    "vanished": Fault(Severity.CRITICAL, "WritebehindDrift", is_alert=False),
    "mongodb-refuses": Fault(Severity.CRITICAL, "WritebehindMongodbRefuses"),
    "refused": Fault(Severity.CRITICAL, "WritebehindWritesRefused"),
    "refused-in-part": Fault(Severity.WARNING, "WritebehindWritesRefused"),
    "refused-soon": Fault(Severity.CRITICAL, "WritebehindDrainSlowerThanArrival"),
    "memory": Fault(Severity.CRITICAL, "WritebehindRedisMemory"),
    "stalled": Fault(Severity.CRITICAL, "WritebehindPendingOld"),
    "resumes": Fault(Severity.WARNING, "WritebehindPendingOld"),
    "overdue": Fault(Severity.WARNING, "WritebehindPendingOld"),
    "overdue-for-long": Fault(Severity.CRITICAL, "WritebehindPendingOld"),
    "no-worker": Fault(Severity.CRITICAL, "WritebehindNoWorker"),
    "outrun": Fault(Severity.WARNING, "WritebehindDrainSlowerThanArrival"),
    "paused": Fault(Severity.WARNING, "WritebehindPaused"),
    "queue": Fault(Severity.WARNING, "WritebehindQueueWithoutConsumer"),
    "worker": Fault(Severity.WARNING, "WritebehindNoWorker", is_alert=False),
    "beat": Fault(Severity.WARNING, "WritebehindSweepLate"),
    "task": Fault(Severity.WARNING, "WritebehindSweepLate"),
    "listener": Fault(Severity.WARNING, "WritebehindListenerSilent"),
    "listener-unheard": Fault(Severity.WARNING, "WritebehindListenerSilent"),
    "exporter": Fault(Severity.WARNING, "WritebehindExporterMissing"),
    "dead-letters": Fault(Severity.WARNING, "WritebehindDeadLetters"),
    "copies": Fault(Severity.WARNING, "WritebehindRedisServerDown", is_alert=False),
    "data-directory": Fault(Severity.CRITICAL, "WritebehindDataLost", is_alert=False),
    "api": Fault(Severity.CRITICAL, "WritebehindApiErrors", is_alert=False),
    "web": Fault(Severity.WARNING, "WritebehindApiErrors", is_alert=False),
    "up": Fault(Severity.WARNING, "WritebehindNoWorker", is_alert=False),
}


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that is wrong, and what to do about it.

    Attributes:
        about: `redis`, `lost_data`, `lost_keys`, `vanished`, `paused`, `mongodb`, `refused`, `backlog`, `beat`;
            `listener`, `exporter`, `readers`, `api`, `up`, `data directory`, `dead letters`;
            `queue`, `task` or `worker` with a name.
        found: what is wrong.
        advice: what to do.
        runbook: the address of the chapter that says more.
        condition: which of `CONDITIONS` it is.
        severity: how bad that is: `warning` or `critical`.
    """

    about: str
    found: str
    advice: str
    runbook: str
    condition: str
    severity: str


def remedy(condition: str, about: str, found: str, advice: str) -> Remedy:
    """The remedy for one of `CONDITIONS`, which has its severity and its chapter of the runbook."""
    known = CONDITIONS[condition]
    address = f"{RUNBOOK}#{known.chapter.lower()}"
    return Remedy(about, found, advice, address, condition, known.severity.name.lower())
