"""Entries as readers see them: what is cached, and who has the right to load what is missing or old."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar
from uuid import uuid4

from writebehind.documents import large
from writebehind.documents.entry import BODY_AT, Entry
from writebehind.redis.connections import Command
from writebehind.redis.keys import Layout, entry_member, family
from writebehind.redis.round_trip import RoundTrip, UndecidedError
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.wire import Call, Wire

T = TypeVar("T")
_INVALIDATE, _DROP_UNCHANGED, _DROP_COLD = script("invalidate"), script("drop_unchanged"), script("drop_cold")
_GET_OR_LEASE, _LEASE_REFRESH = script("get_or_lease_entry"), script("lease_refresh")
_FILL, _ABANDON = script("fill"), script("abandon")
#: Bytes of documents that are filled in one go.
FILLED_AT_ONCE = 4 << 20
#: The beginning of a refresh's token, and of no other: get_or_lease takes it over where the entry is missing.
_REFRESH = "refresh:"
_NOTHING: Mapping[str, str] = {}
_NO_DELETIONS: Mapping[str, int] = {}


class Filled(IntEnum):
    """Outcome of a fill."""

    REFUSED = 0
    """A write came in between, or what was to be replaced is gone."""
    FILLED = 1
    DELETED = 2
    """MongoDB has a version older than the document's deletion: it does not exist."""
    NOT_KEPT = 3
    """The loaded document is good, but Redis has no memory for it, or only for hotter ones."""
    ALONE = 4
    """The right to fill is gone, as a full Redis evicts it: whoever held it may answer what was loaded, and
    nobody else, who may have begun to read after a later write."""
    DELETED_ALONE = 5
    """The same, and the document was deleted."""

    @property
    def is_alone(self) -> bool:
        """Whether only the reader who has loaded may see it."""
        return self in {Filled.ALONE, Filled.DELETED_ALONE}

    @property
    def is_stored(self) -> bool:
        """Whether Redis has now what readers are to see."""
        return self in {Filled.FILLED, Filled.DELETED}


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
class Leased:
    """The answer to a `get_or_lease`: an entry, or the right to load, or neither: then wait.

    `deletion` goes with the right: the version of the document's deletion as it is known by then, 0 for none.
    """

    entry: Entry | None
    ttl_ms: int
    may_load: bool
    deletion: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """The part of an entry before its body, and facts about the entry.

    Attributes:
        header: version, kind and ETag; b'' where there is no entry.
        ttl_ms: -1 for an entry without TTL, -2 for none.
        size: of the whole entry, bytes.
    """

    header: bytes
    ttl_ms: int
    size: int


