"""Report of readiness. Whoever reaches the API may ask for it, so it is no work for the servers each time."""

from __future__ import annotations

import time
from typing import Any, Final

from writebehind import Pipeline, forks
from writebehind.deadline import endless
from writebehind.errors import ConfigurationError, MongoUnavailableError, RedisUnavailableError
from writebehind.flask.problems import log_refusal
from writebehind.operations.doctor import check_start
from writebehind.redis.reach import known, listed_away, told_away
from writebehind.redis.store import Store
from writebehind.silence import missing_and_awaited

#: For so long a report is given to all who ask, seconds.
KEPT_S: Final = 1.0
#: How long it waits for MongoDB, which it only reports on, seconds.
MONGODB_PATIENCE_S: Final = 0.5
#: What only Redis knows, while it does not answer.
_UNKNOWN: Final = {"workers": None, "silent_workers": None}
#: What is said of MongoDB while its breaker is not closed.
_BREAKS: Final = "MongoDB has failed lately: /admin/status says why"


class Readiness:
    """Readiness of a process. Safe to share between threads.

    One thread makes the report at a time; whoever asks meanwhile waits for it, and gets the same.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        """Report on a pipeline."""
        self._pipeline = pipeline
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Know nothing that the parent process has found."""
        self._made: dict[str, Any] = {}
        self._due = float("-inf")

    def report(self) -> dict[str, Any]:
        """The report of now, or one of the last second. In a request."""
        with self._lock:
            if time.monotonic() >= self._due:
                with endless():  # others get it too: nobody's own deadline is to cut it off
                    self._made = self._make()
                self._due = time.monotonic() + KEPT_S
            return self._made

    def _make(self) -> dict[str, Any]:
        pipeline = self._pipeline
        report: dict[str, Any] = {"ready": True, "redis": "ok", "mongodb": "ok", **_UNKNOWN}
        try:
            check_start(pipeline)  # again, as Redis may have been away then, or be configured differently by now
            report |= _redis(pipeline.store)
            breaker = known(pipeline.store, pipeline.breaker.state, None)
            report["mongodb"] = _BREAKS if breaker and breaker.reason else _mongodb(pipeline)
        except ConfigurationError as error:
            report |= {"ready": False, "redis": str(error), "mongodb": _mongodb(pipeline)}
        except RedisUnavailableError as error:
            log_refusal("not-ready", str(error), logged=error.logged)
            report |= {"ready": False, "redis": error.public, "mongodb": _mongodb(pipeline)}
        return report


def _redis(store: Store) -> dict[str, Any]:
    """The servers of Redis that are away while others are not, and the workers, as far as the others know."""
    away, crew = store.away(), known(store, store.workers.look, None)
    outage = known(store, lambda: store.attendance.look(store.now_ms()).outage, None)
    return {
        "redis": told_away(away) or "ok",
        "away": listed_away(away),
        "workers": len(crew.alive) if crew else None,
        "silent_workers": len(missing_and_awaited(crew.silent, outage)[0]) if crew else None,
    }


def _mongodb(pipeline: Pipeline) -> str:
    """MongoDB's health; not asked while the breaker is open, as load balancers come often."""
    try:
        pipeline.sink.ping(timeout_s=MONGODB_PATIENCE_S)
    except MongoUnavailableError as error:
        return error.public
    return "ok"
