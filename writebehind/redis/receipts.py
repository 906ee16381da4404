"""Receipts of writes that have an idempotency key: what the first of equal requests was answered, for the others.

A receipt stands in the partition of the document, and the step that commits the write leaves it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from typing import Any, Final, NamedTuple

from writebehind.documents import codec
from writebehind.documents.durability import Confirmed, Durability
from writebehind.documents.entry import VERSION_DIGITS
from writebehind.documents.idempotency import IdempotencyKey, text_of
from writebehind.documents.idempotency import name_of as full_name
from writebehind.errors import RedisUnavailableError, TooMuchWorkError, UnreadableDocumentError
from writebehind.redis.confirmation import Confirmation
from writebehind.redis.connections import Command
from writebehind.redis.keys import Layout, PartitionKeys, partition_keys
from writebehind.redis.recent import Recent
from writebehind.redis.scripts import script
from writebehind.redis.topology.dividing import steadily
from writebehind.redis.wire import Call, Wire
from writebehind.sequences import pairs

_FIND, _FORGET, _BRING = script("find_receipt"), script("forget_receipts"), script("bring_receipts")
_NOTE_REQUEST = script("note_request")
#: In the place of a kind letter: there was no entry before.
_NO_ENTRY: Final = "-"
_DIGEST_AT, _ANSWER_AT = VERSION_DIGITS + 1, VERSION_DIGITS + 33
#: How long receipts are kept, ms, and how many of a partition, unless the settings say otherwise.
LIFE_MS, MOST = 86_400_000, 2_000
#: Who repeats a request does so within this time, ms, so receipts are kept for it however many there are: twice as
#: long as `until_answered` goes on by default. Up to so many times `MOST` are; other keys are refused then.
KEPT_FOR_CERTAIN_MS: Final = 120_000
MOST_FOR_CERTAIN: Final = 50
#: The longest answer that is kept, with values, bytes: an id has up to 512.
MOST_ANSWER_BYTES: Final = 8_192
#: Receipts that one step forgets, so that nobody waits long for it.
FORGOTTEN_AT_ONCE = 1_000
#: What follows member and ETag in an answer without values, BSON; and how much there is around those two.
_PLAIN_END: Final = codec.encode({"c": False, "v": []})[4:]
_AROUND: Final = len(codec.encode({"m": "", "e": "", "c": False, "v": []}))
_LENGTH: Final = Struct("<i")
#: Of what is no increment.
NO_VALUES: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Once:
    """A commit that counts once: its key, and what of the answer is known beforehand.

    Attributes:
        key: of the request.
        answer: what is kept for those who repeat it, as `answer_of` packs it.
    """

    key: IdempotencyKey
    answer: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to the first of equal requests.

    Attributes:
        version: that was issued for it.
        previous: kind letter of the entry before, '' when there was none.
        digest: of the request.
        member: the document.
        etag: of the document, '' for a deletion.
        created: whether the document is known not to have existed before, whatever `previous` says.
        values: new values of an increment by path.
    """

    version: int
    previous: str
    digest: str
    member: str
    etag: str
    created: bool
    values: Mapping[str, Any]

    @classmethod
    def parse(cls, noted: bytes) -> Receipt | None:
        """Read what a commit has noted; `None` for what other hands have put there."""
        try:
            head = noted[:_ANSWER_AT].decode()
            answer = codec.decode(noted[_ANSWER_AT:])
            return cls(
                int(head[:VERSION_DIGITS]),
                head[VERSION_DIGITS:_DIGEST_AT].replace(_NO_ENTRY, ""),
                head[_DIGEST_AT:],
                answer["m"],
                answer["e"],
                answer["c"],
                dict(answer["v"]),
            )
        except (ValueError, KeyError, UnreadableDocumentError):
            return None

    def packed(self) -> bytes:
        """The same as a commit has noted it."""
        answer = answer_of(self.member, self.etag, self.values, created=self.created)
        return noted(self.version, self.previous, Once(IdempotencyKey("", self.digest), answer))


