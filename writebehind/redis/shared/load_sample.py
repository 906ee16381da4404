"""The figures that decide whether more writes can be taken: sampled, and never asked for by each request."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from redis.exceptions import ResponseError

from writebehind import forks
from writebehind.deadline import may_wait
from writebehind.errors import ConfigurationError, ForeignRedisError, RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.info import parse_info
from writebehind.redis.keys import Layout, partition_keys
from writebehind.redis.letters import added_up
from writebehind.redis.refusals import PROBE, refusal
from writebehind.redis.shared import persisted
from writebehind.redis.shared.owner import Owner
from writebehind.redis.shared.partition_count import Division
from writebehind.redis.shared.pauses import Paused, Pauses
from writebehind.redis.shared.record import Record
from writebehind.redis.topology.assigned import is_recorded, misfit_of, parsed
from writebehind.redis.topology.record import Assignment, left_over
from writebehind.redis.wire import Wire, time_ms
from writebehind.sequences import grouped

#: How old a sample may be, seconds.
SAMPLE_EVERY_S = 1.0
#: One of several servers may be so many times as old: a thread takes the next one meanwhile, which may wait.
MOST_TIMES = 5
#: Part of its maxmemory that Redis uses when it is full. It evicts a little more than it needs.
NEARLY_ALL = 0.97
#: Part from which the rest is for what is hot: less by what may be filled before the next sample.
FOR_HOT = 0.9
#: Part of the keys that Redis must be able to evict to count as one that makes room by itself. Where these are
#: small and the others large this errs, and Redis refuses the write itself.
LEAST_EVICTABLE = 0.1
#: The name of a database in INFO.
_DATABASE = re.compile(r"db\d+")


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One sample.

    Attributes:
        misfit: why this process must neither read nor write here; '' where it may.
        recorded: whether it is recorded whose this Redis is, and into how many partitions it is divided.
        pending: documents that wait for MongoDB, by partition.
        dead: dead letters, by collection.
        used_memory: of Redis, bytes.
        max_memory: what it may use, bytes; 0 for no limit.
        evicts: whether it makes room by evicting what has a TTL.
        keys: how many it has.
        expiring: how many of them have a TTL: what MongoDB has as well, and little else.
        appendonly: whether it writes an append-only file.
        replicas: how many of its replicas are connected.
        waits_for_disk: whether it knows WAITAOF.
        drained_per_second: documents persisted, in the best ten seconds of the last minute.
        crowded: members of which so many documents are kept beside dead letters that no new write is taken.
        mongodb_is_away: whether the breaker before MongoDB is open.
        paused: what is not flushed for now.
        had_replicas: whether replicas were connected lately: it keeps a backlog for them, for an hour as a rule
            (`repl-backlog-ttl`), also when it was a replica itself.
        servers: the same of each server by its name, where there are several; what it says of memory and of
            promises is then true of each of them, which is what the fullest and the weakest say.
        server_of: the names of the servers that the partitions are on, where there are several.
        away: the partitions of servers that do not answer, or serve them, while others do, by the servers' names;
            '' has those of slots that no node of a cluster has.
        file_fails: whether one of them could not write its append-only file, and so refuses writes.
        refuses: the words by which one of them refuses whatever is written, though it answers; '' where none does,
            or none was asked.
        left_over: copies of partitions that have moved to other servers, in words; '' where there are none.
    """

    misfit: str
    recorded: bool
    pending: tuple[int, ...]
    dead: Mapping[str, int]
    used_memory: int
    max_memory: int
    evicts: bool
    keys: int
    expiring: int
    appendonly: bool
    replicas: int
    waits_for_disk: bool
    drained_per_second: float
    crowded: frozenset[str] = frozenset()
    mongodb_is_away: bool = False
    paused: Paused = field(default_factory=Paused)
    had_replicas: bool = False
    servers: Mapping[str, LoadSample] = field(default_factory=dict)
    server_of: tuple[str, ...] = ()
    away: Mapping[str, Sequence[int]] = field(default_factory=dict)
    file_fails: bool = False
    refuses: str = ""
    left_over: str = ""

    def without(self, partitions: Mapping[str, Sequence[int]]) -> LoadSample:
        """The same, where servers answer, and say nothing of these partitions, by the servers' names."""
        names = {*self.away, *partitions}
        away = {name: sorted({*self.away.get(name, ()), *partitions.get(name, ())}) for name in names}
        return replace(self, away=away)

    @property
    def refusing(self) -> dict[str, list[int]]:
        """The partitions of servers that refuse whatever is written, by the servers' names; none where all do."""
        names = [name for name, one in self.servers.items() if one.refuses]
        if len(names) == len(self.servers):
            return {}
        return {name: [at for at, one in enumerate(self.server_of) if one == name] for name in names}

    def of(self, partition: int) -> LoadSample:
        """The same of the server that a partition is on, as far as it answers."""
        if not self.servers or partition >= len(self.server_of):  # there are more by now
            return self
        return self.servers.get(self.server_of[partition], self)

    def uses(self, part: float) -> bool:
        """Whether Redis uses this part of the memory that it may use."""
        return 0 < self.max_memory * part <= self.used_memory

    @property
    def has_replicas(self) -> bool:
        """Whether any server has a replica."""
        return any(one.replicas for one in self.servers.values()) or bool(self.replicas)

    @property
    def may_fail_over(self) -> bool:
        """Whether a replica may take the place of any server: one that is connected, or will be again."""
        return self.has_replicas or self.had_replicas

    @property
    def room(self) -> int | None:
        """For about how many entries Redis has room; `None` when it has no limit, or never evicts.

        All that it uses is taken for entries, so that it is less than that as long as there are few.
        """
        if not self.evicts or not self.max_memory or not self.used_memory:
            return None
        room = int(self.expiring * self.max_memory * NEARLY_ALL / self.used_memory)
        return room * max(1, len(self.servers))

    @property
    def makes_room(self) -> bool:
        """Whether Redis has enough that it can evict to count as one that makes room by itself."""
        return self.evicts and self.expiring > LEAST_EVICTABLE * self.keys

    @property
    def could_make_room(self) -> bool:
        """Whether Redis has as much that it might evict, and its policy is to evict nothing."""
        return not self.evicts and self.expiring > LEAST_EVICTABLE * self.keys

    @property
    def displaces(self) -> bool:
        """Whether an entry more means that another one is evicted."""
        return self.evicts and self.uses(NEARLY_ALL)

    @property
    def keeps_for_hot(self) -> bool:
        """Whether only what is hot may take up more."""
        return self.evicts and self.uses(FOR_HOT)

    def check(self) -> None:
        """See that this Redis holds the documents of this process's database, where this process looks for them.

        Raises:
            ForeignRedisError: it does not: since before this process started, or since then, or that is just
                about to change. Its `inner` says what to do.
        """
        if self.misfit:
            raise ForeignRedisError(inner=self.misfit)