class Cache:
    """The entries of one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind it to a server."""
        self._wire = wire
        self._layout = layout

    def key(self, member: str) -> str:
        """The key of a member's entry."""
        return self._layout.of(member).entry(member)

    def get(self, member: str) -> tuple[Entry | None, int]:
        """The entry, and its TTL in ms: -1 while pending. One round trip, and no script: the path of a hit.

        Raises:
            TakesMuchError: this thread may not read so large a document; no more of it was read than it may.
        """
        key = self.key(member)
        # An entry is never empty: what is may as well be missing.
        read = ("GETRANGE", key, 0, BODY_AT + large.most()) if large.is_bounded() else ("GET", key)
        value, ttl = self._wire.calls((read, ("PTTL", key)))
        if value is None or value == b"":
            return None, ttl
        _see(value)
        return Entry.shown(value), ttl

    def trip(self, member: str, most_bytes: int, conclude: Callable[[Entry, int], T]) -> RoundTrip[T] | None:
        """`get` in two halves: of an entry whose body has at most so many bytes, and its TTL in ms.

        What is missing or larger is not decided. `None` where it may take more than a round trip.
        """
        seen = self._layout.view
        key = self.key(member)
        most = BODY_AT + most_bytes

        def decide(answers: list[Any]) -> T:
            value, ttl_ms = answers
            if type(value) is not bytes or not 0 < len(value) <= most or type(ttl_ms) is not int:
                raise UndecidedError
            return conclude(Entry.shown(value), ttl_ms)

        trip = self._wire.read_trip(key, (("GETRANGE", key, 0, most), ("PTTL", key)), decide)
        return trip if self._layout.view is seen else None  # another thread may have learned of a division

    def get_many_with_ttl(self, members: Sequence[str], timed: Sequence[str]) -> dict[str, tuple[Entry, int]]:
        """The entries that are there, in one round trip, with the TTLs in ms of those `timed`; the others have -1.

        Raises:
            TakesMuchError: this thread may not read one that is so large.
        """
        by_partition = self._layout.grouped(members)
        commands: list[Command] = [("MGET", *map(self.key, group)) for group in by_partition.values()]
        commands += [("PTTL", self.key(member)) for member in timed]
        answers = self._wire.calls(commands)
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
        commands: list[Command] = [("GETRANGE", self.key(member), 0, below_bytes - 1) for member in members]
        commands += [("PTTL", self.key(member)) for member in timed]
        answers = self._wire.calls(commands)
        ttls_ms = dict(zip(timed, answers[len(members) :], strict=True))
        return {
            member: (Entry.shown(value), ttls_ms.get(member, -1))
            for member, value in zip(members, answers[: len(members)], strict=True)
            if isinstance(value, bytes) and 0 < len(value) < below_bytes
        }

    def sizes(self, members: Sequence[str]) -> list[int]:
        """The bytes that the entries take, in one round trip; 0 for one that is not there."""
        found: list[int] = self._wire.calls([("STRLEN", self.key(member)) for member in members])
        return found

    def invalidate_many(self, members: Iterable[str]) -> list[bool]:
        """Drop entries that MongoDB has left behind, in one round trip.

        Of each: false where it has no TTL, as it is pending, or refused.
        """
        calls = []
        for member in members:
            of = self._layout.of(member)
            calls.append(((of.entry(member), of.load(member)), ()))
        return [bool(answer) for answer in self._wire.run_many(_INVALIDATE, calls)]

    def headers(self, members: Sequence[str]) -> list[Header]:
        """The headers of entries, in one round trip."""
        commands: list[Command] = []
        for key in map(self.key, members):
            commands += [("GETRANGE", key, 0, BODY_AT - 1), ("PTTL", key), ("STRLEN", key)]
        answers = iter(self._wire.calls(commands))
        return [Header(*one) for one in zip(answers, answers, answers, strict=True)]

    def drop(self, member: str, header: bytes) -> bool:
        """Drop an entry that MongoDB differs from, with the right to load it, if its header is still the same."""
        of = self._layout.of(member)
        return bool(self._wire.run(_DROP_UNCHANGED, (of.entry(member), of.load(member)), (header,)))

    def drop_cold(self, members: Iterable[str]) -> int:
        """Drop entries that Redis could evict and that are not among the hottest; how many, in one round trip."""
        calls = []
        for some in self._layout.grouped(members).values():
            of = self._layout.of(some[0])
            calls.append(((of.hot, of.heat, *map(of.entry, some)), some))
        return sum(self._wire.run_many(_DROP_COLD, calls))

    def scan(self, cursor: bytes, *, count: int) -> tuple[bytes, list[str]]:
        """About `count` members that have an entry, and the cursor of the next: b'0' after the last."""
        after, found = self._wire.scan(cursor, match=family("entry"), count=count)
        return after, [member for member in map(entry_member, found) if member is not None]


