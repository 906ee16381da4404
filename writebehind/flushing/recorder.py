"""Recording of a batch's outcomes in Redis: settled, postponed, or moved to the dead letters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from writebehind.documents.entry import Entry, Kind
from writebehind.errors import RedisUnavailableError
from writebehind.flushing.attempts import is_late, others_are_taken, postpone
from writebehind.flushing.contention import Contention
from writebehind.flushing.damaged import Damage, DamagedWrites
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.flushing.flush_summary import FlushSummary
from writebehind.hooks import Hooks, Persisted
from writebehind.logs.quoting import quoted
from writebehind.mongodb.columns import Columns
from writebehind.mongodb.outcomes import Outcome, Result, Write
from writebehind.mongodb.sink import Sink
from writebehind.outage_log import OutageLog
from writebehind.plurals import counted
from writebehind.querying.derived import Derived
from writebehind.querying.unique_fields import aliases_in
from writebehind.reading.freshness import lifetime_ms, ttls_ms
from writebehind.redis.pending import Burial, Contest, Settled
from writebehind.redis.reach import is_away, unreached
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: A dead letter keeps so much of what MongoDB says: a validator may say a lot.
MESSAGE_CHARACTERS = 1_000


class Recorder:
    """Records in Redis what became of writes to MongoDB. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        collection_settings: Callable[[str], CollectionSettings],
        *,
        derived: Derived,
        contention: Contention,
        hooks: Callable[[str], Hooks],
        tallies: Tallies,
    ) -> None:
        """Join the parts; `hooks` are those of a collection, by name."""
        self._store = store
        self._sink = sink
        self._settings = collection_settings
        self._derived = derived
        self._contention = contention
        self._hooks = hooks
        self._tallies = tallies
        self._damaged = DamagedWrites(store, sink, derived)
        self._outages = OutageLog(log, "batch", "batches")

    def record(
        self,
        partition: int,
        collection: str,
        outcomes: Sequence[Outcome],
        summary: FlushSummary,
        *,
        sent: int = 0,
    ) -> list[Outcome]:
        """Note what became of a batch of one collection; which of it is to be tried again.

        Args:
            partition: where its documents are pending.
            collection: theirs.
            outcomes: what MongoDB has answered of each.
            summary: counts what became of them.
            sent: operations that were sent for them, which are counted.

        Raises:
            MongoUnavailableError: MongoDB does not answer; what is not recorded is pending.
            RedisUnavailableError: Redis does not answer; the same.
        """
        settings = self._settings(collection)
        try:
            self._derived.persisting(collection, [outcome.write.id.member for outcome in outcomes])
        except RedisUnavailableError as error:
            if not is_away(error):
                raise
            away = {outcome.write.id.member: error for outcome in outcomes}
            return self.postpone(partition, collection, _without(outcomes, away), summary)
        settled, away = self._settled(outcomes, settings, summary)
        if away:
            outcomes = _without(outcomes, away)
        useful = min(sent, len(settled))
        self._store.pending.settle(partition, settled, delay_ms=settings.flush_delay_ms, operations=useful)
        summary.in_vain -= useful
        persisted = [one.write for one in outcomes if one.result is Result.PERSISTED]
        existing = sum(write.entry.kind is Kind.DOCUMENT for write in persisted)
        summary.persisted += existing
        summary.deleted += len(persisted) - existing
        summary.reached.update((write.id.member, write.entry.version) for write in persisted)
        if settings.lookup:
            self._let_go(lambda: self._derived.persisted([(one.id, one.entry) for one in persisted], settings))
        if (hooks := self._hooks(collection)).after_persist is not None:  # nothing of it is pending any more
            told = [Persisted(write.id, write.entry.version, write.entry.body) for write in persisted]
            summary.hooks_failed += not hooks.tell(told)
        if len(persisted) == len(outcomes):  # as a rule
            return []
        return self.postpone(partition, collection, outcomes, summary)

    def record_plain(self, partition: int, persisted: Columns, summary: FlushSummary) -> list[Outcome]:
        """`record` of documents that MongoDB has taken as a whole, and of which nobody is told."""
        settings, count = self._settings(persisted.collection), len(persisted)
        try:
            self._derived.persisting(persisted.collection, persisted.members)
        except RedisUnavailableError as error:
            if not is_away(error):
                raise
            outcomes = [Outcome(one, Result.PERSISTED) for one in persisted]
            return self.record(partition, persisted.collection, outcomes, summary, sent=count)
        digits, ttls = persisted.digits, ttls_ms(count, settings)
        self._store.pending.settle_plain(
            partition, persisted.members, digits, ttls, delay_ms=settings.flush_delay_ms, operations=count
        )
        summary.in_vain -= count
        summary.persisted += count
        summary.reached.update(zip(persisted.members, persisted.versions, strict=True))
        return []

    def is_told(self, collection: str) -> bool:
        """Whether somebody is told what became of documents of a collection, or which values they have."""
        return bool(self._settings(collection).lookup) or self._hooks(collection).after_persist is not None

    def _settled(
        self, outcomes: Sequence[Outcome], settings: CollectionSettings, summary: FlushSummary
    ) -> tuple[list[Settled], dict[str, RedisUnavailableError]]:
        """Writes to be settled; and, by member, those that cannot be yet, as a server of theirs is away."""
        if not settings.lookup and all(
            one.result is Result.PERSISTED and one.write.entry.kind is Kind.DOCUMENT for one in outcomes
        ):  # as a rule
            ttls = ttls_ms(len(outcomes), settings)
            return [_lasting(one.write, ttl) for one, ttl in zip(outcomes, ttls, strict=True)], {}
        settled = []
        away: dict[str, RedisUnavailableError] = {}
        for outcome in outcomes:
            if outcome.result is Result.PERSISTED:
                settled.append(_settled(outcome.write, settings))
            elif outcome.result is Result.SUPERSEDED:
                summary.superseded += 1
                if not self._contest(outcome, summary):
                    # Redis has a newer version too. Settling the older one only makes the member due again later.
                    settled.append(_settled(outcome.write, settings)._replace(is_superseded=True))
            elif outcome.result is Result.REFUSED:
                left = unreached([outcome], lambda some: self._give_up(some[0], summary))
                away |= {one.write.id.member: error for one, error in left}
        if settings.lookup and settled:
            members = [one.member for one in settled]
            away |= dict(unreached(members, self._contention.changed))  # while they are pending
            away |= self._store.pending.forget_values(settled)
        return [one for one in settled if one.member not in away], away

    def _let_go(self, release: Callable[[], None]) -> None:
        """Take claims back that are over. Where a server is away that has them, reconciling finds them later."""
        for _, error in unreached([None], lambda _: release()):
            if not self._store.has_several:
                raise error
            self._outages.note("claims", f"claims to unique values are left to reconciling: {error}")

    def postpone(
        self, partition: int, collection: str, outcomes: Sequence[Outcome], summary: FlushSummary
    ) -> list[Outcome]:
        """Try again later what MongoDB does not take now, for a bounded time; what is still to be tried.

        Raises: as `record`.
        """
        late = [outcome for outcome in outcomes if is_late(outcome)]
        if not late:
            return late
        away = [outcome for outcome in late if outcome.result is Result.UNREACHED]
        alone = [outcome for outcome in late if not outcome.together and outcome not in away]
        together = [outcome for outcome in late if outcome.together and outcome not in away]
        others = bool(alone) and others_are_taken(outcomes, lambda: self._sink.takes_writes(collection))
        tried = postpone(self._store, partition, away, others=False) if away else []
        tried += postpone(self._store, partition, alone, others=others) if alone else []
        # Which says of none that it is at fault. Each half has a delay of its own, so that they are sent apart.
        for half in (together[::2], together[1::2]):
            tried += postpone(self._store, partition, half, others=False) if half else []
        if together or (alone and not others):
            self._store.complaints.note(f"{collection}: {(together or alone)[0].message}")
        left = []
        for outcome in tried:
            if is_late(outcome):
                left.append(outcome)
            else:
                self._give_up(outcome, summary)
        if left:
            self._tallies.add(families.POSTPONED, (collection,), len(left))
            such = left[0]
            few = counted(len(left), "document is", "documents are")
            line = f"of {collection} {few} tried again, such as {such.write.id.text}: {such.message}"
            self._outages.note(f"documents of {collection} that are tried again", line)
        return left

    def _give_up(self, outcome: Outcome, summary: FlushSummary) -> None:
        """Make a document a dead letter that MongoDB does not take, and see to those that wait for its values."""
        contention = self._contention
        if not contention.concerns(outcome.write.id.collection):
            self._refuse(outcome, summary)
            return
        contention.changed([outcome.write.id.member])  # it may have given up what it has in MongoDB
        contention.note(outcome)
        self._refuse(outcome, summary)
        contention.look(outcome)

    def _contest(self, outcome: Outcome, summary: FlushSummary) -> bool:
        """Decide between a write and the greater version that MongoDB has; false when a newer write is pending."""
        entry, member = outcome.write.entry, outcome.write.id.member
        contest = self._store.pending.outdo(member, entry.version_digits, outcome.present)
        if contest is Contest.LOST:
            letter = DeadLetter.conflict(
                *(member, entry, outcome.message),
                over=outcome.present,
                attempts=outcome.attempts,
                trace_id=outcome.write.trace_id,
            )
            return self._bury(letter, entry, summary, drop_entry=True)
        if contest is Contest.OVERWRITTEN:
            self._let_go(lambda: self._derived.gave_way([(member, entry.version)]))
            line = f"{quoted(member)}: MongoDB has version {outcome.present}, of before a failover"
            log.info("%s, which was written over version %d", line, entry.version)
            return True
        if contest is Contest.REISSUED:  # and due: the next batch has it
            line = f"{quoted(member)}: MongoDB has version {outcome.present}, which this Redis has not issued"
            said = f"{line}; version {entry.version} is written over it: see whether another Redis writes there"
            self._outages.note("versions of another Redis", said, event="version_unknown")
            return True
        return False

    def _refuse(self, outcome: Outcome, summary: FlushSummary) -> None:
        """Make a document a dead letter, which readers go on seeing."""
        write, message = outcome.write, outcome.message[:MESSAGE_CHARACTERS]
        letter = DeadLetter.refused(
            *(write.id.member, write.entry, message),
            code=outcome.code,
            attempts=outcome.attempts,
            over=outcome.present,
            trace_id=write.trace_id,
        )
        self._bury(letter, write.entry, summary, drop_entry=False)

    def _bury(self, letter: DeadLetter, entry: Entry, summary: FlushSummary, *, drop_entry: bool) -> bool:
        """Put a letter in the place of a pending write; false when a newer version is pending."""
        digits, dump = entry.version_digits, letter.dump()
        burial = self._store.pending.bury(letter.member, digits, dump, drop_entry=drop_entry)
        if burial is Burial.BURIED:
            summary.buried += 1
            if drop_entry:
                self._let_go(lambda: self._derived.gave_way([(letter.member, entry.version)]))
            # As commands take it.
            words = (quoted(letter.id.collection), quoted(letter.id.text), letter.version, letter.message)
            log.error("dead letter %s %s version %d: %s", *words, extra=letter.log_fields)
        return burial is not Burial.NEWER

    def take_out_damaged(self, write: Write, summary: FlushSummary) -> None:
        """See to a write whose body is not what was acknowledged. Raises as `DamagedWrites.take_out`."""
        outcome = self._damaged.take_out(write.id, write.entry)
        if outcome is Damage.PERSISTED:
            summary.persisted += 1
            summary.reached[write.id.member] = write.entry.version
        summary.buried += outcome is Damage.BURIED

    def bury_lost(self, member: str, summary: FlushSummary, version_digits: bytes = b"") -> None:
        """Make a dead letter of a document whose entry is gone, or unreadable: then with its version."""
        letter = DeadLetter.lost(member)
        if self._store.pending.bury(member, version_digits, letter.dump(), drop_entry=True) is Burial.BURIED:
            summary.buried += 1
            log.critical(
                "%s is pending but its entry is gone or unreadable: somebody changed or evicted it in Redis",
                quoted(member),
                extra=letter.log_fields,
            )


def _without(outcomes: Sequence[Outcome], away: Mapping[str, RedisUnavailableError]) -> list[Outcome]:
    """The outcomes, but for members of which a server is away: what became of them cannot be recorded yet."""
    return [
        one._replace(result=Result.UNREACHED, message=str(away[one.write.id.member]))
        if one.write.id.member in away
        else one
        for one in outcomes
    ]


def _lasting(write: Write, ttl_ms: int) -> Settled:
    return Settled(write.id.member, write.entry.version_digits, ttl_ms)


def _settled(write: Write, settings: CollectionSettings) -> Settled:
    ttl_ms = 0 if settings.write == "around" else lifetime_ms(write.entry, settings)
    values = [alias.name for alias in aliases_in(write.id, write.entry, settings)] if settings.lookup else ()
    return Settled(write.id.member, write.entry.version_digits, ttl_ms, values)
