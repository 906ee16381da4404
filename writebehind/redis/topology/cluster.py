"""A Redis Cluster: slots by its own map, which redis-py keeps, and what nodes answer when a slot is elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from redis import ConnectionPool, RedisCluster
from redis.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from writebehind import forks
from writebehind.errors import RedisNotReadyError, RedisUnavailableError, UncoveredError, told, without_frames
from writebehind.logs.states import StateLog
from writebehind.redis.connections import Command, Connections, Greeting
from writebehind.redis.topology.routing import (
    ELSEWHERE,
    Answered,
    Several,
    Then,
    Way,
    exchange_at,
    in_order,
    key_of,
    tag,
)

log = logging.getLogger(__name__)

#: After a failure the map is asked for anew, but not more often than this, seconds.
REFRESH_EVERY_S = 0.1
#: While a slot is on its way key by key, a step is tried again after this, seconds, and then after twice that, up
#: to the second: it may be so for long.
TRY_AGAIN_S, TRY_AGAIN_AT_MOST_S = 0.01, 0.1

Place = tuple[str, int]
#: What redis-py raises where no node can be reached, or nodes do not agree: it is no RedisError.
_NO_MAP = (RedisError, RedisClusterException)


class Cluster(Several):
    """The primaries of a Redis Cluster. Safe to share between threads."""

    def __init__(
        self,
        nodes: Sequence[Place],
        pool: Callable[[Place], ConnectionPool],
        *,
        timeout_s: float,
        options: Mapping[str, Any],
    ) -> None:
        """Know some nodes of it; nothing is opened before it is needed.

        Args:
            nodes: where some listen, by which the others are found.
            pool: describes connections to a node.
            timeout_s: for how long a slot that is being moved is waited for.
            options: how redis-py connects to ask for the map: user, password, TLS.
        """
        self._nodes = nodes
        self._pool = pool
        self._timeout_s = timeout_s
        self._options = options
        self._lock = forks.lock()
        self._connections: dict[Place, Connections] = {}
        self._greeting: Greeting | None = None
        self.outage = StateLog(log, "redis_lost", "redis_back", is_outage=True)
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Ask for the map anew, over a connection of this process."""
        self._map: RedisCluster | None = None
        #: Slots that were found elsewhere than the map says.
        self._moved: dict[int, Place] = {}
        self._stale = False
        self._asked = float("-inf")

    def place(self, key: str) -> Connections:
        """As `Servers` says."""
        slot = _slot(tag(key))
        if (place := self._place_of(slot, self._current())) is None:
            self._stale = True
            raise UncoveredError(inner=f"slot {slot}")
        return self._to(place)

    def way(self, key: str) -> Way | None:
        """As `Servers` says."""
        if self._map is None or self._stale:
            return None
        place = self._place_of(_slot(tag(key)), self._map)
        server = self._connections.get(place) if place else None
        return None if server is None else Way(server)

    def _place_of(self, slot: int, nodes: RedisCluster) -> Place | None:
        """The node that has a slot, by what nodes have said and else by the map; `None` where none has."""
        if (place := self._moved.get(slot)) is None and (of_slot := nodes.nodes_manager.slots_cache.get(slot)):
            place = of_slot[0].host, of_slot[0].port
        return place

    def servers(self) -> Sequence[Connections]:
        """As `Servers` says."""
        primaries = {(one.host, one.port) for one in self._current().get_primaries()}  # type: ignore[no-untyped-call]
        return [self._to(one) for one in sorted(primaries | set(self._moved.values()))]

    def known(self) -> Sequence[Connections]:
        """As `Servers` says."""
        return list(self._connections.values())

    def greet(self, greeting: Greeting) -> None:
        """As `Servers` says."""
        self._greeting = greeting
        super().greet(greeting)

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """As `Servers` says."""
        return self._follow(commands, None)[0]

    def confirmed(self, commands: Sequence[Command], then: Then) -> tuple[list[Any], list[Answered | None]]:
        """As `Servers` says."""
        return self._follow(commands, then)

    def close(self) -> None:
        """As `Servers` says."""
        super().close()
        if self._map is not None:
            self._map.close()

    def _follow(self, commands: Sequence[Command], then: Then | None) -> tuple[list[Any], list[Answered | None]]:
        """Exchange, and send again what a node did not carry out, as its slot is elsewhere or on its way."""
        answers, confirmed = self._sent(commands, then)
        until = 0.0
        pause = TRY_AGAIN_S if any(isinstance(one, TryAgainError) for one in answers) else 0.0
        while again := [at for at, one in enumerate(answers) if isinstance(one, ELSEWHERE)]:
            now = time.monotonic()
            until = until or now + self._timeout_s
            if now > until:
                for at in again:
                    answers[at] = _late(answers[at])
                break
            if pause:
                time.sleep(pause)
            pause = min(max(TRY_AGAIN_S, 2 * pause), TRY_AGAIN_AT_MOST_S)
            again = in_order(commands, answers, again)
            asked = self._note(commands, answers, again)
            some = [commands[at] for at in again]
            found, also = self._sent(some, then, [asked.get(at) for at in again])
            for place, answer, one in zip(again, found, also, strict=True):
                answers[place], confirmed[place] = answer, one
        return answers, confirmed

    def _note(self, commands: Sequence[Command], answers: Sequence[Any], again: Sequence[int]) -> dict[int, Place]:
        """Note what nodes said of slots; by place, the node that is to be asked for what it has only in part."""
        asked: dict[int, Place] = {}
        for at in again:
            answer = answers[at]
            if isinstance(answer, MovedError):
                # The map is asked for anew soon, as more slots than this one will have moved.
                self._moved[_slot(tag(key_of(commands[at])))] = answer.host, answer.port
                self._stale = True
            elif isinstance(answer, AskError):
                asked[at] = answer.host, answer.port
        return asked

    def _sent(
        self, commands: Sequence[Command], then: Then | None, asked: Sequence[Place | None] = ()
    ) -> tuple[list[Any], list[Answered | None]]:
        """Send each to its node, or where it is `asked`, which ASKING before it says."""
        if not any(asked):
            return self._seen(*self._exchange(commands, then))
        sent: list[Command] = []
        ours: list[int] = []
        by_place: dict[Connections, list[int]] = {}
        nowhere: dict[int, RedisUnavailableError] = {}
        for at, command in enumerate(commands):
            said = [("ASKING",), command] if asked[at] else [command]
            places = range(len(sent), len(sent) + len(said))
            try:
                to = self._to(place) if (place := asked[at]) else self.place(key_of(command))
                by_place.setdefault(to, []).extend(places)
            except UncoveredError as error:
                nowhere[places[-1]] = without_frames(error)
            ours.append(places[-1])
            sent += said
        answers, confirmed = self._seen(*exchange_at(by_place, sent, then, nowhere))
        return [answers[at] for at in ours], [confirmed[at] for at in ours]

    def _exchange(self, commands: Sequence[Command], then: Then | None) -> tuple[list[Any], list[Answered | None]]:
        try:
            return super()._exchange(commands, then)
        except RedisUnavailableError:
            self._stale = True
            raise

    def _seen(
        self, answers: list[Any], confirmed: list[Answered | None]
    ) -> tuple[list[Any], list[Answered | None]]:
        """The same, when what they say of the map is noted."""
        if any(isinstance(one, (RedisUnavailableError, ClusterDownError)) for one in answers):
            self._stale = True
        return answers, confirmed

    def _to(self, place: Place) -> Connections:
        found = self._connections.get(place)
        if found is None:
            with self._lock:
                found = self._connections.get(place)
                if found is None:
                    made = Connections(self._pool(place), f"{place[0]}:{place[1]}")
                    made.greeting = self._greeting
                    found = self._connections[place] = made
        return found

    def _current(self) -> RedisCluster:
        """The map; asked for anew after a failure, by one caller, while the others go by the old one."""
        found = self._map
        if found is not None and not (self._stale and time.monotonic() - self._asked >= REFRESH_EVERY_S):
            return found
        if not self._lock.acquire(blocking=found is None):
            return found  # type: ignore[return-value]  # it blocks while there is none
        try:
            if self._map is None:
                self._map = self._first()
            elif self._stale and time.monotonic() - self._asked >= REFRESH_EVERY_S:
                self._refresh(self._map)
            return self._map
        finally:
            self._lock.release()

    def _first(self) -> RedisCluster:
        nodes = [ClusterNode(host, port) for host, port in self._nodes]  # type: ignore[no-untyped-call]
        try:
            made = RedisCluster(startup_nodes=nodes, require_full_coverage=False, **self._options)
        except _NO_MAP as error:
            self.outage.begin(f"Redis Cluster does not answer: {told(error)}")
            raise RedisUnavailableError("Redis Cluster does not answer", inner=told(error)) from error
        self._asked = time.monotonic()
        self.outage.end("Redis Cluster answers again")
        return made

    def _refresh(self, known: RedisCluster) -> None:
        self._stale = False
        moved = dict(self._moved)
        try:
            known.nodes_manager.initialize()
        except _NO_MAP as error:  # the old one may do; whoever meets a node that is away asks again
            self._stale = True
            log.debug("the map of the cluster was not to be had: %s", error)
        else:
            for slot in moved:
                self._moved.pop(slot, None)
            primaries = {(one.host, one.port) for one in known.get_primaries()}  # type: ignore[no-untyped-call]
            for place in self._connections.keys() - primaries:
                self._connections[place].close()  # one that comes back as primary is greeted again
        finally:
            self._asked = time.monotonic()


@lru_cache(65_536)
def _slot(of: str) -> int:
    return int(key_slot(of.encode()))


def _late(answer: ResponseError) -> RedisNotReadyError:
    """The reason why a command was carried out nowhere for long, by the last answer to it."""
    if isinstance(answer, MovedError):
        return RedisNotReadyError("nodes of the Redis Cluster do not agree which of them has a slot", inner=answer)
    return RedisNotReadyError(
        "Redis Cluster moves the slot of a partition key by key, and takes no writes to it until that is over",
        inner=f"{answer}; where servers have it, CLUSTER MIGRATESLOTS moves slots beside writes",
    )
