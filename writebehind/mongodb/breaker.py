"""Circuit breakers: an outage costs one probe per interval, and not every caller's wait.

After M. Nygard, "Release It!" (2007). MongoDB's breaker is one for all processes and stands in Redis: what one
flusher has found out, the others need not find out again. Redis's own is in `writebehind.redis.wire`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

from writebehind.errors import (
    MongoBusyError,
    MongoRefusesError,
    MongoUnavailableError,
    PipelineClosedError,
    Reason,
    RedisUnavailableError,
)
from writebehind.mongodb.breaker_log import BreakerLog
from writebehind.mongodb.lookout import Life, Lookout
from writebehind.redis.shared.breaker import SharedBreaker
from writebehind.times import unasked

#: So many failures within so many ms open it. One time-out may be bad luck; each has lasted for seconds already.
FAILURES, WINDOW_MS = 3, 20_000
#: Between two probes, ms: doubled with each one that fails. The longest bounds how late recovery is noticed.
FIRST_INTERVAL_MS, LONGEST_INTERVAL_MS = 1_000, 5_000
#: A process that has no reason for doubt looks at the shared state this often, seconds, when it needs MongoDB.
LOOK_EVERY_S = 1.0
_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class BreakerState:
    """The breaker as operators see it; `since` in seconds since the epoch, `retry_after_s` in seconds."""

    state: str = "closed"
    reason: str = ""
    since: float | None = None
    retry_after_s: float = 0.0


class MongoBreaker:
    """The breaker before MongoDB, shared through Redis. Safe to share between threads."""

    def __init__(self, shared: SharedBreaker, *, probe_ms: int) -> None:
        """Share a state; `probe_ms` is the most that one operation takes."""
        self._shared = shared
        self._probe_ms = probe_ms
        #: Whether this process has seen MongoDB fail since it last saw it serve.
        self._doubtful = False
        self._open_until = self._looked = 0.0
        self._reason = ""
        self._log = BreakerLog()
        self._life: Life | None = None
        self._lookout: Lookout | None = None

    def look_at(self, life: Life) -> None:
        """Open as well when MongoDB gives no sign of this life, while somebody waits for it."""
        self._life = life
        self._lookout = Lookout(life, gone=self._gone, find_out=self._find_out)

    def waits(self) -> AbstractContextManager[None]:
        """Around a use of MongoDB that nothing guards, so that this notices when MongoDB gives no sign of life."""
        return self._lookout.waits() if self._lookout else nullcontext()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around each use of MongoDB, which raises `MongoUnavailableError` when it fails.

        Raises:
            MongoUnavailableError: the breaker is open; MongoDB was not asked.
        """
        probing = self._enter()
        try:
            with self.waits():
                yield
        except MongoUnavailableError as error:
            if error.outage:
                error.retry_after_s = self._failed(str(error), probing=probing)
            elif probing and not isinstance(error, MongoBusyError | PipelineClosedError):
                self._close()  # it has answered, if only to this operation's disadvantage
            self._count(error)
            raise
        if probing or self._doubtful:
            self._close()

    def state(self) -> BreakerState:
        """The shared state.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        noted = self._shared.noted()
        if noted is None:
            return BreakerState()
        left_s = (noted.until_ms or 0) / 1000 - self._shared.now_s()
        left_s = min(left_s, max(LONGEST_INTERVAL_MS, self._probe_ms) / 1000)  # the clock may have been set back
        since = None if noted.since_ms is None else noted.since_ms / 1000
        return BreakerState(noted.state, noted.reason, since, max(0.0, left_s))

    def _enter(self) -> bool:
        """Whether the caller is the one who finds out."""
        now = time.monotonic()
        if now < self._open_until:
            self._log.seen_open()
            raise self._refusal(self._open_until - now)
        if not self._doubtful and now - self._looked < LOOK_EVERY_S:
            return False
        try:
            verdict = self._shared.ask(probe_ms=self._probe_ms, longest_ms=LONGEST_INTERVAL_MS)
        except RedisUnavailableError:  # then each process finds out for itself
            return False
        if verdict.is_open:
            left_s, self._reason = verdict.left_ms / 1000, verdict.reason
            if verdict.silent:
                left_s = min(left_s, FIRST_INTERVAL_MS / 1000)  # its end is noticed sooner
                if self._lookout:
                    self._lookout.await_recovery()
            # Whoever finds out may have done so long before the time is over.
            self._open_until, self._looked = now + min(left_s, LOOK_EVERY_S), 0.0
            self._log.opened(self._reason)
            raise self._refusal(left_s)
        self._looked = now
        if not verdict.probing:
            self._log.closed()
            return False
        self._log.half_opened()
        return True

    def _refusal(self, left_s: float) -> MongoUnavailableError:
        error = MongoUnavailableError(
            f"MongoDB has failed lately{unasked(left_s)}",
            inner=self._reason,
            retry_after_s=left_s,
            reason=Reason.BREAKER_OPEN,
        )
        self._count(error)
        return error

    def _count(self, error: MongoUnavailableError) -> None:
        """Count a call that fails by the outage, if the log has one; then its own error need not be logged."""
        if not isinstance(error, MongoRefusesError | PipelineClosedError):
            self._log.fails()
            error.logged = self._log.is_told()

    def _gone(self, reason: str) -> None:
        """Open, as there is no sign of life."""
        self._failed(f"MongoDB gives no sign of life: {reason}", probing=False, silent=True)
        if self._lookout:
            self._lookout.await_recovery()

    def _find_out(self) -> float | None:
        """See whether MongoDB gives a sign of life again; the time until the next call, seconds.

        `None` where it does, or where finding out is for others.
        """
        try:
            verdict = self._shared.ask(probe_ms=self._probe_ms, longest_ms=LONGEST_INTERVAL_MS, for_a_sign=True)
        except RedisUnavailableError:  # then each process finds out for itself
            return None
        if verdict.is_open:
            self._log.seen_open()
            # Whoever finds out may have done so long before the time is over.
            return min(verdict.left_ms / 1000, LOOK_EVERY_S) if verdict.silent else None
        if not verdict.probing:
            self._doubtful, self._open_until = False, 0.0
            self._log.closed()
            return None
        try:
            if self._life:
                self._life.ping(timeout_s=self._probe_ms / 1000)
        except PipelineClosedError:
            return None
        except MongoUnavailableError as error:
            if error.outage or isinstance(error, MongoBusyError):
                return self._failed(str(error), probing=True, silent=True)
        self._close()
        return None

    def _failed(self, reason: str, *, probing: bool, silent: bool = False) -> float | None:
        """The time for which to leave MongoDB alone, seconds; `None` while the breaker is closed."""
        self._doubtful, self._reason = True, reason[:_REASON_CHARACTERS]
        left_ms = FIRST_INTERVAL_MS
        with suppress(RedisUnavailableError):
            left_ms = self._shared.record_failure(
                self._reason,
                probing=probing,
                failures=FAILURES,
                window_ms=WINDOW_MS,
                first_ms=FIRST_INTERVAL_MS,
                longest_ms=LONGEST_INTERVAL_MS,
                silent=silent,
            )
        self._open_until = time.monotonic() + left_ms / 1000
        if left_ms:
            self._log.opened(self._reason)
        return left_ms / 1000 or None

    def _close(self) -> None:
        with suppress(RedisUnavailableError):  # it stays doubtful, and the next success tries again
            self._shared.close()
            self._doubtful = False
            self._open_until = 0.0
            self._log.closed()
