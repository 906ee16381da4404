"""Pending documents on their way to MongoDB: claimed, sent, settled; or postponed, reissued, buried."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

from opentelemetry.trace import SpanContext

from writebehind.documents.entry import VERSION_DIGITS, Entry
from writebehind.errors import ForeignDatabaseError, ForeignRedisError, RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.connections import Command
from writebehind.redis.keys import Layout, partition_keys
from writebehind.redis.letters import MOST_KEPT
from writebehind.redis.reach import is_away
from writebehind.redis.scripts import script
from writebehind.redis.shared.owner import Owner
from writebehind.redis.shared.record import Record
from writebehind.redis.strays import without_strays
from writebehind.redis.wire import Call, Wire
from writebehind.sequences import pairs
from writebehind.tracing.written import contexts

#: The longest that a document is postponed which MongoDB did not take, ms.
POSTPONED_MS = 5_000
#: How much later than a write is due its flush task may run, ms: a hint costs more than a write.
HINT_SLACK_MS = 1_000
#: Between two flush tasks of a partition that has members of paused collections, or while all is paused, ms.
PAUSED_MS = 5_000
#: Before its token, what stands in the place of a ticket while a flusher is at work: see `lua/claim.lua`.
AT_WORK = "0:"

_CLAIM, _RECORD_SENDING, _SETTLE, _RELEASE = (
    script("claim"),
    script("record_sending"),
    script("settle"),
    script("release"),
)
_ABANDON = script("abandon")
_BURY, _SWEEP, _POSTPONE = script("bury"), script("sweep"), script("postpone")
_BRING_FORWARD = script("bring_forward")
_REISSUE, _OUTDO = script("reissue"), script("outdo")
_MARK_PENDING, _MOVE_TIMES = script("mark_pending"), script("move_times")


class Burial(IntEnum):
    """Outcome of a burial."""

    NEWER = 0
    """A newer version is pending."""
    BURIED = 1
    NOT_PENDING = 2
    """Another flusher has settled or buried it."""


class Reissue(IntEnum):
    """Outcome for a pending write after a change in MongoDB."""

    SETTLED = 0
    """It is not pending any more."""
    UNSENT = 1
    """MongoDB has not been given it yet, and will be given it after the change."""
    REISSUED = 2
    """MongoDB may have been given it before the change, and will be given it once more, under the next version."""


class Contest(IntEnum):
    """Outcome for a pending version when MongoDB has a greater one."""

    OVER = 0
    """It is not the pending one any more."""
    LOST = 1
    """This Redis may have issued MongoDB's version, and has lost it: MongoDB's stands."""
    REISSUED = 2
    """It cannot have issued it: what is pending is written over it, under a greater version."""
    OVERWRITTEN = 3
    """A former primary issued it, and had what was pending, which is dropped: MongoDB's was written over it."""


class Settled(NamedTuple):
    """One version that MongoDB now has. A tuple, as `Outcome`.

    Attributes:
        member: the document.
        version_digits: its version.
        ttl_ms: of its entry, 0 to drop it.
        values: the names of its unique values' aliases.
        is_superseded: whether MongoDB has a newer one instead.
    """

    member: str
    version_digits: str
    ttl_ms: int
    values: Sequence[str] = ()
    is_superseded: bool = False


@dataclass(frozen=True, slots=True)
class Hint:
    """A flush task that is wanted: the partition, its ticket, and the delay in ms."""

    partition: int
    ticket: str
    delay_ms: int


@dataclass(frozen=True, slots=True)
class UntilNext:
    """Bounds of the time until the next flush task of a partition that is let go of.

    Attributes:
        least_delay_ms: at least.
        paused_ms: at most, where members of paused collections are set aside.
        all_paused: whether no write shall ask for a sooner one.
    """

    least_delay_ms: int = 0
    paused_ms: int = PAUSED_MS
    all_paused: bool = False


#: As soon as something is due.
AT_ONCE: Final = UntilNext()


@dataclass(frozen=True, slots=True)
class Released:
    """A partition that was let go of, as nothing in it is due; the hint that the caller must enqueue, if any."""

    hint: Hint | None


#: Where hints go. It must neither block nor raise: a lost hint is found by the sweep.
HintSink = Callable[[Hint], None]


