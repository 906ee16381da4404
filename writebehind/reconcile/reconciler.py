"""Finds where Redis and MongoDB differ, and repairs it: in small steps, so that a pass may take an hour.

Where a pass goes on is kept in Redis, so that it survives the process. What looks like drift is looked at once
more after `GRACE_S`: a write, a flush or another's change may have been on its way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from writebehind.documents.ids import named
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.homecoming import Homecoming
from writebehind.reconcile.entries import EntryCheck, Suspect, Vanished
from writebehind.reconcile.findings import Drift, History, Pass, PassReport
from writebehind.reconcile.partitions import FOR_EVER_MS, PartitionCheck
from writebehind.redis import keys
from writebehind.redis.derived.aliases import Claim
from writebehind.redis.keys import Named
from writebehind.redis.shared.lease import Lease
from writebehind.redis.store import Store
from writebehind.sequences import grouped
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: The name of the task among the periodic ones.
RECONCILE = "reconcile"
#: Keys that are looked at in one step: at most, about, and at least, as a smaller step costs as much.
SLICE, LEAST = 200, 10
#: How long what looks like drift has to be on its way, seconds: the lag of the change stream, above all.
GRACE_S = 2.0
#: So much may wait to be looked at once more, and so many documents that have vanished for the end of the pass.
MOST_SUSPECTS = 1_000
#: How long the task may own the pass without a step, ms: a step may wait for MongoDB a few times.
LEASE_MS = 60_000
#: Of a pass that finds more documents than these, and more than this part of all, MongoDB may have lost them.
MANY_VANISHED, PART_VANISHED = 20, 0.1
#: How long an alias lives that takes the place of a claim which nobody took back, ms.
DANGLING_MS = 60_000
#: A run of the task takes no more than this part of the interval, nor than this many seconds; and a step more.
RUN_PART, MOST_S = 0.8, 30.0


@dataclass(frozen=True, slots=True)
class ReconcileLimits:
    """Settings of a pass.

    Attributes:
        pass_s: how long it takes, whatever the size of the cache.
        interval_s: how often `go_on` is called.
        load_timeout_ms: the longest life of a load token.
    """

    pass_s: float
    interval_s: float
    load_timeout_ms: int


@dataclass(frozen=True, slots=True)
class _Due:
    """Work that a pass has to do: so many partitions, and keys; `all` says that it may come to its end."""

    partitions: int
    keys: int
    all: bool


#: A listener that is at work notes several times a second how far it is. It may be late by so much, seconds.
LATE_S = 2.0
#: Leases that are none of a partition.
_LEASES = (
    keys.AUDIT_LEASE,
    keys.CONSISTENCY_LEASE,
    keys.LISTENER_LEASE,
    keys.RECONCILE_LEASE,
    keys.WARM_LEASE,
)
#: Families of keys that hold the tokens of readers.
_TOKENS = ("load", "aliasload", "queryload")


def is_current(listener: Mapping[str, Any] | None) -> bool:
    """Whether a listener, of which this is the status, has brought all but the latest changes to the cache."""
    return (
        listener is not None
        and listener["error"] is None
        and listener["seconds_ago"] <= LATE_S
        and listener["lag_s"] <= LATE_S
    )


class Reconciler:
    """Reconciles one installation."""

    def __init__(
        self,
        store: Store,
        limits: ReconcileLimits,
        *,
        entries: EntryCheck,
        partitions: PartitionCheck,
        homecoming: Homecoming,
        tallies: Tallies,
    ) -> None:
        """Join the parts."""
        self._tallies = tallies
        self.history = History(store)
        self._store = store
        self._limits = limits
        self._entries = entries
        self._partitions = partitions
        self._homecoming = homecoming
        #: The pass of which this process has told that documents have vanished.
        self._told_of = 0
        #: Whether this process has said that it reconciles.
        self._leads = False

    def go_on(self) -> dict[str, Any]:
        """Do as much of a pass as is due, if nobody else does: what the periodic task calls.

        What is due follows from the time since the pass began, whoever has worked on it and how often: so it takes
        `pass_s`. What does not fit into this run is left to the next one.

        Raises:
            MongoUnavailableError: MongoDB does not answer; the step is made again next time.
            RedisUnavailableError: Redis does not answer.
        """
        lease = self._store.lease(keys.RECONCILE_LEASE, LEASE_MS)
        if not lease.take():
            return {"busy": True}
        if not self._leads:
            self._leads = True
            taken = {"event": "leader_taken", "role": "reconcile"}
            log.info("reconciles Redis with MongoDB; others may take turns, nothing is to be done", extra=taken)
        try:
            return self._go_on(lease)
        finally:
            lease.release()

    def make_pass(
        self,
        *,
        repair: bool = True,
        collections: Collection[str] = (),
        vanished: Vanished | None = None,
        report: PassReport = lambda _: None,
    ) -> Pass:
        """Make a whole pass now, beside the one under way.

        Args:
            repair: whether to put right what is found; else nothing is changed.
            collections: only entries of these; all by default, and what belongs to no collection too.
            vanished: what becomes of documents that MongoDB has no more; by default they are dropped, unless there
                are so many that it may have lost them.
            report: is called with the pass after each step.

        Raises:
            UnavailableError: a server does not answer.
        """
        one = Pass(started_ms=self._store.now_ms(), dry_run=not repair)
        due = _Due(0 if collections else self._store.partitions, 0, all=True)
        while self._step(one, due, repair=repair, collections=collections, vanished=vanished):
            report(one)
        self.history.finish(one)
        return one

    def _go_on(self, lease: Lease) -> dict[str, Any]:
        until = time.monotonic() + min(MOST_S, self._limits.interval_s * RUN_PART)
        one, finished = self.history.current(), False
        due, before = self._due(one), one.keys
        while not finished:
            try:
                more = self._step(one, due, repair=True)
            except MongoUnavailableError:
                self.history.save(one, lease)  # what was found and repaired until then
                raise
            finished = due.all and not more
            kept = self.history.finish(one, lease) if finished else self.history.save(one, lease)
            if not kept:
                self._leads = False
                log.warning(
                    "somebody else goes on with this pass, as this process was too slow or cut off from Redis: "
                    "see whether it is short of CPU; of what was found may be missing: %s",
                    one.found,
                    extra={"event": "leader_lost", "role": "reconcile"},
                )
                return {"busy": True}
            if not more or time.monotonic() >= until:
                break
        return {"keys": one.keys - before, "finished": finished, "found": one.found}

    def _due(self, one: Pass) -> _Due:
        share = min(1.0, (self._store.now_ms() - one.started_ms) / 1000 / self._limits.pass_s)
        size = self._store.size()
        return _Due(int(share * self._store.partitions), int(share * size), all=share == 1)

    def _step(
        self,
        one: Pass,
        due: _Due,
        *,
        repair: bool,
        collections: Collection[str] = (),
        vanished: Vanished | None = None,
    ) -> bool:
        """Do what is due next, and count what was found; whether there was anything."""
        before = (families.DRIFT, one.found.copy()), (families.REPAIRED, one.repaired.copy())
        try:
            return self._take_step(one, due, repair=repair, collections=collections, vanished=vanished)
        finally:
            for (family, had), has in zip(before, (one.found, one.repaired), strict=True):
                for kind in has if repair else ():  # who only looks finds the same again and again
                    self._tallies.add(family, (kind,), has[kind] - had.get(kind, 0))

    def _take_step(
        self, one: Pass, due: _Due, *, repair: bool, collections: Collection[str], vanished: Vanished | None
    ) -> bool:
        place = one.place
        partitions_left = place.partition < due.partitions
        keys_left = not place.scanned and (due.all or one.keys < due.keys)
        if place.waiting and (
            place.waiting >= MOST_SUSPECTS
            or (due.all and not partitions_left and not keys_left)
            or self._grace_left_s(one) == 0
        ):
            self._look_again(one, repair=repair, vanished=vanished)
        elif partitions_left:
            self._partitions.step(one, repair=repair)
        elif keys_left:
            count = SLICE if due.all else min(SLICE, max(LEAST, due.keys - one.keys))
            self._scan(one, count, repair=repair, collections=collections)
        elif due.all and place.vanished:
            self._decide(one, self._way_with(one), repair=repair)
        else:
            return False
        return True

    def _scan(self, one: Pass, count: int, *, repair: bool, collections: Collection[str]) -> None:
        """Look at the next keys."""
        place = one.place
        cursor, found = self._store.scan(place.cursor.encode(), count=count)
        ours = self._named(found, collections)
        self._misplaced(found, one, repair=repair, collections=collections)
        cached = self._entries.look([one.name for one in ours.get("entry", ())])
        suspects = self._entries.suspects(cached)
        aliases = [claim.name for claim in self._dangling([one.name for one in ours.get("aliasclaims", ())])]
        tokens = [one.key for family in _TOKENS for one in ours.get(family, ())]
        self._partitions.tokens(tokens, self._limits.load_timeout_ms, one, repair=repair)
        if not collections:
            leases = [key for key in _LEASES if key.encode() in found]
            self._partitions.tokens(leases, FOR_EVER_MS, one, repair=repair)
        if suspects or aliases:
            place.suspects |= {one.cached.id.member: one.cached.state for one in suspects}
            place.aliases += aliases
            place.seen_ms = self._store.now_ms()
        one.checked += len(cached) - len(suspects)
        one.equal += len(cached) - len(suspects)
        one.keys += len(found)
        place.cursor = cursor.decode()
        place.scanned = place.cursor == "0"

    def _named(self, found: Sequence[bytes], collections: Collection[str]) -> dict[str, list[Named]]:
        """The keys with a name in them that are in its partition, by family; other keys are not looked at here."""
        ours = _of_collections(found, collections)
        return grouped(
            (one for one in ours if one.partition == self._store.partition_of(one.name)), lambda one: one.family
        )

    def _misplaced(self, found: Sequence[bytes], one: Pass, *, repair: bool, collections: Collection[str]) -> None:
        """Entries in other partitions than their own that nobody else has."""
        elsewhere = (
            key
            for key in _of_collections(found, collections)
            if key.family == "entry" and key.partition != self._store.partition_of(key.name)
        )
        for partition, some in grouped(elsewhere, lambda key: key.partition).items():
            members = [key.name for key in some if named(key.name.encode()) is not None]
            for member in self._homecoming.of_entries(partition, members, repair=repair):
                one.note(Drift.LOST_IN_MONGODB, member, repaired=repair)

    def _grace_left_s(self, one: Pass) -> float:
        """The time for which what looked like drift may be on its way yet."""
        left_s = GRACE_S - (self._store.now_ms() - one.place.seen_ms) / 1000
        return min(max(0.0, left_s), GRACE_S)

    def _look_again(self, one: Pass, *, repair: bool, vanished: Vanished | None) -> None:
        """Some of what looked like drift: it is if it still does, and nothing has changed since."""
        place = one.place
        if left_s := self._grace_left_s(one):
            threading.Event().wait(left_s)
        if place.suspects:
            some = dict(islice(place.suspects.items(), SLICE))
            confirmed = self._entries.again(some)
            for member, state in some.items():
                suspect = confirmed.get(member)
                if suspect is not None and suspect.kind is Drift.VANISHED and vanished is None:
                    place.vanished[member] = state
                elif suspect is not None:
                    one.note(suspect.kind, member, repaired=repair and self._repaired(suspect, vanished))
                one.checked += 1
                one.equal += suspect is None
                del place.suspects[member]
            if len(place.vanished) >= MOST_SUSPECTS:  # only the end tells whether they are many of what there is
                self._decide(one, Vanished.KEEP, repair=repair)
        else:
            names, place.aliases = place.aliases, []
            self._claims(names, one, repair=repair)

    def _repaired(self, suspect: Suspect, way: Vanished | None) -> bool:
        if way is not None and suspect.kind is Drift.VANISHED:
            return self._entries.see_to_vanished(suspect, way)
        return self._entries.repair(suspect)

    def _decide(self, one: Pass, way: Vanished, *, repair: bool) -> None:
        """See to some of the documents that have vanished, unless they are back, or have changed."""
        waiting = one.place.vanished
        some = dict(islice(waiting.items(), SLICE))
        confirmed = self._entries.again(some)
        for member in some:
            if suspect := confirmed.get(member):
                one.note(suspect.kind, member, repaired=repair and self._repaired(suspect, way))
            one.equal += suspect is None
            del waiting[member]

    def _way_with(self, one: Pass) -> Vanished:
        """The way with documents that MongoDB has no more, as many as a pass has found and set aside.

        A listener drops what others delete at once, and a pass finds the few that it has missed. A MongoDB that
        was emptied, or put back from a backup, lacks many, of which Redis may have the last copies. The first of
        them look like a few: so nothing is decided before the end.
        """
        checked = one.checked
        found = one.found.get(Drift.VANISHED, 0) + len(one.place.vanished)
        if found <= max(MANY_VANISHED, PART_VANISHED * checked):
            return Vanished.DROP
        if self._told_of != one.started_ms:
            self._told_of = one.started_ms
            log.error(
                "MongoDB has no more %s of %s documents that Redis has and that were looked at: it may have lost "
                "them, and they stay for as long as they are cached. `writebehind reconcile --all --vanished "
                "restore` writes them again; `--vanished drop` forgets them, where others have deleted them",
                found,
                checked,
                extra={"event": "documents_vanished"},
            )
        return Vanished.KEEP

    def _claims(self, names: Sequence[str], one: Pass, *, repair: bool) -> None:
        """Claims of documents that MongoDB has, or that are not there any more."""
        dangling = self._dangling(names)
        if dangling:  # a flush may be about to take them back
            threading.Event().wait(GRACE_S)
            dangling &= self._dangling([claim.name for claim in dangling])
        for claim in dangling:
            one.note(Drift.DANGLING_ALIAS, claim.name, repaired=repair and self._let_go(claim))

    def _let_go(self, claim: Claim) -> bool:
        return self._store.aliases.let_go(claim, ttl_ms=DANGLING_MS)

    def _dangling(self, names: Sequence[str]) -> set[Claim]:
        claims = self._store.aliases.claims(list(dict.fromkeys(names)))
        unsettled = self._store.unsettled.among({claim.member for claim in claims})
        return {claim for claim in claims if claim.member not in unsettled}


def _of_collections(found: Sequence[bytes], collections: Collection[str]) -> Iterator[Named]:
    """The keys with a name in them, of these collections, or of all where none are given."""
    for one in map(Named.parse, found):
        if one is not None and (not collections or one.name.partition("/")[0] in collections):
            yield one
