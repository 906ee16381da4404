"""Report of readiness. Whoever reaches the API may ask for it, so it is no work for the servers each time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from writebehind import Pipeline, forks
from writebehind.deadline import endless
from writebehind.errors import (
    ConfigurationError,
    MongoUnavailableError,
    RedisUnavailableError,
)
from writebehind.flask.problems import log_refusal
from writebehind.operations.doctor import check_start
from writebehind.redis.reach import Standing, known, listed_away, told_away
from writebehind.redis.refusals import not_ready
from writebehind.redis.store import Store
from writebehind.remedies import told_refusing
from writebehind.silence import missing_and_awaited

#: For so long a report is given to all who ask, seconds.
KEPT_S: Final = 1.0
#: How long it waits for MongoDB, which it only reports on, seconds.
MONGODB_PATIENCE_S: Final = 0.5
#: What only Redis knows, while it does not answer.
_UNKNOWN: Final = {"workers": None, "silent_workers": None}
#: The code of the words of a Redis that is full: it serves readers, and workers may persist what it has.
_FULL: Final = "OOM"
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
    """Servers of Redis that are away or refuse writes while others do not, and workers as far as others know.

    Raises:
        RedisNotReadyError: none takes what is written, for another reason than that it is full.
    """
    standing, crew = store.standing(), known(store, store.workers.look, None)
    if standing.refuses and not standing.refuses.startswith(_FULL):
        raise not_ready(standing.refuses)
    outage = known(store, lambda: store.attendance.look(store.now_ms()).outage, None)
    if not known(store, store.workers.servers, set[str]()).isdisjoint(standing.refusing):
        crew = None  # nobody can note that it is at work
    away, refusing = (_listed(one, store) for one in (standing.away, standing.refusing))
    return {
        "redis": _told(standing, away, refusing, store) or "ok",
        "away": away,
        "refusing": refusing,
        "workers": len(crew.alive) if crew else None,
        "silent_workers": len(missing_and_awaited(crew.silent, outage)[0]) if crew else None,
    }


def _listed(servers: Mapping[str, Sequence[int]], store: Store) -> list[dict[str, Any]]:
    """Servers with their partitions; nodes of a cluster without a name, as these have only addresses."""
    return [one if store.names else one | {"server": None} for one in listed_away(servers)]


def _told(
    standing: Standing, away: Sequence[Mapping[str, Any]], refusing: Sequence[Mapping[str, Any]], store: Store
) -> str:
    """The same in words; '' where all servers answer and take what is written."""
    lost = standing.away if store.names else {"": [at for one in away for at in one["partitions"]]}
    part = told_refusing(refusing, store.partitions)
    refused = f"Redis refuses whatever is written{f' to {part}' if part else ''}"
    return "; ".join(filter(None, (told_away(lost) if away else "", refused if part or standing.refuses else "")))


def _mongodb(pipeline: Pipeline) -> str:
    """MongoDB's health; not asked while the breaker is open, as load balancers come often."""
    try:
        pipeline.sink.ping(timeout_s=MONGODB_PATIENCE_S)
    except MongoUnavailableError as error:
        return error.public
    return "ok"
