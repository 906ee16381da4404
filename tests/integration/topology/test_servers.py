"""Independent servers with names: writes, reads and flushes as on one server, each of which refuses by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count

import pytest
from redis import ConnectionPool
from redis.exceptions import ResponseError

from tests.forking import in_child
from tests.integration.conftest import flush_all
from tests.integration.topology.test_cluster import by_partition
from tests.topologies import EveryWire, NamedServers, ask
from tests.waiting import wait_until
from writebehind import BulkOperation, Pipeline
from writebehind.errors import ConfigurationError, ForeignRedisError, RedisNotReadyError, RedisUnavailableError
from writebehind.local.embedded import LOOPBACK
from writebehind.redis import keys
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import partition_keys
from writebehind.redis.topology.guard import HOME
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.topology.record import fair
from writebehind.redis.wire import Wire

PARTITIONS = 16
TIMEOUT_MS = 1_000
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Three servers with names."""
    with NamedServers(tmp_path_factory.mktemp("servers"), NAMES) as servers:
        yield servers


@pytest.fixture
def opened(settings, servers, mongo_client, hints):
    """Makes pipelines on a URL of these servers, all of which are empty at first."""
    for one in servers.servers.values():
        ask(one.port, "FLUSHALL")
    wires = []

    def open_on(url: str, **changed) -> Pipeline:
        wires.append(EveryWire(open_servers(url, TIMEOUT_MS)))
        changed = settings.model_copy(update={"redis_url": url, "partitions": PARTITIONS, **changed})
        return Pipeline(changed, hints=hints, wire=wires[-1], client=mongo_client)

    yield open_on
    for one in wires:
        one.close()


@pytest.fixture
def on_servers(opened, servers):
    """A pipeline on the three. Nobody flushes but the test."""
    pipeline = opened(servers.url)
    pipeline.store.check()
    return pipeline


@contextmanager
def busy(server) -> Iterator[None]:
    """A script keeps a server busy, which thus refuses all else."""
    ask(server.port, "CONFIG", "SET", "busy-reply-threshold", 1)
    wire = Wire(ConnectionPool(host=LOOPBACK, port=server.port, protocol=2, socket_timeout=30))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(wire.exchange, [("EVAL", "while true do end", 0)])

        def refuses() -> bool:
            try:
                ask(server.port, "GET", "any")
            except RedisNotReadyError:
                return True
            return False

        wait_until(refuses, "the server to be busy")
        try:
            yield
        finally:
            ask(server.port, "SCRIPT", "KILL")
            running.result(30)
            ask(server.port, "CONFIG", "SET", "busy-reply-threshold", 5_000)
            wire.close()


def place(pipeline, partition: int) -> str:
    """The name of the server that a partition is on."""
    return pipeline.store.server_of(partition)


def test_documents_are_written_read_and_flushed(on_servers):
    """A document in each partition reaches Redis and MongoDB, on the server that rendezvous hashing names."""
    users, documents = on_servers.collection("users"), by_partition(on_servers)
    for name in documents.values():
        users.put(name, {"name": name})

    assert {one: fair(str(one), NAMES) for one in range(PARTITIONS)} == {
        one: place(on_servers, one) for one in documents
    }
    assert {name: {"_id": name, "name": name} for name in documents.values()} == {
        name: users.get(name) for name in documents.values()
    }
    for one in range(PARTITIONS):
        on_servers.flusher.flush(one)
    assert 0 == on_servers.status()["pending"]


def test_a_server_has_its_own_partitions_and_no_others(on_servers, servers):
    """Each key stands where its partition belongs; what belongs to none, on the first server."""
    users, documents = on_servers.collection("users"), by_partition(on_servers)
    for name in documents.values():
        users.put(name, {"name": name})

    for name, one in servers.servers.items():
        found = {key.decode() for key in ask(one.port, "KEYS", "*")} - {keys.SERVER}
        tags = {key[4 : key.index("}")] if key.startswith("wb:{") else HOME for key in found}
        expected = {str(at) for at in documents if fair(str(at), NAMES) == name} | (
            {HOME} if name == "a" else set()
        )
        assert expected == tags


