"""The hot path before Flask: whatever is asked, the answer is Flask's, and so is all that is told."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Any

import pytest
from flask import request_finished

import web.hot_path
from tests.tiers import examples
from tests.unit.web.conftest import SCHEMA, Installation
from tests.unit.web.requests import TOKENS, TYPE, Asked, keys, requests
from tests.unit.web.server.conftest import Client, part
from web.access_log import AccessLog
from web.hot_path import HotPath
from web.limits import Door
from web.server import Server
from writebehind.access import refused
from writebehind.access.limits import Clients, Limit
from writebehind.flask import access, audit
from writebehind.flask.access import Access
from writebehind.hooks import Hooks
from writebehind.logs.audit import begin_audit
from writebehind.logs.setup import ACCESS

#: What differs between two runs: versions, times, and names and cursors that nobody has given.
_VARYING = re.compile(
    rb'(?<="version":)\d+|(?<="after":")[^"]+|(?<=ttl=)\d+|(?<=;t=)\d+|\b[0-9a-f]{32}\b|(?<=come again in )\d+'
)
#: What is flushed does not depend on how long the test takes: what a request waits for, and nothing beside it.
NOT_DUE = {"flush_delay_ms": 3_600_000}
_OF_TIME = {"ms", "time", "version", "request_id"}


class Way:
    """A whole installation, of which all is noted that anybody is told."""

    def __init__(self, directory: Path, *, is_hot: bool) -> None:
        directory.mkdir()
        (directory / "named.json").write_text(SCHEMA)
        self.installation = Installation(str(directory / "named.json"), defaults=NOT_DUE)
        self.pipeline = self.installation.pipeline
        hot = self.installation.app.wsgi_app
        assert isinstance(hot, HotPath)
        self._directory, self._application = directory, hot if is_hot else hot.beneath
        self.by_flask, beneath = 0, hot.beneath

        def counting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            self.by_flask += 1
            return beneath(environ, start_response)

        hot.beneath = counting
        self.answers: list[tuple] = []
        self.lines: list[dict[str, Any]] = []

    def answer(self, batches: Iterable[tuple[Callable[[Way], None], Sequence[Asked]]]) -> None:
        """Answer batches of requests, before each of which something happens."""
        access._audited = audit.Refusals()
        begin_audit(self._directory / "audit.log", "web")
        handler = _Kept()
        logging.getLogger("writebehind").addHandler(handler)
        clients = Clients(Limit(), self.pipeline.store.spending)
        server = Server(
            self._application,
            self.pipeline.settings,
            self.pipeline.tallies,
            Door(clients, self.pipeline.keyring),
        )
        log = AccessLog(server)
        try:
            for happen, batch in batches:
                happen(self)
                asyncio.run(self._ask(log, batch))
            log.finish()
        finally:
            logging.getLogger("writebehind").removeHandler(handler)
            begin_audit(None, "web")
        self.lines = handler.lines

    @property
    def audited(self) -> list[dict[str, Any]]:
        lines = (self._directory / "audit.log").read_text().splitlines()
        return [{k: v for k, v in json.loads(one).items() if k not in _OF_TIME} for one in lines]

    @property
    def counted(self) -> Counter[tuple]:
        """The counts of all series, and of histograms how much was observed."""
        return Counter(
            {
                (family, labels): numbers[0] if len(numbers) == 1 else sum(numbers[1:])
                for (family, labels), numbers in self.pipeline.tallies.read().items()
            }
        )

    def close(self) -> None:
        self.pipeline.close()

    async def _ask(self, log: AccessLog, batch: Sequence[Asked]) -> None:
        for one in batch:
            client = Client(part(one.body), headers=one.headers, method=one.method)
            client.scope |= {
                "path": one.path.decode("latin-1"),
                "raw_path": one.path,
                "query_string": one.query,
                "headers": [*one.headers],
            }
            sent: list[tuple[str, str]] = []
            await log(client.scope, client.receive, _noting(client, sent))
            self.answers.append((one, client.status, _alike(sent, client), _VARYING.sub(b"_", client.answer)))


class _Kept(logging.Handler):
    """Keeps the fields of the access log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) == "request":
            known = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
            fields = {name: value for name, value in vars(record).items() if name not in known}
            self.lines.append({name: "_" if name in _OF_TIME else value for name, value in fields.items()})


def _noting(client: Client, sent: list[tuple[str, str]]) -> Callable[[dict[str, Any]], Any]:
    async def send(message: dict[str, Any]) -> None:
        sent.extend((name.decode(), value.decode("latin-1")) for name, value in message.get("headers", ()))
        await client.send(message)

    return send


def _alike(headers: list[tuple[str, str]], client: Client) -> list[tuple[str, str]]:
    """Headers without what varies. The ETag does not, but of a list, which has a cursor."""
    kept = set() if client.answer.startswith(b'{"documents":[') else {"etag"}
    late = {"retry-after"} if client.status == HTTPStatus.TOO_MANY_REQUESTS else set()
    return [
        (name, value if name in kept else "_" * len(value) if name in late else _steady(value))
        for name, value in headers
    ]


