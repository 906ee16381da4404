"""The summary of a flush."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

#: What the result of a task tells. The others may be many: they are not even copied.
_SHOWN: Final = (
    *("partition", "persisted", "deleted", "superseded", "buried", "batches", "operations"),
    *("hooks_failed", "busy"),
)


@dataclass(slots=True)
class FlushSummary:
    """Counts of one flush, in documents.

    `operations` counts write operations that were sent to MongoDB, repeated ones too, `in_vain` those after which
    nothing was settled, `batches` the batches of which any was sent, and `tried` all. `hooks_failed` counts calls
    of `after_persist` that raised something. Of those that were persisted or deleted `told` are known to others,
    since `told_at`, by a steady clock.
    """

    partition: int
    persisted: int = 0
    deleted: int = 0
    superseded: int = 0
    buried: int = 0
    batches: int = 0
    operations: int = 0
    in_vain: int = 0
    tried: int = 0
    hooks_failed: int = 0
    told: int = 0
    told_at: float = field(default_factory=time.monotonic, repr=False)
    busy: bool = False
    reached: dict[str, int] = field(default_factory=dict, repr=False)

    def has(self, member: str, version: int) -> bool:
        """Whether this flush brought the member to MongoDB, at this version or a newer one."""
        return self.reached.get(member, -1) >= version

    def sent(self, operations: int) -> None:
        """Count operations that were sent; in vain, until something is settled by them."""
        self.operations += operations
        self.in_vain += operations

    def news(self) -> int:
        """Documents that were persisted or deleted since this was asked the last time."""
        before, self.told, self.told_at = self.told, self.persisted + self.deleted, time.monotonic()
        return self.told - before

    def counts(self) -> dict[str, int]:
        """Counts by name, which the metrics add up; the others are counted where they happen."""
        return {"batches": self.batches, "operations": self.in_vain, "hooks_failed": self.hooks_failed}

    def outcomes(self) -> dict[str, int]:
        """Batches and outcomes of writes, by name, for a span."""
        names = ("persisted", "deleted", "superseded", "buried", "batches", "operations")
        return {name: getattr(self, name) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """For a task's result: what an operator wants to see."""
        return {name: getattr(self, name) for name in _SHOWN}
