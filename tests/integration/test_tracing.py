"""Traces through real servers: from a request to the bulk write that persisted what it wrote."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from bson import Int64
from flask.testing import FlaskClient
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from tests.integration.conftest import flush_all
from tests.listening import running, wait_to_listen, wait_to_see
from tests.tracing import Seen, ids, links, parent, tracing
from tests.waiting import wait_until
from web.app import create_app
from writebehind import BulkOperation, Pipeline, Settings
from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.mongodb.sink import Sink
from writebehind.redis.keys import partition_keys
from writebehind.settings.collection import CollectionSettings

#: Text that no span may repeat: in an id, a field and an error.
ADA = "mail-of-ada-example"


@pytest.fixture
def settings(settings) -> Settings:
    people = CollectionSettings(lookup={"name": "string"}, flush_delay_ms=0)
    return settings.model_copy(update={"collections": {**settings.collections, "people": people}})


@pytest.fixture
def seen() -> Iterator[Seen]:
    with tracing(ParentBased(ALWAYS_ON)) as seen:
        yield seen


@pytest.fixture
def http(pipeline) -> FlaskClient:
    return create_app(pipeline).test_client()


class ServersOnly(Sampler):
    """Samples requests and no other root, as a low ratio hardly ever does both."""

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None):
        sampler = ALWAYS_ON if kind is SpanKind.SERVER else TraceIdRatioBased(0)
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        return "requests"


def traces_left(pipeline: Pipeline) -> int:
    keys = [partition_keys(one).traces for one in range(pipeline.settings.partitions)]
    return pipeline.store._wire.call("EXISTS", *keys)


def test_a_put_leads_to_the_bulk_write_that_persisted_it(pipeline, http, seen):
    """Request and commit are one trace; the flush and its bulk write are one that links to the commit."""
    assert 200 == http.put("/v1/users/ada", json={"n": 1}).status_code
    assert 1 == traces_left(pipeline)
    flush_all(pipeline)

    request, commit = seen.one("PUT /v1/{collection}/{id}"), seen.one("commit users")
    flush, bulk_write = seen.one("flush"), seen.one("bulkWrite users")
    assert parent(request) is None
    assert ids(request.context) == parent(commit)
    assert [ids(commit.context)] == links(flush) == links(bulk_write)
    assert ids(flush.context) == parent(bulk_write)
    assert commit.end_time <= flush.start_time < bulk_write.start_time < bulk_write.end_time <= flush.end_time
    assert 0 == traces_left(pipeline)


def test_spans_say_what_the_conventions_ask_for(pipeline, http, seen):
    """Names of attributes are those of OpenTelemetry."""
    http.put("/v1/users/ada", json={"n": 1}, headers={"X-Request-Id": "mine"})
    flush_all(pipeline)

    database = pipeline.settings.mongodb_database
    request = seen.one("PUT /v1/{collection}/{id}")
    assert (SpanKind.SERVER, StatusCode.UNSET) == (request.kind, request.status.status_code)
    assert {
        "http.request.method": "PUT",
        "http.route": "/v1/{collection}/{id}",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "writebehind.request_id": "mine",
    } == request.attributes
    assert {
        "db.system.name": "redis",
        "db.operation.name": "commit",
        "db.collection.name": "users",
        "writebehind.status": "ok",
    } == seen.one("commit users").attributes
    flush = seen.one("flush")
    assert SpanKind.CONSUMER is flush.kind
    assert "flush" == flush.attributes["messaging.operation.name"]
    assert (1, 1) == (flush.attributes["writebehind.persisted"], flush.attributes["writebehind.batches"])
    assert {
        "db.system.name": "mongodb",
        "db.operation.name": "bulkWrite",
        "db.namespace": database,
        "db.collection.name": "users",
        "writebehind.persisted": 1,
    } == seen.one("bulkWrite users").attributes


def test_a_flush_links_to_all_writes_that_it_coalesced(pipeline, users, seen):
    """Also to those of a bulk, and of several documents; each bulk write once to each."""
    users.put("ada", {"n": 1})
    users.put("ada", {"n": 2})
    users.bulk([BulkOperation("put", f"u{n}", {"n": 1}) for n in range(9)])
    flush_all(pipeline)
    users.put("ada", {"n": 3})
    flush_all(pipeline)

    commits = [ids(one.context) for one in seen.named("commit users")]
    assert 4 == len(commits)
    found = [links(one) for one in seen.named("bulkWrite users")]
    assert {*commits} == {link for some in found for link in some}
    assert [] == [some for some in found if len({*some}) < len(some)]
    assert 1 == sum(commits[3] in some for some in found)
    assert sorted(found) == sorted(links(one) for one in seen.named("flush"))


def test_what_persists_a_sampled_write_is_sampled(pipeline, http):
    """Also where the sampler would not sample a flush by itself, and other writes of the batch are not sampled."""
    with tracing(ParentBased(ServersOnly())) as seen:
        for n in range(4):
            pipeline.collection("users").put(f"u{n}", {"n": n})
        http.put("/v1/users/ada", json={"n": 1})
        flush_all(pipeline)
        pipeline.collection("users").put("bob", {"n": 1})
        flush_all(pipeline)

    commit = seen.one("commit users")
    [flush] = [one for one in seen.named("flush") if links(one)]
    bulk_write = seen.one("bulkWrite users")
    assert [ids(commit.context)] == links(bulk_write) == links(flush)
    assert (ids(commit.context), ids(flush.context)) == (parent(flush), parent(bulk_write))


def test_a_later_batch_of_a_flush_is_sampled_too(pipeline, http, settings):
    """Where a flush has begun without sampled writes, the bulk write that persists one is a part of that trace."""
    pipeline.collection("slow").put("u0", {"n": 1})
    with tracing(ParentBased(ServersOnly())) as seen:
        partition = pipeline.store.partition_of("slow/s:u0")
        name = next(
            one for n in range(99) if pipeline.store.partition_of(f"users/s:{(one := f'ada{n}')}") == partition
        )
        http.put(f"/v1/users/{name}", json={"n": 1})
        pipeline.flusher.drain(partition, budget_s=10)  # one batch, of two collections

    commit, bulk_write = seen.one("commit users"), seen.one("bulkWrite users")
    assert [ids(commit.context)] == links(bulk_write)
    assert ids(commit.context) == parent(bulk_write)
    assert [] == seen.named("bulkWrite slow")


def test_nothing_is_noted_of_what_is_not_sampled(pipeline, users):
    """Not in Redis, and not by the exporter."""
    with tracing(ParentBased(TraceIdRatioBased(0))) as seen:
        users.put("ada", {"n": 1})
        assert 0 == traces_left(pipeline)
        flush_all(pipeline)
    assert () == seen.all()


def test_a_worker_that_does_not_trace_takes_the_contexts_away(pipeline, users):
    """They go with the settling, whoever settles."""
    with tracing():
        users.put("ada", {"n": 1})
    assert 1 == traces_left(pipeline)

    flush_all(pipeline)

    assert 0 == traces_left(pipeline)


@pytest.mark.parametrize(
    ("given", "is_child", "is_sampled"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True, True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", True, False),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", False, True),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False, True),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False, True),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", False, True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01,00-x", False, True),
        ("\u00e4" * 300, False, True),
        ("", False, True),
    ],
)
def test_the_callers_trace_goes_on(http, seen, given, is_child, is_sampled):
    """A `traceparent` that is one is honoured; a malformed one is as none, and refuses no request."""
    answer = http.put("/v1/users/ada", json={"n": 1}, headers={"traceparent": given, "tracestate": "a=b"})
    assert answer.status_code in {200, 201}

    found = seen.named("PUT /v1/{collection}/{id}")
    assert is_sampled == bool(found) == bool(seen.named("commit users"))
    for one in found:
        assert is_child == (parent(one) == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331))
        assert is_child or parent(one) is None


def test_spans_join_those_of_the_application(pipeline, http, users, seen):
    """An application with a span for the request gets no second one; that of its task is the flush's parent."""
    tracer = trace.get_tracer("theirs")
    with tracer.start_as_current_span("their request") as theirs:
        http.put("/v1/users/ada", json={"n": 1})
        users.put("bob", {"n": 1})
    with tracer.start_as_current_span("their task") as task:
        flush_all(pipeline)

    assert not [one for one in seen.all() if one.name.startswith("PUT")]
    assert [ids(theirs.context)] * 2 == list(map(parent, seen.named("commit users")))
    assert {ids(task.context)} == set(map(parent, seen.named("flush")))
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_write_that_waits_is_one_trace_with_its_bulk_write(pipeline, http, seen):
    """A write with durability `persisted` is flushed by its own request."""
    assert 200 == http.put("/v1/users/ada?durability=persisted", json={"n": 1}).status_code

    request, flush = seen.one("PUT /v1/{collection}/{id}"), seen.one("flush")
    assert ids(request.context) == parent(flush)
    assert [ids(seen.one("commit users").context)] == links(seen.one("bulkWrite users"))


