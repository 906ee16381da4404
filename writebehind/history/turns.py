"""Turns of partitions: when somebody is at work on each, as a claim of the dead, or a lost task, ends first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

#: So many sweeps may be left out before none is expected: a Redis that was frozen leaves out some.
MOST_SWEEPS: Final = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of flushes while all is well, by the settings, seconds.

    Attributes:
        batch_s: how long one bulk write should take.
        overdue_s: lateness from which a document is overdue: somebody should have persisted something meanwhile.
        longest_delay_s: the longest flush delay of any collection.
        lease_s: life of a claim that is not renewed; each batch renews it.
        sweep_s: between two looks for partitions that nobody sees to.
    """

    batch_s: float
    overdue_s: float
    longest_delay_s: float
    lease_s: float
    sweep_s: float

    @property
    def settled_s(self) -> float:
        """The time after which documents are persisted that come now, and so as many leave as come."""
        return self.longest_delay_s + self.overdue_s

    @property
    def patience_s(self) -> float:
        """The time after which a claim that is not renewed, or a task that does not run, is taken for dead."""
        return 2 * self.batch_s


@dataclass(frozen=True, slots=True)
class Waiting:
    """The documents of a partition that wait, and who sees to them.

    Attributes:
        partition: its number.
        late_s: for how long the first one has been due, seconds; below 0 until it is.
        claim_left_s: the time until the claim of a flusher ends, seconds; `None` where nobody has claimed it.
        task_in_s: the time until the flush task runs that is on its way, seconds; below 0 where it is late; `None`
            where none is on its way.
        task_left_s: the time until that task is given up for lost, seconds.
    """

    partition: int
    late_s: float
    claim_left_s: float | None = None
    task_in_s: float | None = None
    task_left_s: float = 0.0

    def is_at_work(self, pace: Pace) -> bool:
        """Whether a flusher has gone on with it just now."""
        return self.claim_left_s is not None and pace.lease_s - self.claim_left_s < pace.patience_s

    def turn_within_s(self, pace: Pace, swept_ago_s: float | None) -> float:
        """The time within which somebody is at work on it: at most, as the sweep may come soon or late.

        A claim that does not go on may be that of a flusher that is dead, or frozen; a task that does not run may
        be lost, or wait its turn. Neither can be told from here, so the worse is assumed: it has to end.

        Args:
            pace: see there.
            swept_ago_s: the time since the sweep was last done, seconds; `None` where it never was.

        Returns:
            Seconds, 0 where somebody is; infinity where the sweep has to come, and does not.
        """
        if self.is_at_work(pace):
            return 0.0
        if self.claim_left_s is None and self.task_in_s is not None and self.task_in_s > -pace.patience_s:
            return max(0.0, self.task_in_s)
        if swept_ago_s is None or swept_ago_s > MOST_SWEEPS * pace.sweep_s:
            return math.inf
        return max(self.claim_left_s or 0.0, self.task_left_s) + pace.sweep_s
