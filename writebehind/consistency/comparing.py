"""Comparing what readers see with what MongoDB has, and with what is pending."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from writebehind.consistency.budget import Budget
from writebehind.consistency.judging import Fault, entry_of, fault_of, is_served, is_stale
from writebehind.consistency.suspects import Look, Suspect, Suspects
from writebehind.consistency.tally import Tally
from writebehind.consistency.verified import Verified
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoRefusesError, UnavailableError
from writebehind.mongodb.sink import Sink
from writebehind.redis.store import Store
from writebehind.redis.unsettled import Shown
from writebehind.sequences import grouped, slices
from writebehind.settings.collection import CollectionSettings

log = logging.getLogger(__name__)

#: Documents that MongoDB is asked for at a time: some servers take longer for each, the more there are. So many
#: suspects are looked at again in a step, which takes little CPU then.
AT_ONCE = 100
#: Stale suspects are read anew for so long at a time, seconds: with a slow MongoDB each may take long, and nobody
#: else looks meanwhile.
READ_FOR_S = 2.0
#: This part of the entries that are known to be right is compared by content all the same; and of many entries.
DOUBTED, DOUBTED_OF_MANY = 0.02, 0.005


@dataclass(frozen=True, slots=True)
class Asked:
    """A document of which MongoDB is asked: what readers see of it, and the look at it."""

    id: DocumentId
    shown: Shown
    look: Look


class Comparison:
    """Compares documents, counts what is right, and suspects what is not. For one thread.

    Attributes:
        hears: whether changes in MongoDB are heard.
        doubt: the part of what is known to be right that is compared all the same.
        verified: what is known to be right.
        tally: counts.
        suspects: what seems wrong.
    """

    def __init__(
        self,
        store: Store,
        sink: Sink,
        *,
        settings: Callable[[str], CollectionSettings],
        read: Callable[[DocumentId], object],
        hears: Callable[[], bool],
        budget: Budget,
        listed: Collection[str] = (),
    ) -> None:
        """Join the parts.

        Args:
            store: what readers see.
            sink: what MongoDB has.
            settings: of a collection, by name.
            read: reads a document as a client of the API does.
            hears: whether changes in MongoDB are heard.
            budget: is told how long MongoDB works for this.
            listed: collections that are counted by name, however many others there are.
        """
        self._store = store
        self._sink = sink
        self._settings = settings
        self._read = read
        self.hears = hears
        self._budget = budget
        self.doubt = DOUBTED
        self.verified = Verified()
        self.tally = Tally(listed)
        self.suspects = Suspects(self.tally)

    def observe(self, members: Iterable[str], *, body_bytes: int = 0) -> dict[str, Shown]:
        """The members as readers see them; bodies of less than `body_bytes` are compared with their ETags.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return self._store.unsettled.observe(members, body_bytes=body_bytes)

    def is_known(self, member: str, shown: Shown) -> bool:
        """Whether this is known to be right without asking MongoDB: cheap, as it is asked of all entries."""
        if not shown.header or shown.intact is False or random.random() < self.doubt:  # noqa: S311 - no secret
            return False
        # While no changes are heard, it may have changed meanwhile: MongoDB is asked, or nothing is counted.
        return shown.unsettled or (self.hears() and self.verified.has(member, shown.header))

    def document(self, member: str, shown: Shown) -> DocumentId | None:
        """The document that MongoDB is asked for; `None` where it is none, or readers are not served the entry."""
        try:
            one = DocumentId.from_member(member)
        except ValueError:
            return None
        return one if shown.unsettled or is_served(shown, self._settings(one.collection)) else None

    def count_right(self, one: DocumentId, shown: Shown, look: Look, *, known: bool = True) -> None:
        """Count a look, unless nothing was there; if it is `known` that MongoDB has the same, remember it."""
        if not shown.header:
            return
        self.tally.right(one.collection, look.source, look.apart)
        if known and not shown.unsettled and self.hears():
            self.verified.add(one.member, shown.header)

    def compare_versions(self, asked: Sequence[Asked]) -> None:
        """Compare by version; by content what has another one, or none, and a part of the others.

        A version has one content, unless others change a document and leave it alone: of that its change stream
        tells.

        Raises:
            UnavailableError: a server does not answer.
        """
        several = [one.id for one in asked if one.shown.header and not one.shown.unsettled]
        versions: dict[str, int] = {}
        with suppress(MongoRefusesError), self._budget.waiting():
            for some in slices(several, AT_ONCE):
                versions |= self._sink.versions(some)
        other = []
        for one in asked:
            same = is_version(one.shown, versions.get(one.id.member, 0)) and one.shown.intact is not False
            if same and random.random() >= self.doubt:  # noqa: S311 - no secret
                self.count_right(one.id, one.shown, one.look)
            else:
                other.append(one)
        self.compare(other)

    def compare(self, asked: Sequence[Asked]) -> None:
        """Compare by content, which is what versions stand for.

        Raises:
            UnavailableError: a server does not answer.
        """
        stored = self._stored([one.id for one in asked])
        for one in asked:
            theirs = stored.get(one.id.member)
            if theirs is None:
                continue
            fault = self._fault(one.id, one.shown, theirs)
            if fault is None:
                self.count_right(one.id, one.shown, one.look)
            elif not self.suspects.is_full:
                self.suspects.add(one.id, fault, one.shown, theirs, one.look)

    def look_again(self) -> None:
        """Look at the suspects that are due.

        Raises:
            UnavailableError: a server does not answer.
        """
        due = self._read_anew(self.suspects.due(time.monotonic()))
        if not due:
            return
        shown = self.observe(due)
        suspected = [member for member, one in due.items() if one.fault is Fault.DAMAGED]
        for member in self._store.bodies.damaged(suspected) if suspected else ():
            shown[member] = shown[member]._replace(intact=False)
        stored = self._stored([one.id for one in due.values()])
        now = time.monotonic()
        for member, one in shown.items():
            theirs = stored.get(member)
            if theirs is None:
                self.suspects.forget(member)
            else:
                self.suspects.decide(member, self._fault(due[member].id, one, theirs), one, theirs, now)

    def _read_anew(self, due: Mapping[str, Suspect]) -> dict[str, Suspect]:
        """Read those that are stale, as the next client would: those that there was time for."""
        until = time.monotonic() + READ_FOR_S
        found: dict[str, Suspect] = {}
        for member, one in due.items():
            if len(found) >= AT_ONCE or time.monotonic() >= until:
                break
            if is_stale(one.shown, self._settings(one.id.collection)):
                with suppress(UnavailableError):
                    self._read(one.id)
            found[member] = one
        return found

    def _fault(self, one: DocumentId, shown: Shown, stored: Entry) -> Fault | None:
        if not shown.unsettled and not is_served(shown, self._settings(one.collection)):
            return None
        return fault_of(shown, stored)

    def _stored(self, ids: Sequence[DocumentId]) -> dict[str, Entry]:
        """States in MongoDB, by member; nothing of a collection that it refuses to read."""
        found: dict[str, Entry] = {}
        for collection, some in grouped(ids, lambda one: one.collection).items():
            try:
                with self._budget.waiting():
                    entries = [one for part in slices(some, AT_ONCE) for one in self._sink.find_states(part)]
            except MongoRefusesError as error:
                log.debug("%s cannot be compared with MongoDB: %s", collection, error)
                continue
            found |= {one.member: entry for one, entry in zip(some, entries, strict=True)}
        return found


def is_version(shown: Shown, version: int) -> bool:
    """Whether readers see a document of this version, which is above 0."""
    entry = entry_of(shown)
    return entry is not None and entry.exists and 0 < entry.version == version
