"""The division of one partition into several, while it is read and written: `Splitting`.

What goes to a new partition is copied while it is used, then what has changed, as when one moves to another
server: see `moving`. When little is left, the partition is frozen for a moment, the last is copied, and it is
marked as divided, if it has been frozen all the while. Nobody looks into a new partition before that. Who dies in
between leaves copies there, which whoever goes on takes out; who dies later leaves copies where they came from.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import Command, Connections
from writebehind.redis.keys import Named, View, partition_keys
from writebehind.redis.letters import RawLetter
from writebehind.redis.scripts import script
from writebehind.redis.topology.arriving import scanned
from writebehind.redis.topology.confirming import SOON_MS, Standing, asked, see_recorded
from writebehind.redis.topology.guard import frozen_key
from writebehind.redis.topology.invalidations import Invalidations
from writebehind.redis.topology.moving import (
    BYTES,
    COPIED,
    FEW,
    FREEZE_MS,
    GONE,
    MOST_FREEZES,
    MOST_ROUNDS,
    THAW,
    TOLD_WITHIN_S,
    life_of,
)
from writebehind.redis.topology.record import MoveError
from writebehind.sequences import pairs, slices

_RECEIVE, _DIVIDE = script("receive"), script("divide_partition")
_TAKE_BACK, _FORGET_GONE = script("take_back"), script("forget_gone")

#: Tokens of whoever may fill what is not there: nobody in the new partition, so the next reader becomes one.
_TOKENS = frozenset(("load", "aliasload", "queryload"))
#: Keys of a partition that hold something by member; how all of it is read, put in and taken out.
_BY_MEMBER = {
    **dict.fromkeys(("pending", "deleted", "deleted_at", "hot"), ("ZADD", "ZREM")),
    **dict.fromkeys(("dead", "sent", "fates"), ("HSET", "HDEL")),
    **dict.fromkeys(("crowded", "awaited"), ("SADD", "SREM")),
}
#: Keys that each new partition gets a copy of. It has receipts of others too, until they are over.
_WHOLE = ("clock", "term", "lapses", "stepped", "heat", "receipts", "receipts_at")
#: What stands in the place of a token in a new partition that is in use: nobody fills it from nothing any more.
IN_USE = "in use"
#: Members that are sent in one command.
_AT_ONCE = 500


class Splitting:
    """The division of one partition, by one process. For one thread."""

    def __init__(
        self,
        partition: int,
        view: View,
        server_of: Callable[[str], Connections],
        *,
        token: str,
        report: Callable[[int], object],
        least: int = 0,
    ) -> None:
        """Prepare it.

        Args:
            partition: its number.
            view: from how many to how many partitions the change goes.
            server_of: the server that has a key, which is asked for nothing more than is sent to it.
            token: of the process, by which new partitions take what it sends.
            report: takes how many keys were copied, each time that some were; it may raise, to end it.
            least: how many replicas have to confirm at least, where a server has any.
        """
        self._partition = partition
        self._view = View(view.partitions, view.target, frozenset((partition,)))
        self._of = partition_keys(partition)
        self._source = server_of(self._of.pending)
        self._servers = {one: server_of(partition_keys(one).pending) for one in new_partitions(partition, view)}
        self._token = token
        self._report = report
        self._least = least
        self._frozen = frozen_key(str(partition))
        #: What new partitions were sent of what is held by member: the values by partition, key and member.
        self._sent: dict[tuple[int, str], dict[bytes, bytes]] = defaultdict(dict)
        #: The same of what they have a copy of as a whole.
        self._whole: dict[tuple[int, str], bytes] = {}
        #: Keys that belong to new partitions.
        self._leaving: set[bytes] = set()

    def run(self) -> float:
        """Divide it; how long it was frozen, seconds.

        Raises:
            MoveError: it changes too fast, or a server refuses what is needed; it is as it was.
            RedisUnavailableError: a server does not answer.
        """
        standings = {one: Standing.of(one, self._least) for one in {self._source, *self._servers.values()}}
        with Invalidations(self._source, self._of.prefix) as changed:
            for keys in scanned(self._source, self._of.prefix):
                self._copy(keys)
            self._copy_members()
            for _ in range(MOST_FREEZES):
                self._catch_up(changed)
                if seconds := self._finish(changed, standings):
                    return seconds
        raise MoveError(
            f"partition {self._partition} changes too fast to be divided, or replicas lag: try it with less load"
        )

    def clean(self, *, thoroughly: bool) -> None:
        """Take out of it what has gone, `thoroughly` if another process has divided it. Raises as `run`."""
        if thoroughly:
            for keys in scanned(self._source, self._of.prefix):
                self._leaving.update(key for key in keys if self._goes_to(key) is not None)
        found = [Named.parse(key) for key in self._leaving]
        entries = {one.name for one in found if one is not None and one.family == "entry"}
        pending = {_member("pending", one) for one in self._held("pending")}
        gone = [one for one in entries | pending if self._view.number(one) in self._servers]
        for some in slices(gone, COPIED):
            touched = (self._of.leaving, self._of.pending, *map(self._of.entry, some))
            asked(self._source, [("EVAL", _FORGET_GONE.source, len(touched), *touched, *some)])
        others = [one.key for one in found if one is not None and one.family != "entry"]
        for some in slices(others, COPIED):
            asked(self._source, [("UNLINK", *some)])
        for name, (_, take) in _BY_MEMBER.items():
            if name != "pending":
                left = [one for one in self._held(name) if self._view.number(_member(name, one)) in self._servers]
                for fields in slices(left, _AT_ONCE):
                    asked(self._source, [(take, getattr(self._of, name), *fields)])
        for partition, server in self._servers.items():
            asked(server, [("SET", partition_keys(partition).arriving, IN_USE)])
        asked(self._source, [("DEL", self._of.leaving)])

    def _catch_up(self, changed: Invalidations) -> None:
        """Copy what has changed, until little does so meanwhile."""
        for _ in range(MOST_ROUNDS):
            keys = changed.taken()
            self._copy(keys)
            if len(keys) <= FEW:
                break
        self._copy_members()

    def _finish(self, changed: Invalidations, standings: Mapping[Connections, Standing]) -> float:
        """Freeze it, copy the last of it, and divide it; how long it was frozen, seconds, 0 if that failed."""
        freeze = uuid4().hex
        began = time.monotonic()
        if not asked(self._source, [("SET", self._frozen, freeze, "NX", "PX", FREEZE_MS)])[0]:
            raise MoveError(f"somebody else divides partition {self._partition}")
        try:
            keys = changed.until(self._frozen.encode(), TOLD_WITHIN_S)
            if keys is None:
                return 0.0
            self._copy(keys)
            self._copy_members()
            self._report(0)
            if self._have_all(standings) and self._divide(freeze, standings[self._source]):
                self._note_use()
                return time.monotonic() - began
            return 0.0
        finally:
            self._thaw(freeze)

    def _have_all(self, standings: Mapping[Connections, Standing]) -> bool:
        """See that new partitions are this process's still; whether replicas of other servers have all of them.

        Those of the same server have it before the mark. Another primary than at the beginning may lack copies.
        """
        for partition, server in self._servers.items():
            mine: Command = ("SET", partition_keys(partition).arriving, self._token)
            standing = None if server is self._source else standings[server]
            if not receive(partition, server, [mine], self._token, standing):
                return False
        return True

    def _divide(self, freeze: str, standing: Standing) -> bool:
        """Mark it as divided, and see that replicas have that: else what comes to new ones could be lost.

        If it is too late to take that back, as others may act on it, it is waited for. Raises as `run`.
        """
        of = self._of
        step: Command = (
            *("EVAL", _DIVIDE.source, 6, self._frozen, of.divided, of.lease, of.scheduled, of.leaving, of.clock),
            *(freeze, self._view.target),
        )
        answers = asked(self._source, [step, *standing.wait(SOON_MS)])
        is_divided = bool(answers[0])
        if is_divided and not standing.is_confirmed(answers):
            taken_back = ("EVAL", _TAKE_BACK.source, 3, self._frozen, of.divided, of.leaving, freeze)
            if asked(self._source, [taken_back])[0]:
                return False
            see_recorded(self._source, of.divided, standing)
        return is_divided

    def _note_use(self) -> None:
        """Note in new partitions that they are in use: the mark of the old one may get lost with its server."""
        for partition, server in self._servers.items():
            receive(partition, server, [("SET", partition_keys(partition).arriving, IN_USE)], self._token)

    def _thaw(self, freeze: str) -> None:
        """Let everything go on. If that fails, it does so in a moment."""
        try:
            self._source.exchange([("EVAL", THAW, 1, self._frozen, freeze)])
        except RedisUnavailableError:
            return

    def _goes_to(self, key: bytes) -> Named | None:
        """A key that belongs to a new partition, with that in it; `None` for any other."""
        one = Named.parse(key)
        if one is None or one.partition != self._partition:
            return None
        home = self._view.number(one.name)
        if home not in self._servers:
            return None
        return Named(f"wb:{{{home}}}:{one.family}:{one.name}", home, one.family, one.name)

    def _copy(self, keys: Iterable[bytes]) -> None:
        """Copy those keys that belong to new partitions."""
        going = {key: one for key in keys if (one := self._goes_to(key)) is not None}
        self._leaving.update(going)
        for some in slices([key for key, one in going.items() if one.family not in _TOKENS], COPIED):
            answers = asked(self._source, [one for key in some for one in (("DUMP", key), ("PTTL", key))])
            received: dict[int, list[Command]] = defaultdict(list)
            size = 0
            for key, value, life in zip(some, answers[::2], answers[1::2], strict=True):
                one = going[key]
                is_gone = value is None or life == GONE
                size += 0 if is_gone else len(value)
                put = ("DEL", one.key) if is_gone else ("RESTORE", one.key, life_of(life), value, "REPLACE")
                received[one.partition].append(put)
                if size > BYTES:
                    self._receive(received)
                    size = 0
            self._receive(received)
            self._report(len(some))

    def _copy_members(self) -> None:
        """Copy what is held by member, as far as it differs from what was sent."""
        received: dict[int, list[Command]] = defaultdict(list)
        for name, (put, take) in _BY_MEMBER.items():
            now: dict[int, dict[bytes, bytes]] = {one: {} for one in self._servers}
            for member, value in self._held(name).items():
                home = self._view.number(_member(name, member))
                if home in now:
                    now[home][member] = value
            for partition, values in now.items():
                key, sent = getattr(partition_keys(partition), name), self._sent[partition, name]
                gone = [one for one in sent if one not in values]
                changed = {one: value for one, value in values.items() if sent.get(one) != value}
                received[partition] += [(take, key, *some) for some in slices(gone, _AT_ONCE)]
                received[partition] += [
                    (put, key, *_flat(put, {one: changed[one] for one in some}))
                    for some in slices(list(changed), _AT_ONCE)
                ]
                self._sent[partition, name] = values
                if name == "dead" and (gone or changed):
                    received[partition] += _counts(partition, values)
        whole = [getattr(self._of, name) for name in _WHOLE]
        answers = asked(self._source, [one for key in whole for one in (("DUMP", key), ("PTTL", key))])
        for partition in self._servers:
            of = partition_keys(partition)
            for name, value, life in zip(_WHOLE, answers[::2], answers[1::2], strict=True):
                if value is not None and life != GONE and self._whole.get((partition, name)) != value:
                    self._whole[partition, name] = value
                    received[partition].append(("RESTORE", getattr(of, name), life_of(life), value, "REPLACE"))
        self._receive(received)

    def _held(self, name: str) -> dict[bytes, bytes]:
        """Everything that a key holds by member, with its value."""
        key, put = getattr(self._of, name), _BY_MEMBER[name][0]
        if put == "SADD":
            return dict.fromkeys(asked(self._source, [("SMEMBERS", key)])[0], b"")
        read = ("HGETALL", key) if put == "HSET" else ("ZRANGE", key, 0, -1, "WITHSCORES")
        return dict(pairs(asked(self._source, [read])[0]))

    def _receive(self, received: dict[int, list[Command]]) -> None:
        """Send commands to new partitions, which take them from this process only, and forget them here."""
        for partition, commands in received.items():
            for some in slices(commands, COPIED):
                receive(partition, self._servers[partition], some, self._token)
        received.clear()


def new_partitions(partition: int, view: View) -> range:
    """The partitions that one is divided into, without itself."""
    return range(partition + view.partitions, view.target, view.partitions)


def receive(
    partition: int, server: Connections, commands: Sequence[Command], token: str, standing: Standing | None = None
) -> bool:
    """Send commands to a partition that nobody looks into yet.

    Where it is told of the `standing` that the server had when the first was sent: whether replicas have all soon.

    Raises as `Splitting.run`.
    """
    arriving = partition_keys(partition).arriving
    steps = [("EVAL", _RECEIVE.source, 2, arriving, one[1], token, one[0], *one[2:]) for one in commands]
    looks = (("INFO", "replication"), *standing.wait(SOON_MS)) if standing else ()
    answers = asked(server, [*steps, *looks])
    if any(answer == b"" for answer in answers):
        raise MoveError(f"somebody else fills partition {partition}")
    if standing is None:
        return True
    standing.see_same(server, answers[len(steps)])
    return standing.is_confirmed(answers)


def _member(name: str, field: bytes) -> str:
    """The document that something is held of: a letter's name may have more in it."""
    return RawLetter.parse(field).member if name == "dead" else field.decode(errors="replace")


def _flat(put: str, values: Mapping[bytes, bytes]) -> list[Any]:
    """Members as a command takes them, with their values, or without, or after their scores."""
    if put == "SADD":
        return list(values)
    return [part for one, value in values.items() for part in ((value, one) if put == "ZADD" else (one, value))]


def _counts(partition: int, letters: Mapping[bytes, bytes]) -> list[Command]:
    """The commands that let a partition have the counts of these letters."""
    key = partition_keys(partition).dead_counts
    counts = Counter(_member("dead", one).partition("/")[0] for one in letters)
    return [("DEL", key), *[("HSET", key, name, count) for name, count in counts.items()]]
