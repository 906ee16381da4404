"""Writes that a failover has lost are committed again: what stands against one, and what is told of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple
from uuid import uuid4

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import ConfigurationError, MongoUnavailableError, RedisUnavailableError
from writebehind.mongodb.sink import Sink
from writebehind.querying.derived import Derived
from writebehind.reconcile.losses import Fate, Losses
from writebehind.redis.pending import HintSink
from writebehind.redis.recent import Recent
from writebehind.redis.recovery import Lapse, Status
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings

log = logging.getLogger(__name__)

#: So many writes are committed again in one round trip, or about so many bytes.
AT_ONCE, BYTES_AT_ONCE = 500, 4 << 20
#: Outcomes after which Redis has the write, and may lose it again.
_STANDS: Final = frozenset((Status.RECOMMITTED, Status.THERE))


class Lost(NamedTuple):
    """A write that was lost.

    Attributes:
        position: among the recent ones.
        write: what it was.
        lapse: that it fell into.
        leapt: the version after which its partition goes on since the last failover.
    """

    position: int
    write: Recent
    lapse: Lapse
    leapt: int

    def was_seen_by(self, newer: int) -> bool:
        """Whether a newer version is of a write that was made on what this one had left.

        One of the same lapse is: the former primary had both. Of one that was committed again, all are that
        were issued before the last failover.
        """
        return newer <= (self.leapt if self.write.again_after else self.lapse.leapt)


class Recommits:
    """Commits again. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        hints: HintSink,
        derived: Derived,
        *,
        settings: Callable[[str], CollectionSettings],
        grace_ms: int,
        load_timeout_ms: int,
    ) -> None:
        """Join the parts.

        Args:
            store: to commit to.
            sink: to ask which versions MongoDB has.
            hints: takes the flush tasks that are wanted.
            derived: by which documents are found.
            settings: of a collection.
            grace_ms: how long a deletion is remembered.
            load_timeout_ms: the life of the right to load a document.
        """
        self._store = store
        self._sink = sink
        self._hints = hints
        self._derived = derived
        self._settings = settings
        self._grace_us = grace_ms * 1000
        self._load_timeout_ms = load_timeout_ms

    def commit(self, lost: Sequence[Lost], losses: Losses, *, is_wanted: Callable[[], bool]) -> bool:
        """Commit writes again while that is wanted, and note what is to be told; whether each was seen to.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if lost and not self._is_ours():
            self._end(dict.fromkeys(lost, Fate.FOREIGN), losses)
            return True
        is_complete = True
        for some in _portions(lost):
            if not is_wanted():
                return False
            is_complete = self._commit(some, losses) and is_complete
        return is_complete

    def _is_ours(self) -> bool:
        """Whether Redis has still what it had when it was greeted: the documents of this installation."""
        try:
            self._store.check_recorded()
        except ConfigurationError as error:
            log.debug("nothing is committed again: %s", error)
            return False
        return True

    def _commit(self, some: Sequence[Lost], losses: Losses) -> bool:
        token = uuid4().hex
        found = self._attempt(some, losses, token, is_newest=False)
        unknown = [one for one in some if found.get(one.position) is Status.UNKNOWN]
        try:
            return self._commit_rest(some, unknown, found, losses, token)
        finally:
            with suppress(RedisUnavailableError):  # then it runs out by itself
                self._store.loads.abandon((one.write.member for one in unknown), token)

    def _commit_rest(
        self,
        some: Sequence[Lost],
        unknown: Sequence[Lost],
        found: Mapping[int, Status],
        losses: Losses,
        token: str,
    ) -> bool:
        """See to those that Redis has no entry of, or that come late; whether each of all was seen to."""
        late = [one for one in some if found.get(one.position) is Status.LATE]
        versions = self._versions([*unknown, *late])
        if versions is None:  # others may have persisted what is newer
            self._end(dict.fromkeys(late, Fate.LATE), losses)
            return False if unknown else len(found) == len(some)
        left = self._without_persisted(unknown, versions, losses)
        late = self._without_persisted(late, versions, losses)
        decided = self._attempt(left, losses, token, is_newest=True)
        late += [one for one in left if decided.get(one.position) is Status.LATE]
        self._end(dict.fromkeys(late, Fate.LATE), losses)
        is_complete = (len(found), len(decided)) == (len(some), len(left))
        return is_complete and Status.UNKNOWN not in decided.values()  # a write came in between, and is gone

    def _attempt(self, some: Sequence[Lost], losses: Losses, token: str, *, is_newest: bool) -> dict[int, Status]:
        """Commit some writes again; the outcomes of those that Redis has answered for, by position."""
        answers = self._store.recovery.recommit(
            [(one.write, one.lapse.at_us + self._grace_us) for one in some],
            token,
            life_ms=self._load_timeout_ms,
            is_newest=is_newest,
        )
        outcomes: dict[int, Status] = {}
        standing: list[Lost] = []
        ended: dict[Lost, Fate | None] = {}
        for one, answer in zip(some, answers, strict=True):
            if isinstance(answer, RedisUnavailableError):
                log.debug("a write that was lost is not committed again yet: %s", answer)
                continue
            outcomes[one.position] = answer.status
            if answer.status in _STANDS:
                standing.append(one)
            elif answer.status is Status.SUPERSEDED:
                ended[one] = None if one.was_seen_by(answer.newer) else Fate.SUPERSEDED
            if answer.status is Status.RECOMMITTED:
                losses.add(one.write, Fate.RECOMMITTED)
            if answer.hint is not None:
                self._hints(answer.hint)
        self._end(ended, losses)
        self._store.recent.replace({one.position: one.write._replace(again_after=one.leapt) for one in standing})
        for one in standing:
            self._claim(one.write)
        return outcomes

    def _end(self, fates: Mapping[Lost, Fate | None], losses: Losses) -> None:
        """Keep some writes no longer, and note their fates; `None` where only the receipts may be lost."""
        self._store.receipts.bring(one.write for one, fate in fates.items() if fate is None)
        for one, fate in fates.items():
            if fate is not None:
                losses.add(one.write, fate)
        self._store.recent.replace(dict.fromkeys(one.position for one in fates))

    def _claim(self, write: Recent) -> None:
        """Let the document be found by its unique values, as when it was committed."""
        document_id = DocumentId.from_member(write.member)
        settings = self._settings(document_id.collection)
        if settings.lookup:
            entry = Entry.shown(b"%016d" % write.version + write.payload)
            self._derived.committed([(document_id, entry)], settings)

    def _versions(self, some: Sequence[Lost]) -> Mapping[str, int] | None:
        """The versions that MongoDB has of some documents, by member; `None` where it cannot be asked."""
        if not some:
            return {}
        try:
            return self._sink.versions([DocumentId.from_member(one.write.member) for one in some])
        except MongoUnavailableError as error:
            log.debug("MongoDB is not asked for the versions of writes that were lost: %s", error)
            return None

    def _without_persisted(self, some: Sequence[Lost], versions: Mapping[str, int], losses: Losses) -> list[Lost]:
        """Those of some writes that MongoDB does not have, nor anything that stands against them."""
        left: list[Lost] = []
        ended: dict[Lost, Fate | None] = {}
        for one in some:
            version = versions.get(one.write.member)
            if version == 0:  # put there by others, perhaps in the place of this write
                ended[one] = Fate.REPLACED
            elif version is None or version < one.write.version:
                left.append(one)
            else:
                ended[one] = None if one.was_seen_by(version) or version == one.write.version else Fate.SUPERSEDED
        self._end(ended, losses)
        return left


def _portions(lost: Sequence[Lost]) -> Iterator[list[Lost]]:
    """The same in portions that do not keep others waiting."""
    some: list[Lost] = []
    size = 0
    for one in lost:
        some.append(one)
        size += one.write.size
        if len(some) >= AT_ONCE or size >= BYTES_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some