def test_a_dead_server_makes_only_its_partitions_unavailable(on_servers, servers):
    """Of a bulk, the items of a server that is away are refused, and the others are written."""
    slow, documents = on_servers.collection("slow"), by_partition(on_servers)
    for name in documents.values():
        slow.put(name, {"n": 0})
    dead = servers.servers["b"]
    dead.kill()
    try:
        results = slow.bulk([BulkOperation("put", name, {"n": 1}) for name in documents.values()])
        failed = {one for one, found in zip(documents, results, strict=True) if isinstance(found, Exception)}
        assert {one for one in documents if place(on_servers, one) == "b"} == failed
    finally:
        dead.start()

    def served() -> bool:
        try:
            return all(slow.get(name)["n"] == (0 if one in failed else 1) for one, name in documents.items())
        except RedisUnavailableError:
            return False

    wait_until(served, "the server to be back", 10)


def test_partitions_are_written_while_the_server_of_the_records_is_away(on_servers, servers, monkeypatch):
    """What is told of the whole installation is on the first server: the others take writes without it."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    slow, documents = on_servers.collection("slow"), by_partition(on_servers)
    for name in documents.values():
        slow.put(name, {"n": 0})
    others = [name for one, name in documents.items() if place(on_servers, one) != "a"]
    dead = servers.servers["a"]
    dead.kill()
    try:
        assert others
        for name in others:
            slow.put(name, {"n": 1})
        assert {1} == {slow.get(name)["n"] for name in others}
    finally:
        dead.start()


def test_a_process_that_lacks_a_server_does_not_start(on_servers, opened, servers):
    """It says which one is missing, and what to do without it."""
    with pytest.raises(
        ConfigurationError, match="REDIS_URL: it lacks c of the servers a, b, c: add what is missing"
    ):
        opened(servers.url_of("a", "b")).store.check()


def test_a_process_with_swapped_urls_does_not_start(on_servers, opened, servers):
    """A server knows its name."""
    swapped = servers.url_of("a", "b", "c").replace("b=", "x=").replace("c=", "b=").replace("x=", "c=")
    with pytest.raises(
        ConfigurationError, match=r"server . calls itself .: give each server the name that it had"
    ):
        opened(swapped).store.check()


def test_a_process_that_names_one_of_them_alone_does_not_start(on_servers, opened, servers):
    """A server knows that there are others."""
    with pytest.raises(ConfigurationError, match="this is server b of a, b, c: name all of them"):
        opened(servers.servers["b"].url).store.check()


def test_a_running_process_with_swapped_urls_writes_nothing_astray(on_servers, opened, servers):
    """A server refuses by itself what is not on it, so a write is where everybody looks for it, or nowhere."""
    swapped = opened(servers.url_of("a", "b", "c").replace("b=", "x=").replace("c=", "b=").replace("x=", "c="))
    members = [f"slow/s:{name}" for name in by_partition(on_servers).values()]
    written = swapped.store.commit_many([CommitRequest(member, b"D", 60_000) for member in members])

    assert {"ok"} == {one.status for one in written}
    assert len(members) == on_servers.status()["pending"]
    with pytest.raises(ForeignRedisError):
        swapped.collection("slow").put("u1", {"n": 1})


def test_a_partition_that_nobody_has_is_refused_at_once(on_servers, opened, servers):
    """A process with another number of partitions can leave nothing where nobody looks."""
    other = opened(servers.url, partitions=4_000)
    began = time.monotonic()
    (written,) = other.store.commit_many([CommitRequest("slow/s:u1", b"D", 60_000)])

    assert "refused" == written.status
    assert "no Redis server has this partition" in str(written.refusal)
    assert time.monotonic() - began < TIMEOUT_MS / 1000


def test_a_server_more_has_nothing_until_it_is_given_something(opened, servers):
    """A process that knows a further server starts, and goes by what is recorded."""
    two = opened(servers.url_of("a", "b"))
    two.store.check()
    three = opened(servers.url)
    three.store.check()
    documents = by_partition(two)
    for name in documents.values():
        three.collection("slow").put(name, {"n": 1})

    assert dict.fromkeys(documents.values(), 1) == {
        name: two.collection("slow").get(name)["n"] for name in documents.values()
    }
    assert {one: place(two, one) for one in documents} == {one: place(three, one) for one in documents}
    assert [] == ask(servers.servers["c"].port, "KEYS", "*")


def test_a_server_that_gets_a_name_keeps_what_it_has(opened, servers):
    """One that was used without a name goes on being used so until something is moved, and has all of it."""
    alone = opened(servers.servers["b"].url)
    alone.store.check()
    documents = by_partition(alone)
    for name in documents.values():
        alone.collection("slow").put(name, {"n": 1})
    named = opened(servers.url)
    named.store.check()

    assert dict.fromkeys(documents.values(), 1) == {
        name: named.collection("slow").get(name)["n"] for name in documents.values()
    }
    assert {"b"} == {place(named, one) for one in documents}
    alone.store.check()


def test_two_installations_are_not_joined(opened, servers):
    """Servers of which two were used by themselves are refused."""
    for name in ("a", "b"):
        opened(servers.servers[name].url).store.check()
    with pytest.raises(ConfigurationError, match="a and b each hold an installation of their own"):
        opened(servers.url).store.check()


def test_a_server_that_has_lost_all_is_recorded_anew(on_servers, servers, opened):
    """As one Redis would be: its partitions are empty, and the others are as they were."""
    documents = by_partition(on_servers)
    slow = on_servers.collection("slow")
    for name in documents.values():
        slow.put(name, {"n": 1})
    ask(servers.servers["b"].port, "FLUSHALL")
    again = opened(servers.url)
    again.store.check()

    gone = [name for one, name in documents.items() if place(again, one) == "b"]
    assert gone
    for name in gone:
        slow.put(name, {"n": 1})
    assert {1} == {again.collection("slow").get(name)["n"] for name in documents.values()}


def test_nothing_is_acknowledged_where_nobody_looks_after_a_server_came_back_empty(
    opened, servers, mongo_client, monkeypatch
):
    """One that had everything: nothing is done there before it is recorded anew, and nothing waits for that."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 3_600.0)  # nor does a sample say so
    opened(servers.url_of("a")).store.check()
    pipeline = opened(servers.url_of("a", "b"))
    slow, documents = pipeline.collection("slow"), by_partition(pipeline)
    for name in documents.values():
        slow.put(name, {"n": 1})
    flush_all(pipeline)
    assert {"a"} == {place(pipeline, one) for one in documents}

    ask(servers.servers["a"].port, "FLUSHALL")
    for name in documents.values():
        slow.put(name, {"n": 2})
    later = opened(servers.url_of("a", "b"))
    later.store.check()
    assert {"a", "b"} == {place(later, one) for one in documents}
    assert dict.fromkeys(documents.values(), 2) == {
        name: later.collection("slow").get(name)["n"] for name in documents.values()
    }
    assert len(documents) == later.status()["pending"]
    flush_all(later)
    assert {2} == {one["n"] for one in mongo_client[later.settings.mongodb_database]["slow"].find()}