def test_a_miss_has_a_load_and_a_hit_has_none(http, stored, seen):
    """Spans of reads say where the answer is from."""
    stored.insert_one({"_id": "ada", "n": 1})
    http.get("/v1/users/ada")
    http.get("/v1/users/ada")

    requests = seen.named("GET /v1/{collection}/{id}")
    load = seen.one("load users")
    assert 2 == len(requests)
    assert ids(requests[0].context) == parent(load)
    assert ("find", "users", "miss") == tuple(
        load.attributes[name] for name in ("db.operation.name", "db.collection.name", "writebehind.source")
    )


def test_loads_of_several_documents(http, stored, seen):
    """One question to MongoDB is one span, which says how many documents it is about."""
    stored.insert_many([{"_id": "ada"}, {"_id": "bob"}])
    http.post("/v1/users:get", json={"ids": ["ada", "bob"]})

    assert 2 == seen.one("load users").attributes["db.operation.batch.size"]


def test_changes_of_others_are_a_batch(pipeline, users, stored, seen):
    """The listener has a span for what it applies, and none while nothing happens."""
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        assert users.get("ada") is None
        stored.insert_one({"_id": "ada", "n": 1})
        wait_to_see(users, "ada", 1)
        wait_until(lambda: seen.named("apply changes"), "the span")

    batch = seen.one("apply changes")
    assert SpanKind.CONSUMER is batch.kind
    assert 1 == batch.attributes["messaging.batch.message_count"]


