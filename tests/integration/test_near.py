"""The near cache, on real servers."""

from __future__ import annotations

import time

import pytest

from tests.waiting import slowness, wait_until
from writebehind import Pipeline
from writebehind.documents.entry import ABSENT, Entry, Kind
from writebehind.reading.near_cache import PING_S, SILENT_S, NearCache
from writebehind.reading.read import Source
from writebehind.redis.wire import Wire, connection_pool


@pytest.fixture
def config(settings):
    near = settings.collections["slow"].model_copy(update={"near_cache": True})
    return settings.model_copy(update={"collections": {"users": near, "far": settings.collections["slow"]}})


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client):
    pipeline = Pipeline(config, wire=valkey_wire, client=mongo_client)
    yield pipeline
    pipeline.reader.close()


@pytest.fixture
def other(config, valkey_wire, mongo_client):
    """Another process on the same servers."""
    pipeline = Pipeline(config, wire=valkey_wire, client=mongo_client)
    yield pipeline
    pipeline.reader.close()


def wait_for_near(users, name: str) -> None:
    wait_until(lambda: users.read(name).source is Source.NEAR, "the near cache", 10)


def test_reads_come_from_memory(pipeline, monkeypatch):
    """What was read is read again without Redis; not in a collection without a near cache, and not if told so."""
    users, far = pipeline.collection("users"), pipeline.collection("far")
    users.put("ada", {"n": 1})
    far.put("ada", {"n": 1})
    wait_for_near(users, "ada")
    asked = []
    calls = Wire.calls
    monkeypatch.setattr(Wire, "calls", lambda wire, sent: asked.append(sent[0][0]) or calls(wire, sent))
    sources = {users.read("ada").source for _ in range(50)}
    assert ({Source.NEAR}, 0) == (sources, asked.count("GET"))
    assert {"_id": "ada", "n": 1} == users.get("ada")
    assert Source.HIT is users.read("ada", near=False).source
    assert [Source.HIT] * 3 == [far.read("ada").source for _ in range(3)]


def test_own_writes_are_read_at_once(pipeline):
    """A process reads what it has written, however late Redis says that it changed."""
    users = pipeline.collection("users")
    for n in range(300):
        users.put("ada", {"n": n})
        assert n == users.get("ada")["n"]
        assert n == users.get("ada")["n"]
    users.delete("ada")
    assert users.get("ada") is None


def test_the_writes_of_others_are_read_soon(pipeline, other):
    """Redis tells what changed: writes, and what is invalidated or emptied."""
    users, theirs = pipeline.collection("users"), other.collection("users")
    for n in range(20):
        theirs.put("ada", {"n": n})
        wait_until(lambda n=n: users.get("ada")["n"] == n, "the write of another process", 2)
        wait_for_near(users, "ada")
    pipeline.store._wire.call("FLUSHALL")
    wait_until(lambda: users.get("ada") is None, "what was emptied", 2)


def test_while_redis_cannot_be_heard(pipeline, other, valkey_wire):
    """Nothing is served from memory once the connection that listens is gone; then it is opened anew."""
    users = pipeline.collection("users")
    users.put("ada", {"n": 1})
    wait_for_near(users, "ada")
    assert 1 <= valkey_wire.call("CLIENT", "KILL", "TYPE", "pubsub")
    other.collection("users").put("ada", {"n": 2})
    wait_until(lambda: users.get("ada")["n"] == 2, "the write", 2)
    wait_for_near(users, "ada")


def test_what_changes_while_it_is_read_is_not_kept(valkey_wire):
    """A message that comes between the announcement and the answer wins."""
    near = NearCache(valkey_wire.pool, ["near:"], most=10, most_bytes=1_000)
    near.get("near:a")
    wait_until(lambda: near._told_until > time.monotonic(), "it to listen", 5)
    ticket = near.expect("near:a")
    valkey_wire.call("SET", "near:a", "x")
    wait_until(lambda: "near:a" not in near._expected, "the message", 5)
    near.keep("near:a", ticket, ABSENT, 60_000)
    assert near.get("near:a") is None
    near.keep("near:a", near.expect("near:a"), ABSENT, 60_000)
    assert (ABSENT, True) == ((found := near.get("near:a"))[0], 59_000 < found[1] <= 60_000)
    near.close()


def test_readers_at_the_same_time(valkey_wire):
    """Where the next reader always begins before the last one ends, what they read is kept all the same."""
    near = NearCache(valkey_wire.pool, ["near:"], most=10, most_bytes=1_000)
    near.get("near:a")
    wait_until(lambda: near._told_until > time.monotonic(), "it to listen", 5)
    tickets = [near.expect("near:a") for _ in range(2)]
    near.keep("near:a", tickets[0], ABSENT, 60_000)
    assert near.get("near:a") is not None

    valkey_wire.call("SET", "near:a", "x")
    wait_until(lambda: near.get("near:a") is None, "the message", 5)
    late = near.expect("near:a")
    near.keep("near:a", tickets[1], ABSENT, 60_000)  # of before the change
    assert near.get("near:a") is None
    near.keep("near:a", late, ABSENT, 60_000)
    assert near.get("near:a") is not None
    near.close()


