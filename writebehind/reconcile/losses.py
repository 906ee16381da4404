"""Losses of a failover of Redis, and their fates: counted, logged, and shown as drift."""

from __future__ import annotations

import logging
from collections import Counter
from enum import StrEnum
from typing import Final

from writebehind.errors import RedisUnavailableError
from writebehind.logs.quoting import quoted
from writebehind.plurals import counted
from writebehind.reconcile.findings import Drift, History, Pass
from writebehind.redis.recent import Recent
from writebehind.redis.store import Store
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: So many writes are named in a line of the log.
MOST_NAMED: Final = 10


class Fate(StrEnum):
    """Fate of an acknowledged write that was lost in Redis."""

    RECOMMITTED = "recommitted"
    """It was committed again."""
    SUPERSEDED = "superseded"
    """A newer write had come over it by then, which did not see it."""
    REPLACED = "replaced"
    """MongoDB has the document from others, without a version: it was not committed again."""
    FOREIGN = "foreign"
    """Redis belongs to another installation by now: it was not committed again."""
    LATE = "late"
    """It was not committed again: the document may have been deleted since, and that forgotten."""
    UNKNOWN = "unknown"
    """It was not kept, as it took too much memory or was too old, and may be lost."""


_MEANING: Final = {
    Fate.RECOMMITTED: "committed again",
    Fate.SUPERSEDED: "under a newer write",
    Fate.REPLACED: "replaced by others in MongoDB",
    Fate.FOREIGN: "not committed to the Redis of others",
    Fate.LATE: "too old to be committed again",
    Fate.UNKNOWN: "not kept, of which some may be there",
}


class Losses:
    """Lost writes that were found in one look."""

    def __init__(self) -> None:
        """Begin with none."""
        self._fates: Counter[Fate] = Counter()
        self._named: list[tuple[str, Fate]] = []

    def add(self, write: Recent, fate: Fate) -> None:
        """Note a write and its fate."""
        self._fates[fate] += 1
        self._named.append((f"{quoted(write.member)}@{write.version}", fate))

    def add_unknown(self, partition: int, number: int) -> None:
        """Note how many writes of a partition may be lost."""
        self._fates[Fate.UNKNOWN] += number
        self._named.append((f"{number} of partition {partition}", Fate.UNKNOWN))

    def tell(self, store: Store, history: History, tallies: Tallies) -> None:
        """Count and log them, and add them to what reconciling has found."""
        if not self._fates:
            return
        # First those that somebody has to see to: not all have a place in a line, nor in the drift.
        self._named.sort(key=lambda one: one[1] is Fate.RECOMMITTED)
        for fate, number in self._fates.items():
            tallies.add(families.LOST_WRITES, (fate.value,), number)
        log.warning(
            "a failover of Redis has lost %s of this process: %s; such as %s",
            counted(self._fates.total(), "acknowledged write"),
            ", ".join(f"{number} {_MEANING[fate]}" for fate, number in self._fates.items()),
            ", ".join(f"{name[:200]} ({fate})" for name, fate in self._named[:MOST_NAMED]),
            extra={"event": "writes_lost", **{fate.value: one for fate, one in self._fates.items()}},
        )
        try:
            found = Pass(started_ms=store.now_ms())
            for name, fate in self._named:
                found.note(Drift.LOST, name, repaired=fate is Fate.RECOMMITTED)
            history.finish(found)
        except RedisUnavailableError as error:
            log.debug("what was lost is not among the drift: %s", error)