def test_a_server_that_came_back_empty_waits_for_one_that_may_have_what_it_had(on_servers, servers):
    """What was moved from it to one that is away is not known: all that it had is refused until then."""
    slow, documents = on_servers.collection("slow"), by_partition(on_servers)
    for name in documents.values():
        slow.put(name, {"n": 1})
    places = {one: place(on_servers, one) for one in documents}
    dead = servers.servers["c"]
    ask(servers.servers["b"].port, "FLUSHALL")
    dead.kill()
    try:
        failed = {}
        for one, name in documents.items():
            try:
                slow.put(name, {"n": 2})
            except RedisUnavailableError as error:
                failed[one] = str(error)
        assert {one for one, name in places.items() if name in {"b", "c"}} == set(failed)
        assert {
            "a Redis server came back empty, and what it is to have is not known until all servers answer"
        } == {said for one, said in failed.items() if places[one] == "b"}
    finally:
        dead.start()

    def served() -> bool:
        try:
            for name in documents.values():
                slow.put(name, {"n": 3})
        except RedisUnavailableError:
            return False
        return True

    wait_until(served, "the servers to be back", 10)
    assert {3} == {slow.get(name)["n"] for name in documents.values()}
    assert places == {one: place(on_servers, one) for one in documents}


def test_who_records_first_is_not_contradicted(opened, servers):
    """Of two processes with different lists that find nothing, the second goes by what the first has recorded."""
    one, other = opened(servers.url_of("a", "b")), opened(servers.url)
    assigned, complete = other.store.assigned, other.store.assigned._complete

    def overtaken(*seen):
        assigned._complete = complete
        one.store.check()
        return complete(*seen)

    assigned._complete = overtaken
    other.store.check()

    assert [] == ask(servers.servers["c"].port, "KEYS", "*")
    assert {at: place(one, at) for at in range(PARTITIONS)} == {at: place(other, at) for at in range(PARTITIONS)}
    one.store.check()