def test_memory_is_bounded(valkey_wire):
    """So many bytes are kept: what came last, and nothing that alone is more."""

    def entry(size: int) -> Entry:
        return Entry(1, Kind.DOCUMENT, "e" * 32, b"x" * size)

    def keep(key: str, size: int) -> None:
        near.keep(key, near.expect(key), entry(size), 60_000)

    def kept() -> str:
        return "".join(name for name in "abcd" if near.get(f"near:{name}"))

    near = NearCache(valkey_wire.pool, ["near:"], most=10, most_bytes=1_000)
    near.get("near:a")
    wait_until(lambda: near._told_until > time.monotonic(), "it to listen", 5)
    for name in "abc":
        keep(f"near:{name}", 400)
    assert "bc" == kept()
    keep("near:b", 600)  # in the place of what was known of it
    assert "bc" == kept()
    near.drop(["near:c"])
    keep("near:a", 400)
    assert "ab" == kept()
    keep("near:d", 1_001)
    assert "ab" == kept()
    keep("near:d", 1_000)
    assert "d" == kept()
    near.close()


def test_what_was_read_before_it_listens_is_not_kept(valkey_wire, monkeypatch):
    """Nobody has told what changed by then."""
    near = NearCache(valkey_wire.pool, ["near:"], most=10, most_bytes=1_000)
    with monkeypatch.context() as patch:
        patch.setattr(near, "_start", lambda: None)
        assert near.get("near:a") is None
        ticket = near.expect("near:a")
    valkey_wire.call("SET", "near:a", "x")
    near.get("near:a")
    wait_until(lambda: near._told_until > time.monotonic(), "it to listen", 5)
    near.keep("near:a", ticket, ABSENT, 60_000)
    assert near.get("near:a") is None
    near.close()


def test_it_is_bounded(valkey_wire):
    """The oldest make room; entries that will soon expire are looked at again before."""
    near = NearCache(valkey_wire.pool, ["near:"], most=10, most_bytes=1_000)
    near.get("near:a")
    wait_until(lambda: near._told_until > time.monotonic(), "it to listen", 5)
    for n in range(100):
        near.keep(f"near:{n}", near.expect(f"near:{n}"), ABSENT, 60_000)
        near.expect(f"never read {n}")
    assert (10, True, True) == (len(near), near.get("near:89") is None, near.get("near:99") is not None)
    assert len(near._expected) <= 10
    near.keep("near:soon", near.expect("near:soon"), ABSENT, 400)
    wait_until(lambda: near.get("near:soon") is None, "half of its time to be over", 2)
    near.close()


def test_a_redis_that_does_not_track(valkey_wire, caplog):
    """It is said, and everything is read from Redis."""
    near = NearCache(
        valkey_wire.pool, ["a:", "a:b"], most=10, most_bytes=1_000
    )  # prefixes that overlap are refused
    near.get("a:x")
    wait_until(lambda: "does not track keys" in caplog.text, "it to say so", 5)
    near.keep("a:x", near.expect("a:x"), ABSENT, 60_000)
    assert near.get("a:x") is None
    near.close()
    assert not near._thread.is_alive()


def test_a_redis_that_hangs(valkey, valkey_wire, way_to):
    """Nothing is served from memory soon after Redis has fallen silent, with TLS and without; then it goes on."""
    with way_to("redis", valkey.port) as way:
        near = NearCache(connection_pool(way.url, 500), ["near:"], most=10, most_bytes=1_000)
        near.get("near:a")
        wait_until(lambda: near._told_until > time.monotonic(), "it to listen", 5)
        near.keep("near:a", near.expect("near:a"), ABSENT, 60_000)
        assert near.get("near:a") is not None
        way.proxy.hang()
        began = time.monotonic()
        wait_until(lambda: near.get("near:a") is None, "silence to be noticed", 2 * SILENT_S)
        assert time.monotonic() - began < (SILENT_S + PING_S) * slowness()
        way.proxy.flow()
        wait_until(lambda: near._told_until > time.monotonic(), "it to listen again", 10)
        near.close()
        assert not near._thread.is_alive()


def test_many_changes_at_once(valkey, valkey_wire, way_to):
    """Each of them is heard, also where TLS holds several messages in what was read at once."""
    names = [f"near:{n}:{'x' * 200}" for n in range(500)]
    with way_to("redis", valkey.port) as way:
        near = NearCache(connection_pool(way.url, 5_000), ["near:"], most=1_000, most_bytes=1 << 20)
        near.get("near:a")
        wait_until(lambda: near._told_until > time.monotonic(), "it to listen", 5)
        for name in names:
            near.keep(name, near.expect(name), ABSENT, 60_000)
        assert len(names) == len(near)
        valkey_wire.calls([("SET", name, "x") for name in names])
        wait_until(lambda: len(near) == 0, "all messages", PING_S)
        near.close()
