"""The API as a blueprint, for an application to mount."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from flask import Blueprint, Request, Response, current_app, request
from flask.sansio.blueprints import BlueprintSetupState
from opentelemetry import trace
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing.exceptions import RoutingException

from writebehind import Pipeline
from writebehind.access.gate import SAFE
from writebehind.access.rights import Right
from writebehind.flask import tracing
from writebehind.flask.access import Access, hide_from_writers
from writebehind.flask.addresses import NAME, add_converter
from writebehind.flask.admin.changes import log_change
from writebehind.flask.admin.conflicts import conflicts
from writebehind.flask.admin.dead_letters import dead_letters
from writebehind.flask.admin.drift import drift
from writebehind.flask.admin.explorer import explorer
from writebehind.flask.admin.history import history
from writebehind.flask.admin.hot_keys import hot_keys
from writebehind.flask.admin.keys import keys
from writebehind.flask.admin.pausing import pausing
from writebehind.flask.admin.status import status
from writebehind.flask.console.routes import console
from writebehind.flask.declarations import Declared, Routes, described
from writebehind.flask.description.routes import description
from writebehind.flask.framing import check_method, check_path, collect
from writebehind.flask.guard import Guard
from writebehind.flask.pages import keep_out_of_caches, refuse_others
from writebehind.flask.problems import answers_with_problems, name_request, register_problems, respond_http
from writebehind.flask.routes.batches import batches
from writebehind.flask.routes.changes import changes
from writebehind.flask.routes.documents import documents
from writebehind.flask.routes.queries import queries
from writebehind.flask.routes.reading import reading
from writebehind.flask.routes.receipts import receipts

#: The end of the names of routes that read, whatever their method.
READING = ".batches.get"


def api(
    pipeline: Pipeline,
    *,
    name: str = NAME,
    admin: Guard | None = None,
    access: Access | None = None,
    origins: Collection[str] = (),
    paths: Mapping[str, Any] | None = None,
) -> Blueprint:
    """The routes of the HTTP API, for `register_blueprint` with any `url_prefix`.

    Who may use them is for the application to say: `before_request` of the blueprint.

    Args:
        pipeline: what they read from and write to.
        name: of the blueprint.
        admin: guards the routes for operators, `/admin/…`, and the page that shows them, `/console`, which there
            are with it only.
        access: says whose requests may read and write which documents; without it, `before_request` does alone.
        origins: pages of these may write documents through it, such as `https://app.example.com`, besides those of
            its own origin. It has no CORS headers of its own.
        paths: what the application answers besides and the OpenAPI description is to have, by path.
    """
    routes = Blueprint(name, __name__)
    routes.record(add_converter)
    routes.record(_answer_what_has_no_route)
    register_problems(routes)
    routes.after_request(name_request)
    routes.teardown_request(tracing.end)

    @routes.before_request
    def admit() -> Response | None:
        """Trace the request, refuse what no route should be asked for, and answer OPTIONS."""
        now: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - once for all
        check_path(now)
        if trace._TRACER_PROVIDER is not None:  # noqa: SLF001 - `is_on` would be one call more
            tracing.begin(now)  # first of all, so that what follows is within the span
        environ = now.environ
        check_method(environ)
        refuse_others(environ, origins)
        if not environ["PATH_INFO"].isascii():
            _refuse_wrong_names()
        return _options() if environ["REQUEST_METHOD"] == "OPTIONS" else None

    most_bytes = max(pipeline.settings.max_bulk_bytes, pipeline.settings.max_document_bytes)
    declared = _add(routes, receipts(pipeline, access), most_bytes)
    for part in (reading, queries, documents, changes, batches):
        of_documents = part(pipeline)
        if access is not None:
            of_documents.before_request(lambda: _admit(access))
            of_documents.after_request(hide_from_writers)
        declared += _add(routes, of_documents, most_bytes)
    if admin is not None:
        operators = Routes("admin", __name__, url_prefix="/admin")
        operators.before_request(lambda: refuse_others(request.environ, ()))
        operators.before_request(admin)
        operators.after_request(keep_out_of_caches)
        operators.after_request(log_change)
        for part in (status, dead_letters, conflicts, drift, hot_keys, history, explorer, keys, pausing):
            declared += _add(operators, part(pipeline), most_bytes)
        routes.register_blueprint(operators)
        routes.register_blueprint(console(admin, None if access is None else pipeline.login))
    every = described(declared) | dict(paths or {})
    routes.register_blueprint(description(pipeline.settings, paths=every, keys=access is not None))
    return routes


def _add(routes: Blueprint, part: Routes, most_bytes: int) -> list[Declared]:
    """Add a part of the routes; what is declared of them.

    Bodies are read once the application has let a request through.
    """
    part.before_request(lambda: collect(request, most_bytes))
    routes.register_blueprint(part)
    return part.below(routes.url_prefix or "")


def _admit(access: Access) -> None:
    """Let a request through that may do what its route is for."""
    now: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - once for all
    reads = now.environ["REQUEST_METHOD"] in SAFE or (now.endpoint or "").endswith(READING)
    environ, collection = now.environ, (now.view_args or {}).get("collection")
    access.admit(Right.READ if reads else Right.WRITE, collection, environ)
    if not reads and environ.get("HTTP_IF_MATCH", "*").strip(" \t") != "*":  # it tells whether a document is so
        access.admit(Right.READ, collection, environ)


def _refuse_wrong_names() -> None:
    """Let what is not UTF-8 in a path be no name and no id: of two such paths one would be taken for the other."""
    try:
        request.environ["PATH_INFO"].encode("latin-1").decode()
    except UnicodeDecodeError:
        names = request.view_args or {}
        for one, value in names.items():
            # So says Werkzeug of anything that is not UTF-8; no name has a surrogate.
            names[one] = value.replace("\ufffd", "\udcff")


def _options() -> Response:
    """The methods of the path that is meant: `…:increment` could be the end of an id as well."""
    meant = request.url_rule
    rules = [one for one in current_app.url_map.iter_rules() if meant is not None and one.rule == meant.rule]
    response = Response()
    del response.headers["Content-Type"]  # there is nothing that could have one
    response.allow.update(method for one in rules for method in one.methods or ())
    return response


def _answer_what_has_no_route(state: BlueprintSetupState) -> None:
    """Answer wrong paths and methods below the API's prefix with problems, which no blueprint can by itself."""
    one_host = state.subdomain is None and not state.app.url_map.host_matching
    if one_host and not answers_with_problems(state.app):
        below = f"{(state.url_prefix or '').rstrip('/')}/v1/"
        name = f"{state.name_prefix}.{state.name}".lstrip(".")
        state.app.before_request(partial(_problem_below, below, name))


def _problem_below(path: str, name: str) -> Response | None:
    error = request.routing_exception
    if error is None or isinstance(error, RoutingException) or not request.path.startswith(path):
        return None
    if "//" in request.path[len(path) - 1 :]:  # Werkzeug has looked for it as one slash, too
        error = NotFound()
    return respond_http(error, name) if isinstance(error, HTTPException) else None
