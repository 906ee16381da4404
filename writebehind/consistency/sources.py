"""Documents to look at: those that have changed in MongoDB, all entries in Redis, and what is pending."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import islice

from writebehind.consistency.bodies import BodyDraw
from writebehind.consistency.changes import Change, Changes
from writebehind.consistency.comparing import DOUBTED, DOUBTED_OF_MANY, Asked, Comparison, is_version
from writebehind.consistency.judging import entry_of
from writebehind.consistency.suspects import Look
from writebehind.consistency.tally import CHANGES, ENTRIES, WINDOWS, Apart
from writebehind.consistency.verified import NOTHING_KNOWN, Known, is_of
from writebehind.documents.ids import DocumentId
from writebehind.redis.store import Store
from writebehind.redis.unsettled import Shown

#: After a change readers have so long to see it before the first look, seconds.
GRACE_S = 0.5
#: Changes that are taken, and looked at, at a time, and that may wait for their look.
MOST_EVENTS, MOST_CHANGED = 300, 5_000
#: Documents of which it is known when they last were counted as changed.
MOST_COUNTED = 20_000
#: A walk over all keys takes so long, seconds, unless there are few, or too many for the budget.
WALK_S = 30.0
#: Keys that are walked over in a second at least, and in one step.
LEAST_RATE, STEP, SMALL_STEP = 200.0, 1_000, 200
#: So many comparisons with MongoDB in a step are many: the next one is small.
MANY = 100
#: Of so many keys all is compared by content; of more most is by version in the first walk, which is sooner done.
FEW = 10_000
#: Of what is pending in a partition so much is compared with MongoDB at a time.
COMPARED = 5
_APART: Apart = (True,) * len(WINDOWS)
_NOT_APART: Apart = (False,) * len(WINDOWS)


class Changed:
    """Changes in MongoDB, each of which readers have to see soon. For one thread."""

    def __init__(self, changes: Changes, comparison: Comparison) -> None:
        """Hear of changes there, and have documents compared."""
        self._changes = changes
        self._comparison = comparison
        self._missed = 0
        #: Changes that wait for their look: when it is due, and what was known of the document before.
        self._waiting: dict[str, tuple[float, Change, Known]] = {}
        self._counted: dict[str, float] = {}

    def look(self) -> None:
        """Hear of the latest changes, and look at the documents whose time has come.

        Raises:
            UnavailableError: a server does not answer.
        """
        self._hear()
        now, suspects = time.monotonic(), self._comparison.suspects
        waiting = ((member, (one, known)) for member, (at, one, known) in self._waiting.items() if at <= now)
        due = dict(islice(waiting, MOST_EVENTS))
        if not due or suspects.is_full:
            return
        for member in due:
            del self._waiting[member]
        asked = []
        for member, shown in self._comparison.observe(due).items():
            change, known = due[member]
            look = Look(now, CHANGES, self._apart_of(member, now))
            if member in suspects:
                suspects.look_again(member, look)
            elif has_seen(shown, change, known):
                verified = is_version(shown, change.version)
                self._comparison.count_right(change.id, shown, look, known=verified)
            else:
                asked.append(Asked(change.id, shown, look))
        self._comparison.compare(asked)

    def _hear(self) -> None:
        found = self._changes.poll(MOST_EVENTS)
        if self._changes.missed != self._missed:
            self._missed = self._changes.missed
            self._comparison.verified.clear()
        due = time.monotonic() + GRACE_S
        for change in found:
            known = self._comparison.verified.take(change.id.member)
            _, _, before = self._waiting.pop(change.id.member, (0, None, NOTHING_KNOWN))
            if len(self._waiting) < MOST_CHANGED:
                self._waiting[change.id.member] = (due, change, known if any(known) else before)

    def _apart_of(self, member: str, now: float) -> Apart:
        """The windows that have passed since a change of the document was counted."""
        last = self._counted.get(member, float("-inf"))
        if len(self._counted) >= MOST_COUNTED:
            self._counted.clear()
        self._counted[member] = now
        return tuple(now - last >= window for window in WINDOWS)


class Walk:
    """A walk over all entries, again and again. For one thread.

    Attributes:
        count: walks that came to their end.
    """

    def __init__(self, store: Store, comparison: Comparison) -> None:
        """Walk over a store."""
        self._store = store
        self._comparison = comparison
        self._bodies = BodyDraw(store)
        self._cursor, self._size, self._step = b"0", 0, SMALL_STEP
        #: When the last walk began that is apart from the ones before, for each window.
        self._began = [float("-inf")] * len(WINDOWS)
        self._apart = _APART
        #: How often all was forgotten before this walk began, and before the last one that came to its end.
        self._clears, self._walked_since = 0, -1
        self.count = 0

    def step(self) -> float:
        """Look at the entries that are next, and say in how many seconds others are due.

        Raises:
            UnavailableError: a server does not answer.
        """
        now = time.monotonic()
        if self._cursor == b"0":
            self._begin(now)
        cursor, members = self._store.cache.scan(self._cursor, count=self._step)
        asked = self._look(members, now)
        self._cursor = cursor
        if cursor == b"0":
            self.count += 1
            self._walked_since = self._clears
        rate = max(LEAST_RATE, self._size / WALK_S)
        took, self._step = self._step, SMALL_STEP if asked > MANY or rate <= LEAST_RATE else STEP
        return took / rate

    def _begin(self, now: float) -> None:
        self._size, self._clears = self._store.size(), self._comparison.verified.cleared
        self._comparison.doubt = DOUBTED if self._size <= FEW else DOUBTED_OF_MANY
        self._bodies.begin(self._size, self._step)
        self._apart = tuple(now - at >= window for at, window in zip(self._began, WINDOWS, strict=True))
        self._began = [now if apart else at for at, apart in zip(self._began, self._apart, strict=True)]

    def _look(self, members: list[str], now: float) -> int:
        """Look at some entries; of how many MongoDB was asked."""
        comparison = self._comparison
        right: Counter[str] = Counter()
        asked = []
        seen = comparison.observe(dict.fromkeys(members), body_bytes=self._bodies.short())
        for member in self._bodies.damaged(seen):
            seen[member] = seen[member]._replace(intact=False)
        for member, shown in seen.items():
            if member in comparison.suspects:
                comparison.suspects.look_again(member, Look(now, ENTRIES, self._apart))
            elif comparison.is_known(member, shown):
                right[member.partition("/")[0]] += 1
            elif (one := comparison.document(member, shown)) is not None:
                asked.append(Asked(one, shown, Look(now, ENTRIES, self._apart)))
        for collection, count in right.items():
            comparison.tally.right(collection, ENTRIES, self._apart, count)
        is_first = self._size > FEW and comparison.hears() and self._walked_since != comparison.verified.cleared
        (comparison.compare_versions if is_first else comparison.compare)(asked)
        return len(asked)


class PendingWalk:
    """A walk over what is pending: it has its entry, and no older one than MongoDB has. For one thread."""

    def __init__(self, store: Store, comparison: Comparison) -> None:
        """Walk over a store."""
        self._store = store
        self._comparison = comparison
        self._partition, self._cursor = 0, "0"

    def step(self) -> None:
        """Look at some of what is pending in one partition.

        Raises:
            UnavailableError: a server does not answer.
        """
        unsettled, partition = self._store.unsettled, self._partition
        self._cursor, members = unsettled.scan(partition, self._cursor, count=SMALL_STEP)
        if self._cursor == "0":
            self._partition = (partition + 1) % self._store.partitions
        if not members:
            return
        some = random.sample(members, min(len(members), COMPARED))
        lost = self._store.unsettled.entryless(partition, members)
        shown = self._comparison.observe({*some, *lost} - set(self._comparison.suspects.members))
        now = time.monotonic()
        self._comparison.compare(
            [
                Asked(DocumentId.from_member(one), seen, Look(now, ENTRIES, _NOT_APART))
                for one, seen in shown.items()
            ]
        )


def has_seen(shown: Shown, change: Change, known: Known) -> bool:
    """Whether readers see a change, or what was acknowledged after it, as far as it can be told without asking.

    It cannot of one that has no version; nor of a version that was there before: others may have written with it.
    """
    entry = entry_of(shown)
    if entry is None:
        return not shown.unsettled
    if shown.unsettled:
        return entry.version >= change.version
    if change.deleted:
        return not entry.exists
    if not change.version or entry.version != change.version:
        return 0 < change.version < entry.version
    return entry.exists and not is_of(known, change.id.member, shown.header)