def test_a_failure_says_its_kind_and_no_more(pipeline, http, users, seen, monkeypatch):
    """Redis or MongoDB is away: each span that failed says so, and by which class of error."""
    users.put(ADA, {"mail": ADA})

    def away(*_, **__):
        raise MongoUnavailableError("MongoDB does not answer", inner=ADA)

    with monkeypatch.context() as patch:
        patch.setattr(Sink, "_bulk", away)
        with pytest.raises(FlushInterruptedError):
            pipeline.flusher.flush(pipeline.store.partition_of(f"users/s:{ADA}"))
    for name, kind in (("bulkWrite users", "MongoUnavailableError"), ("flush", "FlushInterruptedError")):
        span = seen.one(name)
        assert (StatusCode.ERROR, kind) == (span.status.status_code, span.attributes["error.type"])
        assert span.status.description is None
        assert () == span.events
    seen.clear()

    def down(*_, **__):
        raise RedisUnavailableError("Redis does not answer", inner=ADA)

    monkeypatch.setattr(pipeline.store, "commit_many", down)
    assert 503 == http.put(f"/v1/users/{ADA}", json={"mail": ADA}).status_code
    request, commit = seen.one("PUT /v1/{collection}/{id}"), seen.one("commit users")
    assert (StatusCode.ERROR, "503") == (request.status.status_code, request.attributes["error.type"])
    assert (StatusCode.ERROR, "RedisUnavailableError") == (
        commit.status.status_code,
        commit.attributes["error.type"],
    )
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_an_interrupted_flush_is_linked_once_more(pipeline, users, seen, monkeypatch):
    """What MongoDB did not take stays linked: the flush that persists it in the end carries the link as well."""
    users.put("ada", {"n": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Sink, "_bulk", lambda *_, **__: (_ for _ in ()).throw(MongoUnavailableError("away")))
        with pytest.raises(FlushInterruptedError):
            pipeline.flusher.flush(pipeline.store.partition_of("users/s:ada"))
    flush_all(pipeline)

    commit = seen.one("commit users")
    assert [[ids(commit.context)]] * 2 == list(map(links, seen.named("bulkWrite users")))


def test_no_span_repeats_a_document(pipeline, http, stored, seen):
    """Ids and values are in no name, attribute, event or status: of requests, refusals and dead letters."""
    http.put(f"/v1/users/{ADA}", json={"mail": ADA})
    http.patch(f"/v1/users/{ADA}", json={"text": ADA}, headers={"Content-Type": "application/merge-patch+json"})
    http.get(f"/v1/users/{ADA}", query_string={"x": ADA})
    http.get(f"/v1/users/missing-{ADA}")
    http.put(f"/v1/users/{ADA}", json={"mail": ADA}, headers={"If-Match": '"' + "0" * 32 + '"'})
    http.put(f"/v1/users/{ADA}", data=ADA, headers={"Content-Type": "application/json"})
    stored.create_index("mail", unique=True)
    http.put(f"/v1/users/2{ADA}", json={"mail": ADA})
    flush_all(pipeline)

    assert 1 == pipeline.status()["dead_letters"]
    assert {"db.response.status_code"} <= {
        name for one in seen.named("bulkWrite users") for name in one.attributes
    }
    assert len(seen.all()) > 8
    assert ADA not in "".join(one.to_json() for one in seen.all())


def test_a_sampled_request_has_a_name_that_its_span_has_too(http, seen):
    """So each is found by the other."""
    named = http.put("/v1/users/ada", json={"n": 1}).headers["X-Request-Id"]
    assert named == seen.one("PUT /v1/{collection}/{id}").attributes["writebehind.request_id"]


@pytest.mark.parametrize("kind", ["refused", "contested", "conflict"])
def test_a_dead_letter_says_in_which_trace_it_was_written(pipeline, http, stored, seen, caplog, kind):
    """That of the last write of the document, in the letter, and in the line about it; without traces none."""
    caplog.set_level(logging.WARNING, "writebehind.flushing.recorder")
    collection = "people" if kind == "contested" else "users"
    theirs = stored.database[collection]
    theirs.create_index("name", unique=True)
    theirs.insert_one({"_id": "theirs", "name": "x"})
    document = {"name": "y" if kind == "conflict" else "x"}
    http.put(f"/v1/{collection}/ada", json={"name": "z"})
    answer = http.put(f"/v1/{collection}/ada", json=document)
    if kind == "conflict":
        theirs.insert_one({"_id": "ada", "_v": Int64(answer.json["version"] + 1)})
    flush_all(pipeline)

    *_, last = seen.named(f"commit {collection}")
    trace_id = f"{last.context.trace_id:032x}"
    letter = http.get(f"/admin/dead-letters/{collection}/ada").json
    assert "version" in letter, (answer.json, letter, [*theirs.find()], caplog.messages)
    assert (answer.json["version"], trace_id) == (letter["version"], letter["trace_id"])
    [record] = [one for one in caplog.records if getattr(one, "event", "") == "dead_letter"]
    assert (collection, letter["version"], trace_id) == (record.collection, record.version, record.write_trace_id)


def test_a_provider_that_is_set_later_is_seen(pipeline, users):
    """The pipeline need not be made after it."""
    users.put("ada", {"n": 1})
    with tracing() as seen:
        users.put("ada", {"n": 2})
        thread = threading.Thread(target=flush_all, args=(pipeline,))
        thread.start()
        thread.join()
    users.put("ada", {"n": 3})

    assert [ids(seen.one("commit users").context)] == links(seen.one("bulkWrite users"))


@pytest.mark.parametrize("moment", ["on_start", "on_end", "sampler"])
def test_a_fault_of_the_provider_is_in_the_way_of_no_write(pipeline, http, stored, caplog, moment):
    """Whatever an application's own sampler or processor raises: the write is acknowledged and persisted."""

    def fails(*_, **__):
        raise RuntimeError(moment)

    sampler, processor = ServersOnly(), SpanProcessor()
    setattr(*((sampler, "should_sample") if moment == "sampler" else (processor, moment)), fails)
    with tracing(sampler if moment == "sampler" else None) as seen:
        seen.provider.add_span_processor(processor)
        assert 200 == http.put("/v1/users/ada", json={"n": 1}).status_code
        assert 200 == http.get("/v1/users/ada").status_code
        flush_all(pipeline)

    assert 1 == stored.count_documents({})
    assert 0 == pipeline.status()["pending"]
    assert 1 == caplog.text.count(
        f"a span is lost, as what the tracer provider calls has failed: RuntimeError('{moment}')"
    )
    assert trace.get_current_span() is trace.INVALID_SPAN
