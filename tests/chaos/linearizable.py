"""Is a history of one document explained by some order of its operations?

The algorithm of J. Wing and C. Gong, "Testing and Verifying Concurrent Objects", 1993, with the memory of
configurations that G. Lowe added in "Testing for Linearizability", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """

    kind: str
    began: float
    ended: float
    value: str | None
    expected: str | None = None

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

    Every value may be written once only.
    """
    operations = sorted(relevant(history), key=lambda one: one.began)
    required = sum(1 << at for at, one in enumerate(operations) if not one.optional)
    pending = [(0, initial)]
    seen = set(pending)
    while pending:
        done, state = pending.pop()
        if done & required == required:
            return True
        # Nothing may come before what had ended before it began.
        first_end = min(one.ended for at, one in enumerate(operations) if not done >> at & 1)
        for at, one in enumerate(operations):
            if one.began > first_end:
                break
            if not done >> at & 1:
                possible, after = one.apply(state)
                configuration = (done | 1 << at, after)
                if possible and configuration not in seen:
                    seen.add(configuration)
                    pending.append(configuration)
    return False


def relevant(history: Sequence[Operation]) -> list[Operation]:
    """Without writes that may not have happened and that nobody has seen: they explain nothing."""
    known = {one.value for one in history if one.kind == "read"} | {one.expected for one in history}
    return [one for one in history if not one.optional or one.value is NOTHING or one.value in known]