def answer_of(member: str, etag: str, values: Mapping[str, Any] = NO_VALUES, *, created: bool = False) -> bytes:
    """The part of an answer that is kept beside the version.

    Raises:
        TooMuchWorkError: the values take too much room to be kept for a day.
    """
    if not values and not created:  # as nearly all are
        return _plain_answer(member, etag)
    answer = codec.encode({"m": member, "e": etag, "c": created, "v": [list(one) for one in values.items()]})
    if values and len(answer) > MOST_ANSWER_BYTES:
        raise TooMuchWorkError(
            "what a write with an idempotency key answers is kept, and the values of this one take too much: "
            f"change fewer fields, or shorter names, so that it has no more than {MOST_ANSWER_BYTES} bytes"
        )
    return answer


def _plain_answer(member: str, etag: str) -> bytes:
    """The same where nothing else is known, as `answer_of` packs it, at a fifth of the cost."""
    named, tag = member.encode(), etag.encode()
    length, before_name, before_tag = map(
        _LENGTH.pack, (_AROUND + len(named) + len(tag), len(named) + 1, len(tag) + 1)
    )
    return b"".join((length, b"\x02m\0", before_name, named, b"\0\x02e\0", before_tag, tag, b"\0", _PLAIN_END))


def name_of(member: str, key: IdempotencyKey) -> str:
    """The name by which Redis keeps the receipt of a write: keys of one collection are none of another."""
    return f"{member.partition('/')[0]}/{key.name}"


def noted(version: int, previous: str, once: Once) -> bytes:
    """A receipt as `lua/commit.lua` notes it."""
    return f"{version:0{VERSION_DIGITS}d}{previous or _NO_ENTRY}{once.key.digest}".encode() + once.answer


@dataclass(frozen=True, slots=True)
class Found:
    """A receipt that was asked for by itself.

    Attributes:
        receipt: of the first of equal requests.
        durability: how far its write has come.
        confirmed: what Redis has confirmed of it, where that was waited for.
    """

    receipt: Receipt
    durability: Durability = Durability.BUFFERED
    confirmed: Confirmed | None = None


class RequestStatus(NamedTuple):
    """Whether another request has the key of one for several writes; and when there may be room for it, ms."""

    is_another: bool
    wait_ms: int


def _homes(name: bytes, noted: bytes, layout: Layout) -> set[int]:
    """The partitions in which a receipt is looked for; none for what other hands have put there."""
    receipt = Receipt.parse(noted)
    if receipt is None:
        return set()
    key = text_of(name.decode(errors="replace").partition("/")[2])
    return {layout.number(receipt.member), layout.number(key)}


