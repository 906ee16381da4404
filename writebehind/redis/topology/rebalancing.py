"""Servers with names that get more or fewer: what has to move, and each of its steps. See `moving`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.connections import Connections
from writebehind.redis.scripts import script
from writebehind.redis.topology.arriving import drop_begun, drop_left, see_arrived, settle
from writebehind.redis.topology.assigned import Assigned
from writebehind.redis.topology.confirming import Standing, see_keeping_up
from writebehind.redis.topology.moving import Move
from writebehind.redis.topology.record import Assignment, Left, MoveError, ServerRecord, fair, places
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
        """Record on each server which ones are used, and see that its replicas have that. Raises as `finish`."""
        told = ",".join(servers)
        for name, record in self._records().items():
            if record is not None or name in servers:
                with self._server(name) as server:
                    step = ("EVAL", _NAME_SERVERS.source, 1, keys.SERVER, name, told)
                    see_keeping_up(server, Standing.of(server), step)

    def finish(self, going_on: Callable[[], object] = lambda: None, *, least: int = 0) -> list[str]:
        """Bring to its end what moves have left; of what. `going_on` is called between, `least` as for `move`.

        Raises:
            ConfigurationError: as `plan`.
            MoveError: replicas or disks do not confirm it; or a server refuses what it needs; or somebody
                else moves.
            RedisUnavailableError: a server does not answer.
        """
        for place, (name, left) in Assignment.of(self.names, self._records()).gone.items():
            with self._server(name) as source, self._server(left.server) as target:
                settle(source, target, place, left, least)
        assignment = Assignment.of(self.names, self._records())
        if assignment.gone:
            raise MoveError(f"somebody else moves partition {next(iter(assignment.gone))}: start this again")
        for name, coming in assignment.coming.items():
            with self._server(name) as target:
                for place in sorted(coming):
                    going_on()
                    drop_begun(target, place, going_on)
        over: dict[str, dict[str, Left]] = defaultdict(dict)
        arrived: dict[tuple[str, str], dict[str, Left]] = defaultdict(dict)
        for place, of in assignment.copies.items():
            for name, left in of.items():
                (over[name] if left.is_over else arrived[name, assignment.claims[place]])[place] = left
        for (name, at), some in arrived.items():
            with self._server(name) as source, self._server(at) as target:
                going_on()
                over[name] |= see_arrived(source, target, some, least)
        for name, some in over.items():
            with self._server(name) as source:
                for place, left in some.items():
                    going_on()
                    drop_left(source, place, left, going_on)
        return [place for some in over.values() for place in some]

    def move(
        self, one: Moving, report: Callable[[int], object], *, least: int = 0, most_memory: float = 1.0
    ) -> float:
        """Move one, but for what it leaves behind; for how many seconds nothing in it could change.

        Args:
            one: what.
            report: as `Move` says.
            least: how many replicas have to confirm at least, where a server has any.
            most_memory: the part of its maxmemory from which a server refuses writes.

        Raises: as `Move.run`.
        """
        record = self._records()[one.source]
        moves = 1 + (record.here.get(one.place, 0) if record else 0)
        with self._server(one.source) as source, self._server(one.target) as target:
            move = Move(
                one.place, source, target, moves=moves, report=report, least=least, most_memory=most_memory
            )
            return move.run()

    @contextmanager
    def _server(self, name: str) -> Iterator[Connections]:
        """A server, which is not asked whether what is done belongs there."""
        server = self._wire.unguarded(name)
        try:
            yield server
        finally:
            server.close()

    def _records(self) -> dict[str, ServerRecord | None]:
        records = self._assigned.records()
        if missing := [name for name in self.names if name not in records]:
            raise RedisUnavailableError(f"Redis server {missing[0]} does not answer")
        return records