def test_what_moves_while_records_are_read_has_one_place(opened, servers):
    """A server may be asked before it has a partition, and another one after that has gone from there."""
    two = opened(servers.url_of("a", "b"))
    two.store.check()
    assigned, read = two.store.assigned, two.store.assigned.records
    partition = next(one for one in range(PARTITIONS) if place(two, one) == "a")
    before = read()

    def torn():
        if next(turns) != 1:  # the first is to see that the list fits
            return read()
        ask(servers.servers["b"].port, "HSET", keys.SERVER, partition, 1, "epoch", "new")
        ask(servers.servers["a"].port, "HDEL", keys.SERVER, partition)
        ask(servers.servers["a"].port, "HSET", keys.SERVER, "epoch", "new")
        return read() | {"b": before["b"]}

    turns = count()
    assigned.records = torn
    assigned.record(PARTITIONS)

    assert 0 == ask(servers.servers["a"].port, "HEXISTS", keys.SERVER, partition)
    assert "b" == place(two, partition)


def test_a_server_that_somebody_keeps_busy_has_its_record(opened, servers):
    """It refuses to say so, as all else, and nobody gives what it has to another one."""
    alone = opened(servers.url_of("b"))
    alone.store.check()
    pipeline = opened(servers.url_of("a", "b"))
    documents = by_partition(pipeline)
    for name in documents.values():
        pipeline.collection("slow").put(name, {"n": 1})
    pipeline.store.rebalancing.use(("a", "b"))
    with busy(servers.servers["b"]):
        new = opened(servers.url_of("a", "b"))
        with suppress(RedisUnavailableError):
            new.store.check()
        assert {b"name", b"servers", b"epoch"} == {*ask(servers.servers["a"].port, "HKEYS", keys.SERVER)}
    new.store.check()
    assert {"b"} == {place(new, one) for one in documents}