class Receipts:
    """The receipts in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout, *, life_ms: int, most: int) -> None:
        """Bind them to a server; they are kept for `life_ms`, and the last `most` of each partition."""
        self._wire = wire
        self._layout = layout
        self.life_ms = life_ms
        self.most = most

    @steadily
    def of(self, member: str, key: IdempotencyKey, confirmation: Confirmation | None = None) -> Found | None:
        """The receipt of a write to a document, or to another one of its collection and partition.

        Args:
            member: the document.
            key: of the request.
            confirmation: what Redis shall see to before it answers, as for a commit.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        name, confirmed = name_of(member, key), "1" if confirmation else ""
        call = self._call(self._layout.of(member), [name], confirmed)
        (found,), (judged,) = self._wire.run_each(_FIND, [call], confirmation.commands if confirmation else None)
        if isinstance(found, RedisUnavailableError):
            raise found
        receipt = Receipt.parse(found[0]) if found else None
        if receipt is None:
            return None
        return Found(receipt, *(confirmation.judge(*judged) if confirmation and judged else ()))

    @steadily
    def note_request(self, collection: str, key: IdempotencyKey) -> RequestStatus:
        """Note a request for several writes to a collection, before any is made: their keys follow from this one.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        of = self._layout.of(key.text)
        name = name_of(f"{collection}/", key)
        request = noted(0, "", Once(key, answer_of(key.text, "")))
        arguments = (name, request, self.life_ms, *self.bounds)
        found = self._wire.run(_NOTE_REQUEST, (*of.of_receipts, of.counts), arguments).decode()
        return RequestStatus(is_another=found == "another", wait_ms=int(found) if found.isdigit() else 0)

    @property
    def bounds(self) -> tuple[int, int, int]:
        """Receipts that are kept of a partition, the most of them, and for how long each is in any case, ms."""
        return self.most, self.most * MOST_FOR_CERTAIN, KEPT_FOR_CERTAIN_MS

    @steadily
    def find(self, key: str, collections: Iterable[str], owner: str) -> Receipt | None:
        """The last receipt with this key of an owner, of any document of some collections.

        It takes one round trip to each server.

        Raises:
            RedisUnavailableError: Redis does not answer; where it is several servers, one of them.
        """
        names = [f"{one}/{full_name(key, owner)}" for one in collections]
        if not names:
            return None
        some = self._wire.run_many(_FIND, [self._call(of, names) for of in self._layout.all()])
        found = [receipt for noted in some for one in noted if (receipt := Receipt.parse(one))]
        writes = (one for one in found if one.version)  # what has none is a request for several
        return max(writes, key=lambda one: one.version, default=None)

    def _call(self, of: PartitionKeys, names: Sequence[str], confirmed: str = "") -> Call:
        return (of.receipts, of.receipts_at), (self.life_ms, confirmed, *names)

    def bring(self, writes: Iterable[Recent]) -> None:
        """Bring receipts back of writes that a failover has lost, and whose effect stands.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        calls: list[Call] = [
            (
                self._layout.of(one.member).of_receipts,
                (one.member, *chain.from_iterable(one.receipts)),
            )
            for one in writes
            if one.receipts
        ]
        self._wire.run_many(_BRING, calls)

    def forget_old(self) -> int:
        """Forget receipts that are over, or too many and old, some of each partition; how many.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        arguments = (self.life_ms, FORGOTTEN_AT_ONCE, self.most, KEPT_FOR_CERTAIN_MS)
        calls = [(of.of_receipts, arguments) for of in self._layout.all()]
        return sum(one or 0 for one in self._wire.run_many_answered(_FORGET, calls))

    def carry_over(self, partition: int, layout: Layout) -> None:
        """Let receipts of a partition be where they are looked for in another layout: beside document, and key.

        The key's partition is where an id is drawn for a document that has none. Doing it again changes nothing.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        of, cursor = partition_keys(partition), b"0"
        while True:
            cursor, flat = self._wire.call("HSCAN", of.receipts, cursor, "COUNT", FORGOTTEN_AT_ONCE)
            some = dict(pairs(flat))
            left_at = self._wire.call("ZMSCORE", of.receipts_at, *some) if some else []
            brought: list[Command] = []
            left: list[bytes] = []
            for (name, receipt), at_ms in zip(some.items(), left_at, strict=True):
                homes = _homes(name, receipt, layout) if at_ms else set()
                for home in map(partition_keys, homes - {partition}):
                    brought.append(("HSETNX", home.receipts, name, receipt))
                    brought.append(("ZADD", home.receipts_at, "NX", at_ms, name))
                if partition not in homes:
                    left.append(name)
            self._wire.calls(brought)
            if left:  # not before they are elsewhere
                self._wire.calls([("HDEL", of.receipts, *left), ("ZREM", of.receipts_at, *left)])
            if cursor == b"0":
                break
        self._carry_fates(partition, layout)

    def _carry_fates(self, partition: int, layout: Layout) -> None:
        of, cursor = partition_keys(partition), b"0"
        while True:
            cursor, flat = self._wire.call("HSCAN", of.fates, cursor, "COUNT", FORGOTTEN_AT_ONCE)
            gone = [
                (member, fate, home)
                for member, fate in pairs(flat)
                if (home := layout.number(member.decode(errors="replace"))) != partition
            ]
            self._wire.calls([("HSETNX", partition_keys(home).fates, *one) for *one, home in gone])
            if gone:
                self._wire.call("HDEL", of.fates, *(member for member, *_ in gone))
            if cursor == b"0":
                return

    def forget_all(self, partition: int) -> None:
        """Forget all receipts of a partition: they are of documents of another database."""
        of = partition_keys(partition)
        self._wire.call("DEL", *of.of_receipts)
