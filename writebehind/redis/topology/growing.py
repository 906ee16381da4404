"""A number of partitions that grows while they are used: what has to be done for each. See `splitting`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from writebehind.redis.connections import Command
from writebehind.redis.keys import View, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.topology.arriving import SCANNED
from writebehind.redis.topology.confirming import asked, see_recorded
from writebehind.redis.topology.dividing import WAITS_S
from writebehind.redis.topology.guard import frozen_key, place_of
from writebehind.redis.topology.record import MoveError
from writebehind.redis.topology.splitting import IN_USE, Splitting, new_partitions, receive
from writebehind.redis.wire import Wire

_EXPECT_FILLING = script("expect_filling")

#: What is frozen is looked at again after so long, seconds.
_LOOK_AGAIN_S = 0.01


class Growing:
    """The partitions of one Redis, while their number grows. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Bind it to a server."""
        self._wire = wire

    def expect(self, view: View, token: str) -> set[int]:
        """Let the new partitions of those that are not divided yet be filled by one process, from nothing.

        Returns:
            Those that were divided all the same: their mark is lost, as what they are made into is in use.

        Raises:
            MoveError: another process has begun meanwhile.
            RedisUnavailableError: Redis does not answer.
        """
        families = {partition: new_partitions(partition, view) for partition in range(view.partitions)}
        undivided = [(at, one) for at, family in families.items() if at not in view.divided for one in family]
        calls = [((partition_keys(one).arriving,), (token, IN_USE)) for _, one in undivided]
        expected = zip(undivided, self._wire.run_many(_EXPECT_FILLING, calls), strict=True)
        unmarked = {at for (at, _), is_expected in expected if not is_expected}
        in_use = [one for at, family in families.items() if at in unmarked | view.divided for one in family]
        self._wire.calls([("SET", partition_keys(one).arriving, IN_USE) for one in in_use])
        new = {one for at, one in undivided if at not in unmarked}
        self._see_undivided(view)  # after that: from here on nobody divides them but by this token
        cursor = b"0"
        while True:
            cursor, found = self._wire.scan(cursor, match="wb:{*}:*", count=SCANNED)
            self._take_out(new, (key.decode(errors="replace") for key in found), token)
            if cursor == b"0":
                return unmarked

    def _see_undivided(self, view: View) -> None:
        """See that what is filled is not in use, as another process may have divided more than this one knows.

        One that had frozen a partition before it lost its right may still divide that, until the freeze is over.
        """
        for partition in range(view.partitions):
            of = partition_keys(partition)
            look: Sequence[Command] = (("GET", of.divided), ("EXISTS", frozen_key(str(partition))))
            until = time.monotonic() + WAITS_S
            while True:
                mark, is_frozen = asked(self._wire.connections(of.pending), look)
                if partition not in view.divided and mark == str(view.target).encode():
                    raise MoveError(f"somebody else has divided partition {partition}: start this again")
                if not is_frozen:
                    break
                if time.monotonic() > until:
                    raise MoveError(f"somebody else divides partition {partition}")
                time.sleep(_LOOK_AGAIN_S)

    def _take_out(self, new: set[int], found: Iterable[str], token: str) -> None:
        """Take copies out that another process has left; what partitions of that number have counted stays."""
        left: dict[int, list[Command]] = defaultdict(list)
        for key in found:
            place = place_of(key)
            if place.isdecimal() and int(place) in new:
                of = partition_keys(int(place))
                if key not in {of.arriving, of.counts}:
                    left[int(place)].append(("DEL", key))
        for partition, commands in left.items():
            receive(partition, self._wire.connections(partition_keys(partition).pending), commands, token)

    def mark(self, partition: int, view: View) -> None:
        """Mark a partition as divided again: what it has belongs to others, and was put there without the mark.

        Whoever flushes it begins anew.

        Raises:
            MoveError: replicas do not confirm it; or the server refuses it.
            RedisUnavailableError: Redis does not answer.
        """
        of = partition_keys(partition)
        server = self._wire.connections(of.pending)
        asked(server, [("SET", of.divided, view.target), ("DEL", of.lease, of.scheduled)])
        see_recorded(server, of.divided)

    def is_left(self, partition: int) -> bool:
        """Whether a partition that is divided has still what has gone. Raises as `expect`."""
        return bool(self._wire.call("EXISTS", partition_keys(partition).leaving))

    def splitting(
        self, partition: int, view: View, token: str, report: Callable[[int], object], least: int = 0
    ) -> Splitting:
        """The division of one of them, by who has let new ones expect that; the others as `Splitting` says."""
        return Splitting(partition, view, self._wire.connections, token=token, report=report, least=least)