class Pending:
    """The pending documents in one Redis. Safe to share between threads."""

    def __init__(
        self,
        wire: Wire,
        layout: Layout,
        *,
        database: str,
        owner: Record[Owner],
        tombstone_ttl_ms: int,
        longest_delay_ms: int,
        lease_ms: int,
        hint_life_ms: int,
    ) -> None:
        """Bind them to a server; see `Store` for the arguments. `owner` is where it is recorded whose it is."""
        self._hint_life_ms = hint_life_ms
        self.longest_wait_ms = longest_delay_ms + POSTPONED_MS + HINT_SLACK_MS
        self._wire = wire
        self._layout = layout
        self._database = database
        self._owner = owner
        self._tombstone_ttl_ms = tombstone_ttl_ms
        self._lease_ms = lease_ms

    @property
    def is_hinted(self) -> bool:
        """Whether hints are sent; without, none is returned, and no ticket stands in the way of who sends some."""
        return self._hint_life_ms > 0

    def claim(
        self,
        partition: int,
        token: str,
        *,
        lease_ms: int,
        limit: int,
        ticket: str = "",
        early: bool = False,
        soon_ms: int = 0,
        goes_along: Callable[[str, int], bool] = lambda _member, _left_ms: True,
        paused: Collection[str] = (),
        or_release: UntilNext | None = None,
    ) -> list[str] | Released | None:
        """Take or renew the lease; the members that are due, or `None` when another flusher is at work.

        With `early`, members that are not due yet are among them. Where any is due, those that are due within
        `soon_ms` are too, if `goes_along` says so of the member and the ms until it is due. Some may belong
        to other partitions: see `Misplaced`. Members of `paused` collections are set aside until a claim that is
        told of other ones. With `or_release` the partition is let go of where nothing is due, in the same step, so
        that nothing comes in between.
        """
        of = partition_keys(partition)
        status, *claimed = self._wire.run(
            _CLAIM,
            (of.lease, of.scheduled, of.pending, of.aside),
            (
                *(token, lease_ms, limit, ticket, int(early), soon_ms, self.longest_wait_ms),
                ",".join(sorted(paused)),
                *(self._bounds(or_release) if or_release else ()),
            ),
        )
        if status == b"released":
            return Released(_hint(partition, claimed[0]))
        if status != b"claimed":
            return None
        due, soon = claimed[0], dict(pairs(claimed[1]))
        members = without_strays(self._wire, [*due, *soon], (of.pending,))
        if not soon:
            return [one.decode() for one in members]
        return [one.decode() for one in members if one not in soon or goes_along(one.decode(), soon[one])]

    def entries(self, partition: int, members: Sequence[str]) -> list[Entry | None]:
        """The entries of members of one partition, in their order."""
        return [None if value is None else Entry.parse(value) for value in self.values(partition, members)]

    def values(self, partition: int, members: Sequence[str]) -> list[bytes | None]:
        """The same as they stand in Redis."""
        if not members:
            return []
        found: list[bytes | None] = self._wire.call("MGET", *map(partition_keys(partition).entry, members))
        return found

    def settle(self, partition: int, settled: Sequence[Settled], *, delay_ms: int, operations: int = 0) -> int:
        """Record versions that MongoDB has; how many of them were still the latest.

        `operations` that were sent for them are counted with them.

        Before that, in the same round trip, the aliases of their values are forgotten, and what is being asked for
        them: both may say from before that nobody has a value, where its claim was not made.
        """
        if not settled:
            return 0
        forget = self._forget([name for one in settled if one.values for name in one.values])
        members = [one.member for one in settled]
        each = [
            part
            for one in settled
            for part in (one.member, one.version_digits, one.ttl_ms, "1" if one.is_superseded else "")
        ]
        call = self._settling(partition, members, (delay_ms, operations), each)
        _, ((done, _newer),) = self._wire.run_many_after(forget, _SETTLE, [call])
        return int(done)

    def settle_plain(
        self,
        partition: int,
        members: Sequence[str],
        digits: Sequence[bytes],
        ttls_ms: Sequence[int],
        *,
        delay_ms: int,
        operations: int,
    ) -> None:
        """`settle` of versions without unique values, which MongoDB has, in columns of the same length."""
        columns: Iterable[tuple[str | bytes | int, ...]] = zip(
            members, digits, ttls_ms, repeat("", len(members)), strict=True
        )
        each = chain.from_iterable(columns)
        self._wire.run(_SETTLE, *self._settling(partition, members, (delay_ms, operations), each))

    def _settling(
        self,
        partition: int,
        members: Sequence[str],
        first: tuple[int, int],
        each: Iterable[str | bytes | int],
    ) -> Call:
        """A step that settles versions: of each the member, digits, TTL and flag."""
        of = partition_keys(partition)
        keys_of = (
            *(of.pending, of.deleted, of.deleted_at, of.dead, of.dead_counts, of.sent, of.clock, of.counts),
            *(of.traces, of.fates, *map(of.entry, members)),
        )
        return keys_of, (*first, self._tombstone_ttl_ms, *each)

    def forget_values(self, settled: Sequence[Settled]) -> dict[str, RedisUnavailableError]:
        """Forget the aliases of values where a server may be away that has some; the members of which that failed.

        To be called before `settle`, which finds out too late on several servers. On one it does nothing.
        """
        names = list(dict.fromkeys(name for one in settled for name in one.values))
        if not names or not self._wire.has_several:
            return {}
        by_partition = self._layout.grouped(names)
        try:
            answers = self._wire.exchange(self._forget(names))
        except RedisUnavailableError as error:
            answers = [error] * len(by_partition)
        away = {
            name: answer
            for some, answer in zip(by_partition.values(), answers, strict=True)
            for name in some
            if isinstance(answer, RedisUnavailableError)
        }
        return {one.member: away[name] for one in settled for name in one.values if name in away}

    def _forget(self, names: Sequence[str]) -> list[Command]:
        """The commands that drop aliases with the tokens of whoever may fill them: one for each partition."""
        commands: list[Command] = []
        for partition, some in self._layout.grouped(names).items():
            of = partition_keys(partition)
            commands.append(("DEL", *map(of.alias_load, some), *map(of.alias, some)))
        return commands

    def bring_forward(self, partition: int, members: Collection[str]) -> int:
        """Let pending members be due now, except for what MongoDB did not take; how many are due."""
        of = partition_keys(partition)
        keys_of = (of.pending, of.sent, *map(of.entry, members))
        return int(self._wire.run(_BRING_FORWARD, keys_of, tuple(members)))

    def release(self, partition: int, token: str, until_next: UntilNext = AT_ONCE) -> Hint | None:
        """Give the lease back; the hint that the caller must enqueue, as members are still pending."""
        of = partition_keys(partition)
        least, life, paused_ms, all_paused = self._bounds(until_next)
        answer = self._wire.run(
            _RELEASE,
            (of.lease, of.scheduled, of.pending),
            (token, least, life, self.longest_wait_ms, paused_ms, all_paused),
        )
        return _hint(partition, answer)

    def _bounds(self, until_next: UntilNext) -> tuple[int, int, int, int]:
        """The same as the steps take them, with the life of a ticket."""
        return until_next.least_delay_ms, self._hint_life_ms, until_next.paused_ms, int(until_next.all_paused)

    def give_back(self, partition: int, token: str) -> None:
        """Give the lease back without asking for a flush: others flush the partition, by tasks of their own."""
        of = partition_keys(partition)
        self._wire.run_many(_ABANDON, [((of.lease,), (token,)), ((of.scheduled,), (f"{AT_WORK}{token}",))])

    def version_digits(self, member: str) -> bytes:
        """The bytes that stand where an entry's version should."""
        key = self._layout.of(member).entry(member)
        digits: bytes = self._wire.call("GETRANGE", key, 0, VERSION_DIGITS - 1)
        return digits

    def bury(self, member: str, version_digits: str | bytes, letter: bytes, *, drop_entry: bool = False) -> Burial:
        """Move a pending member to the dead letters, if it still has this version: '' where its entry is gone.

        With `drop_entry` MongoDB has what readers are to see, and the entry is kept beside the letter.
        """
        of = self._layout.of(member)
        keys_of = (
            *(of.entry(member), of.pending, of.dead, of.dead_counts, of.load(member), of.sent),
            *(of.kept(member), of.crowded, of.counts, of.traces, of.fates),
            of.clock,
        )
        return Burial(self._wire.run(_BURY, keys_of, (member, version_digits, letter, int(drop_entry), MOST_KEPT)))

    def record_sending(
        self, partition: int, entries: Mapping[str, Entry], *, traced: bool = False
    ) -> dict[str, list[SpanContext]]:
        """Note what is about to be sent to MongoDB, by member: so it is known again when MongoDB reports it.

        It is the last step before MongoDB is written to, so in the same round trip it is seen whose documents
        these are; and, if that is asked for, which spans have written them: of each that has any, the last one
        at the end. While the server is away that says whose they are, what was seen last holds.

        Raises:
            ForeignRedisError: of another MongoDB database than this process writes to.
        """
        flat = [part for member, entry in entries.items() for part in (member, entry.header)]
        noted = self.note_sending(partition, flat, traced=traced)
        if not noted:
            return {}
        found = zip(entries.items(), noted, strict=True)
        return {member: some for (member, entry), text in found if (some := contexts(text, entry.version))}

    def note_sending(self, partition: int, flat: Sequence[str | bytes], *, traced: bool = False) -> list[bytes]:
        """The same of members and headers in turn; what is noted of each one's spans, where that is asked for."""
        of = partition_keys(partition)
        call = ((of.sent, *((of.traces,) if traced else ())), flat)
        try:
            (owned,), (noted,) = self._wire.run_many_after([("GET", keys.DATABASE)], _RECORD_SENDING, [call])
            owner = self._owner.read(owned)
        except RedisUnavailableError as error:
            owner = self._owner.known() if is_away(error) else None
            if owner is None:
                raise
            (noted,) = self._wire.run_many(_RECORD_SENDING, [call])
        try:
            if owner:
                owner.check(self._database)
        except ForeignDatabaseError as error:
            raise ForeignRedisError(inner=f"{error}, and restart this process") from None
        return list(noted)

    def reissue_many(self, members: Iterable[str]) -> list[Reissue]:
        """See to it that what is pending is written to MongoDB after a change, in one round trip."""
        calls = []
        for member in members:
            of = self._layout.of(member)
            calls.append(((of.entry(member), of.pending, of.clock, of.sent), (member,)))
        return [Reissue(answer) for answer in self._wire.run_many(_REISSUE, calls)]

    def outdo(self, member: str, version_digits: str, theirs: int) -> Contest:
        """Decide about a pending version that MongoDB has a greater one than: `theirs`."""
        of = self._layout.of(member)
        keys = (of.entry(member), of.pending, of.clock, of.lapses, of.load(member), of.sent, of.traces, of.counts)
        return Contest(self._wire.run(_OUTDO, keys, (member, version_digits, theirs)))

    def sweep(self, partition: int, *, overdue_ms: int) -> tuple[int, Hint | None]:
        """The number of pending members, and a hint when they are overdue and no flush task is on its way."""
        of = partition_keys(partition)
        if not self.is_hinted:
            return int(self._wire.call("ZCARD", of.pending)), None
        limits = (overdue_ms, self._hint_life_ms, self.longest_wait_ms, self._lease_ms)
        count, ticket = self._wire.run(_SWEEP, (of.lease, of.scheduled, of.pending), limits)
        return int(count), Hint(partition, ticket.decode(), 0) if ticket else None

    def move_times(
        self, partition: int, *, from_ms: int, to_ms: int, by_ms: int, noted_ms: int, limit: int
    ) -> tuple[int, bool]:
        """Move times of a partition along with a clock that has stepped, unless that was seen to.

        Args:
            partition: its number.
            from_ms: the earliest time, by the new clock, at which it may have stepped.
            to_ms: the latest.
            by_ms: by how much.
            noted_ms: for so long it is remembered that it was seen to.
            limit: times that are moved at once.

        Returns:
            How many were moved, and whether there are more.
        """
        of = partition_keys(partition)
        arguments = (from_ms, to_ms, by_ms, self.longest_wait_ms, noted_ms, limit)
        moved, more = self._wire.run(_MOVE_TIMES, (of.stepped, of.pending, of.deleted_at), arguments)
        return int(moved), bool(more)

    def postpone(
        self,
        partition: int,
        versions: Sequence[tuple[str, str]],
        *,
        delay_ms: int,
        longest_ms: int,
        part: float,
        others: bool,
    ) -> list[tuple[int, int]]:
        """Let members be due again later, the later the more often MongoDB did not take them.

        Args:
            partition: theirs.
            versions: the members, and the digits of what MongoDB did not take.
            delay_ms: after the first attempt; it doubles with each, up to `longest_ms`.
            longest_ms: see there.
            part: of the delay that is waited.
            others: whether MongoDB has taken other writes meanwhile.

        Returns:
            For each how often it was tried, and how often of that MongoDB took others; 0 where another version is
            pending by now, or none.
        """
        of = partition_keys(partition)
        arguments: list[Any] = [delay_ms, longest_ms, part, self.longest_wait_ms, int(others)]
        for member, version_digits in versions:
            arguments += (member, version_digits)
        entries = [of.entry(member) for member, _ in versions]
        counts = map(int, self._wire.run(_POSTPONE, (of.pending, of.sent, *entries), arguments))
        return list(zip(counts, counts, strict=True))

    def mark(self, member: str, header: bytes, *, delay_ms: int) -> bool:
        """Let a member be pending again, and due after a delay, if the header of its entry is still the same."""
        of = self._layout.of(member)
        keys_of = (of.entry(member), of.pending, of.load(member), of.dead, of.counts)
        return bool(self._wire.run(_MARK_PENDING, keys_of, (member, header, delay_ms)))


def _hint(partition: int, answer: Sequence[Any]) -> Hint | None:
    """The flush task that is wanted after a release, by the answer of the step."""
    return Hint(partition, answer[1].decode(), int(answer[0])) if answer else None
