"""The application on fakeredis and a MongoDB that is a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fakeredis
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo import MongoClient
from werkzeug.test import TestResponse

import web.hot_path
from tests.tiers import long
from web import readiness
from web.app import create_app
from web.hot_path import HotPath
from writebehind import Pipeline, load_settings
from writebehind.documents import codec
from writebehind.documents.entry import ABSENT, Entry, Kind
from writebehind.documents.ids import DocumentId, Id
from writebehind.documents.raw_bson import first_element
from writebehind.errors import MongoUnavailableError
from writebehind.flask.framing import WHOLE
from writebehind.flask.problems import REFUSALS
from writebehind.mongodb.finder import Placed
from writebehind.mongodb.outcomes import Outcome, Result, Write
from writebehind.mql.filters import compile_filter
from writebehind.mql.order import MINIMUM, key_of
from writebehind.mql.sorts import compile_sort
from writebehind.redis.wire import Wire

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

SCHEMA = '{"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}'


QUERIES = {
    "in_city": {
        "filter": {"city": {"$param": "city"}},
        "sort": {"rank": -1},
        "limit": 2,
        "parameters": {"city": "string"},
    },
    "typed": {
        "filter": {
            "$or": [
                {"a": {"$param": "i"}, "b": {"$param": "n"}},
                {"c": {"$param": "f"}, "d": {"$gt": {"$param": "t"}}},
                {"e": {"$in": [{"$param": "o"}, {"$param": "u"}]}},
            ]
        },
        "parameters": {"i": "int", "n": "number", "f": "boolean", "t": "date", "o": "objectid", "u": "uuid"},
    },
    "all": {"projection": {"name": 1}},
    "everything": {},
    "many": {"sort": {"name": 1}, "limit": 1000},
}


class FakeSink:
    """What `writebehind.mongodb.sink.Sink` offers, on a dictionary."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.written: list[Write] = []
        self.down = False
        #: Ids that it refuses.
        self.refuses: set[str] = set()

    def close(self) -> None:
        """There is nothing to close."""

    def unreachable(self) -> str:
        """Return why it cannot be reached: it is here."""
        return ""

    def round_trip_s(self) -> float:
        """Seconds that a command takes at least."""
        return 0.0

    def write(
        self,
        _collection: str,
        writes: Sequence[Write],
        *,
        within_s: float = inf,
        links: object = (),  # noqa: ARG002 - the real one's
    ) -> list[Outcome]:
        assert within_s > 0
        self._answer()
        self.written += writes
        outcomes = []
        for one in writes:
            if one.id.text in self.refuses:
                outcomes.append(Outcome(one, Result.REFUSED, 121, "Document failed validation"))
                continue
            self.entries[one.id.member] = one.entry if one.entry.kind is Kind.DOCUMENT else ABSENT
            outcomes.append(Outcome(one, Result.PERSISTED))
        return outcomes

    def delete_older(self, _collection: str, _versions: Mapping[DocumentId, int]) -> int:
        self._answer()
        return 0

    def find(self, document_id: DocumentId) -> Entry:
        self._answer()
        return self.entries.get(document_id.member, ABSENT)

    def find_many(self, ids: Sequence[DocumentId]) -> list[Entry]:
        return [self.find(one) for one in ids]

    def find_portion(
        self, ids: Sequence[DocumentId], *, most_bytes: int
    ) -> tuple[dict[DocumentId, Entry], list[DocumentId]]:
        assert most_bytes > 0
        return dict(zip(ids, self.find_many(ids), strict=True)), []

    def versions(self, ids: Sequence[DocumentId]) -> dict[str, int]:
        return {one.member: entry.version for one in ids if (entry := self.find(one)).exists}

    def find_by(self, collection: str, field: str, value: object) -> tuple[DocumentId | None, Entry]:
        self._answer()
        for member, entry in self.entries.items():
            one = DocumentId.from_member(member)
            if one.collection == collection and entry.exists and codec.decode(entry.body).get(field) == value:
                return one, entry
        return None, ABSENT

    def _find_where(
        self, collection: str, filter_: Mapping[str, object], sort: Mapping[str, int], limit: int
    ) -> list[Entry]:
        self._answer()
        matches, place = compile_filter(filter_), compile_sort(sort)
        found = [
            entry
            for member, entry in self.entries.items()
            if DocumentId.from_member(member).collection == collection and entry.exists and matches(entry.body)
        ]
        return sorted(found, key=lambda one: place(one.body))[:limit]

    def find_places(
        self, collection: str, filter_: Mapping[str, object], sort: Mapping[str, int], limit: int
    ) -> tuple[list[DocumentId | None], bytes]:
        found = self._find_where(collection, filter_, sort, limit)
        ids = [DocumentId.stored(collection, codec.decode(first_element(one.body))["_id"]) for one in found]
        return ids, found[-1].body if found else b""

    def find_after(
        self, collection: str, value: object, *, limit: int, most_bytes: int
    ) -> tuple[list[Placed], bool]:
        assert most_bytes > 0
        self._answer()
        least = MINIMUM if value is None else key_of(value)
        every = (DocumentId.from_member(member) for member, entry in self.entries.items() if entry.exists)
        ids = [one for one in every if one.collection == collection and key_of(one.value) > least]
        ids.sort(key=lambda one: key_of(one.value))
        found = [Placed(one, one.value, key_of(one.value), self.entries[one.member].body) for one in ids[:limit]]
        return found, len(ids) < limit

    def ping(self, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self._answer()

    def server_status(self, *, timeout_s: float) -> dict:
        self.ping(timeout_s=timeout_s)
        return {"connections": {"current": 3}}

    def has(self, collection: str, name: Id, document: dict) -> None:
        """Let MongoDB have a document that the pipeline never wrote."""
        one = DocumentId.of(collection, name)
        self.entries[one.member] = Entry.loaded(codec.encode({"_id": one.value} | document), 0)

    def _answer(self) -> None:
        if self.down:
            raise MongoUnavailableError("MongoDB does not answer: it is down on purpose")


class Installation:
    """An application, with what stands behind it."""

    def __init__(self, schema_file: str, *, wire: Wire | None = None, **more: object) -> None:
        """Build it with more settings; `wire` to a real Redis."""
        self.sink = FakeSink()
        self.client: MongoClient = MongoClient(connect=False)
        self.server = server = fakeredis.FakeServer(server_type="valkey", version=(7, 2))
        self.wire = wire or Wire(fakeredis.FakeRedis(server=server, protocol=2).connection_pool)
        counts = Path(schema_file).with_name("metrics")  # or processes of other tests would count there too
        counts.mkdir()
        settings = load_settings(
            metrics_dir=counts,
            partitions=4,
            max_bulk_items=100,
            max_answer_bytes=100_000,
            persist_timeout_ms=500,
            collections={
                "users": {},
                "events": {"id": "auto"},
                "orders": {"id": "objectid"},
                "numbers": {"id": "int"},
                "keys": {"id": "uuid"},
                "through": {"write": "through"},
                "around": {"write": "around"},
                "named": {"schema_file": schema_file},
                "free": {"id_pattern": r"[\s\S]+"},
                "open": {"id_pattern": r"[\s\S]+", "lookup": {"username": "string"}},
                "strict": {"bypass": False},
                "people": {"lookup": {"username": "string", "number": "int"}},
                "asked": {"queries": QUERIES},
            },
            **more,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("writebehind.parts.Sink", lambda *_, **__: self.sink)
            self.pipeline = Pipeline(settings, wire=self.wire, client=self.client)
        self.app: Flask = create_app(self.pipeline)

    def clear(self) -> None:
        """Forget all documents and reads, and let MongoDB answer."""
        self.pipeline.hot_keys.send()  # or it would be sent within the second
        self.wire.call("FLUSHALL")
        self.pipeline.last_known.forget()  # or what waited in another test would be lost
        self.sink.__init__()
        if (refusals := self.app.extensions.pop(REFUSALS, None)) is not None:
            refusals.begin_anew()  # or it would tell the end of an outage to another test

    def stored(self) -> list[str]:
        """Every sign of a write: documents and deletions in Redis, what is pending, and writes to MongoDB."""
        keys = [key.decode() for key in self.wire.call("KEYS", "*")]
        entries = [key for key in keys if ":entry:" in key and not self._is_absent(key)]
        others = [key for key in keys if key.endswith((":pending", ":scheduled", ":dead", ":deleted"))]
        return sorted(entries + others) + [one.id.member for one in self.sink.written]

    def _is_absent(self, key: str) -> bool:
        return Entry.parse(self.wire.call("GET", key)).kind is Kind.ABSENT


@pytest.fixture(scope="session")
def application(tmp_path_factory) -> Iterator[Installation]:
    schema_file = tmp_path_factory.mktemp("schema") / "named.json"
    schema_file.write_text(SCHEMA)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE", "BROKER_URL"):
            patch.delenv(variable, raising=False)
        patch.chdir(schema_file.parent)
        patch.delenv("WRITEBEHIND_CONFIG", raising=False)
        installation = Installation(str(schema_file))
    yield installation
    installation.pipeline.close()


@pytest.fixture
def installation(application) -> Iterator[Installation]:
    """The application, without documents."""
    application.clear()
    yield application
    application.sink.down = False  # tests that take the application as it is want it to answer


#: What a test client alone puts into the environment of a request.
_OF_THE_CLIENT = {"RAW_URI", "REQUEST_URI", "werkzeug.request", "werkzeug.debug.preserve_context"}


def client_of(installation: Installation, way: str, patch: pytest.MonkeyPatch) -> FlaskClient:
    """A client whose requests all go to Flask, or come by the hot path before it as they do from the server.

    The server lets none through whose body is not of the length that it was announced with.
    """
    if way == "hot":
        hot = installation.app.wsgi_app
        assert isinstance(hot, HotPath)

        def served(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
            length = environ.get("CONTENT_LENGTH", "0" if environ["REQUEST_METHOD"] == "GET" else "")
            body = environ["wsgi.input"]
            if not isinstance(body, BytesIO) or str(len(body.getbuffer())) != length:
                return hot.beneath(environ, start_response)
            given = {name: value for name, value in environ.items() if name not in _OF_THE_CLIENT}
            return hot(given | {"CONTENT_LENGTH": length, WHOLE: True}, start_response)

        patch.setattr(installation.app, "wsgi_app", served)
        patch.setattr(web.hot_path, "_SIGNALS", ())  # a fixture of all tests listens to them
    return installation.app.test_client()


@pytest.fixture(params=["flask", pytest.param("hot", marks=long)])
def client(installation, request, monkeypatch) -> FlaskClient:
    monkeypatch.setattr(readiness, "KEPT_S", 0.0)  # the application is that of other tests too
    return client_of(installation, request.param, monkeypatch)


@pytest.fixture
def sink(installation) -> FakeSink:
    return installation.sink


def problem(response: TestResponse, status: int, name: str = "", more: frozenset[str] = frozenset()) -> dict:
    """The problem that an answer is, once it is seen to be a complete one."""
    assert (status, "application/problem+json") == (response.status_code, response.content_type), response.text
    found = response.json
    more |= {"version", "letter"} if name == "dead-letter" else set()
    assert {"type", "title", "status", "detail", "request_id"} | more == found.keys()
    assert (status, response.headers["X-Request-Id"]) == (found["status"], found["request_id"])
    assert found["type"].startswith("urn:problem-type:writebehind:" + name)
    assert found["title"]
    assert found["detail"]
    return found
