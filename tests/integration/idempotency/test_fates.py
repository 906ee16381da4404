"""What receipts say of a write, whatever becomes of its document: persisted is what MongoDB was given."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from tests.commits import commit_one
from tests.dead_letters import letters_of
from tests.integration.idempotency.conftest import KEY
from tests.tiers import long
from writebehind import BulkOperation
from writebehind.documents import codec
from writebehind.documents.entry import Entry
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.ids import DocumentId
from writebehind.errors import DeadLetterError
from writebehind.flushing.dead_letters import DeadLetter, Reason
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import partition_keys
from writebehind.redis.pending import Burial, Settled
from writebehind.redis.receipts import KEPT_FOR_CERTAIN_MS, Once, answer_of
from writebehind.redis.store import Store
from writebehind.redis.unsettled import Fate
from writebehind.writing.receipts import ReceiptState

OF = partition_keys(0)
HISTORIES, LONG_HISTORIES, STEPS = 6, 60, 30


@pytest.fixture
def store(wire) -> Store:
    return Store(wire, database="shop", partitions=1, max_pending=10_000, tombstone_ttl_ms=60_000)


@dataclass
class History:
    """A document to which each write adds its name, what is there of it, and what MongoDB has been given.

    Attributes:
        seen: names in what the next write is made from: the entry, or else what MongoDB has.
        letters: names in what stands behind each dead letter, by its version.
    """

    store: Store
    id: DocumentId
    random: Random
    versions: dict[str, int] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    pending: Entry | None = None
    refused: Entry | None = None
    letters: dict[int, frozenset[str]] = field(default_factory=dict)
    persisted: set[str] = field(default_factory=set)
    in_mongodb: frozenset[str] = frozenset()
    #: Whether the entry of a dead letter was lost: nobody knows from then on which writes it stood for.
    is_spoilt: bool = False

    def write(self, name: str, *, keyed: bool) -> None:
        """A write that has a receipt, or has none."""
        entry = Entry.loaded(codec.encode({"_id": self.id.value, "n": len(self.versions)}), 0)
        key = IdempotencyKey.of(name, [b""])
        once = Once(key, answer_of(self.id.member, entry.etag)) if keyed else None
        commit = commit_one(self.store, CommitRequest(self.id.member, entry.payload, 0, once=once))
        if self.refused:  # what was refused has another chance
            self.letters.pop(self.refused.version)
        self.refused, self.pending = None, replace(entry, version=commit.version)
        self.seen |= {name}
        if keyed:
            self.versions[name] = commit.version

    def settle(self) -> None:
        assert self.pending
        self.store.pending.settle(0, [Settled(self.id.member, self.pending.version_digits, 60_000)], delay_ms=0)
        self.pending, self.in_mongodb = None, self.seen
        self.persisted |= self.seen

    def supersede(self) -> None:
        """A late flusher settles what MongoDB has something else in the place of; a newer write waits."""
        assert self.pending
        late = self.pending
        self.write("a later one", keyed=False)
        settled = Settled(self.id.member, late.version_digits, 60_000, is_superseded=True)
        self.store.pending.settle(0, [settled], delay_ms=0)

    def refuse(self) -> None:
        self._bury(Reason.REFUSED)
        self.refused = self.pending
        self.pending = None

    def conflict(self) -> None:
        """What MongoDB has stands; what is pending is kept beside its letter."""
        self._bury(Reason.CONFLICT)
        self.pending, self.seen = None, self.in_mongodb

    def lose(self) -> None:
        """The entry of what is pending is deleted by other hands."""
        self.store._wire.call("DEL", OF.entry(self.id.member))
        letter = replace(DeadLetter.lost(self.id.member), version=self.random.choice((1, 1 << 51)))  # any clock
        before = set(self.letters)
        assert Burial.BURIED is self.store.pending.bury(self.id.member, "", letter.dump())
        (version,) = {one.letter.version for one in letters_of(self.store).of(self.id)} - before
        self.letters[version] = self.seen
        self.pending, self.seen = None, self.in_mongodb

    def lose_the_refused(self) -> None:
        """The entry of a dead letter is deleted by other hands; a write finds that, which knows nothing of it."""
        self.store._wire.call("DEL", OF.entry(self.id.member))
        self.refused, self.seen, self.is_spoilt = None, self.in_mongodb, True
        self.write("a later one", keyed=False)

    def replay(self, version: int) -> None:
        letters = letters_of(self.store)
        done = letters.replay([letters.named(self.id, version)], conflicts=True)
        if done:
            (new,) = done.values()
            self.seen = self.letters.pop(version)
            entry, _ = self.store.cache.get(self.id.member)
            assert entry.version == new
            self.pending = entry
            self.refused = None

    def discard(self, version: int) -> None:
        letters = letters_of(self.store)
        assert 1 == letters.discard([letters.named(self.id, version)])
        self.letters.pop(version)
        if self.refused and self.refused.version == version:
            self.refused, self.seen = None, self.in_mongodb

    def _bury(self, reason: Reason) -> None:
        assert self.pending
        one = self.pending
        letter = DeadLetter(self.id.member, reason, 0, "why", one.version, one.kind, 1, time.time())
        drop = reason is Reason.CONFLICT
        assert Burial.BURIED is self.store.pending.bury(
            self.id.member, one.version_digits, letter.dump(), drop_entry=drop
        )
        self.letters[one.version] = self.seen

    def steps(self, random: Random) -> list[Callable[[], None]]:
        """What may come next."""
        name = f"key-{len(self.versions)}"
        any_letter = random.choice([*self.letters]) if self.letters else 0
        if self.pending:
            ends = [self.settle, self.settle, self.refuse, self.conflict, self.lose, self.supersede]
        else:
            ends = [self.lose_the_refused] if self.refused else []
        if self.letters:
            ends += [lambda: self.discard(any_letter), lambda: self.replay(any_letter)]
        return [lambda: self.write(name, keyed=True), lambda: self.write("plain", keyed=False), *ends]

    def expected(self, name: str) -> Fate:
        if name in self.persisted:
            return Fate.SETTLED
        if any(name in one for one in self.letters.values()):
            return Fate.DEAD
        return Fate.PENDING if self.pending and name in self.seen else Fate.DISCARDED

    def said(self) -> dict[str, Fate]:
        of = self.id.member
        return {name: self.store.unsettled.fates({of: one})[of][0] for name, one in self.versions.items()}


@pytest.mark.parametrize(
    "number", [*range(HISTORIES), *(pytest.param(one, marks=long) for one in range(HISTORIES, LONG_HISTORIES))]
)
def test_histories(store, number):
    """A receipt is persisted if MongoDB was given a state with its write in it; and else where that stands."""
    random = Random(number)
    history = History(store, DocumentId.of("users", f"one@{number}/é"), random)
    for _ in range(STEPS):
        random.choice(history.steps(random))()
        said, expected = history.said(), {name: history.expected(name) for name in history.versions}
        if history.is_spoilt:  # more may count as lost than is, but never less
            said = {
                name: one if one in {Fate.SETTLED, Fate.PENDING} else expected[name] for name, one in said.items()
            }
        assert expected == said
    assert history.versions


def test_of_a_letter_that_is_discarded(pipeline, users):
    """Neither it nor what it was coalesced with is persisted, whatever comes later; a repetition says so."""
    users.put("ada", {"n": 0})
    users.increment("ada", {"n": 1}, key=KEY)
    users.increment("ada", {"n": 1}, key="coalesced")
    pending, ada = pipeline.store.pending, DocumentId.of("users", "ada")
    entry, _ = pipeline.store.cache.get(ada.member)
    letter = DeadLetter(ada.member, Reason.REFUSED, 0, "why", entry.version, entry.kind, 1, time.time())
    assert Burial.BURIED is pending.bury(ada.member, entry.version_digits, letter.dump())
    assert {ReceiptState.DEAD_LETTER} == {pipeline.receipt(one).state for one in (KEY, "coalesced")}
    for key in (KEY, "coalesced"):
        with pytest.raises(DeadLetterError):
            users.increment("ada", {"n": 1}, key=key, durability="persisted")

    assert 1 == pipeline.dead_letters.discard([pipeline.dead_letters.show(ada)])
    users.put("ada", {"n": 7}, durability="persisted")

    assert {ReceiptState.DISCARDED} == {pipeline.receipt(one).state for one in (KEY, "coalesced")}
    with pytest.raises(DeadLetterError, match="was discarded"):
        users.increment("ada", {"n": 1}, key=KEY, durability="persisted")
    assert users.increment("ada", {"n": 1}, key=KEY).written.replayed


@pytest.mark.parametrize("ends", ["refuse", "discard", "settle"])
def test_a_smaller_number_may_come_later(store, ends):
    """A number from elsewhere that was shown of a document says nothing of the writes that follow."""
    history = History(store, DocumentId.of("users", "ada"), Random(0))
    shown = replace(
        Entry.loaded(codec.encode({"_id": "ada"}), 0), version=(time.time_ns() // 1000) + 3_600_000_000
    )
    store._wire.call("SET", OF.entry(history.id.member), shown.value)
    history.write("first", keyed=True)
    history.settle()
    store._wire.call("DEL", OF.entry(history.id.member))
    history.write("second", keyed=True)
    assert history.versions["second"] < history.versions["first"]
    assert Fate.PENDING is history.said()["second"]
    if ends == "settle":
        history.settle()
    else:
        history.refuse()
        assert Fate.DEAD is history.said()["second"]
    if ends == "discard":
        history.discard(history.versions["second"])
    expected = {"refuse": Fate.DEAD, "discard": Fate.DISCARDED, "settle": Fate.SETTLED}[ends]
    assert expected is history.said()["second"]


def test_a_bulk_that_is_repeated_asks_once(pipeline, users, monkeypatch):
    """For what has become of all its writes, in one round trip; each is told as it is."""
    items = [BulkOperation("put", one, {"n": 1}, key=f"key of {one}") for one in map(str, range(5))]
    users.bulk(items)
    asked = []
    fates = pipeline.store.unsettled.fates
    monkeypatch.setattr(pipeline.store.unsettled, "fates", lambda of: asked.append(len(of)) or fates(of))
    pipeline.flusher.flush(pipeline.store.partition_of("users/s:0"))

    again = users.bulk(items, durability="persisted")

    assert [(True, "persisted")] * 5 == [(one.replayed, one.durability) for one in again]
    assert 5 == asked[-1]


def test_of_a_write_that_others_come_after(pipeline, users):
    """What MongoDB has is persisted, and stays so while a later write without a key waits."""
    users.put("ada", {"n": 1}, key=KEY)
    pipeline.flusher.flush(pipeline.store.partition_of("users/s:ada"))
    users.put("ada", {"n": 2})
    assert ReceiptState.PERSISTED is pipeline.receipt(KEY).state


def test_nothing_is_left_of_receipts_that_are_over(pipeline, users):
    """What is known of a document goes with its last receipt, in whatever order the others are forgotten."""
    of = partition_keys(pipeline.store.partition_of("users/s:ada"))
    pipeline.store.receipts.most = 3
    for name in ("ada", "grace", "ada", "linus", "ada"):
        if pipeline.store.partition_of(f"users/s:{name}") == pipeline.store.partition_of("users/s:ada"):
            users.put(name, {}, key=f"{time.monotonic_ns()}")
    pipeline.store.receipts.most = 1
    for name in pipeline.store._wire.call("ZRANGE", of.receipts_at, 0, -1):
        pipeline.store._wire.call("ZADD", of.receipts_at, pipeline.store.now_ms() - KEPT_FOR_CERTAIN_MS, name)
    users.put("ada", {}, key="last")
    assert [b"users/s:ada"] == pipeline.store._wire.call("HKEYS", of.fates)

    pipeline.store.receipts.life_ms = -1000
    assert pipeline.store.receipts.forget_old()
    assert 0 == pipeline.store._wire.call("EXISTS", of.fates)
