"""Problems: each error of the core has one, and each says what RFC 9457 asks for."""

from __future__ import annotations

import logging
import re
from unittest.mock import Mock

import pytest
from flask import Flask
from werkzeug.exceptions import ServiceUnavailable

from tests.unit.web.conftest import problem
from tests.waiting import wait_until
from writebehind import errors
from writebehind.errors import (
    ConflictError,
    DeadLetterError,
    RequestError,
    SpoiledError,
    UnavailableError,
    WritebehindError,
)
from writebehind.flask import problems
from writebehind.flask.problems import (
    LONGEST_REQUEST_ID,
    PROBLEMS,
    REFUSALS,
    OutcomeUnknown,
    log_fields,
    problem_of,
    register_problems,
)
from writebehind.outage_log import OutageLog
from writebehind.redis import keys


def leaves(kind: type[WritebehindError]) -> list[type[WritebehindError]]:
    below = kind.__subclasses__()
    return [leaf for one in below for leaf in leaves(one)] if below else [kind]


def of_the_core(*kinds: type[WritebehindError]) -> list[type[WritebehindError]]:
    return [kind for kind in kinds if kind.__module__ == errors.__name__]


UNAVAILABLE = of_the_core(*leaves(UnavailableError))
#: That of a dead letter has more to say: see the tests of durability.
KINDS = [one for one in of_the_core(*leaves(RequestError)) if one is not DeadLetterError]
KINDS += [RequestError, *UNAVAILABLE]


@pytest.fixture
def raising():
    """A client of an application whose only route raises what it is given."""
    app = Flask("raising")
    register_problems(app)

    def answer_to(error: Exception, **options: object):
        app.view_functions.pop("fail", None)
        app.view_functions["fail"] = lambda: (_ for _ in ()).throw(error)
        return app.test_client().get("/fail", **options)

    app.add_url_rule("/fail", endpoint="fail")
    return answer_to


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_problem(raising, kind):
    """What a client causes is 4xx, or 501 for what is not offered; what the surroundings cause is 503."""
    response = raising(kind("what to do"))
    status = problem_of(kind()).status
    assert "what to do" == problem(response, status)["detail"]
    assert (400 <= status < 500 or status == 501) if issubclass(kind, RequestError) else status in {500, 503}
    assert (status == 503 or kind is ConflictError) == ("Retry-After" in response.headers)
    assert (status == 500) == (kind is SpoiledError)  # nobody but an operator can mend it


def test_types_are_stable():
    """The types and statuses that clients rely on."""
    assert {
        "malformed-json": 400,
        "invalid-id": 400,
        "invalid-patch": 400,
        "bad-request": 400,
        "forbidden": 403,
        "not-found": 404,
        "unknown-query": 404,
        "unknown-collection": 404,
        "patch-conflict": 409,
        "unreadable-document": 409,
        "conflict": 409,
        "unknown-key": 404,
        "key-conflict": 409,
        "key-reused": 422,
        "precondition-failed": 412,
        "too-large": 413,
        "too-much-work": 413,
        "invalid-document": 422,
        "dead-letter": 422,
        "durability-not-offered": 501,
        "partition-full": 503,
        "receipts-full": 503,
        "too-much-pending": 503,
        "redis-memory": 503,
        "redis-full": 503,
        "dead-letters": 503,
        "redis-unavailable": 503,
        "redis-not-ready": 503,
        "redis-forbids": 503,
        "redis-mended": 503,
        "redis-spoiled": 500,
        "wrong-installation": 503,
        "mongodb-unavailable": 503,
        "token-keys-unavailable": 503,
    } == {one.name: one.status for one in PROBLEMS.values()}


@pytest.mark.parametrize(
    ("kind", "name"), [(OutcomeUnknown, "outcome-unknown"), (ServiceUnavailable, "service-unavailable")]
)
def test_what_is_late_has_a_type_that_says_whether_a_write_may_have_happened(raising, kind, name):
    """A client sends what was certainly not written once more, whatever it is."""
    answer = raising(kind(retry_after=1))
    assert "may have happened" in problem(answer, 503, name)["detail"] or kind is ServiceUnavailable
    assert "1" == answer.headers["Retry-After"]


