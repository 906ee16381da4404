"""Errors as RFC 9457 `application/problem+json`, each with a stable `type`."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from flask import Response, current_app, has_request_context, request
from flask.sansio.scaffold import Scaffold
from werkzeug.exceptions import HTTPException, ServiceUnavailable, default_exceptions

from writebehind import errors
from writebehind.errors import RequestError, UnavailableError, WritebehindError
from writebehind.flask.addresses import path_to_description, path_to_letter
from writebehind.flask.plain import at_work_on
from writebehind.logs.events import FAULT
from writebehind.logs.quoting import quoted
from writebehind.outage_log import OutageLog

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:problem-type:writebehind:"
REQUEST_ID = "X-Request-Id"
#: Where the name of a request stands in its environment, and that its error has been logged under it.
_REQUEST_ID, _LOGGED = "writebehind.request_id", "writebehind.logged"
#: Where the server wants fields for its line of the access log about a request: a dict in its environment.
NOTED = "writebehind.noted"
#: Where the server says how to count further items against the rate of the client: a function of their number.
SPEND = "writebehind.spend"
#: The name under which an application has the log of its refused requests.
REFUSALS = "writebehind.refusals"
#: A client's own request id is repeated up to this length.
LONGEST_REQUEST_ID = 128


class Problem(NamedTuple):
    """The problem that clients see for one kind of error; `retry_after` in seconds, 0 for none."""

    status: int
    name: str
    title: str
    retry_after: int = 0


#: The first class that fits decides, so special ones come before general ones.
PROBLEMS: dict[type[WritebehindError], Problem] = {
    errors.MalformedDocumentError: Problem(400, "malformed-json", "The body is not valid Extended JSON"),
    errors.InvalidIdError: Problem(400, "invalid-id", "The id does not fit the collection"),
    errors.InvalidPatchError: Problem(400, "invalid-patch", "The patch is malformed"),
    errors.NotGrantedError: Problem(403, "forbidden", "Forbidden"),
    errors.DocumentNotFoundError: Problem(404, "not-found", "There is no such document"),
    errors.UnknownQueryError: Problem(404, "unknown-query", "The collection has no such query"),
    errors.UnknownKeyError: Problem(404, "unknown-key", "There is no such API key"),
    errors.KeyConflictError: Problem(409, "key-conflict", "Another API key is in the way"),
    errors.UnknownCollectionError: Problem(404, "unknown-collection", "The collection is not configured"),
    errors.UnreadableDocumentError: Problem(409, "unreadable-document", "The document cannot be shown"),
    errors.PatchConflictError: Problem(409, "patch-conflict", "The patch does not fit the document"),
    errors.ConflictError: Problem(409, "conflict", "Others changed the document at the same time", retry_after=1),
    errors.KeyReusedError: Problem(422, "key-reused", "Another request has had this idempotency key"),
    errors.PreconditionFailedError: Problem(412, "precondition-failed", "The condition does not hold"),
    errors.DocumentTooLargeError: Problem(413, "too-large", "The document is too large"),
    errors.TooMuchWorkError: Problem(413, "too-much-work", "The request asks for more than one request may"),
    errors.InvalidDocumentError: Problem(422, "invalid-document", "The document cannot be stored"),
    errors.DeadLetterError: Problem(422, "dead-letter", "MongoDB did not take the document"),
    errors.DurabilityNotOfferedError: Problem(501, "durability-not-offered", "Redis cannot promise that much"),
    errors.RequestError: Problem(400, "bad-request", "The request cannot be carried out"),
    errors.PartitionFullError: Problem(503, "partition-full", "Too many documents wait for MongoDB", 5),
    errors.TooManyReceiptsError: Problem(503, "receipts-full", "Too many writes have idempotency keys", 5),
    errors.TooMuchPendingError: Problem(503, "too-much-pending", "Too many documents wait for MongoDB", 5),
    errors.MemoryPressureError: Problem(503, "redis-memory", "Redis is nearly out of memory", 5),
    errors.TooManyDeadLettersError: Problem(503, "dead-letters", "There are too many dead letters", 30),
    errors.RedisFullError: Problem(503, "redis-full", "Redis is out of memory", 5),
    errors.ForeignRedisError: Problem(503, "wrong-installation", "This process does not fit its Redis", 5),
    errors.MistypedKeyError: Problem(503, "redis-mended", "Values of others in Redis were in the way", 1),
    errors.RedisForbidsError: Problem(503, "redis-forbids", "Redis does not permit this", 30),
    errors.SpoiledError: Problem(500, "redis-spoiled", "Values of others in Redis are in the way"),
    errors.ForeignServerError: Problem(503, "wrong-installation", "A server is of another installation", 5),
    errors.RedisNotReadyError: Problem(503, "redis-not-ready", "Redis cannot serve now", 1),
    errors.RedisUnavailableError: Problem(503, "redis-unavailable", "Redis does not answer", 1),
    errors.MongoUnavailableError: Problem(503, "mongodb-unavailable", "MongoDB does not answer", 5),
    errors.TokenKeysError: Problem(503, "token-keys-unavailable", "Tokens cannot be verified yet", 10),
}
#: Names, and details, where Werkzeug's own are not what this API says.
_NAMES = {HTTPStatus.NOT_FOUND: "no-such-route", HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-large"}
_DETAILS = {HTTPStatus.NOT_FOUND: "There is nothing here."}
_INTERNAL = Problem(500, "internal-error", "Something went wrong on the server")


class OutcomeUnknown(ServiceUnavailable):
    """A write was begun, and is not done in time: it may be carried out all the same."""

    description = "the request was begun and is not done in time; a write may have happened all the same"


class WriteResponse(Response):
    """The answer to the write of a document, of this version."""

    version = 0


class _ProblemResponse(Response):
    """The answer that a problem is."""


def name_of_status(status: HTTPStatus) -> str:
    """The name of the problem that a status is by itself."""
    return _NAMES.get(status) or status.phrase.lower().replace(" ", "-")


def problem_of(error: WritebehindError) -> Problem:
    """The problem that clients see for an error."""
    return next((problem for kind, problem in PROBLEMS.items() if isinstance(error, kind)), _INTERNAL)


def item_problem(error: WritebehindError) -> dict[str, Any]:
    """The problem of one item of a bulk request."""
    problem = problem_of(error)
    shown = {"type": TYPE_PREFIX + problem.name, "title": problem.title, "detail": _shown(_public(error))}
    return shown | _more(error)


def register_problems(routes: Scaffold) -> None:
    """Answer every error of an application, or of a blueprint, with a problem."""
    routes.register_error_handler(WritebehindError, respond)
    routes.register_error_handler(HTTPException, respond_http)
    for status in default_exceptions:  # or an application's own handler of a status would come first
        routes.register_error_handler(status, respond_http)


def answers_with_problems(routes: Scaffold) -> bool:
    """Whether an application, or a blueprint, answers each error of its own with a problem."""
    return routes.error_handler_spec[None][None].get(HTTPException) is respond_http


def request_id() -> str:
    """The name of this request in its answer and in the log: the client's own, or a new one."""
    return id_of(request.environ)


