"""The routes of dead letters: what MongoDB refuses, for operators to see to."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from flask import Response
from werkzeug.exceptions import BadRequest

from writebehind import Pipeline
from writebehind.documents.ids import DocumentId
from writebehind.errors import UnavailableError
from writebehind.flask.answers import as_json
from writebehind.flask.conditions import refuse_conditions
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered, content, operation
from writebehind.flask.description.schemas import TIME, limited, query, reference
from writebehind.flask.parameters import MOST_VERSION, given, number, only, time
from writebehind.flask.problems import item_problem, this_request
from writebehind.flask.representations import JSON, NDJSON
from writebehind.flushing.dead_letters import SLICE, DeadLetters, Filter, Found, Reason
from writebehind.redis.reach import listed_away

log = logging.getLogger(__name__)

#: Letters on a page.
DEFAULT_LIMIT, MOST = 100, 1_000
#: Letters from which on a request that changes many leaves the rest to another one.
MOST_AT_ONCE = 10_000
#: The state of a document once its letter is discarded.
AFTERWARDS = "readers see what MongoDB has, or that there is nothing; the acknowledged change is gone"
#: MongoDB's codes are 32-bit integers.
MOST_CODE = (1 << 31) - 1
_FILTERS = ("after", "before", "code", "collection", "reason")
_REASONS = {reason.value for reason in Reason}

_WHICH = (
    query("collection", {"type": "string"}),
    query("reason", reference("Reason")),
    query("code", {"type": "integer", "minimum": 0, "maximum": MOST_CODE}),
    query("after", TIME),
    query("before", TIME),
)
_CURSOR = query("cursor", {"type": "string", "description": "of the answer before"})
_MANY = (*_WHICH, query("all", {"type": "boolean", "description": "true where there is no filter"}), _CURSOR)
_LIST = administered("list_dead_letters", "Letters", "", *_WHICH, _CURSOR, limited(DEFAULT_LIMIT, MOST))
_DISCARD = administered("discard_dead_letters", "Discarded", "", *_MANY)
_REPLAY = administered("replay_dead_letters", "Replayed", "", *_MANY)
_EXPORT = operation(
    "export_dead_letters", "", {"200": content({"type": "string"}, NDJSON)}, "", *_WHICH, tag="operation"
)
_ONE = "/dead-letters/<writebehind_collection:collection>/<id>"
_SHOW = administered("get_dead_letter", "Letter", "404", parameters="version")
_DISCARD_ONE = administered("discard_dead_letter", "Discarded", "404", parameters="version")
_REPLAY_ONE = administered("replay_dead_letter", "Replayed", "404", parameters="version")


def dead_letters(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("dead_letters", __name__)
    routes.before_request(refuse_conditions)
    _add_routes_of_many(routes, pipeline)
    _add_routes_of_one(routes, pipeline)
    return routes


def _add_routes_of_many(routes: Routes, pipeline: Pipeline) -> None:
    letters = pipeline.dead_letters

    def left_out(partitions: Sequence[int]) -> dict[str, Any]:
        """The servers, with their partitions, whose letters an answer is not about."""
        return {"away": listed_away(pipeline.store.servers_of(partitions))} if partitions else {}

    @routes.get("/dead-letters", operation=_LIST)
    def listed() -> Response:
        """Documents that MongoDB refuses, page by page.

        On each page what has failed last comes first; the pages are in no order among each other.
        """
        wanted, most = _filter("cursor", "limit"), number("limit", DEFAULT_LIMIT, 1, MOST)
        page = letters.page(wanted, cursor=given().get("cursor", ""), limit=most, bodies=False)
        shown = [one.letter.as_dict() for one in page.newest_first()]
        listed = {"dead_letters": shown, "cursor": page.cursor or None, "total": letters.count()}
        return as_json(listed | left_out(page.away))

    @routes.get("/dead-letters:export", operation=_EXPORT)
    def export() -> Response:
        """Dead letters with their documents, one a line."""
        return Response(_lines(letters.all(_filter()), this_request()), content_type=NDJSON)

    @routes.post("/dead-letters:replay", operation=_REPLAY)
    def replay() -> Response:
        """Try dead letters once more."""
        wanted = _deliberate_filter("cursor")
        replayed: set[str] = set()
        left: Counter[str] = Counter()
        some = _Some(letters, wanted, given().get("cursor", ""))
        for part in some:
            # What is replayed and is a letter again, by another name, must not come round for ever.
            tried = [one for one in part if one.letter.member not in replayed]
            # Over what is newer in MongoDB only if that is said.
            done = letters.replay(tried, conflicts=wanted.reason == Reason.CONFLICT, only_newest=True)
            replayed |= done.keys()
            left += done.left + Counter(newer=len(part) - len(tried))
        return as_json(_replayed(len(replayed), left) | some.rest | left_out(some.away))

    @routes.delete("/dead-letters", operation=_DISCARD)
    def discard() -> Response:
        """Forget dead letters for good."""
        some = _Some(letters, _deliberate_filter("cursor"), given().get("cursor", ""))
        discarded = sum(letters.discard(part) for part in some)
        return as_json({"discarded": discarded, "from_now_on": AFTERWARDS} | some.rest | left_out(some.away))


class _Some:
    """The letters of one request, in parts, without bodies.

    Once it is through, `rest` leads to the others, and `away` has the partitions whose server does not answer.
    """

    def __init__(self, letters: DeadLetters, wanted: Filter, cursor: str) -> None:
        self._pages = letters.pages(wanted, cursor=cursor, limit=min(SLICE, MOST_AT_ONCE), bodies=False)
        self.rest: dict[str, str] = {}
        self.away: list[int] = []

    def __iter__(self) -> Iterator[list[Found]]:
        # What is replayed and refused again must not come round for ever.
        seen: set[str] = set()
        for page in self._pages:
            yield [one for one in page.letters if one.raw.name not in seen]
            seen.update(one.raw.name for one in page.letters)
            self.away += page.away
            if len(seen) >= MOST_AT_ONCE and page.cursor:
                self.rest = {"cursor": page.cursor}
                return


def _add_routes_of_one(routes: Routes, pipeline: Pipeline) -> None:
    letters = pipeline.dead_letters

    def named(collection: str, given: str) -> DocumentId:
        return pipeline.collection(collection).id(given)

    @routes.get(_ONE, operation=_SHOW)
    def show(collection: str, id: str) -> Response:  # noqa: A002 - as the path says it
        """A dead letter with its document.

        Of a version, by default the newest.
        """
        found = letters.show(named(collection, id), _version())
        return Response(found.as_json() + b"\n", content_type=JSON)

    @routes.post(f"{_ONE}:replay", operation=_REPLAY_ONE)
    def replay_one(collection: str, id: str) -> Response:  # noqa: A002
        """Try a dead letter once more."""
        done = letters.replay([letters.named(named(collection, id), _version())], conflicts=True)
        return as_json(_replayed(len(done), done.left))

    @routes.delete(_ONE, operation=_DISCARD_ONE)
    def discard_one(collection: str, id: str) -> Response:  # noqa: A002
        """Forget a dead letter for good."""
        discarded = letters.discard([letters.named(named(collection, id), _version())])
        return as_json({"discarded": discarded, "from_now_on": AFTERWARDS})


def _deliberate_filter(*more: str) -> Filter:
    """Which letters a change is about; all only if that is said, so that a forgotten filter does no harm."""
    wanted, every = _filter("all", *more), given().get("all", "false")
    if every not in {"true", "false"} or (wanted == Filter() and every == "false"):
        raise BadRequest(f"say which: {', '.join(_FILTERS)}, or all=true")
    return wanted


def _filter(*more: str) -> Filter:
    only(*_FILTERS, *more)
    reason = given().get("reason")
    if reason is not None and reason not in _REASONS:
        raise BadRequest(f"reason must be one of {', '.join(Reason)}")
    return Filter(
        collection=given().get("collection"),
        reason=reason,
        code=number("code", None, 0, MOST_CODE),
        after=time("after"),
        before=time("before"),
    )


def _version() -> int | None:
    """Which letter of a document is meant; `None` where that is not said."""
    only("version")
    version: int | None = number("version", None, 0, MOST_VERSION)
    return version


def _replayed(count: int, left: Counter[str]) -> dict[str, Any]:
    """The number that is tried again, the number left, and of these the number for each reason."""
    return {"replayed": count, "left": left.total()} | ({"because": dict(+left)} if left.total() else {})


def _lines(letters: Iterator[Found], name: str) -> Iterator[bytes]:
    """A line for each letter; the last is a problem where the export breaks off, as the status is sent by then."""
    try:
        for one in letters:
            yield one.as_json() + b"\n"
    except UnavailableError as error:
        log.warning("%s breaks off: %s", name, error)
        yield orjson.dumps(item_problem(error)) + b"\n"
