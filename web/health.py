"""Routes for those who watch: does the process live, may traffic come, and the figures for Prometheus."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response, request

from writebehind import Pipeline
from writebehind.errors import ConfigurationError, MongoUnavailableError, RedisUnavailableError
from writebehind.flask.access import Access
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import TEXT, content, operation
from writebehind.flask.framing import check_path
from writebehind.flask.problems import log_refusal, name_request
from writebehind.flask.representations import JSON
from writebehind.monitoring.page import Page
from writebehind.operations.doctor import check_start
from writebehind.redis.reach import known, listed_away, told_away
from writebehind.redis.store import Store
from writebehind.silence import missing_and_awaited

_HEALTH = operation("get_health", "", {"200": content("Health")}, tag="operation")
_READINESS = operation(
    "get_readiness", "", {"200": content("Readiness"), "503": content("Readiness")}, tag="operation"
)
_METRICS = operation("get_metrics", "", {"200": TEXT}, tag="operation")
#: How long readiness waits for MongoDB, which it only reports on, seconds.
MONGODB_PATIENCE_S = 0.5
#: What only Redis knows, while it does not answer.
_UNKNOWN = {"workers": None, "silent_workers": None}
#: What is said of MongoDB while its breaker is not closed.
_BREAKS = "MongoDB has failed lately: /admin/status says why"


def health(pipeline: Pipeline, access: Access) -> Routes:
    """The routes, bound to a pipeline; `access` says who may see the figures."""
    routes = Routes("health", __name__)
    routes.before_request(lambda: check_path(request))
    routes.after_request(name_request)

    @routes.get("/healthz", operation=_HEALTH)
    def healthz() -> Response:
        """The process lives."""
        return _json({"status": "ok"})

    @routes.get("/readyz", operation=_READINESS)
    def readyz() -> Response:
        """Traffic may come here."""
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
        return _json(report, 200 if report["ready"] else 503)

    page = Page(pipeline)

    @routes.get("/metrics", operation=_METRICS)
    def metrics() -> Response:
        """Figures for Prometheus."""
        if not pipeline.settings.metrics_open:
            access.operate()
        text, content_type = page.render(request.headers.get("Accept", ""))
        return Response(text, content_type=content_type)

    return routes


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


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE), status, content_type=JSON)