def _steady(text: str) -> str:
    return _VARYING.sub(b"_", text.encode()).decode()


@pytest.fixture
def ways(tmp_path, monkeypatch, caplog) -> Iterator[tuple[Way, Way]]:
    """One with the hot path, and one without."""
    monkeypatch.setattr(web.hot_path, "_SIGNALS", ())  # a fixture of all tests listens to them
    for variable in ("REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE", "BROKER_URL", "WRITEBEHIND_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, ACCESS)
    monkeypatch.setattr(refused.Allowance, "take", lambda _: True)  # nothing that is made meanwhile keeps it
    both = Way(tmp_path / "hot", is_hot=True), Way(tmp_path / "flask", is_hot=False)
    yield both
    for one in both:
        one.close()


def nothing(_way: Way) -> None:
    pass


def keyed(way: Way) -> None:
    for key in keys():
        way.pipeline.store.api_keys.begin(key.id, key.record)
    assert len(way.pipeline.keyring.all()) == len(TOKENS)


def without_mongodb(way: Way) -> None:
    way.installation.sink.down = True
    way.installation.wire.call("DEL", *way.installation.wire.call("KEYS", "wb:*entry*"))


def without_redis(way: Way) -> None:
    way.installation.server.connected = False


def check_same(hot: Way, flask: Way) -> None:
    for one, other in zip(hot.answers, flask.answers, strict=True):
        assert other == one, one[0]
    assert flask.counted == hot.counted
    assert flask.audited == hot.audited
    assert flask.lines == hot.lines


def test_any_requests_are_answered_as_flask_does(ways):
    """Thousands, with and without keys, without MongoDB and without Redis: answers, figures, lines and audit."""
    hot, flask = ways
    count, most = examples(8_000), hot.pipeline.settings.max_document_bytes
    batches = [
        (happen, list(requests(Random(seed), count // parts, most, keyed=seed > 0)))
        for seed, (happen, parts) in enumerate(
            [(nothing, 2), (keyed, 2), (without_mongodb, 4), (without_redis, 8)]
        )
    ]
    for way in ways:
        way.answer(batches)
    check_same(hot, flask)
    assert sum(len(batch) for _, batch in batches) == len(hot.lines)
    assert len(hot.lines) - hot.by_flask > len(hot.lines) // 8  # or the hot path was hardly asked
    assert any(is_replayed(headers) for _, _, headers, _ in hot.answers)
    assert any(b"key-reused" in body for *_, body in hot.answers)


def is_replayed(headers: list[tuple[str, str]]) -> bool:
    return ("idempotency-replayed", "true") in headers


def put(body: bytes, *keys: bytes) -> Asked:
    length = (b"content-length", str(len(body)).encode())
    headers = ((b"host", b"localhost"), TYPE, length, *((b"idempotency-key", one) for one in keys))
    return Asked("PUT", b"/v1/users/ada", b"", headers, body)


PLAIN = [
    put(b"{}"),
    Asked("GET", b"/v1/users/ada", b"", ((b"host", b"localhost"),), b""),
]


@pytest.mark.parametrize("listens", [False, True])
def test_who_listens_to_flask_hears_of_all_requests(ways, monkeypatch, listens):
    """Tools that watch Flask connect to its signals; without any, Flask is not asked for what is plain."""
    monkeypatch.setattr(web.hot_path, "_SIGNALS", (request_finished,) if listens else ())  # a fixture listens
    hot, _ = ways

    hot.answer([(nothing, PLAIN)])

    assert [200, 200] == [status for _, status, *_ in hot.answers]
    assert (2 if listens else 0) == hot.by_flask


def test_writes_with_a_key_need_no_flask_unless_they_fail(ways):
    """A first one and a repeated one; not a key that another request has had, nor what is no key."""
    first, other = b'{"n":1}', b'{"n":2}'
    asked = [put(first, b'"k"'), put(first, b"k"), put(other, b"k"), put(other, b"k k"), put(other, b"k", b"l")]
    hot, _ = ways

    for way in ways:
        way.answer([(nothing, asked)])

    check_same(*ways)
    assert [200, 200, 422, 400, 400] == [status for _, status, *_ in hot.answers]
    assert [False, True] == [is_replayed(headers) for _, _, headers, _ in hot.answers[:2]]
    assert 3 == hot.by_flask


def test_hooks_are_called_by_flask(ways, monkeypatch):
    """A hook is a function of somebody else, which may ask Flask what the request is."""
    hot, _ = ways
    monkeypatch.setitem(hot.pipeline.hooks.given, "users", Hooks(validate=lambda _: None))
    again = HotPath(hot.installation.app, hot.pipeline, Access(hot.pipeline.keyring), check=id, more=(), route="x")

    assert "users" in again._read
    assert "users" not in again._written
    assert "orders" in again._written
