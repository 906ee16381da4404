"""The Flask application factory: the composition root of the web process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

from flask import Flask, Request, request_tearing_down
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.exceptions import Forbidden
from werkzeug.routing import MapAdapter

from web import health, root
from web.cors import share
from web.hot_path import HotPath
from web.origins import MisdirectedRequest
from web.origins import check as check_origin
from writebehind import Pipeline, load_settings
from writebehind.access.gate import Gate
from writebehind.celery import FlushPublisher
from writebehind.flask import Writebehind, api, tracing
from writebehind.flask.access import Access, note_gate_refusal
from writebehind.flask.declarations import described
from writebehind.flask.extension import EXTENSION
from writebehind.flask.framing import check_method
from writebehind.flask.problems import log_unforeseen, register_problems
from writebehind.tracing.export import SpanExport, export_spans
from writebehind.tracing.span import NOT_SAMPLED, get_current

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

_NOSNIFF = ("X-Content-Type-Options", "nosniff")
#: Where the server says that a request cannot be served, and why: an HTTPException in the environment.
REFUSAL = "web.refusal"
#: Where the server is told which route answered, in the environment.
ROUTE = "web.route"


class _NoSession(SessionInterface):
    """This API has no sessions; Flask makes an object for one at each request all the same."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002 - Flask's
        """Return the same empty session to all."""
        return self._none


class _Request(Request):
    def close(self) -> None:
        """Let go of the error that there is no such route: it refers to the frames that refer to this request.

        Flask is about to forget the route, of which the server is told.
        """
        super().close()
        if self.url_rule is not None:
            self.environ[ROUTE] = self.url_rule.rule
        self.routing_exception = None


class _Application(Flask):
    """Flask without what this API has no use for and each request would pay: see `bench/http.py`."""

    session_interface = _NoSession()
    request_class = _Request

    def __init__(self, gate: Gate) -> None:
        """Serve what the gate lets through."""
        self._gate = gate
        super().__init__("writebehind", static_folder=None)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by path and method only: no route depends on the host, and no link is built from it.

        Raises:
            HTTPException: the gate or the server refuses the request.
        """
        if request is None:
            return super().create_url_adapter(request)
        environ = request.environ
        check_origin(self._gate, environ)
        if REFUSAL in environ:
            raise environ[REFUSAL]
        check_method(environ)
        return self.url_map.bind(
            "", environ.get("SCRIPT_NAME"), path_info=request.path, default_method=request.method
        )

    def raise_routing_exception(self, request: Request) -> NoReturn:
        """Raise why no route is asked; the audit log has it where the gate has refused the request.

        Raises:
            HTTPException: the reason.
        """
        # In no variable here: it refers to this frame once it is raised.
        if isinstance(request.routing_exception, Forbidden | MisdirectedRequest):
            note_gate_refusal(self.extensions[EXTENSION].keyring, request.routing_exception)
        super().raise_routing_exception(request)

    def wsgi_app(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Let no browser take an answer for what its type does not say: documents are whatever clients wrote."""

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if _NOSNIFF not in headers:
                headers.append(_NOSNIFF)
            return start_response(status, headers, exc_info)

        return super().wsgi_app(environ, start)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function as it is: none of this API is asynchronous, which Flask would look at each time."""
        return func

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """End the span of a request; call what others have registered, for which Flask would look at each."""
        if not self._ends_spans_only or request_tearing_down.receivers:
            super().do_teardown_request(exc)
        elif get_current() is not NOT_SAMPLED:  # as nearly all are: `end` would look, but be called
            tracing.end(exc)

    @cached_property
    def _ends_spans_only(self) -> bool:
        """Whether no function of others waits for the end of a request; Flask takes none after the first one."""
        return {tracing.end}.issuperset(chain(*self.teardown_request_funcs.values()))

    def log_exception(self, exc_info: Any) -> None:
        """Log an error that nobody foresaw under the name that its answer has."""
        log_unforeseen(exc_info)


def create_app(pipeline: Pipeline | None = None) -> Flask:
    """Build the application.

    Args:
        pipeline: by default one is connected as the settings say, with Celery as its way to enqueue flushes.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    export = export_spans("web") if pipeline is None else SpanExport()
    settings = load_settings() if pipeline is None else pipeline.settings
    gate = Gate(settings.host, settings.allowed_hosts, settings.cors_origins)
    app = _Application(gate)
    app.url_map.merge_slashes = False
    register_problems(app)
    pipeline = Writebehind(publisher=FlushPublisher, pipeline=pipeline).init_app(app)
    export.count_in(pipeline.tallies)
    access = Access(pipeline.keyring, is_open=pipeline.settings.is_open)
    access.check()
    origins = pipeline.settings.cors_origins
    besides = (health.health(pipeline, access), root.root())
    paths = described(one for routes in besides for one in routes.declared)
    app.register_blueprint(api(pipeline, admin=access.operate, access=access, origins=origins, paths=paths))
    share(app, origins)
    for routes in besides:
        app.register_blueprint(routes)
    if not origins:  # or answers say that they depend on the origin
        before = HotPath(app, pipeline, access, check=partial(check_origin, gate), more=[_NOSNIFF], route=ROUTE)
        app.wsgi_app = before  # type: ignore[method-assign]  # as Flask has it
    return app
