"""Which recent writes a failover is taken to have lost, where servers are away meanwhile."""

from __future__ import annotations

from unittest.mock import Mock

from writebehind.reconcile.lost_writes import AWAY_S, LOOK_S, LostWrites
from writebehind.reconcile.recommits import Lost
from writebehind.redis.recent import Recent, RecentWrites
from writebehind.redis.recovery import Lapse, Replication
from writebehind.tallies.tallies import Tallies

FIRST, SECOND, NEXT = Lapse(10, 20, 1), Lapse(10, 20, 1), Lapse(30, 40, 2)


def test_a_write_after_a_failover_is_not_lost_by_the_next():
    """Its server was away as the process saw to the first one, which goes on until all servers have answered."""
    lost: list[Lost] = []
    recent = RecentWrites(lambda _: 1, most_bytes=1 << 20)
    store = Mock(recent=recent, partition_of=lambda _: 1)
    store.recovery.replication.return_value = {"a": Replication("t", 9, None, had_replicas=True)}
    recommits = Mock(commit=lambda some, _, **__: lost.extend(some) or True)
    one = LostWrites(store, recommits, Mock(), tallies=Tallies(), answer_ms=1_000)
    recent.begun = lambda: None

    def look(*lapses: list[Lapse] | None) -> float | None:
        store.recovery.lapses.return_value = list(lapses)
        return one.look()

    look([], [])
    one.meet("t", [0, 1])
    assert look([FIRST], None) == AWAY_S
    recent.add([Recent("users/s:ada", 25, b"")])
    assert look([FIRST], [SECOND]) == LOOK_S
    one.meet("t", [0, 1])
    assert look([NEXT, FIRST], [SECOND]) == LOOK_S

    assert [] == lost
