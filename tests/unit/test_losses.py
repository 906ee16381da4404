"""What a failover has lost, in the log."""

from __future__ import annotations

from unittest.mock import Mock

from writebehind.reconcile.losses import Fate, Losses
from writebehind.redis.recent import Recent
from writebehind.tallies.tallies import Tallies


def test_an_id_that_could_be_taken_for_more_is_quoted(caplog):
    """The line is one of its own, whatever clients have named their documents."""
    losses = Losses()
    losses.add(Recent("users/s:x,event=redis_lost", 7, b""), Fate.LATE)
    losses.add(Recent("users/s:ada", 8, b""), Fate.LATE)

    losses.tell(Mock(now_ms=lambda: 1), Mock(), Tallies())

    [line] = [one.getMessage() for one in caplog.records]
    assert '"users/s:x,event=redis_lost"@7 (late), users/s:ada@8 (late)' in line