def test_an_unforeseen_error(client, installation, caplog, monkeypatch):
    """An error that nobody foresaw is a 500 that gives nothing away, and is logged by its name with its trace."""
    monkeypatch.setattr(installation.pipeline.reader, "get_or_bypass", Mock(side_effect=ValueError("secret")))
    found = problem(client.get("/v1/users/ada"), 500, "internal-error")
    assert "secret" not in str(found)
    [logged] = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert f"GET /v1/users/ada [{found['request_id']}] failed" == logged.message
    assert "ValueError: secret" in caplog.text


@pytest.mark.parametrize("kind", UNAVAILABLE)
def test_what_is_unavailable_is_logged(raising, caplog, kind):
    """An operator sees what was not available; what a client did wrong is not logged."""
    name = raising(kind("it is down")).json["request_id"]
    raising(errors.InvalidIdError("no id"))
    logged = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    assert [f"GET /fail [{name}]: it is down"] == logged


@pytest.mark.parametrize("kind", UNAVAILABLE)
def test_what_only_operators_should_read(raising, caplog, kind):
    """The words of a driver, which name servers, are in the log by the request's name, and not in the answer."""
    found = problem(raising(kind("it is down", inner="db.internal:27017: refused")), 503)
    assert "it is down" == found["detail"]
    assert f"GET /fail [{found['request_id']}]: it is down: db.internal:27017: refused" in caplog.text


@pytest.fixture
def refusals(installation):
    """The log of the application's refused requests, which tells what it has seen every 0.5 s."""
    log = OutageLog(problems.log, "request refused", "requests refused", quiet_s=2, every_s=0.5)
    installation.app.extensions[REFUSALS] = log
    return log


def test_an_outage_is_a_few_lines(installation, client, refusals, caplog, monkeypatch):
    """A hundred requests that are refused for the same reason are one line, a count, and one line at the end."""
    monkeypatch.setattr(
        installation.pipeline.reader, "get_or_bypass", Mock(side_effect=errors.MongoUnavailableError("it is down"))
    )
    names = [problem(client.get("/v1/users/ada"), 503)["request_id"] for _ in range(100)]
    monkeypatch.setattr(installation.pipeline.reader, "get_or_bypass", Mock(side_effect=ValueError("no")))
    unforeseen = [problem(client.get("/v1/users/ada"), 500)["request_id"] for _ in range(2)]
    wait_until(lambda: "100 requests refused in all" in caplog.text, "the end of the outage", 10)

    logged = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert f"GET /v1/users/ada [{names[0]}]: it is down" == logged[0]
    assert re.fullmatch(
        r"mongodb-unavailable: over, 100 requests refused in all, the last \d s after the first", logged[-1]
    )
    for line in logged[1:-1]:
        assert re.match(r"mongodb-unavailable: \d+ more requests? refused in \d s, the last: GET /v1/users", line)
    assert len(logged) < 10
    # Each request that failed for a reason that nobody foresaw is found by its id all the same.
    assert [f"GET /v1/users/ada [{name}] failed" for name in unforeseen] == [
        one.message for one in caplog.records if one.levelno == logging.ERROR
    ]


def test_what_the_server_cannot_carry_out_is_logged(raising, caplog):
    """A request for which there is no time or no room is in the log, by the name that its answer has."""
    name = raising(ServiceUnavailable("not in time")).json["request_id"]
    logged = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    assert [f"GET /fail [{name}]: not in time"] == logged


def test_unavailable_items_are_logged(client, installation, caplog, monkeypatch):
    """What was not available to items of a bulk is logged once, by the name of the bulk."""
    monkeypatch.setattr(
        installation.wire, "exchange", Mock(side_effect=errors.RedisUnavailableError("it is down"))
    )
    items = [{"op": "put", "id": f"u{n}", "doc": {}} for n in range(3)] + [{"op": "no"}]
    response = client.post("/v1/users:bulk", json=items, headers={"X-Request-Id": "abc"})
    assert [503, 503, 503, 400] == [one["status"] for one in response.json["results"]]
    logged = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    assert ["POST /v1/users:bulk [abc]: 3 items: it is down"] == logged