def id_of(environ: dict[str, Any]) -> str:
    """The name of the request that has this environment; see `request_id`."""
    known: str | None = environ.get(_REQUEST_ID)
    if known is None:
        known = environ[_REQUEST_ID] = name_from(environ.get("HTTP_X_REQUEST_ID", ""))
    return known


def name_from(given: str) -> str:
    """The name of a request whose client has given it this one, if it can be one; a new one otherwise."""
    given = given[:LONGEST_REQUEST_ID]
    is_name = given and given.isascii() and given.isprintable()
    return given if is_name else f"{random.getrandbits(128):032x}"  # no secret; forks begin it anew


def note(fields: Mapping[str, Any]) -> None:
    """Have fields in the line of the access log about this request, if there is going to be one."""
    noted: dict[str, Any] | None = request.environ.get(NOTED)
    if noted is not None:
        noted.update(fields)


def this_request() -> str:
    """This request, for the log: on one line, whatever its path."""
    return f"{request.method} {quote(request.path, safe='/:')} [{quoted(request_id())}]"


def log_fields() -> dict[str, Any]:
    """Fields of a log line: which request this thread is at work on, if any."""
    if has_request_context():
        collection = (request.view_args or {}).get("collection")
        return _log_fields(request.environ, request.method, request.path, collection)
    if (plain := at_work_on()) is not None:
        return _log_fields(plain.environ, plain.environ["REQUEST_METHOD"], plain.path, plain.collection)
    return {}


def _log_fields(environ: dict[str, Any], method: str, path: str, collection: str | None) -> dict[str, Any]:
    path = quote(path, safe="/:")
    return {"request_id": id_of(environ), "method": method, "path": path, "collection": collection}


