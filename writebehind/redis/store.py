"""Redis as the protocol sees it: one typed method for each atomic step. The steps are the files in `lua/`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any
from uuid import uuid4

from writebehind.documents import large
from writebehind.documents.durability import Durability
from writebehind.documents.entry import BODY_AT, Entry
from writebehind.documents.ids import named
from writebehind.flushing.dead_letter import digits, kept_name
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.metrics import Watch
from writebehind.redis.partition_count import Division
from writebehind.redis.wire import Call, Command, Wire, script

#: Condition of a commit: the document must not exist. Any other non-empty condition is the ETag it must have.
ABSENT = "*"
#: How long a flush task may queue before another is enqueued in its place, ms.
HINT_LIFE_MS = 10_000
#: Documents that are kept beside the dead letters of one document when no new write to it is taken.
MOST_KEPT = 100
#: Bytes of documents that are filled in one go.
FILLED_AT_ONCE = 4 << 20
#: How much later than a write is due its flush task may run, ms: a hint costs more than a write.
HINT_SLACK_MS = 1_000
#: The longest that a document is postponed which MongoDB did not take, ms.
POSTPONED_MS = 5_000

_COMMIT, _CLAIM, _SETTLE, _RELEASE = script("commit"), script("claim"), script("settle"), script("release")
_BURY, _LEASE_GET, _FILL = script("bury"), script("lease_get"), script("fill")
_ABANDON, _INVALIDATE, _SWEEP = script("abandon"), script("invalidate"), script("sweep")
_AUDITED, _REFRESH_GET = script("audited"), script("refresh_get")
_SENDING, _REISSUE, _OUTDO = script("sending"), script("reissue"), script("outdo")
#: What the token of a refresh begins with, and no other: lease_get takes it over where the entry is missing.
_REFRESH = "refresh:"
#: What makes the server wait until the writes before it on the same connection are on its disk, or on one replica.
_CONFIRMATIONS = {Durability.FSYNCED: ("WAITAOF", 1, 0), Durability.REPLICATED: ("WAIT", 1)}


_NOTHING: Mapping[str, str] = {}
#: Names that other hands have put into Redis are told up to so many bytes each, and characters in all.
_SHOWN_BYTES, _SHOWN_CHARACTERS = 60, 200

log = logging.getLogger(__name__)


class CommitStatus(StrEnum):
    """What became of a commit."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Commit:
    """The answer to a commit.

    Attributes:
        status: only `OK` means that the write is acknowledged.
        version: the version issued, microseconds; 0 unless `OK`.
        previous: kind letter of the entry before, '' when there was none.
        ticket: of the flush task that the caller must enqueue, '' when one is on its way.
        durability: how far it has come.
        shared: other documents that have one of its unique values as last acknowledged, their ids by field.
    """

    status: CommitStatus
    version: int
    previous: str
    ticket: str
    durability: Durability = Durability.BUFFERED
    shared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """One write to commit; `cap` is for pending members of its partition, the store's own by default."""

    member: str
    payload: bytes
    delay_ms: int
    condition: str = ""
    cap: int | None = None


class Filled(IntEnum):
    """What became of a fill."""

    REFUSED = 0
    """A write or an invalidation came in between."""
    FILLED = 1
    DELETED = 2
    """MongoDB has a version older than the document's deletion: it does not exist."""
    NOT_KEPT = 3
    """What was loaded is good, but Redis has no memory for it, or only for what is hotter."""


class Burial(IntEnum):
    """What became of a burial."""

    NEWER = 0
    """A newer version is pending."""
    BURIED = 1
    NOT_PENDING = 2
    """Another flusher has settled or buried it."""


class Reissue(IntEnum):
    """What became of a pending write after a change in MongoDB."""

    SETTLED = 0
    """It is not pending any more."""
    UNSENT = 1
    """MongoDB has not been given it yet, and will be given it after the change."""
    REISSUED = 2
    """MongoDB may have been given it before the change, and will be given it once more, under the next version."""


