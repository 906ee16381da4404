"""The hot path before Flask: whatever is asked, the answer is Flask's, and so is all that is told."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from flask import request_finished
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import web.hot_path
from tests.tiers import examples
from tests.tokens import AUDIENCE, ISSUER, claims, jwk, key_set, private_key, signed
from tests.tracing import tracing
from tests.unit.web.alike import steady, steady_headers
from tests.unit.web.conftest import SCHEMA, Installation
from tests.unit.web.requests import OF_KEYS, TOKENS, TYPE, Asked, keys, requests
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

#: What is flushed does not depend on how long the test takes: what a request waits for, and nothing beside it.
NOT_DUE = {"flush_delay_ms": 3_600_000}
_OF_TIME = {"ms", "time", "version", "request_id", "trace_id", "span_id"}


class Way:
    """A whole installation, of which all is noted that anybody is told."""

    def __init__(self, directory: Path, *, is_hot: bool, below: str = "", **settings: object) -> None:
        """Build one with these settings, whose paths are all below one."""
        directory.mkdir()
        (directory / "named.json").write_text(SCHEMA)
        self.installation = Installation(str(directory / "named.json"), defaults=NOT_DUE, **settings)
        self.pipeline = self.installation.pipeline
        hot = self.installation.app.wsgi_app
        assert isinstance(hot, HotPath)
        self._directory, self._below = directory, below
        application = hot if is_hot else hot.beneath
        self._application = DispatcherMiddleware(NotFound(), {below: application}) if below else application
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
            self._application if isinstance(self._application, HotPath) else None,
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
        """The counts of all series, and of histograms how much was observed; not how many are in progress."""
        return Counter(
            {
                (family, labels): numbers[0] if len(numbers) == 1 else sum(numbers[1:])
                for (family, labels), numbers in self.pipeline.tallies.read().items()
                if family != "writebehind_http_requests_in_progress"
            }
        )

    def close(self) -> None:
        self.pipeline.close()

    async def _ask(self, log: AccessLog, batch: Sequence[Asked]) -> None:
        for one in batch:
            client = Client(part(one.body), headers=one.headers, method=one.method)
            path = self._below.encode() + one.path
            client.scope |= {
                "path": path.decode("latin-1"),
                "raw_path": path,
                "scheme": "https" if self.pipeline.settings.tls_cert else "http",
                "query_string": one.query,
                "headers": [*one.headers],
            }
            sent: list[tuple[str, str]] = []
            await log(client.scope, client.receive, _noting(client, sent))
            headers = steady_headers(sent, client.status, client.answer)
            self.answers.append((one, client.status, headers, steady(client.answer)))


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


@pytest.fixture
def ways(tmp_path, monkeypatch, caplog, request) -> Iterator[tuple[Way, Way]]:
    """One with the hot path, and one without. The parameter makes the arguments of both, in a directory."""
    given = getattr(request, "param", lambda _: {})(tmp_path)
    monkeypatch.setattr(web.hot_path, "_SIGNALS", ())  # a fixture of all tests listens to them
    for variable in ("REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE", "BROKER_URL", "WRITEBEHIND_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, ACCESS)
    monkeypatch.setattr(refused.Allowance, "take", lambda _: True)  # nothing that is made meanwhile keeps it
    both = Way(tmp_path / "hot", is_hot=True, **given), Way(tmp_path / "flask", is_hot=False, **given)
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
        (happen, list(requests(Random(seed), count // parts, most, OF_KEYS if seed else ())))
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


def some_requests(way: Way, seed: int, given: Sequence[bytes] = ()) -> list[Asked]:
    return list(requests(Random(seed), examples(800), way.pipeline.settings.max_document_bytes, given))


#: Tokens of an issuer: one for all, and such as allow less, or nothing.
OF_TOKENS = [
    b"Bearer " + one.encode()
    for one in (
        signed(claims("*:read,write")),
        signed(claims("users:read")),
        signed(claims("users:write", sub="bob")),
        signed(claims("openid")),
        signed(claims("*:read,write", exp=1)),
        signed(claims("*:read,write", aud="others")),
        signed(claims("*:read,write"), key=private_key("RS256", "another")),
        signed(claims("*:read,write"), kid="unknown"),
        "x.y.z",
    )
]


def tls(directory: Path) -> dict[str, object]:
    return {"tls_cert": directory / "cert.pem", "tls_key": directory / "key.pem"}


def issuer(directory: Path) -> dict[str, object]:
    (file := directory / "jwks.json").write_bytes(key_set(jwk("RS256", "one")))
    return {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(file)}


@pytest.mark.parametrize(
    ("ways", "given"), [(tls, ()), (issuer, OF_TOKENS)], indirect=["ways"], ids=["tls", "issuer"]
)
def test_any_requests_of_an_installation_that_has_more(ways, given):
    """With TLS, and with an issuer of tokens: their rights, ends and signatures are those that Flask asks for."""
    asked = some_requests(ways[0], 1, given)

    for way in ways:
        way.answer([(nothing, asked)])

    check_same(*ways)
    assert len(asked) - ways[0].by_flask > len(asked) // 8


@pytest.mark.parametrize("ways", [lambda _: {"below": "/api"}], indirect=True, ids=["prefix"])
def test_below_a_prefix_all_is_for_flask(ways):
    """Paths in answers begin with it, and Flask knows them."""
    asked = [*PLAIN, *some_requests(ways[0], 2)]

    for way in ways:
        way.answer([(nothing, asked)])

    check_same(*ways)
    assert {200} == {status for _, status, *_ in ways[0].answers[: len(PLAIN)]}
    assert len(asked) == ways[0].by_flask


def test_traced_requests_are_for_flask(ways):
    """Each has a span, which Flask begins and ends, whether it is sampled or not."""
    asked = [*PLAIN, *some_requests(ways[0], 3)]

    for way in ways:
        with tracing() as seen:
            way.answer([(nothing, asked)])
            assert {"GET /v1/{collection}/{id}", "PUT /v1/{collection}/{id}"} <= {one.name for one in seen.all()}

    check_same(*ways)
    assert len(asked) == ways[0].by_flask


def test_where_pages_of_other_origins_may_come_all_is_for_flask(tmp_path):
    """There each answer says that it depends on the origin."""
    (tmp_path / "named.json").write_text(SCHEMA)
    installation = Installation(str(tmp_path / "named.json"), cors_origins=["https://app.example"])
    try:
        assert not isinstance(installation.app.wsgi_app, HotPath)
        assert "Origin" in installation.app.test_client().put("/v1/users/ada", json={}).headers["Vary"]
    finally:
        installation.pipeline.close()


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


@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("PUT", b"{}")])
def test_another_server_is_answered_by_flask(ways, method, body):
    """It need not have read the body, nor say how long it is."""
    hot, flask = ways
    environ = {"REQUEST_METHOD": method, "PATH_INFO": "/v1/users/ada", "QUERY_STRING": "", "SCRIPT_NAME": ""}
    environ |= {"HTTP_HOST": "localhost", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http"}
    environ |= {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.errors": sys.stderr}
    if body:
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    statuses: list[str] = []

    for way in ways:
        own = environ | {"wsgi.input": BytesIO(body)}
        b"".join(way.installation.app.wsgi_app(own, lambda status, *_: statuses.append(status)))

    assert [{"GET": "404 NOT FOUND", "PUT": "200 OK"}[method]] * 2 == statuses
    assert (1, 1) == (hot.by_flask, flask.by_flask)


def test_hooks_are_called_by_flask(ways, monkeypatch):
    """A hook is a function of somebody else, which may ask Flask what the request is."""
    hot, _ = ways
    monkeypatch.setitem(hot.pipeline.hooks.given, "users", Hooks(validate=lambda _: None))
    again = HotPath(hot.installation.app, hot.pipeline, Access(hot.pipeline.keyring), check=id, more=(), route="x")

    assert "users" in again._read
    assert "users" not in again._written
    assert "orders" in again._written
