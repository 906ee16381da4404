"""A process that uses MongoDB behind the breaker."""

from __future__ import annotations

from tests.waiting import wait_until
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb.breaker import FAILURES, MongoBreaker
from writebehind.redis.keys import BREAKER
from writebehind.redis.shared.breaker import SharedBreaker

DOWN = MongoUnavailableError("it is down", outage=True)


class Process:
    """A process that uses MongoDB behind the breaker, and whether it was let through."""

    def __init__(self, wire, probe_ms: int = 60_000) -> None:
        self.breaker = MongoBreaker(SharedBreaker(wire), probe_ms=probe_ms)
        self.asked = 0

    def use(self, error: MongoUnavailableError | None = None) -> bool:
        """Whether it succeeded."""
        try:
            with self.breaker.guard():
                self.asked += 1
                if error:
                    raise error
        except MongoUnavailableError:
            return False
        return True

    def fail(self, times: int = FAILURES) -> None:
        for _ in range(times):
            self.use(MongoUnavailableError("it is down", outage=True))

    def fail_as_probe(self) -> float | None:
        """Fail as soon as it is let through; for how long MongoDB is left alone then, seconds."""
        asked, error = self.asked, MongoUnavailableError("it is down", outage=True)
        wait_until(lambda: self.use(error) or self.asked > asked, "the right to find out")
        return error.retry_after_s

    def let_interval_end(self) -> None:
        """Do what time does: nobody waits any longer before MongoDB is asked."""
        self.breaker._shared._wire.call("HSET", BREAKER, "until", 0)
        self.breaker._open_until = 0.0