def respond(
    error: WritebehindError, headers: dict[str, str] | None = None, more: Mapping[str, Any] | None = None
) -> Response:
    """The answer to a request that failed with this error; `more` are further members of its problem."""
    problem = problem_of(error)
    if isinstance(error, UnavailableError):
        log_refusal(problem.name, str(error), logged=error.logged)
    elif not isinstance(error, RequestError):
        log_refusal(problem.name, str(error))
    retry_after = problem.retry_after
    if isinstance(error, UnavailableError) and error.retry_after_s is not None:
        retry_after = max(1, math.ceil(error.retry_after_s))
    retry = {"Retry-After": str(retry_after)} if retry_after else {}
    return _response(problem, _public(error), retry | (headers or {}), _more(error) | dict(more or {}))


def respond_http(error: HTTPException, *names: str) -> Response:
    """The answer to what Werkzeug refuses (no such route, wrong method, body too large), and to unforeseen errors.

    Args:
        error: is answered.
        names: of the API that was asked, where no route of it was found.
    """
    status = HTTPStatus(error.code or 500)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        if _LOGGED not in request.environ:
            why = getattr(error, "original_exception", None) or error
            log.error("%s failed: %r", this_request(), why, extra=FAULT)
        return _response(_INTERNAL, "The error has been logged under the request id.", {})
    name, detail = name_of_status(status), _DETAILS.get(status, "")
    title = status.phrase
    if isinstance(error, OutcomeUnknown):
        name, title = "outcome-unknown", "It is not known whether the write has happened"
    # Allow, and whatever else belongs to the status.
    headers = {key: value for key, value in error.get_headers() if key.lower() != "content-type"}
    detail = detail or error.description or status.description
    if status is HTTPStatus.NOT_FOUND and (path := path_to_description(*names)):
        docs = path.removesuffix("openapi.json") + "docs"
        detail = f"There is nothing here: {path} and {docs} list what there is."
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        log_refusal(name, detail)
    return _response(Problem(status, name, title), detail, headers)


def log_refusal(name: str, why: str, *, logged: bool = False) -> None:
    """Log that this request is refused with a problem of this name: the first in an outage; others are counted.

    Args:
        name: of the problem.
        why: for the log.
        logged: whether the log has the reason by now.
    """
    refusals: OutageLog | None = current_app.extensions.get(REFUSALS)
    if refusals is None:
        refusals = current_app.extensions.setdefault(
            REFUSALS, OutageLog(log, "request refused", "requests refused")
        )
    refusals.note(name, f"{this_request()}: {why}", logged=logged)


def log_unforeseen(error: Any) -> None:
    """Log an error that nobody foresaw, with its trace, under the name that its answer has.

    Args:
        error: as `logging` takes it for `exc_info`.
    """
    request.environ[_LOGGED] = True
    log.error("%s failed", this_request(), exc_info=error, extra=FAULT)


def _public(error: WritebehindError) -> str:
    """The text of an error for clients: which server it was, and where it is, is for the log."""
    return error.public if isinstance(error, UnavailableError) else str(error)


def _more(error: WritebehindError) -> dict[str, Any]:
    """Further members of an error's problem: where a dead letter is."""
    if not isinstance(error, errors.DeadLetterError):
        return {}
    letter = path_to_letter(error.collection, error.document_id, error.version)
    return {"version": error.version} | ({"letter": letter} if letter else {})


def _response(
    problem: Problem, detail: str, headers: dict[str, str], more: dict[str, Any] | None = None
) -> Response:
    text = problem_text(problem, detail, request_id(), more or {})
    named = {REQUEST_ID: request_id()} | headers
    return _ProblemResponse(text, problem.status, named, content_type=CONTENT_TYPE)


def problem_text(problem: Problem, detail: str, name: str, more: Mapping[str, Any]) -> bytes:
    """The body of a problem of the request with this name; `more` are further members."""
    body = {
        "type": TYPE_PREFIX + problem.name,
        "title": problem.title,
        "status": problem.status,
        "detail": _shown(detail),
        "request_id": name,
    }
    return orjson.dumps({**body, **more}, option=orjson.OPT_APPEND_NEWLINE)


def name_request(response: Response) -> Response:
    """Name the request in its answer, as problems do by themselves, and the written version in the access log."""
    environ = request.environ
    if not isinstance(response, _ProblemResponse):
        response.headers.add(REQUEST_ID, id_of(environ))
    if isinstance(response, WriteResponse):
        note_version(environ, response.version)
    return response


def note_version(environ: Mapping[str, Any], version: int) -> None:
    """Have the version that was written in the line of the access log, if there is going to be one."""
    if NOTED in environ:
        environ[NOTED]["version"] = version


def _shown(text: str) -> str:
    """A text that JSON can hold: what is not UTF-8 in a request is quoted in it by escapes."""
    return text.encode(errors="backslashreplace").decode()
