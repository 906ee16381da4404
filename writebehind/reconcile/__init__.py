"""Finds where Redis and MongoDB differ, and repairs it: in bounded slices, so that a pass may take an hour.

The cursor is kept in Redis, so that a pass survives the process. What looks like drift is looked at once more
after `GRACE_S`: a write, a flush or another's change may have been on its way.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any
from uuid import uuid4

from writebehind import keys
from writebehind.connections import script
from writebehind.lookups import Claim, Lookups
from writebehind.reconcile.entries import EntryCheck, note
from writebehind.reconcile.findings import Drift, History, Pass, Report
from writebehind.reconcile.partitions import PartitionCheck
from writebehind.store import Store

__all__ = ["Drift", "History", "Limits", "Pass", "Reconciler"]

#: What the task is called among the periodic ones.
RECONCILE = "reconcile"
#: Keys that are looked at in one go.
SLICE = 500
#: How long what looks like drift has to be on its way, seconds: the lag of the change stream, above all.
GRACE_S = 2.0
#: How long one run of the task may own the pass, ms.
LEASE_MS = 120_000

_ABANDON = script("abandon")


@dataclass(frozen=True, slots=True)
class Limits:
    """How a pass goes.

    Attributes:
        pass_s: how long it takes, whatever the size of the cache.
        interval_s: how often `go_on` is called.
        load_timeout_ms: the longest life of a load token.
    """

    pass_s: float
    interval_s: float
    load_timeout_ms: int


class Reconciler:
    """Reconciles one installation."""

    def __init__(
        self,
        store: Store,
        lookups: Lookups,
        limits: Limits,
        *,
        entries: EntryCheck,
        partitions: PartitionCheck,
    ) -> None:
        """Join the parts."""
        self.history = History(store.wire)
        self._store = store
        self._lookups = lookups
        self._limits = limits
        self._entries = entries
        self._partitions = partitions

    def go_on(self) -> dict[str, Any]:
        """Do as much of a pass as is due, if nobody else does: what the periodic task calls.

        Raises:
            MongoUnavailableError: MongoDB does not answer; the slice is looked at again next time.
            RedisUnavailableError: Redis does not answer.
        """
        token = uuid4().hex
        if not self._store.wire.call("SET", keys.RECONCILE_LEASE, token, "NX", "PX", LEASE_MS):
            return {"busy": True}
        try:
            current = self.history.current()
            due = ceil(self._store.wire.call("DBSIZE") * self._limits.interval_s / self._limits.pass_s)
            before = current.keys
            while current.keys - before < due:
                if self._step(current, repair=True):
                    self.history.finish(current)
                    self.history.forget_current()
                    return {"keys": current.keys - before, "finished": True, "found": current.found}
                self.history.save(current)
            return {"keys": current.keys - before, "finished": False, "found": current.found}
        finally:
            self._store.wire.run(_ABANDON, (keys.RECONCILE_LEASE,), (token,))

    def run(
        self, *, repair: bool = True, collections: Collection[str] = (), report: Report = lambda _: None
    ) -> Pass:
        """Make a whole pass now, beside the one under way.

        Args:
            repair: whether to put right what is found; else nothing is changed.
            collections: only entries of these; all by default, and what belongs to no collection too.
            report: is called with the pass after each slice.

        Raises:
            UnavailableError: a server does not answer.
        """
        one = Pass(started_ms=self._store.now_ms(), dry_run=not repair)
        while not self._step(one, repair=repair, collections=collections):
            report(one)
        report(one)
        self.history.finish(one)
        return one

    def _step(self, one: Pass, *, repair: bool, collections: Collection[str] = ()) -> bool:
        """One slice; whether it was the last."""
        if one.cursor == "0" and not one.keys and not collections:
            for partition in range(self._store.partitions):
                self._partitions.check(partition, one, repair=repair)
        cursor, found = self._store.wire.call("SCAN", one.cursor, "MATCH", "wb:{*}:*:*", "COUNT", SLICE)
        named: dict[str, list[str]] = defaultdict(list)
        for key in found:
            _, _, family, name = key.decode().split(":", 3)
            if not collections or name.partition("/")[0] in collections:
                named[family].append(name)
        self._compare(named["entry"], one, repair=repair)
        self._tokens(named, one, repair=repair)
        self._claims(named["aliasclaims"], one, repair=repair)
        one.keys += max(len(found), 1)
        one.cursor = cursor.decode()
        return one.cursor == "0"

    def _compare(self, members: Sequence[str], one: Pass, *, repair: bool) -> None:
        clean = self._entries.clean(members)
        suspects = self._entries.suspects(clean)
        if suspects:
            threading.Event().wait(GRACE_S)
            suspects = self._entries.again(suspects)
        one.checked += len(clean)
        one.equal += len(clean) - len(suspects)
        note(one, suspects, [repair and self._entries.repair(suspect) for suspect in suspects])

    def _tokens(self, named: dict[str, list[str]], one: Pass, *, repair: bool) -> None:
        for family in ("load", "aliasload"):
            for name in named[family]:
                key = f"wb:{{{self._store.partition_of(name)}}}:{family}:{name}"
                self._partitions.token(key, self._limits.load_timeout_ms, one, repair=repair)

    def _claims(self, names: Sequence[str], one: Pass, *, repair: bool) -> None:
        """Claims of documents that MongoDB has, or that are not there any more."""
        dangling = self._dangling(names)
        if dangling:  # a flush may be about to take them back
            threading.Event().wait(GRACE_S)
            dangling &= self._dangling([claim.name for claim in dangling])
        for claim in dangling:
            one.note(Drift.DANGLING_ALIAS, claim.name, repaired=repair and self._lookups.let_go(claim))

    def _dangling(self, names: Sequence[str]) -> set[Claim]:
        claims = self._lookups.claims(list(dict.fromkeys(names)))
        by_partition: dict[int, list[str]] = defaultdict(list)
        for member in {claim.member for claim in claims}:
            by_partition[self._store.partition_of(member)].append(member)
        unsettled = {
            member for partition, some in by_partition.items() for member in self._store.unsettled(partition, some)
        }
        return {claim for claim in claims if claim.member not in unsettled}