class Loads:
    """The rights to load in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout, *, tombstone_ttl_ms: int) -> None:
        """Bind them to a server; `tombstone_ttl_ms` is how long a settled deletion is kept."""
        self._wire = wire
        self._layout = layout
        self._tombstone_ttl_ms = tombstone_ttl_ms

    def get_or_lease(self, member: str, token: str, *, life_ms: int) -> Leased:
        """The entry, or the right to load it, or word that another reader loads it."""
        return self.get_or_lease_many([member], token, life_ms=life_ms)[0]

    def get_or_lease_many(self, members: Sequence[str], token: str, *, life_ms: int) -> list[Leased]:
        """`get_or_lease` for several members, in one round trip.

        Raises:
            TakesMuchError: this thread may not read one that is there by now, and so large; no right is kept.
        """
        places = [(self._layout.of(member), member) for member in members]
        answers = self._wire.run_many(
            _GET_OR_LEASE,
            [((of.entry(member), of.load(member), of.deleted), (token, life_ms, member)) for of, member in places],
        )
        try:
            _see(*(one[1] for one in answers if one[0] == b"entry"))
        except large.TakesMuchError:
            leased = (member for member, one in zip(members, answers, strict=True) if one[0] == b"load")
            self.abandon(leased, token)
            raise
        return [
            Leased(Entry.shown(answer[1]), answer[2], may_load=False)
            if answer[0] == b"entry"
            else Leased(None, -1, answer[0] == b"load", whole(answer[1]) if len(answer) > 1 else 0)
            for answer in answers
        ]

    def lease_refreshes(self, old: Mapping[str, int], *, life_ms: int) -> tuple[str, dict[str, Refresh]]:
        """The rights to replace entries that MongoDB has as well, in one round trip; and their token.

        Args:
            old: members, with the TTLs in ms of their entries. One that lives longer has been refreshed since.
            life_ms: of the rights.

        Returns:
            The token, and the rights by member, but for those that another reader has, or had.
        """
        token = _REFRESH + uuid4().hex
        calls = []
        for member, ttl_ms in old.items():
            of = self._layout.of(member)
            calls.append(((of.entry(member), of.load(member)), (token, life_ms, ttl_ms)))
        answers = self._wire.run_many(_LEASE_REFRESH, calls)
        return token, {
            member: Refresh(member, token, answer.decode(), ttl_ms)
            for (member, ttl_ms), answer in zip(old.items(), answers, strict=True)
            if answer
        }

    def fill(
        self,
        member: str,
        token: str,
        entry: Entry,
        *,
        ttl_ms: int,
        seen: str = "",
        deletion: int = 0,
        full: bool = False,
    ) -> Filled:
        """Store a loaded entry, unless a write or an invalidation came in between, or it was deleted since.

        Args:
            member: the document.
            token: of the right to load.
            entry: what was loaded.
            ttl_ms: how long it is kept.
            seen: what a `Refresh` has seen: that entry is replaced, and no other.
            deletion: what came with the right to load.
            full: whether another entry would be displaced: then it is stored only if it is hot enough for that.

        Raises:
            RedisUnavailableError: Redis does not answer. One that is full does: `Filled.NOT_KEPT`.
        """
        return self.fill_many([(member, entry, ttl_ms)], token, {member: seen}, {member: deletion}, full=full)[0]

    def fill_many(
        self,
        loaded: Iterable[tuple[str, Entry, int]],
        token: str,
        seen: Mapping[str, str] = _NOTHING,
        deletions: Mapping[str, int] = _NO_DELETIONS,
        *,
        full: bool = False,
    ) -> list[Filled]:
        """`fill` for several entries with their TTLs in ms, in one round trip for a few MiB; others by member."""
        filled: list[int] = []
        calls: list[Call] = []
        size = 0
        for member, entry, ttl_ms in loaded:
            of = self._layout.of(member)
            keys_of = (of.entry(member), of.load(member), of.deleted, of.pending, of.hot, of.heat)
            before, deletion = seen.get(member, ""), deletions.get(member, 0)
            calls.append(
                (
                    keys_of,
                    (token, entry.value, ttl_ms, member, self._tombstone_ttl_ms, before, int(full), deletion),
                )
            )
            size += len(entry.body)
            if size > FILLED_AT_ONCE:  # each is held three times until it is sent
                filled += self._wire.run_many(_FILL, calls)
                calls, size = [], 0
        return [Filled(answer) for answer in filled + self._wire.run_many(_FILL, calls)]

    def may_fill(self, member: str, token: str) -> bool:
        """Whether the token still is the right to fill the entry."""
        load = self._layout.of(member).load(member)
        return bool(self._wire.call("GET", load) == token.encode())

    def abandon(self, members: Iterable[str], token: str) -> None:
        """Give load tokens back, so that other readers may try at once."""
        self._abandon((member, token) for member in members)

    def give_back(self, rights: Iterable[Refresh]) -> None:
        """`abandon` for rights to refresh."""
        self._abandon((one.member, one.token) for one in rights)

    def _abandon(self, tokens: Iterable[tuple[str, str]]) -> None:
        calls = [((self._layout.of(one).load(one),), (token,)) for one, token in tokens]
        self._wire.run_many(_ABANDON, calls)


def _see(*values: object) -> None:
    """See that this thread may read entries. Raises as `large.see`."""
    for value in values:
        if isinstance(value, bytes):
            large.see(len(value) - BODY_AT)
