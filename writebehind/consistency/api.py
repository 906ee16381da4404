"""Looks at documents through the API: whether web processes answer with what Redis has."""

from __future__ import annotations

import http.client
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from writebehind.consistency.comparing import Comparison
from writebehind.consistency.judging import Fault, entry_of
from writebehind.consistency.suspects import FIRST_S, described
from writebehind.consistency.tally import API, WINDOWS
from writebehind.documents.entry import ABSENT
from writebehind.documents.ids import DocumentId
from writebehind.redis.store import Store
from writebehind.redis.unsettled import Shown
from writebehind.settings.urls import redacted

log = logging.getLogger(__name__)

#: Between two requests, and after one that failed, seconds.
EVERY_S, FAILED_S = 1.0, 10.0
#: How long an answer may take, seconds: all `TRIES` of a look leave time to renew the right to observe.
TIMEOUT_S = 2.0
#: How often an answer is compared anew, as the document changed meanwhile.
TRIES = 3
#: Keys that are walked over to find a document, which is more where there are few.
STEP = 200
_OK, _NOT_FOUND = 200, 404
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_APART = (True,) * len(WINDOWS)


class Api:
    """An API that answers documents, reached by one connection. For one thread.

    Attributes:
        failure: why it last told nothing; '' where it never did.
    """

    def __init__(self, url: str, path: Callable[[DocumentId], str | None], *, key: str = "") -> None:
        """Prepare to ask the API at a URL, such as `http://127.0.0.1:8000`.

        Args:
            url: the address under which `/v1` is.
            key: an API key that may read; none is sent where it is empty.
            path: of a document, without the slash before it; `None` where it has none.
        """
        self.failure = ""
        self._url = redacted(url)
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
        self._prefix = parts.path.rstrip("/")
        self._path = path
        self._headers = {"User-Agent": "writebehind"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def etag(self, one: DocumentId) -> str | None:
        """The ETag of a document as the API answers; '' for none, and `None` where it does not say."""
        path = self._path(one)
        if path is None:
            return None
        try:
            answer = self._ask(f"{self._prefix}/{path}")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            failure = f"does not answer: {error or type(error).__name__}"
        else:
            failure = _why_useless(answer)
        if failure:
            self.failure = f"the API at {self._url} {failure}"
            return None
        return "" if answer.status == _NOT_FOUND else _tag(answer)

    def _ask(self, path: str) -> http.client.HTTPResponse:
        """An answer; by a new connection where the API has closed the one that it had, as it may."""
        was_open = self._connection.sock is not None
        try:
            self._connection.request("HEAD", path, headers=self._headers)
            answer = self._connection.getresponse()
        except ConnectionError:
            self._connection.close()
            if not was_open:
                raise
            return self._ask(path)
        answer.read()
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _tag(answer: http.client.HTTPResponse) -> str:
    return (answer.headers.get("ETag") or "").strip('"')


def _why_useless(answer: http.client.HTTPResponse) -> str:
    """The reason for which an answer says nothing of a document; '' where it does."""
    if "fwd=bypass" in (answer.headers.get("Cache-Status") or ""):
        return "reads from MongoDB, as Redis does not answer it"
    if answer.status in {_UNAUTHORIZED, _FORBIDDEN}:
        return f"answers {answer.status}: it wants a key that may read"
    if answer.status not in {_OK, _NOT_FOUND}:
        return f"answers {answer.status}"
    return "" if answer.status == _NOT_FOUND or _tag(answer) else "answers without an ETag"


def path_of(one: DocumentId) -> str:
    """The path of a document below the API's address."""
    return f"v1/{quote(one.collection, safe='')}/{quote(one.text, safe='')}"


@dataclass(slots=True)
class _Behind:
    """A document that the API answered otherwise: what Redis has, since when, and windows that are decided."""

    id: DocumentId
    shown: Shown
    began: float
    since: float
    decided: int = 0


class ApiLooks:
    """Looks at what the API answers: that is what Redis has, before or after the answer. For one thread.

    What Redis has is compared with MongoDB by the other looks.

    Attributes:
        compared: answers that were compared with what Redis has.
    """

    def __init__(self, api: Api, comparison: Comparison, store: Store) -> None:
        """Ask an API about documents of a store."""
        self.compared = 0
        self._api = api
        self._comparison = comparison
        self._store = store
        self._cursor = b"0"
        self._next_at = 0.0
        self._behind: _Behind | None = None

    @property
    def failure(self) -> str:
        """The reason for which the API last told nothing; '' where it always did."""
        return self._api.failure

    def close(self) -> None:
        """Close the connection."""
        self._api.close()

    def look(self) -> None:
        """Look at a document, or again at one that was wrong, if it is time.

        Raises:
            UnavailableError: a server does not answer.
        """
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + EVERY_S
        if self._behind is not None:
            self._look_again(self._behind)
            return
        self._cursor, members = self._store.cache.scan(self._cursor, count=STEP)
        if not members:
            return
        try:
            one = DocumentId.from_member(random.choice(members))  # noqa: S311 - no secret
        except ValueError:
            return
        told = self._is_behind(one)
        if told is None:
            self._next_at = now + FAILED_S
        elif told[0]:
            self._behind, self._next_at = _Behind(one, told[1], now, time.time()), now + FIRST_S
        elif told[1].header:
            self._comparison.tally.right(one.collection, API, _APART)

    def _look_again(self, behind: _Behind) -> None:
        one, told, now = behind.id, self._is_behind(behind.id), time.monotonic()
        tally = self._comparison.tally
        if told is None:  # nobody could look, so the time does not count
            behind.began, behind.since = now, time.time()
            return
        if not told[0] or told[1].header != behind.shown.header:
            tally.right(one.collection, API, _APART, after=behind.decided)
            self._behind = None
            return
        seconds = now - behind.began
        while behind.decided < len(WINDOWS) and seconds >= WINDOWS[behind.decided]:
            tally.wrong(one.collection, API, _APART, behind.decided)
            behind.decided += 1
            tally.name(
                one,
                described(Fault.BEHIND_REDIS, behind.shown, ABSENT, since=behind.since, seconds=seconds),
            )
        if behind.decided == len(WINDOWS):
            self._behind = None

    def _is_behind(self, one: DocumentId) -> tuple[bool, Shown] | None:
        """Whether the API answers what Redis has neither before nor after; `None` where it does not answer."""
        for _ in range(TRIES):
            before = self._comparison.observe([one.member])[one.member]
            etag = self._api.etag(one)
            after = self._comparison.observe([one.member])[one.member]
            if etag is None:
                return None
            self.compared += 1
            if not before.header or not after.header or etag in {_etag(before), _etag(after)}:
                return False, after
            if before.header == after.header:
                return True, after
        return False, after


def _etag(shown: Shown) -> str:
    entry = entry_of(shown)
    return entry.etag if entry is not None else ""
