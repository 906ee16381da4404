"""Pending and dead documents, which MongoDB may not have: questions that change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from writebehind.documents.entry import BODY_AT, VERSION_DIGITS, is_intact
from writebehind.documents.ids import named
from writebehind.redis.connections import Command
from writebehind.redis.keys import Layout, PartitionKeys, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.topology.dividing import steadily
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

#: Pending members of a partition whose sizes stand for those of all.
SAMPLED = 8

_FIND_UNSETTLED, _FIND_ENTRYLESS = script("find_unsettled"), script("find_entryless")
_LIST_UNSETTLED, _FIND_FATE = script("list_unsettled"), script("find_fate")
_OBSERVE = script("observe")


@dataclass(frozen=True, slots=True)
class Trace:
    """Traces of a document's way to MongoDB.

    Attributes:
        header: what stands before the body of the entry; b'' where there is none.
        pending: whether it is pending.
        sent: what MongoDB was given, as `lua/record_sending.lua` has noted it.
        deleted_at_ms: when its deletion was settled; 0 for none that is yet to be audited.
    """

    header: bytes
    pending: bool
    sent: bytes | None
    deleted_at_ms: int


class Fate(StrEnum):
    """Fate of a version of a document."""

    SETTLED = "settled"
    """MongoDB has it, or had it, or has a later one that was written over it."""
    DEAD = "dead"
    """It is in a dead letter, of that version or a later one."""
    DISCARDED = "discarded"
    """It was in one."""
    PENDING = "pending"
    GONE = "gone"
    """Nothing of it waits. That MongoDB has it is noted only of a document that has a receipt."""


class Shown(NamedTuple):
    """A document as readers see it.

    Attributes:
        header: what stands before the body of the entry; b'' where there is none.
        ttl_ms: -1 for an entry without TTL, -2 for none.
        unsettled: whether it is pending, or refused by MongoDB.
        intact: whether the body is the one that the ETag is of; `None` where it was not looked at.
    """

    header: bytes
    ttl_ms: int
    unsettled: bool
    intact: bool | None = None


class Unsettled:
    """Looks at pending and dead documents in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind it to a server."""
        self._wire = wire
        self._layout = layout

    @steadily
    def among(self, members: Iterable[str]) -> set[str]:
        """Those of the members that are pending, or refused by MongoDB, in one round trip."""
        calls = self._layout.grouped(members)
        found = self._wire.run_many(
            _FIND_UNSETTLED,
            [(_unsettled_in(partition_keys(partition)), some) for partition, some in calls.items()],
        )
        return {
            member
            for some, flat in zip(calls.values(), found, strict=True)
            for member, (due, letter) in zip(some, pairs(flat), strict=True)
            if due is not None or letter is not None
        }

    @steadily
    def of_collection(self, collection: str, *, most: int) -> list[str] | None:
        """The members of a collection that are pending, or refused by MongoDB, in one round trip.

        `None` where more than `most` are in a partition, those of other collections among them.
        """
        found = self._wire.run_many(
            _LIST_UNSETTLED,
            [
                ((of.pending, of.dead, of.dead_counts), (collection, most + 1, 1))
                for of in map(partition_keys, self._layout.in_use())
            ],
        )
        if any(len(names) > most for part in found for names in part):
            return None
        prefix = f"{collection}/".encode()
        names = dict.fromkeys(one for part in found for some in part for one in some if one.startswith(prefix))
        return [one.decode(errors="replace") for one in names]  # once each: while partitions grow there are copies

    def unreached(self, versions: Mapping[str, int]) -> dict[str, bytes]:
        """Which of these versions of members MongoDB does not have, in one round trip.

        Returns:
            Of each member its dead letter, if it is of this version. Else b'': it is pending, or a newer version
            is a dead letter, or one that it was in was discarded.
        """
        left = {}
        for member, (fate, letter) in self.fates(versions).items():
            if fate is Fate.DISCARDED or fate is Fate.PENDING:
                left[member] = b""
            elif fate is Fate.DEAD:
                left[member] = letter if letter.startswith(_digits(versions[member]).encode()) else b""
        return left

    @steadily
    def fates(self, versions: Mapping[str, int]) -> dict[str, tuple[Fate, bytes]]:
        """The fate of a version of each member, and the dead letter that it is in or b'', in one round trip."""
        calls = []
        for member, version in versions.items():
            of = self._layout.of(member)
            keys_of = (of.pending, of.dead, of.fates, of.kept(member), of.entry(member))
            calls.append((keys_of, (member, _digits(version))))
        found = self._wire.run_many(_FIND_FATE, calls)
        return {
            member: (Fate(fate.decode()), letter) for member, (fate, letter) in zip(versions, found, strict=True)
        }

    @steadily
    def standing(self, member: str) -> tuple[bytes | None, bool, bool]:
        """A member's entry as it stands there; whether it is pending; and whether it is dead."""
        of = self._layout.of(member)
        (value,), ((due, letter),) = self._wire.run_many_after(
            [("GET", of.entry(member))], _FIND_UNSETTLED, [(_unsettled_in(of), (member,))]
        )
        return value, due is not None, letter is not None

    @steadily
    def traces(self, members: Sequence[str]) -> list[Trace]:
        """The traces of documents' ways to MongoDB, in one round trip."""
        commands: list[Command] = []
        for member in members:
            of = self._layout.of(member)
            commands += [
                ("GETRANGE", of.entry(member), 0, BODY_AT - 1),
                ("ZSCORE", of.pending, member),
                ("HGET", of.sent, member),
                ("ZSCORE", of.deleted_at, member),
            ]
        answers = iter(self._wire.calls(commands))
        return [
            Trace(header, due is not None, sent, whole(deleted_at))
            for header, due, sent, deleted_at in zip(answers, answers, answers, answers, strict=True)
        ]

    def pending_bytes(self, counts: Mapping[int, int]) -> int:
        """About how many bytes the entries of what is pending take, by some of each partition, in two round trips.

        Where no more than `SAMPLED` are pending in a partition it is exact. Of a server that does not answer while
        others do, nothing counts.

        Args:
            counts: how many are pending, by partition.
        """
        waiting = [(partition_keys(number), count) for number, count in counts.items() if count]
        found = self._wire.calls_answered([("ZRANDMEMBER", of.pending, SAMPLED) for of, _ in waiting])
        some = [one_of or () for one_of in found]
        entries = [
            of.entry(one.decode(errors="replace"))
            for (of, _), one_of in zip(waiting, some, strict=True)
            for one in one_of
        ]
        sizes = iter(self._wire.calls_answered([("STRLEN", entry) for entry in entries]))
        total = 0.0
        for (_, count), members in zip(waiting, some, strict=True):
            total += sum(next(sizes) or 0 for _ in members) / max(1, len(members)) * count
        return round(total)

    @steadily
    def observe(self, members: Iterable[str], *, body_bytes: int = 0) -> dict[str, Shown]:
        """The members as readers see them, each at one moment, in one round trip.

        Bodies of less than `body_bytes` are read as well, and compared with their ETags.
        """
        last = BODY_AT + body_bytes - 1
        by_partition = self._layout.grouped(members)
        calls = []
        for partition, some in by_partition.items():
            of = partition_keys(partition)
            calls.append(((of.pending, of.dead, *map(of.entry, some)), (last, *some)))
        answers = self._wire.run_many(_OBSERVE, calls)
        return {
            member: Shown(
                *(value[:BODY_AT], ttl_ms, bool(unsettled)),
                intact=is_intact(value) if body_bytes and 0 < len(value) <= last else None,
            )
            for some, flat in zip(by_partition.values(), answers, strict=True)
            for member, value, ttl_ms, unsettled in zip(some, flat[::3], flat[1::3], flat[2::3], strict=True)
        }

    def scan(self, partition: int, cursor: str, *, count: int) -> tuple[str, list[str]]:
        """About `count` pending members from a cursor on, and the cursor of the next: '0' after the last."""
        after, flat = self._wire.call("ZSCAN", partition_keys(partition).pending, cursor, "COUNT", count)
        return after.decode(), [member.decode() for member, _ in pairs(flat) if named(member) is not None]

    @steadily
    def entryless(self, partition: int, members: Sequence[str]) -> list[str]:
        """Those of the members that are pending although they have no entry."""
        of = partition_keys(partition)
        found = self._wire.run(_FIND_ENTRYLESS, (of.pending, *map(of.entry, members)), members)
        return [member.decode() for member in found]

    def schedule(self, partition: int, *, before_ms: int) -> tuple[int, bool]:
        """The number of members due before a time; and whether a flusher is at work, or a task on its way."""
        of = partition_keys(partition)
        overdue, lease, scheduled = self._wire.calls(
            (("ZCOUNT", of.pending, "-inf", before_ms), ("EXISTS", of.lease), ("EXISTS", of.scheduled))
        )
        return int(overdue), bool(lease or scheduled)


def _digits(version: int) -> str:
    return f"{version:0{VERSION_DIGITS}d}"


def _unsettled_in(of: PartitionKeys) -> tuple[str, str]:
    """The places in a partition that have what MongoDB may not have."""
    return of.pending, of.dead
