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


def is_linearizable(history: Sequence[Operation], initial: str | None = NOTHING) -> bool:
    """Whether operations on one document, each at some moment between its begin and its end, explain all reads.

    Every value may be written once only. Writes with versions must come in the order of these.
    """
    operations = sorted(relevant(history), key=lambda one: one.began)
    required = sum(1 << at for at, one in enumerate(operations) if not one.optional)
    pending = [(0, initial)]
    seen = set(pending)
    while pending:
        done, state = pending.pop()
        if done & required == required:
            return True
        for at, one in _next(operations, done):
            possible, after = one.apply(state)
            configuration = (done | 1 << at, after)
            if possible and configuration not in seen:
                seen.add(configuration)
                pending.append(configuration)
    return False


def _next(operations: Sequence[Operation], done: int) -> Iterator[tuple[int, Operation]]:
    """What may come next: nothing before what had ended before it began, and no version before a smaller one."""
    left = [(at, one) for at, one in enumerate(operations) if not done >> at & 1]
    first_end = min(one.ended for _, one in left)
    first_version = min((one.version for _, one in left if one.version), default=0)
    for at, one in left:
        if one.began > first_end:
            return
        if not one.version or one.version == first_version:
            yield at, one


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
