"""The log of what operators change through the API: each call, whoever made it, and what came of it."""

from __future__ import annotations

import logging
from urllib.parse import quote

from flask import Response, request

from writebehind.access.gate import SAFE
from writebehind.flask.access import key_of_request, was_refused
from writebehind.flask.audit import note_call
from writebehind.flask.problems import request_id, this_request

log = logging.getLogger(__name__)


def log_change(response: Response) -> Response:
    """Log a call that may have changed something, with its filter, as its answer says how it went.

    The audit log has all calls, but for what was refused: that is there by then.
    """
    if not was_refused():
        key = key_of_request()
        note_call(response, key.id if key else None)
    if request.method not in SAFE:
        query = quote(request.query_string, safe="=&%/:")
        log.info(
            "administrative call: %s%s: %d",
            this_request(),
            f" ?{query}" if query else "",
            response.status_code,
            extra={"event": "administrative_call", "request_id": request_id()},
        )
    return response
