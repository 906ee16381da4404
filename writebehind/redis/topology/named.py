"""Independent servers with names, of which each has some of the partitions: application-level sharding."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis import ConnectionPool
from redis.exceptions import ResponseError, TryAgainError

from writebehind import forks
from writebehind.errors import (
    ForeignRedisError,
    ForeignServerError,
    RedisNotReadyError,
    RedisUnavailableError,
    without_frames,
)
from writebehind.plurals import counted
from writebehind.redis.connections import Ask, Command, Connections, Greeted, Greeting, Instead, Sent
from writebehind.redis.keys import SERVER
from writebehind.redis.succession import Term
from writebehind.redis.topology.arriving import let_arrive, resignations
from writebehind.redis.topology.guard import CHECK, HOME, UNRECORDED, changes, guarded, place_of, reads
from writebehind.redis.topology.record import Assignment, Left, MoveError, Records, ServerRecord, fair, foreign
from writebehind.redis.topology.routing import KEYLESS, Answered, Several, Then, Way, exchange_at, in_order, key_of

log = logging.getLogger(__name__)

#: While nobody has a partition, as it is just moving, who needs it looks again after this, seconds.
LOOK_AGAIN_S = 0.01
_RECORD = ("HGETALL", SERVER)
#: While another server says nothing, it is asked again about a primary after so long, seconds, and after so many
#: times as long as that took: whoever asks waits for it.
_ASK_AGAIN_S, _TIMES_AS_LONG = 1.0, 5


class NamedServer(Connections):
    """Connections to one of the servers, which refuses what is not on it."""

    check = CHECK

    def prepared(self, commands: Sequence[Command]) -> Sequence[Command]:
        """As `Connections` says."""
        return [guarded(one) for one in commands]

    def send(self, commands: Sequence[Command]) -> Sent:
        """As `Connections` says."""
        return super().send(self.prepared(commands))

    def over(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        """As `Connections` says."""
        return super().over(connection, self.prepared(commands))


class Unguarded(NamedServer):
    """The same that take what they are sent, wherever that belongs; their greeting changes only what is there."""

    def send(self, commands: Sequence[Command]) -> Sent:
        """As `Connections` says."""
        return Connections.send(self, commands)


class Named(Several):
    """Servers with names. Safe to share between threads.

    Where a partition is, each server's own record says. What a process knows of that may be old: then a step is
    refused, and a read is seen to be doubtful, and both are done again where the partition is.
    """

    def __init__(self, pools: Mapping[str, ConnectionPool], *, timeout_s: float) -> None:
        """Know the servers by their names; nothing is opened before it is needed.

        Args:
            pools: describe the connections to each.
            timeout_s: for how long a partition that is being moved is waited for.
        """
        self.names = tuple(pools)
        self._pools = pools
        self._all = {name: NamedServer(pool, name) for name, pool in pools.items()}
        for name, one in self._all.items():
            one.share = partial(self._share, name)
        self._timeout_s = timeout_s
        self._lock = forks.lock()
        self._arriving = forks.lock()
        self._greeting: Greeting | None = None
        #: Whether a thread is greeting a server whose primary is another one than before.
        self._meeting = threading.local()
        #: The right to ask others about a server; and what they said, by its name and the term of its primary.
        self._looking = {name: forks.lock() for name in pools}
        self._seen: dict[tuple[str, str], _Seen] = {}
        #: The first has the broker's messages, where that is not told otherwise.
        self.outage = self._all[self.names[0]].outage
        #: Nothing is sent before the records were read: what they say may not follow from the names.
        self._map: _Map | None = None
        self._record: Callable[[], object] = lambda: None
        #: The MongoDB database of this process, '' while servers of others are let in; and by servers' names the
        #: terms of those that were found to be of no other.
        self._database = ""
        self._ours: dict[str, str] = {}
        #: Servers whose record other hands have made something else, as was seen last.
        self._spoiled: Sequence[str] = ()

    def _share(self, name: str) -> str:
        """The number of partitions that are on a server, of how many; '' where that is not known."""
        return self._map.share(name) if self._map else ""

    def belongs_to(self, database: str) -> None:
        """As `Servers` says."""
        self._database = database

    def record_by(self, record: Callable[[], object]) -> None:
        """As `Servers` says."""
        self._record = record

    def place(self, key: str) -> Connections:
        """As `Servers` says."""
        return self._known().server_of(place_of(key))

    def way(self, key: str) -> Way | None:
        """As `Servers` says."""
        return None if (known := self._map) is None else known.way(place_of(key))

    def servers(self) -> Sequence[Connections]:
        """As `Servers` says."""
        return list(self._all.values())

    known = servers

    def unguarded(self, name: str) -> Connections:
        """Connections to a server that do not ask whether what is done belongs there."""
        server = Unguarded(self._pools[name], name)
        server.greeting = self._greeting
        return server

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """As `Servers` says."""
        return self._follow(commands, None)[0]

    def confirmed(self, commands: Sequence[Command], then: Then) -> tuple[list[Any], list[Answered | None]]:
        """As `Servers` says."""
        return self._follow(commands, then)

    def _follow(self, commands: Sequence[Command], then: Then | None) -> tuple[list[Any], list[Answered | None]]:
        """Exchange, and do again what a server has not done, or no longer has."""
        known = self._known()
        answers, confirmed, doubtful = self._sent(known, commands, then)
        until = 0.0
        while again := [at for at, one in enumerate(answers) if at in doubtful or isinstance(one, TryAgainError)]:
            now = time.monotonic()
            until = until or now + self._timeout_s
            if now > until:
                for at in again:
                    answers[at] = self._late(answers[at])
                break
            before, known = known, self._learn(known)
            self._let_arrive(known.gone)
            if unrecorded := [at for at in again if _is_unrecorded(answers[at])]:
                known = self._recorded(known, answers, unrecorded)
                again = [at for at in again if at in doubtful or isinstance(answers[at], TryAgainError)]
            again = [at for at in again if at not in doubtful or known.differs(before, commands[at])]
            again = in_order(commands, answers, _without_lost(known, commands, answers, again))
            if any(not known.differs(before, commands[at]) for at in again):
                time.sleep(LOOK_AGAIN_S)
            some = [commands[at] for at in again]
            found, also, still = self._sent(known, some, then)
            for place, answer, one in zip(again, found, also, strict=True):
                answers[place], confirmed[place] = answer, one
            doubtful = {again[at] for at in still}
        return answers, confirmed

    def _recorded(self, known: _Map, answers: list[Any], unrecorded: Sequence[int]) -> _Map:
        """The map, once what nobody has recorded was; where that is not possible now, answers say so."""
        try:
            self._record()
        except RedisUnavailableError as error:
            for at in unrecorded:
                answers[at] = without_frames(error)
            return known
        return self._learn(known) if self._map is known else self._known()

    def _late(self, answer: Any) -> RedisUnavailableError:
        """The reason why a partition was nowhere for long."""
        if self._spoiled:
            inner = f"server {', '.join(self._spoiled)}: other hands put something else in the place of {SERVER}"
            return RedisNotReadyError("a Redis server does not say what is on it", inner=inner)
        if _is_unrecorded(answer):
            return RedisNotReadyError("nobody has recorded yet what is on a Redis server")
        return RedisUnavailableError("a partition is being moved, which takes long")

    def _sent(
        self, known: _Map, commands: Sequence[Command], then: Then | None
    ) -> tuple[list[Any], list[Answered | None], set[int]]:
        """Send each to where it should be; the answers, those to `then`, and which reads are doubtful."""
        by_place: dict[NamedServer, list[int]] = {}
        read: dict[NamedServer, list[int]] = {}
        for at, command in enumerate(commands):
            server = known.server_of(place_of(key_of(command)))
            by_place.setdefault(server, []).append(at)
            if reads(command):
                read.setdefault(server, []).append(at)
        sent: list[Command] = [*commands, *[CHECK] * len(read)]
        checks = dict(zip(read, range(len(commands), len(sent)), strict=True))
        confirmed: list[Answered | None] = [None] * len(sent)
        if len(by_place) == 1 and then is None:
            answers = next(iter(by_place)).exchange(sent)
        else:
            for server, at in checks.items():
                by_place[server].append(at)
            answers, confirmed = exchange_at(by_place, sent, then)
        doubtful: set[int] = set()
        for at in known.on_their_way(commands) if known.gone else ():
            if not isinstance(answers[at], Exception):
                answers[at] = TryAgainError("it has not arrived yet")  # a copy, and it may be taken back
        for server, at in checks.items():
            if not isinstance(answers[at], Exception) and answers[at] != known.epochs[server.name]:
                doubtful.update(read[server])
        count = len(commands)
        return answers[:count], confirmed[:count], doubtful

    def greet(self, greeting: Greeting) -> None:
        """As `Servers` says."""
        self._greeting = greeting
        for one in self._all.values():
            one.greeting = partial(self._greet, one, partial(self._greet_ours, one, greeting))

    def _greet_ours(self, server: NamedServer, greeting: Greeting, ask: Ask) -> Greeted:
        """Greet a server, and see once for each of its primaries that it is none of another installation.

        Raises:
            ForeignServerError: it is.
        """
        greeted = greeting(ask)
        met = greeted.term.id
        is_home = self._map is not None and self._map.is_home(server.name)  # it says by another record whose it is
        if self._database and not is_home and (not met or self._ours.get(server.name) != met):
            (owner,) = ask([("HGET", SERVER, "database")])
            theirs = owner.decode(errors="replace") if isinstance(owner, bytes) else ""
            if theirs not in {"", self._database}:
                raise ForeignServerError(inner=foreign(server.name, theirs, self._database))
            self._ours[server.name] = met
        return greeted

    def _greet(self, server: NamedServer, greeting: Greeting, ask: Ask) -> Greeted:
        """Greet a server. Where its primary is another one, that may not know what has moved: see to it first."""
        greeted = greeting(ask)
        term = greeted.term
        seen = self._seen.get((server.name, term.id))
        # Nobody goes by records before all were read, which is such a look.
        if self._map is None or not (seen or term.after or server.term not in {"", term.id}) or not term.id:
            return greeted
        if seen is None or time.monotonic() > seen.until:
            if getattr(self._meeting, "lasts", False):  # it is asked by what follows, over a connection for once
                return Greeted(is_kept=False)
            seen = self._look_at(server, term, ask)
        if not seen.doubtful:
            return greeted
        return greeted._replace(instead=partial(_doubted, seen.doubtful, greeted.instead))

    def _look_at(self, server: NamedServer, term: Term, ask: Ask) -> _Seen:
        """Ask the others about a primary, which lets go of what has moved: one thread at a time does so."""
        looking, before = self._looking[server.name], self._seen.get((server.name, term.id))
        if before is None:
            looking.acquire()
        elif not looking.acquire(blocking=False):
            return before
        try:
            seen = self._seen.get((server.name, term.id))
            if seen is None or time.monotonic() > seen.until:
                self._meeting.lasts = True
                seen = self._seen[server.name, term.id] = self._see_moved(server, ask)
                if seen.doubtful and (before is None or before.doubtful != seen.doubtful):
                    count = counted(len(seen.doubtful), "partition")
                    log.warning("Redis server %s: %s may be on servers that do not answer", server.name, count)
            return seen
        finally:
            self._meeting.lasts = False
            looking.release()

    def _see_moved(self, server: NamedServer, ask: Ask) -> _Seen:
        """Let a server let go of what has moved, as the others say; what is in doubt, as some of them do not."""
        began = time.monotonic()
        told, silent = _records_of([one for one in self._all.values() if one is not server])
        records = (dict(self._map.records) if self._map else {}) | told
        own = ServerRecord.parse(*ask([_RECORD]))
        records[server.name] = own
        steps = resignations(server.name, records)
        stay = set[str]()
        if steps:
            answers = ask(list(steps.values()))
            stay = {place for place, one in zip(steps, answers, strict=True) if isinstance(one, Exception)}
            log.warning("Redis server %s did not know of %s", server.name, counted(len(steps), "move"))
        servers = Assignment.of(self.names, records).servers
        # Each place is where it belongs, but for one that is to move yet, or that has moved unseen by this server.
        here = own.here if own else ()
        stay |= {one for one in here if one not in steps and fair(one, servers) in silent}
        if not (silent or stay):
            return _ALL_SEEN
        now = time.monotonic()
        return _Seen(frozenset(stay), now + max(_ASK_AGAIN_S, _TIMES_AS_LONG * (now - began)))

    def look_again(self) -> None:
        """As `Servers` says."""
        self._let_arrive(self._learn(self._map).gone)

    def _known(self) -> _Map:
        """The map as it was read last. Raises as `exchange`, where it was not read yet."""
        return self._map or self._learn(None)

    def _learn(self, known: _Map | None) -> _Map:
        """A map by what the records say now, or the one that somebody else has made since."""
        with self._lock:
            if self._map is known or self._map is None:
                before = known.records if known else {}
                terms = {name: one.term for name, one in self._all.items()}
                told, silent = _records_of(list(self._all.values()))
                if all(isinstance(silent.get(name), RedisUnavailableError) for name in self._all):
                    raise silent[self.names[0]]
                records = {name: told.get(name, before.get(name)) for name in self._all}
                self._spoiled = [name for name, one in silent.items() if isinstance(one, ResponseError)]
                if silent and known is None:  # each is looked at by itself then
                    for one in self._all.values():
                        one.greet_again()
                self._map = _Map(self._all, records)
                if not silent:
                    self._let_go(records, terms)
            return self._map

    def _let_go(self, records: Records, terms: Mapping[str, str]) -> None:
        """Let servers let go of what has moved since they were what they say; `terms` were known before that."""
        for name, server in self._all.items():
            steps = resignations(name, records)
            answers: list[Any] = []
            try:
                answers += server.exchange(list(steps.values())) if steps else ()
            except RedisUnavailableError as error:
                answers.append(error)
            if any(isinstance(one, Exception) for one in answers):
                self._seen[name, server.term] = _NONE_SEEN
                server.greet_again()
            elif terms[name] in {"", server.term}:
                self._seen[name, server.term] = _ALL_SEEN

    def _let_arrive(self, gone: Mapping[str, tuple[str, Left]]) -> None:
        """Let places be where they have gone to: who moved them may have died just before it did so.

        One thread does, and no other waits for it: each looks again.
        """
        ways: dict[tuple[str, str], dict[str, Left]] = {}
        for place, (name, left) in gone.items():
            if left.mark and left.server in self._all:
                ways.setdefault((name, left.server), {})[place] = left
        if not ways or not self._arriving.acquire(blocking=False):
            return
        try:
            for (source, target), places in ways.items():
                with suppress(MoveError, RedisUnavailableError):  # whatever others are away
                    let_arrive(self._all[source], self._all[target], places)
        finally:
            self._arriving.release()


@dataclass(frozen=True, slots=True)
class _Seen:
    """Answers of other servers about a primary.

    Attributes:
        doubtful: the places that it says it has, and that may be on another server, which does not say so now.
        until: when others are asked again, by the steady clock.
    """

    doubtful: frozenset[str] = frozenset()
    until: float = float("inf")


#: All others have said it, and none has.
_ALL_SEEN, _NONE_SEEN = _Seen(), _Seen(until=float("-inf"))


def _doubted(places: frozenset[str], also: Instead | None, command: Command) -> Exception | Command | None:
    """The error in the place of a command about what may be on another server; else what `also` says."""
    if also is not None and (instead := also(command)) is not None:
        return instead
    if not changes(command) and (command[0] in KEYLESS or len(command) == 1):
        return None
    place = place_of(key := key_of(command))
    if place not in places or key == SERVER or (place == HOME and not changes(command)):
        return None
    return RedisNotReadyError("a partition may be on another Redis server, which does not answer", retry_after_s=1)


def _records_of(
    servers: Sequence[NamedServer],
) -> tuple[dict[str, ServerRecord | None], dict[str, Exception]]:
    """The records of servers by their names, and errors of those that do not say what is on them now."""
    places = {one: [at] for at, one in enumerate(servers)}
    try:
        answers, _ = exchange_at(places, [_RECORD] * len(servers), None)
    except RedisUnavailableError as error:
        answers = [error] * len(servers)
    told: dict[str, ServerRecord | None] = {}
    silent: dict[str, Exception] = {}
    for one, answer in zip(servers, answers, strict=True):
        if isinstance(answer, Exception):
            silent[one.name] = answer
        else:
            told[one.name] = ServerRecord.parse(answer)
    return told, silent


class _Map:
    """The places of everything, as far as a process knows."""

    def __init__(self, servers: Mapping[str, NamedServer], records: Mapping[str, ServerRecord | None]) -> None:
        self._servers = servers
        self.records = records
        self._assignment = Assignment.of(list(servers), records)
        self._places: dict[str, NamedServer] = {}
        self._ways: dict[str, Way] = {}
        self.gone = self._assignment.gone
        self.epochs = {name: one.epoch if one else None for name, one in records.items()}

    def server_of(self, place: str) -> NamedServer:
        """The server that a place is on.

        Raises:
            ForeignRedisError: it is one that this process does not know.
        """
        found = self._places.get(place)
        if found is None:
            name = self._assignment.server_of(place)
            if (found := self._servers.get(name)) is None:
                raise ForeignRedisError(
                    inner=f"REDIS_URL lacks server {name}: add it, as all processes need all servers, and restart "
                    "this process"
                )
            self._places[place] = found
        return found

    def way(self, place: str) -> Way | None:
        """The way to what is in a place; `None` where that is on its way, or not known or recorded."""
        found = self._ways.get(place)
        if found is None and place not in self.gone:
            try:
                server = self.server_of(place)
            except ForeignRedisError:
                return None
            if (epoch := self.epochs[server.name]) is not None:
                found = self._ways[place] = Way(server, epoch)
        return found

    def share(self, name: str) -> str:
        """The number of partitions that are on a server, of how many, in words; '' where a record is missing."""
        places = [server for place, server in self._assignment.claims.items() if place != HOME]
        return f"{places.count(name)} of {counted(len(places), 'partition')}" if self._is_whole else ""

    def is_home(self, name: str) -> bool:
        """Whether a server has what belongs to no partition."""
        return self._assignment.server_of(HOME) == name

    def on_their_way(self, commands: Sequence[Command]) -> list[int]:
        """Places of what reads where something has left, and has not arrived as far as is known.

        A step that was answered has been carried out: its server had the partition by then.
        """
        return [at for at, one in enumerate(commands) if reads(one) and place_of(key_of(one)) in self.gone]

    def differs(self, other: _Map, command: Command) -> bool:
        """Whether a command would go to another server by the other map."""
        place = place_of(key_of(command))
        return self.server_of(place) is not other.server_of(place)

    def is_lost(self, command: Command) -> bool:
        """Whether no server has what a command is about, and none is about to get it."""
        place = place_of(key_of(command))
        return place not in self._assignment.claims and place not in self.gone and self._is_whole

    @property
    def _is_whole(self) -> bool:
        return all(self.records.get(name) for name in self._assignment.servers)


def _is_unrecorded(answer: object) -> bool:
    """Whether a server has refused a step as nobody knows what is on it."""
    return isinstance(answer, TryAgainError) and UNRECORDED in str(answer)


def _without_lost(known: _Map, commands: Sequence[Command], answers: list[Any], again: Sequence[int]) -> list[int]:
    """Places of commands that may be sent again; in the place of the others is an error that says why not."""
    for at in again:
        if known.is_lost(commands[at]) and isinstance(answers[at], TryAgainError):
            answers[at] = RedisUnavailableError("no Redis server has this partition", inner=key_of(commands[at]))
    return [at for at in again if isinstance(answers[at], TryAgainError) or not known.is_lost(commands[at])]
