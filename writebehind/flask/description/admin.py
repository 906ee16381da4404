"""The operations for operators, as OpenAPI has them."""

from __future__ import annotations

from writebehind.change_stream.conflicts import MOST
from writebehind.flask.admin import conflicts, drift, hot_keys
from writebehind.flask.description.operations import Described, Responses, content, operation
from writebehind.flask.description.schemas import ALL, CURSOR, FILTERS, LETTERS_LIMIT, SINCE, limited, query
from writebehind.flask.representations import NDJSON
from writebehind.operations.pausing import LONGEST_S
from writebehind.reconcile.findings import MOST_PASSES

_LETTERS = "/admin/dead-letters"
_KEYS = "/admin/keys"


def _administered(
    name: str,
    summary: str,
    answer: str,
    *more: Described,
    one: bool = False,
) -> Described:
    named, problems = ("collection id version", "400 404 503") if one else ("", "400 503")
    answers: Responses = {"200": content(answer)}
    described = operation(name, summary, named, answers, problems, tag="operation")
    return described if one else described | {"parameters": list(more)}


def _of_keys(
    name: str,
    summary: str,
    answer: str,
    problems: str,
    *,
    one: bool = True,
    status: str = "200",
    body: Described | None = None,
) -> Described:
    """An operation on API keys."""
    return operation(
        name, summary, "key" if one else "", {status: content(answer)}, problems, body=body, tag="operation"
    )


def _pausing(name: str, summary: str, answer: str, *more: Described) -> Described:
    """An operation on pauses, of one collection or of all."""
    described = operation(name, summary, "", {"200": content(answer)}, "400 404 503", tag="operation")
    return described | {"parameters": [query("collection", {"type": "string"}), *more]}


PATHS: dict[str, Described] = {
    _KEYS: {
        "get": _of_keys("list_keys", "API keys, without their secrets", "Keys", "400 503", one=False),
        "post": _of_keys(
            "create_key",
            "Make an API key",
            "IssuedKey",
            "400 409 413 415 503",
            one=False,
            status="201",
            body=content("NewKey"),
        ),
    },
    f"{_KEYS}/{{key}}": {
        "get": _of_keys("get_key", "An API key, without its secrets", "Key", "400 404 503"),
        "delete": _of_keys("revoke_key", "Refuse an API key from now on", "Key", "400 404 503"),
    },
    f"{_KEYS}/{{key}}:rotate": {
        "post": _of_keys(
            "rotate_key",
            "Give an API key a new secret",
            "IssuedKey",
            "400 404 409 413 415 503",
            body=content("Rotation") | {"required": False},
        )
    },
    "/admin/status": {
        "get": _administered(
            "get_status",
            "How the pipeline is",
            "Status",
            query("partitions", {"type": "boolean", "default": False}),
        )
    },
    "/admin/pause": {
        "post": _pausing(
            "pause_flushing",
            "Stop flushing to MongoDB",
            "Paused",
            query("for_s", {"type": "integer", "minimum": 1, "maximum": int(LONGEST_S)}),
        )
    },
    "/admin/resume": {"post": _pausing("resume_flushing", "Let flushing to MongoDB go on", "Resumed")},
    "/admin/conflicts": {
        "get": _administered(
            "list_conflicts",
            "Changes of others to what was pending",
            "Conflicts",
            limited(conflicts.DEFAULT_LIMIT, MOST),
        ),
    },
    "/admin/drift": {
        "get": _administered(
            "get_drift", "Where Redis and MongoDB differed", "Drifts", limited(drift.DEFAULT_LIMIT, MOST_PASSES)
        ),
    },
    "/admin/hot-keys": {
        "get": _administered(
            "list_hot_keys",
            "Which documents are read most",
            "HotKeys",
            limited(hot_keys.DEFAULT_LIMIT, hot_keys.MOST),
        ),
    },
    "/admin/history": {
        "get": _administered("get_history", "The figures of the last hour", "History", query("since", SINCE)),
    },
    "/admin/explorer/{collection}/{id}": {
        "get": operation(
            "explore_document",
            "A document in Redis and in MongoDB",
            "collection id",
            {"200": content("Explored")},
            "400 404 503",
            tag="operation",
        ),
    },
    _LETTERS: {
        "get": _administered(
            "list_dead_letters", "Documents that MongoDB refuses", "Letters", *FILTERS, CURSOR, LETTERS_LIMIT
        ),
        "delete": _administered(
            "discard_dead_letters", "Forget dead letters for good", "Discarded", *FILTERS, ALL, CURSOR
        ),
    },
    f"{_LETTERS}:replay": {
        "post": _administered(
            "replay_dead_letters", "Try dead letters once more", "Replayed", *FILTERS, ALL, CURSOR
        ),
    },
    f"{_LETTERS}:export": {
        "get": operation(
            "export_dead_letters",
            "Dead letters with their documents",
            "",
            {"200": content({"type": "string"}, NDJSON)},
            "400 503",
            tag="operation",
        )
        | {"parameters": FILTERS},
    },
    f"{_LETTERS}/{{collection}}/{{id}}": {
        "get": _administered("get_dead_letter", "A dead letter with its document", "Letter", one=True),
        "delete": _administered("discard_dead_letter", "Forget a dead letter for good", "Discarded", one=True),
    },
    f"{_LETTERS}/{{collection}}/{{id}}:replay": {
        "post": _administered("replay_dead_letter", "Try a dead letter once more", "Replayed", one=True),
    },
}
