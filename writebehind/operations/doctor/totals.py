"""The totals of writes in Redis: whether other hands have changed them."""

from __future__ import annotations

from collections.abc import Iterator

from writebehind.operations.doctor.findings import Finding, ok, warning
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.redis.shared.metrics import Metrics
from writebehind.redis.shared.totals import came, left

_ADVICE = (
    "other hands have changed or taken out counts in wb:{…}:counts: see who else writes to this Redis. "
    "Totals since the first start stay off by so many; rates, and figures of what waits, are right"
)


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Whether what has become of writes adds up.

    Raises:
        RedisUnavailableError: nothing is known of it.
    """
    yield totals(pipeline.store.metrics)


def totals(metrics: Metrics) -> Finding:
    """Acknowledged writes, and what has become of them: steps count both at one moment.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    before = metrics.totals()
    if before.missing:
        found = "not compared, as a server of Redis does not answer"
        return warning("totals", found, "look again when it does")
    pending = sum(one.pending for one in metrics.backlog())
    after = metrics.totals()
    # Between the two looks, writes have come and have left.
    least, most = came(before) - left(after) - pending, came(after) - left(before) - pending
    if least <= 0 <= most:
        return ok("totals", "all that was acknowledged waits, or what became of it is counted")
    off = min(abs(least), abs(most))
    found = f"what was acknowledged and what has become of it differ by {counted(off, 'write')}"
    return warning("totals", found, _ADVICE)
