"""The tasks: a message in, one call of the core, retry or acknowledge.

Each passes over arguments that it does not know: in an upgrade, messages of a newer release reach this one.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from celery import Celery, Task
from celery.exceptions import Reject

from writebehind.celery.delays import headers
from writebehind.celery.messages import STRATEGY
from writebehind.celery.names import (
    DECAY,
    FLUSH,
    FLUSH_QUEUE,
    MAINTENANCE_QUEUE,
    PING,
    RECONCILE,
    REFRESH,
    REFRESH_QUEUE,
    SWEEP,
    WARM,
)
from writebehind.celery.runtime import Runtime
from writebehind.errors import MongoUnavailableError, RedisUnavailableError, UnavailableError, told
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.logs.events import OTHER_HANDS
from writebehind.logs.quoting import quoted
from writebehind.redis.cache import Refresh
from writebehind.redis.keys import MOST_PARTITIONS
from writebehind.redis.reach import is_away

log = logging.getLogger(__name__)

#: Options of these tasks in every application, whatever its own tasks are like.
_OPTIONS: Final[dict[str, Any]] = {
    "base": Task,
    "Strategy": STRATEGY,
    "shared": False,
    # A message is a hint: what is pending stands in Redis, and the sweep reissues what is lost.
    "ignore_result": True,
    "acks_late": True,
    "reject_on_worker_lost": False,
    "serializer": "json",
    "rate_limit": 0,
    # A server that is away is one line for each task, and no traceback.
    "throws": (UnavailableError,),
}


def register(app: Celery, runtime: Runtime) -> None:
    """Add all tasks to an application."""
    _register_flush(app, runtime)
    _register_refresh(app, runtime)
    _register_maintenance(app, runtime)
    _register_ping(app)


def _register_flush(app: Celery, runtime: Runtime) -> None:
    @app.task(name=FLUSH, queue=FLUSH_QUEUE, bind=True, max_retries=None, **_OPTIONS)  # type: ignore[untyped-decorator]
    def flush(task: Task, partition: int, ticket: str = "", *_: Any, **__: Any) -> dict[str, Any]:
        """Flush one partition. Retried without limit while MongoDB takes no writes; nothing is ever dropped."""
        if not _is_of_ours(partition, ticket):
            said = "other hands sent a flush of partition %.50r, ticket %.50r"
            log.error(said, partition, ticket, extra=OTHER_HANDS)
            return {}
        try:
            return runtime.pipeline.flusher.flush(
                partition,
                ticket=ticket,
                attempt=task.request.retries,
            ).as_dict()
        except FlushInterruptedError as error:
            if error.hint is None:  # another flusher has the partition by now
                return {"partition": partition, "interrupted": str(error)}
            again = {"args": (partition, error.hint.ticket), "headers": headers(error.hint.delay_ms)}
            try:
                raise task.retry(**again, countdown=0, exc=error) from error
            except Reject as rejected:  # the broker is away too, and fails with errors of many kinds
                runtime.lost_hints.note(partition)
                runtime.note_broker(
                    f"partition {partition} is left to the sweep: {told(rejected.reason)}", rejected.reason
                )
                return {"partition": partition, "interrupted": str(error)}
        except RedisUnavailableError as error:
            if is_away(error):
                runtime.lost_hints.note(partition)
            raise


def _is_of_ours(partition: object, ticket: object) -> bool:
    """Whether these can be arguments of a flush."""
    return type(partition) is int and 0 <= partition < MOST_PARTITIONS and _is_text(ticket)


def _is_text(value: object) -> bool:
    """Whether it is a text that can be sent to Redis."""
    # JSON can say halves of characters.
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def _register_refresh(app: Celery, runtime: Runtime) -> None:
    @app.task(name=REFRESH, queue=REFRESH_QUEUE, **_OPTIONS)  # type: ignore[untyped-decorator]
    def refresh(member: str, token: str, seen: str, *_: Any, **__: Any) -> None:
        """Read one document anew. Not retried: the next reader asks again."""
        pipeline = runtime.pipeline
        if not all(map(_is_text, (member, token, seen))):
            log.error("other hands sent a refresh of %.50r", member, extra=OTHER_HANDS)
            return
        try:
            # Else it is too late: somebody else has the right, or nobody.
            if pipeline.store.loads.may_fill(member, token):
                pipeline.revalidation.refresh(Refresh(member, token, seen))
        except UnavailableError as error:
            log.debug("%s not refreshed: %s", quoted(member), error)


def _register_maintenance(app: Celery, runtime: Runtime) -> None:
    @app.task(name=SWEEP, queue=MAINTENANCE_QUEUE, **_OPTIONS)  # type: ignore[untyped-decorator]
    def sweep(*_: Any, **__: Any) -> dict[str, int]:
        """Find what was left behind: partitions that nobody flushes, deletions that a late flusher undid."""
        swept = runtime.pipeline.maintenance.sweep()
        try:
            return swept | runtime.pipeline.maintenance.audit_deletions()
        except MongoUnavailableError as error:  # the next sweep audits
            runtime.note("audits", f"deletions not audited: {error}", error)
            return swept

    @app.task(name=RECONCILE, queue=MAINTENANCE_QUEUE, **_OPTIONS)  # type: ignore[untyped-decorator]
    def reconcile(*_: Any, **__: Any) -> dict[str, Any]:
        """Compare a slice of the cache with MongoDB. Not retried: the next one goes on where this ended."""
        try:
            return runtime.pipeline.maintenance.reconcile()
        except MongoUnavailableError as error:
            runtime.note("reconciling", f"not reconciled: {error}", error)
            return {"error": str(error)}

    @app.task(name=DECAY, queue=MAINTENANCE_QUEUE, **_OPTIONS)  # type: ignore[untyped-decorator]
    def decay(*_: Any, **__: Any) -> dict[str, int]:
        """Let hot keys cool down by what is due."""
        return runtime.pipeline.maintenance.decay()

    @app.task(name=WARM, queue=MAINTENANCE_QUEUE, **_OPTIONS)  # type: ignore[untyped-decorator]
    def warm(*_: Any, **__: Any) -> dict[str, Any]:
        """Make one pass, if nobody else does."""
        return runtime.pipeline.maintenance.warm()


def _register_ping(app: Celery) -> None:
    @app.task(name=PING, **_OPTIONS)  # type: ignore[untyped-decorator]
    def ping(*_: Any, **__: Any) -> None:
        """Do nothing: that the pool has begun it proves that this worker works."""
