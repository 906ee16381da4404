"""Recovery from a failover: which versions it has lost, and how writes are committed again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import Command
from writebehind.redis.info import parse_info
from writebehind.redis.keys import SERVER, Layout
from writebehind.redis.letters import MOST_KEPT
from writebehind.redis.pending import HINT_SLACK_MS, Hint
from writebehind.redis.recent import Recent
from writebehind.redis.scripts import script
from writebehind.redis.terms import NONE_BEFORE
from writebehind.redis.wire import Wire

_LAPSE = re.compile(rb"([0-9]{1,16}) ([0-9]{1,16}) ([0-9]{1,16})")
_RECOMMIT = script("recommit")


@dataclass(frozen=True, slots=True)
class Replication:
    """Replication of a primary, as it sees it.

    Attributes:
        term: its replication id, a new one after each failover.
        offset: the bytes that it has written.
        replicated: how many of them every replica that is connected has; `None` where none is.
        had_replicas: whether it ever had one, or was one itself, and has one when the former primary comes back.
            A server keeps a backlog for replicas from the first one on, until none has come for an hour
            (`repl-backlog-ttl`).
        was_replica: whether it was one since it started: its term is to be met.
        is_used: whether anything is on it: not on a server with a name that has no record.
    """

    term: str
    offset: int
    replicated: int | None
    had_replicas: bool
    was_replica: bool = False
    is_used: bool = True

    @classmethod
    def of(cls, facts: Mapping[str, str], *, is_used: bool = True) -> Replication:
        """Read the facts of `INFO replication`."""
        replicas = [
            dict(part.partition("=")[::2] for part in value.split(","))
            for name, value in facts.items()
            if name.startswith("slave") and name[5:].isdecimal()
        ]
        was_replica = facts.get("master_replid2", NONE_BEFORE) != NONE_BEFORE
        return cls(
            facts.get("master_replid", ""),
            int(facts.get("master_repl_offset", 0)),
            min((int(one.get("offset", 0)) for one in replicas), default=None),
            was_replica or facts.get("repl_backlog_active") == "1",
            was_replica,
            is_used,
        )


@dataclass(frozen=True, slots=True)
class Lapse:
    """Versions of a partition that a failover has lost: those that were issued after `last`, up to `leapt`.

    Attributes:
        last: the last version that the new primary knew.
        leapt: the one after which it goes on.
        at_us: when, by its clock, µs.
    """

    last: int
    leapt: int
    at_us: int

    @classmethod
    def parse(cls, noted: bytes) -> Lapse | None:
        """Read what `leap` has noted; `None` for what other hands have put there."""
        parts = _LAPSE.fullmatch(noted)
        return None if parts is None else cls(*map(int, parts.groups()))

    def __contains__(self, version: int) -> bool:
        return self.last < version <= self.leapt


class Status(StrEnum):
    """Outcome of a commit of what was acknowledged before."""

    RECOMMITTED = "recommitted"
    THERE = "there"
    """Redis has it."""
    SUPERSEDED = "superseded"
    """There is a newer version."""
    UNKNOWN = "unknown"
    """There is no entry, and MongoDB may have a newer one."""
    LATE = "late"
    """The document may have been deleted since, and that forgotten."""


@dataclass(frozen=True, slots=True)
class Recommit:
    """Answer to one of them.

    Attributes:
        status: its outcome.
        hint: the flush task that the caller must enqueue, if any.
        newer: the newer version that there is, if that is the outcome.
    """

    status: Status
    hint: Hint | None = None
    newer: int = 0


class Recovery:
    """Recovery of one Redis from failovers. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout, *, hint_life_ms: int) -> None:
        """Bind it to a server; see `Store` for the arguments."""
        self._wire = wire
        self._layout = layout
        self._hint_life_ms = hint_life_ms

    def replication(self) -> dict[str, Replication | None]:
        """Replication of each primary by its name; `None` of one that does not answer while others do.

        Raises:
            RedisUnavailableError: none answers.
        """
        has_record: list[Command] = [("EXISTS", SERVER)] if self._wire.names else []
        answers = self._wire.on_each([("INFO", "replication"), *has_record])
        found = {
            name: Replication.of(parse_info(info), is_used=0 not in also) if isinstance(info, bytes) else None
            for name, (info, *also) in answers.items()
        }
        if None in found.values():  # whoever has its partitions by now is found by asking for what is in them
            self.lapses()
        return found

    def lapses(self) -> list[list[Lapse] | None]:
        """Lapses of each partition, the last first; `None` of those on a server that does not answer.

        Raises:
            RedisUnavailableError: none answers.
        """
        noted = self._wire.calls_answered([("LRANGE", of.lapses, 0, -1) for of in self._layout.all()])
        return [
            None if some is None else [lapse for one in some if (lapse := Lapse.parse(one)) is not None]
            for some in noted
        ]

    def recommit(
        self, writes: Sequence[tuple[Recent, int]], token: str, *, life_ms: int, is_newest: bool
    ) -> list[Recommit | RedisUnavailableError]:
        """Commit writes again, in one round trip; each is atomic by itself.

        Where there is no entry the outcome is `UNKNOWN` at first, and the token has the right to load it: a write
        takes that away, so that none comes unseen between a look at MongoDB and another call.

        Args:
            writes: each with the time until which every deletion since is remembered, µs by the clock of Redis.
            token: that nobody else has, to be given back with `Loads.abandon`.
            life_ms: of that right.
            is_newest: whether MongoDB was seen to have nothing newer since the token has the right.

        Returns:
            An answer for each; an error of one that was not carried out, or whose server does not answer.

        Raises:
            RedisUnavailableError: none answers.
        """
        answers, _ = self._wire.run_each(
            _RECOMMIT,
            [
                (
                    (*self._layout.of(one.member).of_commit(one.member), *self._receipts_of(one)),
                    (
                        one.member,
                        b"%016d" % one.version + one.payload,
                        self._hint_life_ms,
                        HINT_SLACK_MS,
                        MOST_KEPT,
                        until_us,
                        "1" if is_newest else "",
                        *(token, life_ms),
                        *(part for pair in one.receipts for part in pair),
                    ),
                )
                for one, until_us in writes
            ],
        )
        return [
            answer if isinstance(answer, RedisUnavailableError) else self._read(one.member, *answer)
            for (one, _), answer in zip(writes, answers, strict=True)
        ]

    def _receipts_of(self, write: Recent) -> tuple[str, ...]:
        of = self._layout.of(write.member)
        return of.of_receipts if write.receipts else ()

    def _read(self, member: str, status: bytes, ticket: bytes, newer: int = 0) -> Recommit:
        hint = Hint(self._layout.number(member), ticket.decode(), 0) if ticket else None
        return Recommit(Status(status.decode()), hint, newer)
