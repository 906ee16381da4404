"""Servers with names that get more or fewer: what has to move, and each of its steps. See `moving`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.topology.assigned import Assigned
from writebehind.redis.topology.moving import Move, arrive, drop_left
from writebehind.redis.topology.record import Assignment, ServerRecord, fair, places
from writebehind.redis.wire import Wire

_NAME_SERVERS = script("name_servers")


@dataclass(frozen=True, slots=True)
class Moving:
    """A partition, or `home`, that has to move.

    Attributes:
        place: which.
        source: the server that it is on.
        target: the server that it belongs to.
    """

    place: str
    source: str
    target: str


class Rebalancing:
    """The servers of a URL, while what is on them is moved. Safe to share between threads."""

    def __init__(self, wire: Wire, assigned: Assigned) -> None:
        """Move things between these servers."""
        self._wire = wire
        self._assigned = assigned

    @property
    def names(self) -> Sequence[str]:
        """The names of the servers, in the order of the URL."""
        return self._wire.names

    def used(self) -> Sequence[str]:
        """The servers that are recorded as used. Raises as `plan`."""
        return Assignment.of(self.names, self._records()).servers

    def plan(self, goal: Sequence[str], partitions: int) -> list[Moving]:
        """The moves by which these servers get everything, and the first of them what is no partition's.

        Raises:
            ConfigurationError: a server belongs to another installation; or nobody has used them yet.
            RedisUnavailableError: a server does not answer.
        """
        records = self._records()
        assignment = Assignment.of(self.names, records)
        if not any(records.values()):
            raise ConfigurationError(
                "REDIS_URL: nothing is recorded on these servers yet, so there is nothing to move"
            )
        strangers = [
            name
            for name, (count,) in self._wire.on_each([("EXISTS", keys.DATABASE, keys.PARTITIONS)]).items()
            if count and records.get(name) is None
        ]
        if strangers:
            raise ConfigurationError(
                f"REDIS_URL: server {strangers[0]} holds an installation of its own: name one that is empty"
            )
        here = dict.fromkeys((*places(partitions), *assignment.claims))
        moving = [Moving(one, assignment.server_of(one), fair(one, goal)) for one in here]
        return [one for one in moving if one.source != one.target]

    def use(self, servers: Sequence[str]) -> None:
        """Record on each server which ones are used. Raises as `plan`."""
        told = ",".join(servers)
        for name, record in self._records().items():
            if record is not None or name in servers:
                self._wire.at(name, "EVAL", _NAME_SERVERS.source, 1, keys.SERVER, name, told)

    def finish(self) -> list[str]:
        """Bring to its end what an interrupted move has left; of what. Raises as `plan`."""
        records = self._records()
        for place, (target, moves) in Assignment.of(self.names, records).gone.items():
            arrive(self._wire.unguarded(target), place, moves)
        left = [(name, place) for name, one in records.items() if one is not None for place in one.left]
        for name, place in left:
            drop_left(self._wire.unguarded(name), place)
        return [place for _, place in left]

    def move(self, one: Moving, report: Callable[[int], object]) -> float:
        """Move one; for how many seconds nothing in it could change. `report` as `Move` says, which see."""
        record = self._records()[one.source]
        moves = 1 + (record.here.get(one.place, 0) if record else 0)
        source, target = self._wire.unguarded(one.source), self._wire.unguarded(one.target)
        try:
            return Move(one.place, source, target, moves=moves, report=report).run()
        finally:
            source.close()
            target.close()

    def _records(self) -> dict[str, ServerRecord | None]:
        records = self._assigned.records()
        if missing := [name for name in self.names if name not in records]:
            raise RedisUnavailableError(f"Redis server {missing[0]} does not answer")
        return records
