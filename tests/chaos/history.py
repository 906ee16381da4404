"""What clients were told, and what that says about MongoDB when all is quiet again."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from tests.chaos.linearizable import NOTHING, Operation, is_linearizable


@dataclass(frozen=True, slots=True)
class Violation:
    """Broken.

    `lost`, `stale`, `resurrected`, `miscounted`, `backwards`, `misled`, `inconsistent` or `not linearizable`.
    """

    kind: str
    key: str
    what: str


class History:
    """Collects what all clients of one run have done. Safe to share between threads."""

    def __init__(self) -> None:
        self.operations: dict[str, list[Operation]] = defaultdict(list)
        #: Key → acknowledged value, or `NOTHING` for a deletion → its version.
        self.versions: dict[str, dict[str | None, int]] = defaultdict(dict)
        #: Client and key → what it read, in its order.
        self.reads: dict[tuple[int, str], list[str | None]] = defaultdict(list)
        #: Key of a counter → results of its increments. Each was repeated until it was answered.
        self.counts: dict[str, list[int]] = defaultdict(list)
        self.answers: Counter[str] = Counter()
        self._misled: list[Violation] = []
        self._lock = threading.Lock()

    def note(self, outcome: str, key: str, operation: Operation, version: int | None = None) -> None:
        """One operation: `acknowledged`, `read`, `unknown`; and how it was answered."""
        with self._lock:
            self.answers[outcome] += 1
            self.operations[key].append(replace(operation, version=version or 0))
            if version is not None:
                known = self.versions[key]
                known[operation.value] = max(version, known.get(operation.value, 0))

    def refused(self) -> None:
        """An operation that certainly was not carried out."""
        with self._lock:
            self.answers["refused"] += 1

    def refused_in_peace(self, problem: str) -> None:
        """A read after all faults that was not answered yet, and why."""
        with self._lock:
            self.answers[f"{problem} in peace"] += 1

    def misled(self, value: str, what: str) -> None:
        """A read that found something else than what was acknowledged, or others have written."""
        with self._lock:
            self._misled.append(Violation("misled", value, what))

    def increment(self, key: str, result: int) -> None:
        """An increment by one, with its result."""
        with self._lock:
            self.answers["acknowledged"] += 1
            self.counts[key].append(result)

    def violations(
        self, documents: Mapping[str, Mapping[str, Any]], counters: Mapping[str, int], now: float
    ) -> list[Violation]:
        """Compare with what MongoDB has, when nothing is pending any more."""
        found = [one for key in self.operations for one in self._of_key(key, documents.get(key), now)]
        return [*found, *self._backwards(), *self._of_counters(counters), *self._misled]

    def _of_key(self, key: str, document: Mapping[str, Any] | None, now: float) -> Iterable[Violation]:
        versions = self.versions[key]
        last = max(versions, key=versions.__getitem__, default=NOTHING)
        latest = versions.get(last, 0)
        stored = document["_v"] if document else 0
        unanswered = {one.value for one in self.operations[key] if one.ended == inf}
        if document is None:
            if last is not NOTHING and NOTHING not in unanswered:
                yield Violation("lost", key, f"version {latest} was acknowledged, and there is no document")
        elif stored < latest:
            kind = "resurrected" if last is NOTHING else "stale"
            yield Violation(kind, key, f"version {latest} was acknowledged, and MongoDB has {stored}")
        elif stored == latest and document["v"] != last:
            yield Violation("stale", key, f"{last} was acknowledged as {latest}, and MongoDB has {document['v']}")
        final = Operation("read", now, now, document["v"] if document else NOTHING)
        if not is_linearizable([*self.operations[key], final]):
            yield Violation("not linearizable", key, "no order of its operations explains what was read")

    def _backwards(self) -> Iterable[Violation]:
        for (client, key), values in self.reads.items():
            known = self.versions[key]
            # Absence has no version of its own: there may have been several deletions.
            seen = [known[value] for value in values if value is not NOTHING and value in known]
            if seen != sorted(seen):
                yield Violation("backwards", key, f"client {client} read versions {seen}")

    def _of_counters(self, counters: Mapping[str, int]) -> Iterable[Violation]:
        for key, results in self.counts.items():
            stored, answered = counters.get(key, 0), len(results)
            if stored != answered:
                yield Violation("miscounted", key, f"it is {stored}, and {answered} increments were answered")
            if len(set(results)) < answered:
                yield Violation("miscounted", key, "two increments had the same result")
