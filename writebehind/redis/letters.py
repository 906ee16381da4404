"""Dead letters in Redis, and the documents that some of them wait for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from writebehind.documents.entry import VERSION_DIGITS
from writebehind.documents.ids import named
from writebehind.logs.events import OTHER_HANDS
from writebehind.plurals import counted
from writebehind.redis.keys import Layout, PartitionKeys, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole, without_strays
from writebehind.redis.wire import Call, Wire
from writebehind.sequences import pairs

log = logging.getLogger(__name__)

#: Documents that are kept beside the dead letters of one document when no new write to it is taken.
MOST_KEPT = 100
#: How long a flush task may queue before another is enqueued in its place, ms.
HINT_LIFE_MS = 10_000

_REPLAY, _DISCARD, _LIST_LETTERS = script("replay"), script("discard"), script("list_letters")
_FIND_ORPHANS, _MARK_LETTER_LOST, _RECOUNT_LETTERS, _MEND_LETTER = (
    script("find_orphans"),
    script("mark_letter_lost"),
    script("recount_letters"),
    script("mend_letter"),
)
_ADD_WAITER, _REMOVE_WAITERS, _RECORD_VACATING = (
    script("add_waiter"),
    script("remove_waiters"),
    script("record_vacating"),
)


@dataclass(frozen=True, slots=True)
class RawLetter:
    """A dead letter as it stands in Redis.

    Attributes:
        member: the document.
        name: of the letter: the member where its document is the entry, else one with a version in it. Then its
            document is kept beside it.
        value: 16 digits of version, then JSON.
    """

    member: str
    name: str
    value: bytes = b""

    @classmethod
    def parse(cls, name: bytes, value: bytes = b"") -> RawLetter:
        """Read a name as Redis has it."""
        first, _, rest = name.decode().partition("/")
        return cls(f"{first.partition('@')[0]}/{rest}", name.decode(), value)

    @classmethod
    def of_entry(cls, member: str) -> RawLetter:
        """The letter, be it there or not, whose document is the entry."""
        return cls(member, member)

    @property
    def is_kept(self) -> bool:
        """Whether its document is kept beside it, and is not the entry."""
        return self.name != self.member

    @property
    def kept_digits(self) -> str:
        """The version under which its document is kept, as its name has it."""
        return self.name.partition("/")[0].partition("@")[2]

    @property
    def version_digits(self) -> str:
        """Its version, as the letter has it."""
        return self.value[:VERSION_DIGITS].decode()


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer to a replay: `ok`, or why there was none; a flush task is wanted where it has a ticket."""

    status: str
    version: int
    ticket: str


