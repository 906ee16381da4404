"""The guard of the routes for operators, which the application gives."""

from __future__ import annotations

from collections.abc import Callable

from flask import current_app, make_response
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response

#: Says who may use the routes for operators, as a function of `before_request` does: what it returns is answered.
Guard = Callable[[], ResponseReturnValue | None]


def refusal(guard: Guard) -> Response | None:
    """The answer of a guard, also where it raises `Unauthorized`; `None` where it lets the request through."""
    try:
        refused: ResponseReturnValue | None = current_app.ensure_sync(guard)()
    except Unauthorized as error:
        return error.get_response()
    return None if refused is None else make_response(refused)
