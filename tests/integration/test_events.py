"""Changes of state as events: each is logged once by each process that sees it, and says what to do."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from threading import Event, Thread

import pytest

from tests.integration.test_admission import FixedSampler
from tests.listening import Stream, listening_to
from tests.waiting import wait_until
from writebehind import CollectionSettings, Pipeline, Settings
from writebehind.errors import RedisUnavailableError
from writebehind.local.embedded import EmbeddedRedis
from writebehind.logs.formats import JsonFormat
from writebehind.redis import keys
from writebehind.redis.connections import connection_pool
from writebehind.redis.shared.caps import Caps
from writebehind.redis.shared.load_sample import LoadSample
from writebehind.redis.wire import Wire
from writebehind.writing.admission import Admission


@pytest.fixture(autouse=True)
def levels(caplog) -> None:
    caplog.set_level(logging.INFO, "writebehind")


def events(caplog: pytest.LogCaptureFixture, *fields: str) -> list[tuple[str, ...]]:
    """Each event with some of its fields, since the last look."""
    found = [
        tuple(getattr(record, name, "") for name in ("event", *fields))
        for record in caplog.records
        if hasattr(record, "event")
    ]
    caplog.clear()
    return found


def test_redis_is_lost_and_back(tmp_path, caplog):
    """A line each, however many calls fail meanwhile, and the error says that the log has it."""
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 2_000))
        wire.call("PING")
        server.kill()
        for _ in range(5):
            with pytest.raises(RedisUnavailableError) as failed:
                wire.call("PING")
            assert failed.value.logged
        assert "see that Redis runs" in caplog.messages[0]
        assert [("redis_lost",)] == events(caplog)
        server.start()
        for _ in range(5):
            wire.call("PING")
        [back] = caplog.records
        assert back.after_s >= 0
        assert [("redis_back",)] == events(caplog)


def test_a_redis_that_refuses_the_login_is_lost(tmp_path, caplog):
    """The log says what it says, without the password."""
    with EmbeddedRedis(tmp_path) as server:
        url = server.url.replace("redis://", "redis://nobody:secret@")
        wire = Wire(connection_pool(url, 2_000))
        for _ in range(3):
            with pytest.raises(RedisUnavailableError):
                wire.call("PING")
    assert "secret" not in caplog.text
    assert [("redis_lost",)] == events(caplog)


def test_back_pressure_comes_and_goes(caplog):
    """Each cap has its own line at each end; about the cap there are not two a second."""
    sampler, behind = FixedSampler(9, 1.0), CollectionSettings.model_validate({"max_dead_letters": 2})
    admission = Admission(sampler, Caps(10, 0.9))

    def sample(**figures: object) -> list[tuple[str, ...]]:
        sampler.vitals = replace(sampler.vitals, **figures)
        for _ in range(3):
            admission.cap("users", behind)
            admission.cap("others", behind)
        return events(caplog, "cap", "collection")

    assert [] == sample()
    assert [("backpressure_on", "pending", "")] == sample(pending=(1, 10))
    assert [] == sample(pending=(1, 9)) + sample(pending=(1, 12))
    assert [("backpressure_off", "pending", "")] == sample(pending=(1, 8))
    assert [("backpressure_on", "memory", "")] == sample(max_memory=110)
    assert [("backpressure_off", "memory", "")] == sample(max_memory=1_000)
    assert [("backpressure_on", "dead-letters", "users")] == sample(dead={"users": 2, "others": 1})
    assert [("backpressure_off", "dead-letters", "users")] == sample(dead={"users": 1})


def test_back_pressure_ends_though_nobody_writes(caplog):
    """Clients may have gone away meanwhile: whoever watches sees within a second or two that it is over."""
    sampler, behind = FixedSampler(9, 1.0), CollectionSettings.model_validate({"max_dead_letters": 2})
    admission, stop = Admission(sampler, Caps(10, 0.9)), Event()
    sampler.vitals = replace(sampler.vitals, pending=(10, 0), dead={"users": 2})
    admission.cap("users", behind)
    assert {("backpressure_on", "pending"), ("backpressure_on", "dead-letters")} == {*events(caplog, "cap")}
    watching = Thread(target=admission.watch, args=(stop,))
    watching.start()
    try:
        sampler.vitals = replace(sampler.vitals, pending=(0, 0), dead={})
        wait_until(lambda: 2 == len(caplog.records), "both ends", 20)
    finally:
        stop.set()
        watching.join(20)
    assert {("backpressure_off", "pending"), ("backpressure_off", "dead-letters")} == {*events(caplog, "cap")}


def test_a_refusal_begins_it_at_once_and_has_no_line_of_its_own(caplog):
    """The last sample may have been too early to see that a partition is full."""
    sampler, behind = FixedSampler(9, 1.0), CollectionSettings()
    admission = Admission(sampler, Caps(10, 0.9))
    admission.cap("users", behind)
    assert [] == events(caplog)
    assert all(admission.refusal("users", behind).logged for _ in range(3))
    assert [("backpressure_on", "pending")] == events(caplog, "cap")
    sampler.vitals = replace(sampler.vitals, pending=(0, 0), crowded=frozenset({"users/s:ada"}))
    admission.cap("users", behind)
    assert [("backpressure_off", "pending")] == events(caplog, "cap")
    assert not admission.refusal("users", behind, "users/s:ada").logged  # of one document nothing else tells


def test_a_sample_is_looked_at_once():
    """A write pays for no more than a comparison."""
    sampler = FixedSampler(9, 1.0)
    admission = Admission(sampler, Caps(10, 0.9))
    seen: list[LoadSample] = []
    admission._see = lambda vitals: (seen.append(vitals), setattr(admission, "_seen", vitals))
    for _ in range(5):
        admission.cap("users", CollectionSettings())
    assert 1 == len(seen)


def test_a_leader_is_taken_and_lost(pipeline, monkeypatch, caplog):
    """Of two listeners one leads; whose lease another one takes says so, and waits."""
    listeners = [listening_to(pipeline, monkeypatch, lambda **_: Stream([])) for _ in range(2)]
    threads = [Thread(target=one.listen) for one in listeners]
    threads[0].start()
    try:
        wait_until(lambda: "listens to changes" in caplog.text, "it to lead", 20)
        assert [("leader_taken", "listener")] == events(caplog, "role")
        threads[1].start()
        wait_until(lambda: "waits, as another" in caplog.text, "the other to wait", 20)
        assert [("leader_waits", "listener")] == events(caplog, "role")
        pipeline.store._wire.call("SET", keys.LISTENER_LEASE, listeners[1]._token)
        wait_until(lambda: 3 == len(caplog.records), "them to change", 20)
        found = events(caplog, "role")
    finally:
        for one in listeners:
            one.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join(10)
    assert [("leader_lost", "listener"), *[("leader_taken", "listener"), ("leader_waits", "listener")]] == sorted(
        found, key=lambda one: ("leader_lost", "leader_taken", "leader_waits").index(one[0])
    )


def test_who_reconciles_says_so_once(pipeline, caplog):
    """However often the task runs; and again where it has lost the pass to somebody else."""
    for _ in range(3):
        pipeline.reconciler.go_on()
    assert [("leader_taken", "reconcile")] == events(caplog, "role")
    pipeline.reconciler.history.save = lambda *_: False
    pipeline.reconciler.history.finish = lambda *_: False
    assert {"busy": True} == pipeline.reconciler.go_on()
    pipeline.reconciler.go_on()
    assert ["leader_lost", "leader_taken", "leader_lost"] == [one for one, *_ in events(caplog)]


def test_the_lines_of_a_flush_have_its_partition_and_ticket(settings: Settings, valkey_wire, mongo_client, caplog):
    """Whoever logs, within the flush and no longer."""
    lines: list[dict[str, object]] = []

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormat("worker").format(record)))

    pipeline = Pipeline(settings, wire=valkey_wire, client=mongo_client)
    log, handler = logging.getLogger("writebehind.here"), Told()
    log.addHandler(handler)
    try:
        pipeline.flusher._claim = lambda *_: log.warning("so")
        pipeline.flusher.flush(3, ticket="t1")
        log.warning("so")
    finally:
        log.removeHandler(handler)
    assert [(3, "t1"), (None, None)] == [(one.get("partition"), one.get("ticket")) for one in lines]
