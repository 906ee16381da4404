"""Documents and dead letters that stand in another partition than their own are brought home."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.logs.quoting import quoted
from writebehind.outage_log import OutageLog
from writebehind.plurals import counted
from writebehind.querying.derived import Derived
from writebehind.redis.letters import RawLetter
from writebehind.redis.misplaced import Adopted
from writebehind.redis.pending import HintSink
from writebehind.redis.reach import unreached
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings

log = logging.getLogger(__name__)

#: Letters of a partition that are looked at in one go, about.
SLICE = 200


class Homecoming:
    """Brings home what was put into the wrong partition. Safe to share between threads.

    Not while the number of partitions grows: what is in two partitions then is on its way, or a copy.
    Each method raises `RedisUnavailableError` where Redis does not answer; what is left is met again.
    """

    def __init__(
        self, store: Store, hints: HintSink, derived: Derived, settings: Callable[[str], CollectionSettings]
    ) -> None:
        """Join the parts; `hints` takes the flush tasks that are wanted, `settings` are those of a collection."""
        self._store = store
        self._hints = hints
        self._derived = derived
        self._settings = settings
        self._brought = OutageLog(log, "lot")

    def of_pending(self, partition: int, members: Sequence[str]) -> list[str]:
        """Those of a partition's members that belong there; the others are pending at home from now on.

        While the server is away that has their home, they are put off.
        """
        misplaced = self._store.misplaced
        left = misplaced.away(partition, members)
        if not left:
            return list(members)
        if self._store.is_dividing:
            misplaced.put_off(partition, left)
            return [one for one in members if one not in left]
        self._tell(partition, left)
        away = unreached(left, lambda some: self._see_to([misplaced.bring_home(partition, one) for one in some]))
        misplaced.put_off(partition, [one for one, _ in away])
        return [one for one in members if misplaced.is_at_home(partition, one)]

    def of_letters(self, partition: int, letters: Sequence[RawLetter]) -> list[RawLetter]:
        """Those of a partition's letters that belong there; the others are at home from now on, or tried again."""
        misplaced = self._store.misplaced
        left = [one for one in letters if not misplaced.is_at_home(partition, one.member)]
        if not left:
            return list(letters)
        if self._store.is_dividing:
            return [one for one in letters if one not in left]
        self._tell(partition, [one.name for one in left])
        found = [misplaced.bring_letter_home(partition, one) for one in left]
        self._see_to([one for one in found if one is not None])
        return [one for one in letters if misplaced.is_at_home(partition, one.member)]

    def of_entries(self, partition: int, members: Sequence[str], *, repair: bool) -> list[str]:
        """Those of other partitions' members whose entries nobody else has; with `repair` brought home."""
        if self._store.is_dividing:
            return []
        left = self._store.misplaced.lasting(partition, members)
        if left and repair:
            self._tell(partition, left)
            self._see_to([self._store.misplaced.bring_home(partition, one) for one in left])
        return left

    def of_all_letters(self, partition: int) -> None:
        """Bring all letters of a partition home that belong to another."""
        cursor = "0"
        while True:
            cursor, letters = self._store.letters.names(partition, cursor, count=SLICE)
            self.of_letters(partition, letters)
            if cursor == "0":
                return

    def _see_to(self, adopted: Sequence[Adopted]) -> None:
        """Let documents be found by their unique values, as when they were committed, and be flushed."""
        for one in adopted:
            document_id = DocumentId.from_member(one.member)
            if one.is_pending and one.value:
                entry = Entry.shown(one.value)
                self._derived.committed([(document_id, entry)], self._settings(document_id.collection))
            if one.hint is not None:
                self._hints(one.hint)

    def _tell(self, partition: int, names: Sequence[str]) -> None:
        of = counted(len(names), "document")
        line = f"brought home from partition {partition}: {of} of another one, such as {quoted(names[0][:200])}"
        self._brought.note("documents of other partitions", line, event="brought_home")