class Letters:
    """The dead letters of one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout, *, hint_life_ms: int) -> None:
        """Bind them to a server; see `Store` for the arguments."""
        self._wire = wire
        self._layout = layout
        self._hint_life_ms = hint_life_ms

    # Reading ----------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """The number of them in each collection that has any, in partitions whose server answers."""
        of_all = self._layout.all()
        answers = self._wire.calls_answered(
            [*(("HGETALL", of.dead_counts) for of in of_all), *(("HLEN", of.dead) for of in of_all)]
        )
        return added_up(
            [one or () for one in answers[: len(of_all)]], [one or 0 for one in answers[len(of_all) :]]
        )

    def counts_in(self, partition: int) -> dict[str, int]:
        """The number of them in one partition, for each collection."""
        flat = self._wire.call("HGETALL", partition_keys(partition).dead_counts)
        return {name.decode(errors="replace"): whole(count) for name, count in pairs(flat)}

    def scan(self, partition: int, cursor: str, *, count: int) -> tuple[str, list[RawLetter]]:
        """About `count` letters of a partition, and the cursor of the next: '0' after the last."""
        after, flat = self._wire.call("HSCAN", partition_keys(partition).dead, cursor, "COUNT", count)
        strays = [name for name, _ in pairs(flat) if not _is_name(name)]
        self._take_out(partition, strays)
        return after.decode(), [RawLetter.parse(*one) for one in pairs(flat) if one[0] not in strays]

    def mend(self, raw: RawLetter, letter: bytes) -> bool:
        """Put a letter in the place of one that nobody can read, b'' for none; whether it was still the same."""
        said = "other hands have made the dead letter %s unreadable: %r"
        log.critical(said, raw.name[:200], raw.value[:60], extra=OTHER_HANDS)
        return bool(
            self._wire.run(_MEND_LETTER, (self._layout.of(raw.member).dead,), (raw.name, raw.value, letter))
        )

    def _take_out(self, partition: int, names: Sequence[bytes]) -> None:
        """Take out names that no letter can have: no version was ever refused under such a name."""
        if names:
            shown = ", ".join(repr(name[:60]) for name in names)[:200]
            what = counted(len(names), "dead letter that is none", "dead letters that are none")
            log.critical("other hands put %s into Redis, such as %s", what, shown, extra=OTHER_HANDS)
            self._wire.call("HDEL", partition_keys(partition).dead, *names)

    def names(self, partition: int, cursor: str, *, count: int) -> tuple[str, list[RawLetter]]:
        """`scan` without the values, which may be large."""
        after, names = self._wire.run(_LIST_LETTERS, (partition_keys(partition).dead,), (cursor, count))
        strays = [name for name in names if not _is_name(name)]
        self._take_out(partition, strays)
        return after.decode(), [RawLetter.parse(name) for name in names if name not in strays]

    def of(self, member: str) -> list[RawLetter]:
        """All letters of one document, in two round trips."""
        of = self._layout.of(member)
        versions = self._wire.call("HKEYS", of.kept(member))
        names = [member.encode(), *(kept_name(member, one.decode(errors="replace")).encode() for one in versions)]
        values = self._wire.call("HMGET", of.dead, *names)
        return [RawLetter.parse(*one) for one in zip(names, values, strict=True) if one[1] is not None]

    def again(self, one: RawLetter) -> RawLetter | None:
        """A letter with its value; `None` where it is gone."""
        value = self._wire.call("HGET", self._layout.of(one.member).dead, one.name)
        return None if value is None else RawLetter(one.member, one.name, value)

    def documents(self, letters: Sequence[RawLetter]) -> list[bytes | None]:
        """The entries of letters, as they were acknowledged, in one round trip."""
        return self._wire.calls([self._document(one) for one in letters])

    def sizes(self, letters: Sequence[RawLetter]) -> list[int]:
        """The bytes of the entries of letters, 0 for one that is gone, in one round trip."""
        sizes: list[int] = self._wire.calls([self._size(one) for one in letters])
        return sizes

    def _size(self, one: RawLetter) -> tuple[str, ...]:
        of = self._layout.of(one.member)
        if one.is_kept:
            return ("HSTRLEN", of.kept(one.member), one.version_digits)
        return ("STRLEN", of.entry(one.member))

    def _document(self, one: RawLetter) -> tuple[str, ...]:
        of = self._layout.of(one.member)
        return ("HGET", of.kept(one.member), one.version_digits) if one.is_kept else ("GET", of.entry(one.member))

    # Deciding ---------------------------------------------------------------------------------------

    def replay_many(self, letters: Sequence[tuple[RawLetter, int]], *, only_newest: bool) -> list[Replay]:
        """Let letters be pending again that are still the same, each given with MongoDB's version of its document.

        With `only_newest`, a document of which a newer one is kept is left alone.
        """
        calls = [self._replay_call(*one, only_newest=only_newest) for one in letters]
        answers = self._wire.run_many(_REPLAY, calls)
        return [Replay(status.decode(), int(version or 0), ticket.decode()) for status, version, ticket in answers]

    def _replay_call(self, one: RawLetter, over: int, *, only_newest: bool) -> Call:
        of = self._layout.of(one.member)
        keys_of = (
            *(of.entry(one.member), of.pending, of.dead, of.dead_counts, of.scheduled, of.clock),
            *(of.load(one.member), of.kept(one.member), of.crowded, of.deleted, of.counts, of.fates),
        )
        letter = (one.member, one.name, one.value)
        return keys_of, (*letter, int(only_newest), over, self._hint_life_ms, MOST_KEPT)

    def discard_many(self, letters: Sequence[RawLetter]) -> list[bool]:
        """Forget letters with their documents; of each whether it was still the same."""
        calls: list[Call] = []
        for one in letters:
            of = self._layout.of(one.member)
            keys_of = (
                of.entry(one.member),
                of.dead,
                of.dead_counts,
                of.load(one.member),
                of.kept(one.member),
                of.crowded,
                of.counts,
                of.fates,
            )
            calls.append((keys_of, (one.member, one.name, one.value, MOST_KEPT, 1)))
        return [bool(answer) for answer in self._wire.run_many(_DISCARD, calls)]

    # Reconciling ------------------------------------------------------------------------------------

    def orphans(self, partition: int, letters: Sequence[RawLetter]) -> list[RawLetter]:
        """Those that have no document any more, and do not say so; given and returned without their values."""
        if not letters:
            return []
        of = partition_keys(partition)
        places = [of.kept(one.member) if one.is_kept else of.entry(one.member) for one in letters]
        found = self._wire.run(_FIND_ORPHANS, (of.dead, *places), [one.name for one in letters])
        return [RawLetter.parse(name) for name in found]

    def mark_lost(self, one: RawLetter, letter: bytes) -> bool:
        """Put another letter in the place of one, if that is still the same: its document is lost."""
        of = self._layout.of(one.member)
        keys_of = (of.dead, of.dead_counts, of.entry(one.member), of.kept(one.member), of.crowded)
        return bool(
            self._wire.run(_MARK_LETTER_LOST, keys_of, (one.member, one.name, one.value, letter, MOST_KEPT))
        )

    def uncrowd(self, partition: int) -> None:
        """Let new writes be taken to documents of which not so much is kept: other hands have said otherwise."""
        of = partition_keys(partition)
        crowded = self._wire.call("SMEMBERS", of.crowded)
        counts = self._wire.calls([("HLEN", of.kept(one.decode(errors="replace"))) for one in crowded])
        if few := [one for one, count in zip(crowded, counts, strict=True) if count < MOST_KEPT]:
            self._wire.call("SREM", of.crowded, *few)

    def recount(self, partition: int, *, repair: bool) -> list[str]:
        """The collections whose counts are wrong, in one step; with `repair` they are right afterwards."""
        of = partition_keys(partition)
        wrong = self._wire.run(_RECOUNT_LETTERS, (of.dead, of.dead_counts), (int(repair),))
        return [one.decode(errors="replace") for one in wrong]


class Awaited:
    """Documents that dead letters wait for, as those have their unique values. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind them to a server."""
        self._wire = wire
        self._layout = layout

    def add_waiter(self, holder: str, member: str, value: str) -> None:
        """Note that the letter of `member` waits for `holder` to give a value up."""
        self._wire.run(_ADD_WAITER, self._keys(holder), (holder, member, value))

    def remove_waiter(self, holder: str, member: str) -> None:
        """Note that it does not wait any more; '' for a holder that nobody waits for."""
        self._wire.run(_REMOVE_WAITERS, self._keys(holder), (holder, member))

    def those_of(self, members: Sequence[str]) -> list[str]:
        """Those of the members that some letter waits for."""
        awaited = []
        for partition, some in self._layout.grouped(members).items():
            answers = self._wire.call("SMISMEMBER", partition_keys(partition).awaited, *some)
            awaited += [member for member, is_awaited in zip(some, answers, strict=True) if is_awaited]
        return awaited

    def some_in(self, partition: int, *, count: int) -> list[str]:
        """Some members of a partition that letters wait for, at random."""
        awaited = partition_keys(partition).awaited
        found = self._wire.call("SRANDMEMBER", awaited, count)
        members = [one.decode() for one in without_strays(self._wire, found, (awaited,), take="SREM")]
        # Of a process that took Redis to be divided otherwise: its letters wait anew when they are brought home.
        elsewhere = [one for one in members if self._layout.number(one) != partition]
        if elsewhere:
            self._wire.calls(
                (
                    ("SREM", awaited, *elsewhere),
                    ("DEL", *map(partition_keys(partition).waiting, elsewhere)),
                )
            )
        return [one for one in members if one not in elsewhere]

    def some_waiting(self, holder: str, *, count: int) -> list[str]:
        """Some members whose letters wait for a document, at random."""
        _, waiting = self._keys(holder)
        found = self._wire.call("HRANDFIELD", waiting, count) or ()
        return [one.decode() for one in without_strays(self._wire, found, (waiting,), take="HDEL")]

    def waiting(self, holder: str, *, about: int) -> list[tuple[str, str]]:
        """About so many members whose letters wait for a document, with the values that they wait for."""
        _, waiting = self._keys(holder)
        _, flat = self._wire.call("HSCAN", waiting, 0, "COUNT", about)
        known = (pair for pair in pairs(flat) if named(pair[0]) is not None)
        return [(member.decode(), value.decode(errors="replace")) for member, value in known]

    def record_vacating(self, member: str, header: str, before: str) -> bool:
        """Note that MongoDB is about to be given what makes room for others, and then what is pending.

        Args:
            member: the document.
            header: of what is pending.
            before: of what makes room. A deletion has no version there: with any other, a late write of that
                version would be taken for somebody else's.

        Returns:
            Whether it is noted: not where a newer version was sent meanwhile.
        """
        sent = self._layout.of(member).sent
        return bool(self._wire.run(_RECORD_VACATING, (sent,), (member, header, before)))

    def _keys(self, holder: str) -> tuple[str, str]:
        of: PartitionKeys = self._layout.of(holder)
        return of.awaited, of.waiting(holder)


def _is_name(name: bytes) -> bool:
    """Whether a letter can be called so: `<collection>/<id>`, or `<collection>@<version>/<id>`."""
    first, slash, rest = name.partition(b"/")
    collection, at, version = first.partition(b"@")
    return (not at or (version.isdigit() and len(version) == VERSION_DIGITS)) and (
        named(collection + slash + rest) is not None
    )


def kept_name(member: str, version_digits: str) -> str:
    """The name of a letter whose document is kept beside it: names of collections have no @."""
    collection, _, rest = member.partition("/")
    return f"{collection}@{version_digits}/{rest}"


def added_up(counts: Sequence[Sequence[bytes]], there: Sequence[int]) -> dict[str, int]:
    """The sums of the counts of partitions, as HGETALL gives them; what adds up to nothing is left out.

    Other hands may have put any number there: no collection has more in a partition than `there` are in all.
    """
    sums: Counter[str] = Counter()
    for flat, most in zip(counts, there, strict=True):
        for name, number in pairs(flat):
            sums[name.decode(errors="replace")] += min(max(whole(number), 0), most)
    return dict(+sums)
