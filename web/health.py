"""Routes for those who watch: does the process live, may traffic come, and the figures for Prometheus."""

from __future__ import annotations

from flask import Response, request

from web.readiness import Readiness
from writebehind import Pipeline
from writebehind.flask.access import Access
from writebehind.flask.answers import as_json
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import TEXT, content, operation
from writebehind.flask.framing import check_path
from writebehind.flask.problems import name_request
from writebehind.monitoring.page import Page

_HEALTH = operation("get_health", "", {"200": content("Health")}, tag="operation")
_READINESS = operation(
    "get_readiness", "", {"200": content("Readiness"), "503": content("Readiness")}, tag="operation"
)
_METRICS = operation("get_metrics", "", {"200": TEXT}, tag="operation")


def health(pipeline: Pipeline, access: Access) -> Routes:
    """The routes, bound to a pipeline; `access` says who may see the figures."""
    routes = Routes("health", __name__)
    routes.before_request(lambda: check_path(request))
    routes.after_request(name_request)
    page, readiness = Page(pipeline), Readiness(pipeline)

    @routes.get("/healthz", operation=_HEALTH)
    def healthz() -> Response:
        """The process lives."""
        return as_json({"status": "ok"})

    @routes.get("/readyz", operation=_READINESS)
    def readyz() -> Response:
        """Traffic may come here."""
        report = readiness.report()
        return as_json(report, 200 if report["ready"] else 503)

    @routes.get("/metrics", operation=_METRICS)
    def metrics() -> Response:
        """Figures for Prometheus."""
        if not pipeline.settings.metrics_open:
            access.operate()
        text, content_type = page.render(request.headers.get("Accept", ""))
        return Response(text, content_type=content_type)

    return routes