def test_nothing_forges_a_line_of_the_log(client, installation, caplog, monkeypatch):
    """A line break in a path, or in a client's own name for its request, makes no line of its own."""
    monkeypatch.setattr(
        installation.pipeline.reader, "get_or_bypass", Mock(side_effect=errors.MongoUnavailableError("no"))
    )
    client.get("/v1/free/a%0AERROR%20forged", headers={"X-Request-Id": "a\x0b b"})
    [logged] = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    assert "/v1/free/a%0AERROR%20forged" in logged
    assert logged.isprintable()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/users/ada"),
        ("GET", "/healthz"),
        ("GET", "/nothing"),
        ("OPTIONS", "/v1/users"),
        ("GET", "/docs"),
    ],
)
def test_a_name_that_the_client_gives(client, method, path):
    """Every answer, whatever it says, has the name that the client has given its request."""
    response = client.open(path, method=method, json={}, headers={"X-Request-Id": "abc"})
    assert "abc" == response.headers["X-Request-Id"]


@pytest.mark.parametrize("given", ["abc-123", "x" * LONGEST_REQUEST_ID])
def test_request_id_of_the_client(client, given):
    """A client's own request id is repeated."""
    assert given == problem(client.get("/nothing", headers={"X-Request-Id": given}), 404)["request_id"]


@pytest.mark.parametrize("given", ["", "é", "a\tb", "\x7f"])
def test_request_id_that_is_none(client, given):
    """A request id that could not stand in a header is replaced by a new one."""
    found = problem(client.get("/nothing", headers={"X-Request-Id": given}), 404)
    assert 32 == len(found["request_id"])


def test_long_request_id(client):
    """A client's request id is cut to a length that a log can bear."""
    found = problem(client.get("/nothing", headers={"X-Request-Id": "x" * 1000}), 404)
    assert "x" * LONGEST_REQUEST_ID == found["request_id"]


def test_request_ids_differ(client):
    """Every request without an id has one of its own."""
    assert 2 == len({problem(client.get("/nothing"), 404)["request_id"] for _ in range(2)})


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/nothing", 404, "no-such-route"),
        ("GET", "/v1/nope/ada", 404, "unknown-collection"),
        ("GET", "/v1/users/ada", 404, "not-found"),
        ("POST", "/v1/users/ada", 405, "method-not-allowed"),
    ],
)
def test_kinds_of_not_found(client, method, path, status, name):
    """A missing route, collection, document and method are told apart."""
    problem(client.open(path, method=method), status, name)


def test_allowed_methods(client):
    """A wrong method is answered with those that are right."""
    response = client.post("/v1/users/ada")
    allowed = set(response.headers["Allow"].split(", "))
    assert {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} == allowed


def test_redis_is_down(installation, client, monkeypatch):
    """Without Redis every write is a 503 that says when to come again, and so is a read that may not bypass it."""

    def refuse(*_: object) -> None:
        raise errors.RedisUnavailableError

    monkeypatch.setattr(installation.wire, "exchange", refuse)
    for method, path in (("PUT", "/v1/users/ada"), ("DELETE", "/v1/users/ada"), ("GET", "/v1/strict/ada")):
        response = client.open(path, method=method, json={} if method == "PUT" else None)
        problem(response, 503, "redis-unavailable")
        assert "1" == response.headers["Retry-After"]
    assert (503, False) == ((ready := client.get("/readyz")).status_code, ready.json["ready"])
    assert (None, None) == (ready.json["workers"], ready.json["silent_workers"])
    assert 200 == client.get("/healthz").status_code
    problem(client.get("/admin/status"), 503, "redis-unavailable", more=frozenset({"last_known", "to_do"}))