class Sampler:
    """Takes a sample when the last one is too old. Safe to share between threads.

    Of several servers one may hang, and each sample asks all: a thread takes the next one while requests go by the
    last, unless nobody has wanted one for long.
    """

    def __init__(self, take: Callable[[], LoadSample], also: Callable[[LoadSample], object]) -> None:
        """Take samples by `Store.load`, from the first look on, and do something `also` with each."""
        self._take = take
        self._also = also
        self._lock = forks.lock()
        self._vitals: LoadSample | None = None
        self._taken = self._begun = 0.0

    def is_fresh(self) -> bool:
        """Whether the latest sample is as new as `look` wants it, which waits for a new one else."""
        return self._vitals is not None and time.monotonic() - self._taken < _most_s(self._vitals)

    def look(self) -> LoadSample:
        """The latest sample. One caller a second waits for a new one, and the others never, nor who may not.

        Of several servers nobody waits unless it is `MOST_TIMES` as old.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        vitals, age_s = self._vitals, time.monotonic() - self._taken
        if vitals is not None and (age_s < SAMPLE_EVERY_S or not may_wait()):
            return vitals
        if vitals is not None and age_s < _most_s(vitals):
            self._begin()
            return vitals
        return self._sampled(vitals)

    def _begin(self) -> None:
        """Have a thread take a sample, unless one was begun just now."""
        now = time.monotonic()
        if now - self._begun < SAMPLE_EVERY_S:
            return
        self._begun = now
        with suppress(RuntimeError):  # there is no thread to be had: then somebody waits for it later
            threading.Thread(target=self._run, name="load-sample", daemon=True).start()

    def _run(self) -> None:
        with suppress(RedisUnavailableError, ConfigurationError):  # whoever needs it next finds out, and says it
            self._sampled(self._vitals)

    def _sampled(self, vitals: LoadSample | None) -> LoadSample:
        """A new sample in the place of this one, or the same while somebody else takes one. Raises as `look`."""
        if not self._lock.acquire(blocking=vitals is None):
            return vitals  # type: ignore[return-value]  # it blocks while there is none
        try:
            if self._vitals is None or self._vitals is vitals:
                self._vitals = self._take()
                self._also(self._vitals)
                self._taken = time.monotonic()
            return self._vitals
        finally:
            self._lock.release()


def _most_s(vitals: LoadSample) -> float:
    """The age of a sample from which somebody waits for the next one, seconds."""
    return SAMPLE_EVERY_S * (MOST_TIMES if vitals.servers else 1)


def take(
    wire: Wire,
    layout: Layout,
    database: str,
    owners: Record[Owner],
    divisions: Record[Division],
    *,
    pauses: Pauses,
    probes: bool = False,
) -> LoadSample:
    """Take a sample, in two round trips, for a process that looks for documents of a database in a layout.

    Of a record whose server is away counts what this process has seen there last. Where it `probes`, each server
    is asked whether it takes writes: one that makes them wait (`CLIENT PAUSE`) does not answer.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    asked_at = time.monotonic()
    asked = [("TIME",), ("INFO",), ("COMMAND", "INFO", "WAITAOF"), ("HGETALL", keys.SERVER)]
    about = wire.on_each([*asked, ("EVAL", PROBE, 0)] if probes else asked)
    clocks = [time_ms(clock) for clock, *_ in about.values() if isinstance(clock, list)]
    in_use = [*layout.in_use()]
    partitions = [partition_keys(one) for one in in_use]
    size = len(partitions)
    owned, divided, *found = wire.calls_each(
        [
            ("GET", keys.DATABASE),
            ("GET", keys.PARTITIONS),
            ("HGET", keys.BREAKER, "state"),
            ("HGETALL", keys.PAUSED),
            ("HGETALL", keys.FLUSHED),
            *(("ZCARD", of.pending) for of in partitions),
            *(("HGETALL", of.dead_counts) for of in partitions),
            *(("HLEN", of.dead) for of in partitions),
            *(("SMEMBERS", of.crowded) for of in partitions),
        ]
    )
    breaker, paused, flushed, *counts = (None if isinstance(one, RedisUnavailableError) else one for one in found)
    pending, dead_counts, dead, crowded = (counts[at * size : (at + 1) * size] for at in range(4))
    away = {name for name, (_, info, *_) in about.items() if isinstance(info, RedisUnavailableError)}
    owner = owners.known() if isinstance(owned, RedisUnavailableError) else owners.read(owned)
    division = divisions.known() if isinstance(divided, RedisUnavailableError) else divisions.read(divided)
    size = layout.partitions  # as the record says by now
    records = parsed({name: one for name, (_, _, _, one, *_) in about.items()})
    wrong = misfit_of(wire.names, records, database)
    whole_of_all = LoadSample(
        misfit=f"{wrong}, and restart this process" if wrong else _misfit(owner, database, division, size),
        recorded=owner is not None and division is not None and is_recorded(wire.names, records, size),
        pending=tuple(one or 0 for one in pending),
        dead=added_up([one or () for one in dead_counts], [one or 0 for one in dead]),
        **_figures(b"", None),
        drained_per_second=persisted.read(flushed or (), max(clocks, default=0) / 1000).best_per_second,
        crowded=frozenset(one.decode(errors="replace") for some in crowded for one in some or ()),
        mongodb_is_away=breaker is not None,
        left_over=left_over(Assignment.of(wire.names, records)) if wire.names else "",
        paused=pauses.known() if paused is None else pauses.see(paused, max(clocks, default=0), asked_at=asked_at),
    )
    servers = {
        name: replace(whole_of_all, **_figures(info, command), refuses=refusal(*probed))
        for name, (_, info, command, _, *probed) in about.items()
        if name not in away
    }
    if len(about) == 1:
        return next(iter(servers.values()))
    server_of = tuple(wire.server_of(of.pending) for of in layout.all())
    # Of a server that answers a node of a cluster may say that it does not serve some of its partitions.
    unserved = {at for at, count in zip(in_use, pending, strict=True) if count is None and at < len(server_of)}
    unserved |= {at for at, one in enumerate(server_of) if one in away}
    of_silent: dict[str, list[int]] = {one: [] for one in sorted(away)}
    return replace(
        whole_of_all,
        **_together(servers),
        servers=servers,
        server_of=server_of,
        away=of_silent | grouped(sorted(unserved), server_of.__getitem__),
    )


