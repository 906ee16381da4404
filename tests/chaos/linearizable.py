"""Is a history of one document explained by some order of its operations?

The algorithm of J. Wing and C. Gong, "Testing and Verifying Concurrent Objects", 1993, with the memory of
configurations that G. Lowe added in "Testing for Linearizability", 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

#: What a document that does not exist reads as.
NOTHING = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on a document, from the moment it was sent to the moment it was answered.

    Attributes:
        kind: `write` of `value`, where `NOTHING` is a deletion; `read` that found `value`; `swap` of `expected`
            for `value`.
        ended: `inf` where no answer came: it may happen at any time from `began` on, or never.
        version: that it was acknowledged with; 0 where there is none.
    """

    kind: str
    began: float
    ended: float
    value: str | None
    expected: str | None = None
    version: int = 0

    @property
    def optional(self) -> bool:
        """Whether it may not have happened at all."""
        return self.ended == inf

    def apply(self, state: str | None) -> tuple[bool, str | None]:
        """Whether it may happen in a state, and the state after it."""
        if self.kind == "write":
            return True, self.value
        if self.kind == "read":
            return state == self.value, state
        return state == self.expected, self.value


#: How many of the deletions that may have happened have been used, and the state of the document.
Configuration = tuple[int, str | None]


def is_linearizable(history: Sequence[Operation], initial: str | None = NOTHING) -> bool:
    """Whether operations on one document, each at some moment between its begin and its end, explain all reads.

    Every value may be written once only. Writes with versions must come in the order of these.
    """
    operations = relevant(history)
    deletions = sorted(one.began for one in operations if one.optional)
    configurations: set[Configuration] = {(0, initial)}
    latest = 0
    for part in parts([one for one in operations if not one.optional]):
        versions = [one.version for one in part if one.version]
        if versions and min(versions) < latest:
            return False
        latest = max(versions, default=latest)
        configurations = after(part, deletions, configurations)
        if not configurations:
            return False
    return True


def parts(operations: Sequence[Operation]) -> Iterator[list[Operation]]:
    """Operations divided where none is under way: what comes in one part comes before all of the next."""
    part: list[Operation] = []
    end = -inf
    for one in sorted(operations, key=lambda one: one.began):
        if part and one.began > end:
            yield part
            part = []
        part.append(one)
        end = max(end, one.ended)
    if part:
        yield part


def after(
    part: Sequence[Operation], deletions: Sequence[float], configurations: set[Configuration]
) -> set[Configuration]:
    """Every configuration that some order of a part leads to.

    Args:
        part: operations that must all happen.
        deletions: when those began that may have happened at any time since, or never. Of those that have begun
            one is as good as the other: the first is used first, and none before absence is to be explained.
        configurations: from where to begin.
    """
    everything = (1 << len(part)) - 1
    pending = [(0, *one) for one in configurations]
    seen = set(pending)
    ends: set[Configuration] = set()
    while pending:
        done, used, state = pending.pop()
        if done == everything:
            ends.add((used, state))
            continue
        left = [(at, one) for at, one in enumerate(part) if not done >> at & 1]
        # Nothing may come before what had ended before it began, and no version before a smaller one.
        first_end = min(one.ended for _, one in left)
        first_version = min((one.version for _, one in left if one.version), default=0)
        steps = []
        for at, one in left:
            if one.began <= first_end and (not one.version or one.version == first_version):
                possible, then = one.apply(state)
                if possible:
                    steps.append((done | 1 << at, used, then))
                elif one.value is NOTHING and used < len(deletions) and deletions[used] <= first_end:
                    steps.append((done, used + 1, NOTHING))
        for step in steps:
            if step not in seen:
                seen.add(step)
                pending.append(step)
    return ends


def relevant(history: Sequence[Operation]) -> list[Operation]:
    """What is unknown to have happened, made as certain as the history makes it.

    What somebody has seen has happened before that was answered. What nobody has seen explains nothing, unless it
    is a deletion, as absence does not say whose it is.
    """
    seen: dict[str | None, float] = {}
    for one in history:
        value = one.value if one.kind == "read" else one.expected if one.kind == "swap" else NOTHING
        if value is not NOTHING and not (one.kind == "swap" and one.optional):
            seen[value] = min(one.ended, seen.get(value, inf))
    certain = [
        replace(one, ended=seen[one.value]) if one.optional and one.value in seen else one for one in history
    ]
    return [one for one in certain if not one.optional or one.value is NOTHING]
