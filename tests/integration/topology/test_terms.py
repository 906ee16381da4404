"""Versions after a failover, to a replica that has missed writes and whose clock is behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.conftest import flush_all
from tests.integration.test_clock_steps import FAKETIME, wrapper
from tests.topologies import Watched
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.errors import NoReplicasError, RedisNotReadyError, RedisUnavailableError, ReplicaError
from writebehind.local.embedded import valkey_binary
from writebehind.reading.read import Source
from writebehind.redis.connections import Connections, connection_pool
from writebehind.redis.info import parse_info
from writebehind.redis.keys import DATABASE, Layout, partition_keys
from writebehind.redis.leaping import LEAP_BEYOND_LAST_US
from writebehind.redis.terms import Terms
from writebehind.redis.wire import Wire

NAMES = [f"u{n}" for n in range(12)]
BEHIND_S = 1.5


class Behind(Watched):
    """A replica whose clock can be set."""

    program = valkey_binary()

    def _program(self):
        return self.program


@pytest.fixture
def servers(tmp_path) -> Iterator[tuple[Watched, Behind]]:
    """A primary, and a replica of it whose clock is behind where that can be."""
    primary = Watched(tmp_path / "primary")
    replica = Behind(tmp_path / "replica", primary)
    if FAKETIME:
        replica.program, _ = wrapper(tmp_path, valkey_binary())
        (tmp_path / "offset").write_text(f"-{BEHIND_S}\n")
    with primary, replica:
        wait_until(lambda: primary.ask("WAIT", 1, 100) == 1, "the replica", 30)
        yield primary, replica


@pytest.fixture
def on(settings, mongo_client) -> Iterator[Callable[[Watched], Pipeline]]:
    """Pipelines on either, each as a process of its own has one."""
    wires: list[Wire] = []

    def build(server: Watched) -> Pipeline:
        wires.append(Wire(connection_pool(server.url, 2_000)))
        changed = settings.model_copy(update={"redis_url": server.url})
        return Pipeline(changed, wire=wires[-1], client=mongo_client)

    yield build
    for wire in wires:
        wire.close()


def cut_off(primary: Watched, replica: Watched) -> None:
    """Let the replica hear nothing more; what it has heard so far it has."""
    offset = parse_info(primary.ask("INFO", "replication"))["master_repl_offset"]
    wait_until(
        lambda: int(parse_info(replica.ask("INFO", "replication"))["slave_repl_offset"]) >= int(offset),
        "the replica to have all",
        30,
    )
    replica.ask("REPLICAOF", "127.0.0.1", 1)


@pytest.mark.skipif(not FAKETIME, reason="no clock can be set without libfaketime")
def test_no_write_after_a_failover_is_older_than_one_before(servers, on, mongo_client):
    """What is acknowledged after the failover stands, although MongoDB has what the new primary never saw."""
    primary, replica = servers
    before, after = on(primary), on(replica)
    users = before.collection("users")
    for name in NAMES:
        users.put(name, {"n": 1})
    cut_off(primary, replica)
    lost = {name: users.put(name, {"n": 2}).version for name in NAMES}
    unseen = users.put("unseen", {"n": 2}).version
    flush_all(before)
    primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")

    users = after.collection("users")
    written = {name: users.put(name, {"n": 3}).version for name in NAMES}
    deleted = users.delete("unseen").version

    assert after.store.now_ms() * 1000 < min(lost.values())
    assert all(written[name] > lost[name] for name in NAMES)
    assert deleted > unseen
    flush_all(after)
    stored = mongo_client[after.settings.mongodb_database]["users"]
    assert dict.fromkeys(NAMES, 3) == {one["_id"]: one["n"] for one in stored.find()}
    assert 0 == after.status()["dead_letters"]
    assert [] == after.store.journal.conflicts(0, -1)


@pytest.mark.parametrize("deleted", [False, True], ids=["document", "deletion"])
def test_what_was_written_over_before_a_failover_leaves_no_letter(servers, on, mongo_client, deleted):
    """MongoDB has the newer write, which only the former primary had; the one beneath is pending at the other."""
    primary, replica = servers
    before, after = on(primary), on(replica)
    users = before.collection("users")
    for name in NAMES:
        users.put(name, {"n": 1})
        if deleted:
            users.delete(name)
    cut_off(primary, replica)
    for name in NAMES:
        users.put(name, {"n": 2})
    flush_all(before)
    primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")
    pending = after.status()["pending"]

    flush_all(after)

    assert len(NAMES) == pending
    assert (0, 0) == (after.status()["pending"], after.status()["dead_letters"])
    assert [] == after.store.journal.conflicts(0, -1)
    stored = mongo_client[after.settings.mongodb_database]["users"]
    assert dict.fromkeys(NAMES, 2) == {one["_id"]: one["n"] for one in stored.find()}
    assert [2] * len(NAMES) == [after.collection("users").get(name)["n"] for name in NAMES]


def test_versions_leap_once(servers, on):
    """Each process that comes finds that it was done, and so does each connection."""
    primary, replica = servers
    on(primary).collection("users").put("ada", {})
    cut_off(primary, replica)
    replica.ask("REPLICAOF", "NO", "ONE")
    versions = []
    for _ in range(3):
        pipeline = on(replica)
        for _ in range(2):
            versions.append(pipeline.collection("users").put("ada", {}).version)
            pipeline.store._wire.close()
    assert versions == sorted(set(versions))
    assert versions[-1] - versions[0] < LEAP_BEYOND_LAST_US


def test_garbage_keeps_no_version_from_leaping(servers, on):
    """What other hands have put in the place of the clock and the term is in the way of nothing."""
    primary, replica = servers
    for of in map(partition_keys, range(4)):
        for key in (of.clock, of.term):
            primary.ask("RPUSH", key, "garbage")
        primary.ask("SET", of.lapses, "garbage")
    cut_off(primary, replica)
    replica.ask("REPLICAOF", "NO", "ONE")
    pipeline = on(replica)
    assert pipeline.collection("users").put("ada", {}).version > pipeline.store.now_ms() * 1000 + 1_000_000


def test_the_redis_of_another_database_is_left_alone(servers, on):
    """A process that has no business there changes nothing, whoever was the primary before."""
    primary, replica = servers
    primary.ask("SET", DATABASE, "database/shop")
    cut_off(primary, replica)
    replica.ask("REPLICAOF", "NO", "ONE")
    with pytest.raises(RedisUnavailableError):
        on(replica).collection("users").put("ada", {})
    assert [] == replica.ask("KEYS", "wb:{*")


def test_a_process_that_knew_the_replica(servers, on):
    """No connection to a replica is kept: the next one is greeted when the replica has become the primary."""
    primary, replica = servers
    before = on(primary).collection("users").put("ada", {}).version
    after = on(replica)
    with pytest.raises(RedisUnavailableError):
        after.collection("users").put("ada", {})
    cut_off(primary, replica)
    replica.ask("REPLICAOF", "NO", "ONE")

    written = wait_until(lambda: after.collection("users").put("ada", {}), "the next look at the server")
    version = written.version

    assert version > before
    assert version > after.store.now_ms() * 1000 + 1_000_000


def test_a_replica_is_not_read_from(servers, on):
    """Whoever names it, be it a Sentinel that has not heard yet: it may lag, and its link be up all the same."""
    primary, replica = servers
    on(primary).collection("users").put("ada", {"n": 1})
    wait_until(lambda: primary.ask("WAIT", 1, 100) == 1, "the replica", 30)
    users = on(replica).collection("users")

    assert users.get("ada") is None  # as MongoDB has it
    assert Source.BYPASS is users.read("ada").source
    with pytest.raises(ReplicaError):
        users.put("ada", {"n": 2})


def test_a_connection_that_stays_open_over_demotion_and_promotion(servers, on, monkeypatch):
    """The primary became a replica and the primary again, and lacks what the other one acknowledged meanwhile."""
    monkeypatch.setattr("writebehind.redis.connections.GREETED_S", 0.0)  # none of it takes long here
    primary, replica = servers
    stays = on(primary).collection("users")
    stays.put("ada", {"n": 1})
    cut_off(primary, replica)
    replica.ask("REPLICAOF", "NO", "ONE")
    primary.ask("REPLICAOF", "127.0.0.1", replica.port)
    wait_until(lambda: replica.ask("WAIT", 1, 100) == 1, "the former primary to follow", 30)
    meanwhile = on(replica).collection("users")
    meanwhile.put("ada", {"n": 2})
    cut_off(replica, primary)
    lost = meanwhile.put("ada", {"n": 3}).version
    primary.ask("REPLICAOF", "NO", "ONE")

    assert stays.put("ada", {"n": 4}).version > lost


@pytest.mark.parametrize("first", ["write", "read"])
def test_a_connection_ends_when_its_server_becomes_a_replica(servers, on, monkeypatch, first):
    """It says so to a write, and to whoever greets it; the next request finds out where the primary is."""
    primary, replica = servers
    pipeline = on(primary)
    pipeline.collection("users").put("ada", {"n": 1})
    connections, kept = pipeline.store._wire._servers.place(""), []
    if first == "read":  # before another thread of the process may learn of it first
        wait_until(lambda: connections._idle, "no thread to use the last one", 10)
        kept += connections._idle
    primary.ask("REPLICAOF", "127.0.0.1", replica.port)
    if first == "write":
        with pytest.raises(RedisNotReadyError):
            pipeline.store.samples.add({"one": 1})
    else:
        monkeypatch.setattr("writebehind.redis.connections.GREETED_S", 0.0)
        with pytest.raises(ReplicaError):
            pipeline.store._wire.call("EXISTS", DATABASE)
    if first == "write":
        assert [] == list(connections._idle)
    else:  # a thread of the process may be about to give one back
        assert kept
        assert not {id(one) for one, _ in kept} & {id(one) for one, _ in connections._idle}


def test_a_primary_that_is_cut_off_gets_nothing_once_another_is_known(servers, on):
    """It goes on to call itself the primary: connections to it that are open end, and the next one is asked."""
    primary, replica = servers
    pipeline = on(primary)
    pipeline.collection("users").put("u1", {"n": 1})
    connections = pipeline.store._wire._servers._all[0]
    for one in [connections.send([("PING",)]) for _ in range(2)]:
        connections.answers(one)
    cut_off(primary, replica)
    replica.ask("REPLICAOF", "NO", "ONE")
    connections._pool.connection_kwargs["port"] = replica.port  # as Sentinels would say

    before, in_use = connections.term, []

    def is_another_known() -> bool:
        """A thread of the process may have given one back since, which the read takes."""
        in_use.extend(connections.send([("PING",)]) for _ in range(len(connections._idle)))
        assert 1 == pipeline.collection("users").get("u1")["n"]
        return connections.term != before

    wait_until(is_another_known, "the other one to be asked", 30)
    assert len(in_use) >= 2
    for one in in_use:
        connections.answers(one)
    for n in range(5):
        pipeline.collection("users").put("u2", {"n": n})

    assert [0, 1] == [len(one.ask("KEYS", "*:entry:users/s:u2")) for one in (primary, replica)]


def greeted(server: Watched) -> Connections:
    """Connections that greet as a process does, which has met a primary."""
    made = Connections(connection_pool(server.url, 2_000))
    made.greeting = Terms(Layout(4), "db").greet
    made.exchange([("PING",)])
    return made


def lead(connections: Connections, server: Watched) -> bool:
    """Name another server, as Sentinels do; whether the connection to it is kept."""
    connections._pool.connection_kwargs["port"] = server.port
    connections.close()
    connections.exchange([("PING",)])
    return len(connections._idle) == 1


def test_the_former_primary_may_be_met_after_the_new_one(servers):
    """As where one Sentinel has not heard yet: the new one says whom it has succeeded, and goes on to be used."""
    primary, replica = servers
    wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "the replica to follow", 30)
    replica.ask("REPLICAOF", "NO", "ONE")
    connections = greeted(replica)

    assert [False, True, False, True] == [lead(connections, one) for one in (primary, replica) * 2]
    connection, since = connections.lend()
    assert connections.is_good(since)
    connection.disconnect()


def test_a_primary_that_has_succeeded_another_unseen_is_used_again(servers, tmp_path, monkeypatch):
    """Neither says anything of the other: it is the one that is named all the time, and not one that is once."""
    monkeypatch.setattr("writebehind.redis.succession.FORMER_S", 60.0)
    primary, _ = servers
    with Watched(tmp_path / "another") as another:
        connections = greeted(another)
        assert [True, False, True] == [lead(connections, one) for one in (primary, another, primary)]

        monkeypatch.setattr("writebehind.redis.succession.FORMER_S", 0.0)

        assert [True, True, True] == [lead(connections, one) for one in (another, another, primary)]


def test_a_primary_that_takes_no_writes_yet(servers, on):
    """Where a primary waits for a replica of its own, reads are served; versions leap before the first write."""
    primary, replica = servers
    on(primary).collection("users").put("ada", {"n": 1})
    cut_off(primary, replica)
    replica.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    replica.ask("REPLICAOF", "NO", "ONE")
    after = on(replica)
    entry = partition_keys(after.store.partition_of("users/s:ada")).entry("users/s:ada")
    assert after.store._wire.call("GETRANGE", entry, 0, 15)
    with pytest.raises(RedisUnavailableError):
        after.collection("users").put("ada", {"n": 2})

    replica.ask("CONFIG", "SET", "min-replicas-to-write", 0)

    assert after.collection("users").put("ada", {"n": 2}).version > after.store.now_ms() * 1000 + 1_000_000


def test_no_write_comes_before_the_leap(servers, on, monkeypatch):
    """The primary refuses the leap, and takes writes from then on: over that connection none is sent."""
    primary, replica = servers
    before, after = on(primary), on(replica)
    before.collection("users").put("ada", {"n": 1})
    cut_off(primary, replica)
    lost = before.collection("users").put("ada", {"n": 2})
    primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")
    users = after.collection("users")
    leap = Terms._leap

    def refused_once(self, term, ask):
        replica.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        greeted = leap(self, term, ask)
        replica.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        return greeted

    with monkeypatch.context() as patched:
        patched.setattr(Terms, "_leap", refused_once)
        assert 1 == users.get("ada")["n"]
        with pytest.raises(NoReplicasError):
            users.put("ada", {"n": 3})
    assert lost.version < users.put("ada", {"n": 3}).version


def test_a_server_that_was_no_replica(servers, on):
    """Nothing leaps on a server that was always a primary, and no key tells of it."""
    primary, _ = servers
    pipeline = on(primary)
    assert pipeline.collection("users").put("ada", {}).version < pipeline.store.now_ms() * 1000 + 1_000
    assert 0 == pipeline.store._wire.call("EXISTS", *(partition_keys(one).term for one in range(4)))