def test_one_that_is_kept_busy_makes_only_its_partitions_wait(on_servers, servers, monkeypatch):
    """Its answers to the sample, which are all `BUSY`, do not stand for those of others."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    slow, documents = on_servers.collection("slow"), by_partition(on_servers)
    for name in documents.values():
        slow.put(name, {"n": 1})
    with busy(servers.servers["b"]):
        results = slow.bulk([BulkOperation("put", name, {"n": 2}) for name in documents.values()])
        failed = {one for one, found in zip(documents, results, strict=True) if isinstance(found, Exception)}
        assert {one for one in documents if fair(str(one), NAMES) == "b"} == failed
        assert ["b"] == [one["server"] for one in on_servers.status()["away"]]


def test_a_read_follows_a_partition_that_has_moved(on_servers, servers, opened):
    """What is not here any more is not read here, even if it is still there."""
    slow, documents = on_servers.collection("slow"), by_partition(on_servers)
    for name in documents.values():
        slow.put(name, {"n": 1})
    partition = next(one for one in documents if place(on_servers, one) == "a")
    name, key = documents[partition], partition_keys(partition).entry(f"slow/s:{documents[partition]}")
    old, new = servers.servers["a"].port, servers.servers["b"].port
    for one in ask(old, "KEYS", f"wb:{{{partition}}}:*"):
        ask(new, "RESTORE", one, 0, ask(old, "DUMP", one))
    ask(new, "HSET", keys.SERVER, partition, 1, "epoch", "new")
    ask(old, "HDEL", keys.SERVER, partition)
    ask(old, "HSET", keys.SERVER, "epoch", "new")
    other = opened(servers.url).collection("slow")
    other.put(name, {"n": 2})

    assert ask(old, "EXISTS", key)
    assert 2 == slow.get(name)["n"]
    slow.put(name, {"n": 3})
    assert 3 == other.get(name)["n"]


def test_a_command_may_have_many_arguments(on_servers):
    """Lua takes in some thousands at once: counts and strays are taken out all the same, by one command."""
    wire, many = on_servers.store._wire, [f"m{n}" for n in range(20_001)]
    wire.call("DEL", keys.COUNTERS)

    assert len(many) == wire.call("HSET", keys.COUNTERS, *(part for one in many for part in (one, 1)))
    assert [b"1", b"1"] == wire.call("HMGET", keys.COUNTERS, many[0], many[-1])
    assert len(many) == wire.call("HDEL", keys.COUNTERS, *many)
    assert 0 == wire.call("EXISTS", keys.COUNTERS)
    with pytest.raises(ResponseError, match="ZADD has too many arguments to be sent at once"):
        wire.call("ZADD", keys.COUNTERS, *(part for one in many for part in (1, one)))


def test_a_fork_has_connections_of_its_own(on_servers):
    """A child process asks the servers itself."""
    slow = on_servers.collection("slow")
    slow.put("u1", {"n": 1})

    assert 1 == in_child(lambda: slow.get("u1")["n"])
    assert 1 == slow.get("u1")["n"]


def test_a_server_without_a_record_carries_out_nothing(on_servers, servers, opened):
    """Nobody knows what is on it, so nothing is written astray; the error names it, until it is recorded anew."""
    on_servers.store._wire.record_by(lambda: None)  # else it would be at once
    documents = by_partition(on_servers)
    name = next(name for one, name in documents.items() if place(on_servers, one) == "b")
    request, port = CommitRequest(f"slow/s:{name}", b"D", 60_000), servers.servers["b"].port
    ask(port, "DEL", keys.SERVER)
    ask(port, "SET", keys.SERVER, "x")

    (written,) = on_servers.store.commit_many([request])
    assert "refused" == written.status
    assert isinstance(written.refusal, RedisNotReadyError)
    assert "server b: other hands put something else in the place of wb:server" in str(written.refusal)
    opened(servers.url).store.check()
    (written,) = on_servers.store.commit_many([request])
    assert "ok" == written.status


def test_a_record_that_other_hands_changed_is_made_anew(on_servers, servers, opened):
    """What is no record is taken out."""
    port = servers.servers["b"].port
    ask(port, "DEL", keys.SERVER)
    ask(port, "SET", keys.SERVER, "x")
    opened(servers.url).store.check()

    assert b"hash" == ask(port, "TYPE", keys.SERVER)
    on_servers.store.check()