def _figures(info: bytes | ResponseError, command: Any) -> dict[str, Any]:
    """The figures of one server, by its answers to INFO and COMMAND INFO."""
    facts = parse_info(info) if isinstance(info, bytes) else {}
    keys_of = [dict(_numbers(one)) for name, one in facts.items() if _DATABASE.fullmatch(name)]
    return {
        "used_memory": int(facts.get("used_memory", 0)),
        "max_memory": int(facts.get("maxmemory", 0)),
        "evicts": facts.get("maxmemory_policy", "").startswith("volatile"),
        "keys": sum(one.get("keys", 0) for one in keys_of),
        "expiring": sum(one.get("expires", 0) for one in keys_of),
        "appendonly": facts.get("aof_enabled") == "1",
        "replicas": int(facts.get("connected_slaves", 0)),
        "had_replicas": facts.get("repl_backlog_active") == "1",
        "waits_for_disk": _knows(command),
        "file_fails": facts.get("aof_last_write_status", "ok") != "ok",
    }


def _together(of: Mapping[str, LoadSample]) -> dict[str, Any]:
    """The figures that are true of each: the fullest server's memory, and what every one promises."""
    servers = [*of.values()]
    fullest = max(servers, key=lambda one: one.used_memory / one.max_memory if one.max_memory else 0.0)
    return {
        **{name: getattr(fullest, name) for name in ("used_memory", "max_memory", "keys", "expiring")},
        "evicts": all(one.evicts for one in servers),
        "appendonly": all(one.appendonly for one in servers),
        "replicas": min(one.replicas for one in servers),
        "had_replicas": any(one.had_replicas for one in servers),
        "file_fails": any(one.file_fails for one in servers),
        "waits_for_disk": all(one.waits_for_disk for one in servers),
        "refuses": next((f"{name}: {one.refuses}" for name, one in of.items() if one.refuses), ""),
    }


def _misfit(owner: Owner | None, database: str, division: Division | None, partitions: int) -> str:
    try:
        if owner is not None:
            owner.check(database)
        if division is not None:
            division.check(partitions)
    except ConfigurationError as error:
        return f"{error}, and restart this process"
    return ""


def _numbers(text: str) -> Iterator[tuple[str, int]]:
    """The numbers that INFO has for a database: `keys=2,expires=1,avg_ttl=0`."""
    for part in text.split(","):
        name, _, number = part.partition("=")
        if number.isdecimal():
            yield name, int(number)


def _knows(answer: Any) -> bool:
    return isinstance(answer, list) and bool(answer and answer[0])