@pytest.mark.parametrize(
    ("key", "record", "why"),
    [
        (keys.DATABASE, "database/internal_name", "belongs to database 'internal_name'"),
        (keys.PARTITIONS, "7", "set WRITEBEHIND_PARTITIONS=7"),
    ],
)
def test_a_process_does_not_fit_its_redis(installation, client, monkeypatch, caplog, key, record, why):
    """It is a problem of its own, for which nothing was written; only the log names databases and settings."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    before = installation.wire.call("GET", key)
    installation.wire.call("SET", key, record)
    try:
        found = problem(client.put("/v1/users/ada", json={}), 503, "wrong-installation")
        [result] = client.post("/v1/users:bulk", json=[{"op": "put", "id": "ada", "doc": {}}]).json["results"]
    finally:
        installation.wire.call(*(("SET", key, before) if before else ("DEL", key)))
        client.get("/v1/users/ada")  # looks again
    assert "This process does not fit its Redis" == found["title"]
    assert found["detail"].startswith("This process does not fit its Redis, so it neither")
    assert result["error"]["type"] == found["type"]
    assert why in caplog.text
    for shown in (found, result):
        assert all(inner not in str(shown) for inner in ("internal_name", "PARTITIONS", "DATABASE"))
    assert [] == installation.stored()


def test_redis_is_bypassed(installation, sink, client, monkeypatch):
    """Without Redis reads show what MongoDB has, and say so; alone and several at once."""

    def refuse(*_: object) -> None:
        raise errors.RedisUnavailableError

    sink.has("users", "ada", {"n": 1})
    monkeypatch.setattr(installation.wire, "exchange", refuse)
    found, absent = client.get("/v1/users/ada"), client.get("/v1/users/bob")
    several = client.post("/v1/users:get", json={"ids": ["ada", "bob"]})
    assert (200, {"_id": "ada", "n": 1}, 404) == (found.status_code, found.json, absent.status_code)
    assert {"documents": {"ada": {"_id": "ada", "n": 1}}, "missing": ["bob"]} == several.json
    for response in (found, absent, several):
        assert "writebehind; fwd=bypass" == response.headers["Cache-Status"]
    sink.down = True
    problem(client.get("/v1/users/ada"), 503, "mongodb-unavailable")


def test_mongodb_is_down(client, sink):
    """Without MongoDB traffic may come all the same; the state is reported."""
    sink.down = True
    response = client.get("/readyz")
    assert (200, True, "ok") == (response.status_code, response.json["ready"], response.json["redis"])
    assert "down on purpose" in response.json["mongodb"]


def test_a_full_partition(installation, client, monkeypatch):
    """A write to a full partition is a 503, alone and in a bulk, and is not stored."""
    monkeypatch.setattr(installation.pipeline._admission, "_max_pending", 0)
    response = client.put("/v1/users/ada", json={})
    problem(response, 503, "partition-full")
    assert "Retry-After" in response.headers
    results = client.post("/v1/users:bulk", json=[{"op": "put", "id": "ada", "doc": {}}]).json["results"]
    assert [503] == [one["status"] for one in results]
    assert [] == installation.stored()


@pytest.mark.parametrize(("query", "partitions"), [("", None), ("?partitions=true", 4), ("?partitions=1", 4)])
def test_status(client, query, partitions):
    """The status counts what waits, for each partition too where that is asked for."""
    client.put("/v1/users/ada", json={})
    found = client.get("/admin/status" + query).json
    assert (1, 0, 4, 0) == (found["pending"], found["dead_letters"], found["partitions"], found["workers"])
    assert partitions == (len(found["by_partition"]) if "by_partition" in found else None)


def test_a_line_of_a_request_has_its_fields(client):
    """Those that its answer has: whoever logs while it is carried out, and nobody else."""
    with client.application.test_request_context(
        "/v1/users/a%0Ab", method="PUT", headers={"X-Request-Id": "mine"}
    ):
        found = log_fields()
    assert {"request_id": "mine", "method": "PUT", "path": "/v1/users/a%0Ab", "collection": "users"} == found
    assert {} == log_fields()