class Contest(IntEnum):
    """What became of a pending version that MongoDB has a greater one than."""

    OVER = 0
    """It is not the pending one any more."""
    LOST = 1
    """This Redis may have issued MongoDB's version, and has lost it: MongoDB's stands."""
    REISSUED = 2
    """It cannot have issued it: what is pending is written over it, under a greater version."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """The right of one reader to replace an entry.

    Attributes:
        member: the document.
        token: of this right.
        seen: what stands before the body of the entry that is replaced: its version, kind and ETag.
        ttl_ms: what that entry has left.
    """

    member: str
    token: str
    seen: str
    ttl_ms: int = 0


#: Where refreshes go that no reader should wait for. It must neither block nor raise: a later reader tries again.
RefreshSink = Callable[[Refresh], None]


@dataclass(frozen=True, slots=True)
class Settled:
    """One version that MongoDB now has; `ttl_ms` of its entry, 0 to drop it."""

    member: str
    version_digits: str
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Hint:
    """A flush task that is wanted: the partition, its ticket, and the delay in ms."""

    partition: int
    ticket: str
    delay_ms: int


#: Where hints go. It must neither block nor raise: a lost hint is found by the sweep.
HintSink = Callable[[Hint], None]


@dataclass(frozen=True, slots=True)
class Lookup:
    """The answer to a `lease_get`: an entry, or the right to load, or neither: then wait."""

    entry: Entry | None
    ttl_ms: int
    may_load: bool


class Store:
    """The state in Redis. Safe to share between threads."""

    def __init__(
        self,
        wire: Wire,
        *,
        partitions: int,
        max_pending: int,
        tombstone_ttl_ms: int,
        longest_delay_ms: int = 60_000,
        lease_ms: int = 30_000,
    ) -> None:
        """Bind the steps to a server.

        Args:
            wire: the server.
            partitions: into how many it is divided.
            max_pending: the cap per partition.
            tombstone_ttl_ms: how long a settled deletion is kept.
            longest_delay_ms: the longest flush delay of any collection. A member that is due later by more than
                that was left behind by a clock that has stepped back.
            lease_ms: how long a flusher owns a partition.
        """
        self.longest_wait_ms = longest_delay_ms + POSTPONED_MS + HINT_SLACK_MS
        self._lease_ms = lease_ms
        self.wire = wire
        self.partitions = partitions
        self.watch = Watch(wire, partitions)
        self._max_pending = max_pending
        self._tombstone_ttl_ms = tombstone_ttl_ms

    def partition_of(self, member: str) -> int:
        """The partition that a member belongs to."""
        return keys.partition_of(member, self.partitions)

    def entry_key(self, member: str) -> str:
        """The key of a member's entry."""
        return partition_keys(self.partition_of(member)).entry(member)

    def check_partitions(self) -> None:
        """Record the number of partitions, or compare it with what is recorded.

        Raises:
            ConfigurationError: this Redis is divided differently, or that is being changed.
            RedisUnavailableError: Redis does not answer.
        """
        self.wire.call("SET", keys.PARTITIONS, self.partitions, "NX")
        Division.parse(self.wire.call("GET", keys.PARTITIONS)).check(self.partitions)

    # The write path ---------------------------------------------------------------------------------

    def commit_many(
        self,
        requests: Sequence[CommitRequest],
        durability: Durability = Durability.BUFFERED,
        *,
        wait_ms: int = 0,
    ) -> list[Commit]:
        """Acknowledge several writes, in one round trip; each is atomic by itself.

        Args:
            requests: the writes.
            durability: what Redis shall see to before it answers: `FSYNCED` or `REPLICATED`.
            wait_ms: for at most so long. Then the commits say `BUFFERED`.

        Raises:
            RedisUnavailableError: Redis does not answer; the writes may or may not have happened.
        """
        calls = [self._commit_call(request) for request in requests]
        if durability not in _CONFIRMATIONS:
            return [_commit_answer(answer) for answer in self.wire.run_many(_COMMIT, calls)]
        confirmation = (*_CONFIRMATIONS[durability], wait_ms)
        answers, confirmed = self.wire.run_many_then(_COMMIT, calls, confirmation)
        reached = durability if _confirms(confirmed) else Durability.BUFFERED
        return [_commit_answer(answer, reached) for answer in answers]

    def _commit_call(self, request: CommitRequest) -> tuple[Sequence[str], Sequence[Any]]:
        member, delay_ms = request.member, request.delay_ms
        cap = self._max_pending if request.cap is None else request.cap
        of = partition_keys(self.partition_of(member))
        return (
            (
                of.entry(member),
                of.pending,
                of.clock,
                of.scheduled,
                of.dead,
                of.load(member),
                of.dead_counts,
                of.deleted,
                of.kept(member),
                of.crowded,
            ),
            (
                member,
                request.payload,
                request.condition,
                cap,
                delay_ms,
                delay_ms + HINT_LIFE_MS,
                HINT_SLACK_MS,
                MOST_KEPT,
            ),
        )

    # Flushing ---------------------------------------------------------------------------------------

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
    ) -> list[str] | None:
        """Take or renew the lease; the members that are due, or `None` when another flusher is at work.

        With `early`, members that are not due yet are among them. Where any is due, those that are due within
        `soon_ms` are too, if `goes_along` says so of the member and the ms until it is due.
        """
        of = partition_keys(partition)
        status, *claimed = self.wire.run(
            _CLAIM,
            (of.lease, of.scheduled, of.pending),
            (token, lease_ms, limit, ticket, int(early), soon_ms, self.longest_wait_ms),
        )
        if status != b"claimed":
            return None
        due, soon = claimed[0], dict(zip(claimed[1][::2], claimed[1][1::2], strict=True))
        members = self._without_strays([*due, *soon], (of.pending,), of_partition=partition)
        return [one.decode() for one in members if one not in soon or goes_along(one.decode(), soon[one])]

    def _without_strays(
        self, members: Sequence[bytes], held: Sequence[str], *, of_partition: int | None = None
    ) -> list[bytes]:
        """Members, of a partition where it is given; what is none is taken out of the sorted sets that hold it.

        Only other hands can have put it there: no write was ever acknowledged under such a name.
        """
        strays = self._strays(members, of_partition)
        if strays:
            names = ", ".join(repr(one[:_SHOWN_BYTES]) for one in sorted(strays))[:_SHOWN_CHARACTERS]
            log.critical(
                "other hands put %d names of no document into %s, such as %s", len(strays), held[0], names
            )
            self.wire.calls([("ZREM", key, *strays) for key in held])
        return [one for one in members if one not in strays]

    def _strays(self, members: Sequence[bytes], of_partition: int | None) -> set[bytes]:
        strays, elsewhere = set(), []
        for one in members:
            document_id = named(one)
            if document_id is None:
                strays.add(one)
            elif of_partition not in {None, self.partition_of(document_id.member)}:
                elsewhere.append(one)
        if of_partition is not None and elsewhere:
            # A process that takes Redis to be divided in another way may have acknowledged it here: then it has an
            # entry here, and nowhere else.
            of = partition_keys(of_partition)
            there = self.wire.calls([("EXISTS", of.entry(one.decode())) for one in elsewhere])
            strays.update(one for one, exists in zip(elsewhere, there, strict=True) if not exists)
        return strays

    def entries(self, partition: int, members: Sequence[str]) -> list[Entry | None]:
        """The entries of members of one partition, in their order."""
        if not members:
            return []
        of = partition_keys(partition)
        values = self.wire.call("MGET", *map(of.entry, members))
        return [None if value is None else Entry.parse(value) for value in values]

    def settle(self, partition: int, settled: Sequence[Settled], *, delay_ms: int) -> int:
        """Record versions that MongoDB has; how many of them were still the latest."""
        if not settled:
            return 0
        of = partition_keys(partition)
        arguments: list[Any] = [delay_ms]
        for one in settled:
            arguments += (one.member, one.version_digits, one.ttl_ms, self._tombstone_ttl_ms)
        done, _newer = self.wire.run(
            _SETTLE,
            (
                of.pending,
                of.deleted,
                of.deleted_at,
                of.dead,
                of.dead_counts,
                of.sent,
                of.clock,
                *(of.entry(one.member) for one in settled),
            ),
            arguments,
        )
        return int(done)

    def release(self, partition: int, token: str, *, least_delay_ms: int = 0) -> Hint | None:
        """Give the lease back; the hint that the caller must enqueue because members are still pending."""
        of = partition_keys(partition)
        answer = self.wire.run(
            _RELEASE,
            (of.lease, of.scheduled, of.pending),
            (token, least_delay_ms, HINT_LIFE_MS, self.longest_wait_ms),
        )
        return Hint(partition, answer[1].decode(), int(answer[0])) if answer else None

    def version_digits(self, member: str) -> bytes:
        """What stands where an entry's version should."""
        digits: bytes = self.wire.call("GETRANGE", self.entry_key(member), 0, 15)
        return digits

    def bury(self, member: str, version_digits: str | bytes, letter: bytes, *, drop_entry: bool = False) -> Burial:
        """Move a pending member to the dead letters, if it still has this version: '' where its entry is gone.

        With `drop_entry` MongoDB has what readers are to see, and the entry is kept beside the letter.
        """
        of = partition_keys(self.partition_of(member))
        keys_of = (
            *(of.entry(member), of.pending, of.dead, of.dead_counts, of.load(member), of.sent),
            *(of.kept(member), of.crowded),
        )
        return Burial(self.wire.run(_BURY, keys_of, (member, version_digits, letter, int(drop_entry), MOST_KEPT)))

    def sending(self, partition: int, entries: Mapping[str, Entry]) -> None:
        """Note what is about to be sent to MongoDB, by member: so it is known again when MongoDB reports it."""
        flat = [part for member, entry in entries.items() for part in (member, entry.header)]
        self.wire.run(_SENDING, (partition_keys(partition).sent,), flat)

    def reissue_many(self, members: Iterable[str]) -> list[Reissue]:
        """See to it that what is pending is written to MongoDB after a change, in one round trip."""
        calls = []
        for member in members:
            of = partition_keys(self.partition_of(member))
            calls.append(((of.entry(member), of.pending, of.clock, of.sent), (member,)))
        return [Reissue(answer) for answer in self.wire.run_many(_REISSUE, calls)] if calls else []

    def outdo(self, member: str, version_digits: str, theirs: int) -> Contest:
        """Decide about a pending version that MongoDB has a greater one than: `theirs`."""
        of = partition_keys(self.partition_of(member))
        return Contest(
            self.wire.run(_OUTDO, (of.entry(member), of.pending, of.clock), (member, version_digits, theirs))
        )

    def sweep(self, partition: int, *, overdue_ms: int) -> tuple[int, Hint | None]:
        """How many members are pending, and a hint when they are overdue and no flush task is on its way."""
        of = partition_keys(partition)
        limits = (overdue_ms, HINT_LIFE_MS, self.longest_wait_ms, self._lease_ms)
        count, ticket = self.wire.run(_SWEEP, (of.lease, of.scheduled, of.pending), limits)
        return int(count), Hint(partition, ticket.decode(), 0) if ticket else None

    def unsettled(self, partition: int, members: Sequence[str]) -> set[str]:
        """Which of these members of one partition are pending, or refused by MongoDB."""
        if not members:
            return set()
        of = partition_keys(partition)
        due, dead = self.wire.calls((("ZMSCORE", of.pending, *members), ("HMGET", of.dead, *members)))
        return {
            member
            for member, score, letter in zip(members, due, dead, strict=True)
            if score is not None or letter is not None
        }

    def unreached(self, partition: int, versions: Mapping[str, int]) -> dict[str, bytes]:
        """Which of these versions of members of one partition MongoDB does not have.

        Returns:
            Of each member its dead letter, if it is of this version. Else b'': it is pending, or a newer version
            is a dead letter.
        """
        if not versions:
            return {}
        of = partition_keys(partition)
        kept = [kept_name(member, digits(version)) for member, version in versions.items()]
        due, dead, beside = self.wire.calls(
            (("ZMSCORE", of.pending, *versions), ("HMGET", of.dead, *versions), ("HMGET", of.dead, *kept))
        )
        left = {}
        for (member, version), score, letter, kept_letter in zip(versions.items(), due, dead, beside, strict=True):
            ours = kept_letter or (letter if letter and letter.startswith(digits(version).encode()) else None)
            if ours or score is not None or letter is not None:
                left[member] = ours or b""
        return left

    def deletions(self, partition: int, *, before_ms: int, limit: int) -> dict[str, int]:
        """Members whose deletion MongoDB has had since before a time, with the version of the deletion."""
        of = partition_keys(partition)
        found = self.wire.call("ZRANGE", of.deleted_at, "-inf", before_ms, "BYSCORE", "LIMIT", 0, limit)
        # Not by the partition: while Redis is divided anew, some stand where they will belong.
        members = self._without_strays(found, (of.deleted, of.deleted_at))
        versions = self.wire.call("ZMSCORE", of.deleted, *members) if members else []
        return {member.decode(): int(float(at or 0)) for member, at in zip(members, versions, strict=True)}

    def audited(self, partition: int, deletions: Mapping[str, int]) -> None:
        """Forget deletions that were audited, unless the member was deleted again meanwhile."""
        of = partition_keys(partition)
        flat = [part for pair in deletions.items() for part in pair]
        self.wire.run(_AUDITED, (of.deleted, of.deleted_at), flat)

    # Reading ----------------------------------------------------------------------------------------

    def get(self, member: str) -> tuple[Entry | None, int]:
        """The entry, and its TTL in ms: -1 while pending. One round trip, and no script: the path of a hit.

        Raises:
            TakesMuchError: this thread may not read so large a document; no more of it was read than it may.
        """
        key = partition_keys(self.partition_of(member)).entry(member)
        # An entry is never empty: what is may as well be missing.
        read = ("GETRANGE", key, 0, BODY_AT + large.most()) if large.is_bounded() else ("GET", key)
        value, ttl = self.wire.calls((read, ("PTTL", key)))
        if value is None or value == b"":
            return None, ttl
        _see(value)
        return Entry.shown(value), ttl

    def get_many(self, members: Sequence[str]) -> dict[str, Entry]:
        """The entries that are there, in one round trip with one MGET for each partition."""
        return {member: entry for member, (entry, _) in self.get_many_with_ttl(members, ()).items()}

    def get_many_with_ttl(self, members: Sequence[str], timed: Sequence[str]) -> dict[str, tuple[Entry, int]]:
        """`get_many`, and the TTLs in ms of those that are `timed`; the others have -1.

        Raises:
            TakesMuchError: this thread may not read one that is so large.
        """
        by_partition: dict[int, list[str]] = {}
        for member in members:
            by_partition.setdefault(self.partition_of(member), []).append(member)
        commands: list[Command] = [
            ("MGET", *map(partition_keys(number).entry, group)) for number, group in by_partition.items()
        ]
        commands += [("PTTL", self.entry_key(member)) for member in timed]
        answers = self.wire.calls(commands)
        values_of = answers[: len(by_partition)]
        for values in values_of:
            _see(*values)
        ttls_ms = dict(zip(timed, answers[len(by_partition) :], strict=True))
        return {
            member: (Entry.shown(value), ttls_ms.get(member, -1))
            for group, values in zip(by_partition.values(), values_of, strict=True)
            for member, value in zip(group, values, strict=True)
            if value is not None
        }

    def get_short_with_ttl(
        self, members: Sequence[str], timed: Sequence[str], *, below_bytes: int
    ) -> dict[str, tuple[Entry, int]]:
        """`get_many_with_ttl` of entries that take less than so many bytes. No more of any is sent."""
        commands: list[Command] = [("GETRANGE", self.entry_key(member), 0, below_bytes - 1) for member in members]
        commands += [("PTTL", self.entry_key(member)) for member in timed]
        answers = self.wire.calls(commands)
        ttls_ms = dict(zip(timed, answers[len(members) :], strict=True))
        return {
            member: (Entry.parse(value), ttls_ms.get(member, -1))
            for member, value in zip(members, answers[: len(members)], strict=True)
            if isinstance(value, bytes) and 0 < len(value) < below_bytes
        }

    def sizes(self, members: Sequence[str]) -> list[int]:
        """How many bytes the entries take, in one round trip; 0 for one that is not there."""
        found: list[int] = self.wire.calls([("STRLEN", self.entry_key(member)) for member in members])
        return found

    def lease_get(self, member: str, token: str, *, life_ms: int) -> Lookup:
        """The entry, or the right to load it, or word that another reader loads it."""
        return self.lease_get_many([member], token, life_ms=life_ms)[0]

    def lease_get_many(self, members: Sequence[str], token: str, *, life_ms: int) -> list[Lookup]:
        """`lease_get` for several members, in one round trip.

        Raises:
            TakesMuchError: this thread may not read one that is there by now, and so large.
        """
        places = [(partition_keys(self.partition_of(member)), member) for member in members]
        answers = self.wire.run_many(
            _LEASE_GET, [((of.entry(member), of.load(member)), (token, life_ms)) for of, member in places]
        )
        _see(*(one[1] for one in answers if one[0] == b"entry"))
        return [
            Lookup(Entry.shown(answer[1]), answer[2], may_load=False)
            if answer[0] == b"entry"
            else Lookup(None, -1, may_load=answer[0] == b"load")
            for answer in answers
        ]

    def refresh_get(self, member: str, ttl_ms: int, *, life_ms: int) -> Refresh | None:
        """The right to replace an entry that MongoDB has as well; `None` where another reader has it, or had.

        Args:
            member: the document.
            ttl_ms: of the entry that is old. One that lives longer has been refreshed since.
            life_ms: of the right.
        """
        return self.refresh_get_many({member: ttl_ms}, life_ms=life_ms)[1].get(member)

    def refresh_get_many(self, old: Mapping[str, int], *, life_ms: int) -> tuple[str, dict[str, Refresh]]:
        """`refresh_get` for several members with their TTLs, in one round trip: the rights, and their token."""
        token = _REFRESH + uuid4().hex
        calls = []
        for member, ttl_ms in old.items():
            of = partition_keys(self.partition_of(member))
            calls.append(((of.entry(member), of.load(member)), (token, life_ms, ttl_ms)))
        answers = self.wire.run_many(_REFRESH_GET, calls) if calls else []
        return token, {
            member: Refresh(member, token, answer.decode(), ttl_ms)
            for (member, ttl_ms), answer in zip(old.items(), answers, strict=True)
            if answer
        }

    def fill(
        self, member: str, token: str, entry: Entry, *, ttl_ms: int, seen: str = "", full: bool = False
    ) -> Filled:
        """Store a loaded entry, unless a write or an invalidation came in between, or it was deleted since.

        Args:
            member: the document.
            token: of the right to load.
            entry: what was loaded.
            ttl_ms: how long it is kept.
            seen: what a `Refresh` has seen: that entry is replaced, and no other.
            full: whether another entry would be displaced: then it is stored only if it is hot enough for that.

        Raises:
            RedisUnavailableError: Redis does not answer. One that is full does: `Filled.NOT_KEPT`.
        """
        return self.fill_many([(member, entry, ttl_ms)], token, {member: seen}, full=full)[0]

    def fill_many(
        self,
        loaded: Iterable[tuple[str, Entry, int]],
        token: str,
        seen: Mapping[str, str] = _NOTHING,
        *,
        full: bool = False,
    ) -> list[Filled]:
        """`fill` for several entries with their TTLs in ms, in one round trip for a few MiB; `seen` by member."""
        filled: list[int] = []
        calls: list[Call] = []
        size = 0
        for member, entry, ttl_ms in loaded:
            of = partition_keys(self.partition_of(member))
            keys_of = (of.entry(member), of.load(member), of.deleted, of.pending, of.hot, of.heat)
            before = seen.get(member, "")
            calls.append(
                (keys_of, (token, entry.value, ttl_ms, member, self._tombstone_ttl_ms, before, int(full)))
            )
            size += len(entry.body)
            if size > FILLED_AT_ONCE:  # each is held three times until it is sent
                filled += self.wire.run_many(_FILL, calls)
                calls, size = [], 0
        if calls:
            filled += self.wire.run_many(_FILL, calls)
        return [Filled(answer) for answer in filled]

    def may_fill(self, member: str, token: str) -> bool:
        """Whether the token still is the right to fill the entry."""
        load = partition_keys(self.partition_of(member)).load(member)
        return bool(self.wire.call("GET", load) == token.encode())

    def abandon(self, members: Iterable[str], token: str) -> None:
        """Give load tokens back, so that other readers may try at once."""
        self._abandon((member, token) for member in members)

    def give_back(self, rights: Iterable[Refresh]) -> None:
        """`abandon` for rights to refresh."""
        self._abandon((one.member, one.token) for one in rights)

    def _abandon(self, tokens: Iterable[tuple[str, str]]) -> None:
        calls = [((partition_keys(self.partition_of(one)).load(one),), (token,)) for one, token in tokens]
        if calls:
            self.wire.run_many(_ABANDON, calls)

    def invalidate(self, member: str) -> bool:
        """Drop an entry that MongoDB has left behind; false for one without TTL: it is pending, or refused."""
        return self.invalidate_many([member])[0]

    def invalidate_many(self, members: Iterable[str]) -> list[bool]:
        """`invalidate` for several members, in one round trip."""
        calls = []
        for member in members:
            of = partition_keys(self.partition_of(member))
            calls.append(((of.entry(member), of.load(member)), ()))
        return [bool(answer) for answer in self.wire.run_many(_INVALIDATE, calls)] if calls else []

    def now_ms(self) -> int:
        """The clock that all times in Redis are made of, ms."""
        return self.wire.now_ms()


def _see(*values: object) -> None:
    """See that this thread may read entries. Raises as `large.see`."""
    for value in values:
        if isinstance(value, bytes):
            large.see(len(value) - BODY_AT)


def _commit_answer(answer: list[bytes], reached: Durability = Durability.BUFFERED) -> Commit:
    status, version, previous, ticket = answer
    return Commit(CommitStatus(status.decode()), int(version or 0), previous.decode(), ticket.decode(), reached)


def _confirms(answer: Any) -> bool:
    """Whether WAITAOF's answer, which counts this server first, or WAIT's says that one has it."""
    count = answer[0] if isinstance(answer, list) and answer else answer
    return isinstance(count, int) and count >= 1
