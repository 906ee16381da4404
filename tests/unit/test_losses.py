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


def test_those_that_somebody_has_to_see_to_come_first(caplog):
    """Ten at most are named, in the log and in the drift: not those alone that were committed again."""
    losses, history = Losses(), Mock()
    for at in range(20):
        losses.add(Recent(f"users/s:{at}", 8, b""), Fate.RECOMMITTED)
    losses.add(Recent("users/s:late", 8, b""), Fate.LATE)
    losses.add_unknown(3, 5)

    losses.tell(Mock(now_ms=lambda: 1), history, Tallies())

    [record] = caplog.records
    assert (20, 1, 5) == (record.recommitted, record.late, record.unknown)
    line = record.getMessage()
    assert "such as users/s:late@8 (late), 5 of partition 3 (unknown), users/s:0@8 (recommitted)" in line
    [found] = history.finish.call_args.args
    assert ["users/s:late@8", "5 of partition 3", "users/s:0@8"] == found.samples["lost"][:3]
