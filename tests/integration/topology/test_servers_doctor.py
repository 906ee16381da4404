"""What `doctor` says of servers with names."""

from __future__ import annotations

import pytest

from tests.integration.topology.test_cluster import by_partition
from tests.integration.topology.test_servers import on_servers, opened, servers
from tests.topologies import ask
from web.app import create_app
from writebehind.cli.status import _refused
from writebehind.operations.doctor import Level, redis
from writebehind.redis import keys

__all__ = ["on_servers", "opened", "servers"]  # fixtures


def found(pipeline) -> list[tuple[Level, str]]:
    """What is found about the servers as such."""
    return [(one.level, one.found) for one in redis.check(pipeline) if one.check == "redis servers"]


def test_what_each_server_has_is_said(on_servers):
    """How many partitions, and which one has the rest; other findings name the server that they are about."""
    told = list(redis.check(on_servers))
    assert [
        (Level.OK, "a has 5 partitions, b has 6 partitions, c has 5 partitions; a has what belongs to none")
    ] == found(on_servers)
    assert {"a", "b", "c"} == {one.found[0] for one in told if one.check == "redis persistence"}
    assert Level.FAILURE not in {one.level for one in told}


def test_a_server_that_is_away_is_named(on_servers, servers):
    """The others are looked at all the same."""
    servers.servers["c"].kill()
    try:
        ((level, said),) = found(on_servers)
        assert (Level.FAILURE, True) == (level, said.startswith("c does not answer: Error 111 connecting"))
    finally:
        servers.servers["c"].start()


def test_the_log_says_what_a_server_that_is_away_has(on_servers, servers, caplog):
    """How many partitions, of how many: the others are written and read as before."""
    servers.servers["b"].kill()
    try:
        assert ["b"] == [one["server"] for one in on_servers.status()["away"]]
    finally:
        servers.servers["b"].start()
    (line,) = [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "redis_lost"]
    assert line.startswith("Redis server b does not answer: ")
    assert "; 6 of 16 partitions on it take no writes, and are read from MongoDB: see that" in line


def test_what_one_server_refuses_is_told_as_its_share(on_servers, servers):
    """The others take writes, and each view says for how many partitions it is."""
    b = servers.servers["b"].port
    ask(b, "CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        figures, (finding,) = on_servers.status(), redis.writes(on_servers)
        readiness = create_app(on_servers).test_client().get("/readyz")
    finally:
        ask(b, "CONFIG", "SET", "min-replicas-to-write", 0)
    (refusing,) = figures["refusing"]
    assert ("b", 6) == (refusing["server"], len(refusing["partitions"]))
    first = figures["to_do"][0]
    assert "redis-refuses" == first["condition"]
    for found in (first["found"], finding.found):
        assert "refuses whatever is written to 6 of 16 partitions, on server b, also by workers" in found
    assert "writes to 6 of 16 partitions, on server b, now, by Redis: b: NOREPLICAS" in _refused(figures)[0]
    assert (200, True, figures["refusing"]) == (
        readiness.status_code,
        readiness.json["ready"],
        readiness.json["refusing"],
    )
    assert "Redis refuses whatever is written to 6 of 16 partitions, on server b" == readiness.json["redis"]
    assert 0 == readiness.json["workers"]
    assert [] == on_servers.status()["refusing"]
    assert ("ok", []) == tuple(
        create_app(on_servers).test_client().get("/readyz").json[name] for name in ("redis", "refusing")
    )


def test_what_all_servers_refuse_is_told_as_all(on_servers, servers):
    """Nobody is sent to count."""
    ports = [one.port for one in servers.servers.values()]
    for port in ports:
        ask(port, "CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        figures = on_servers.status()
        readiness = create_app(on_servers).test_client().get("/readyz")
    finally:
        for port in ports:
            ask(port, "CONFIG", "SET", "min-replicas-to-write", 0)
    assert (503, False) == (readiness.status_code, readiness.json["ready"])
    assert [] == figures["refusing"]
    assert _refused(figures)[0].startswith("all writes now, by Redis: a: NOREPLICAS")


def test_traffic_may_come_to_full_servers(on_servers, servers):
    """Readers are served, and whoever asks is told that writes are not."""
    ports = [one.port for one in servers.servers.values()]
    for port in ports:
        ask(port, "CONFIG", "SET", "maxmemory", 1)
    try:
        readiness = create_app(on_servers).test_client().get("/readyz")
    finally:
        for port in ports:
            ask(port, "CONFIG", "SET", "maxmemory", 0)
    assert (200, []) == (readiness.status_code, readiness.json["refusing"])
    assert "Redis refuses whatever is written" == readiness.json["redis"]


def test_a_server_without_partitions_is_named(opened, servers):
    """It waits for a rebalancing."""
    opened(servers.url_of("a", "b")).store.check()
    _, (level, told) = found(opened(servers.url))
    assert (Level.WARNING, "c has no partition yet") == (level, told)


def test_a_move_that_was_interrupted_is_told(on_servers, servers):
    """A partition is on another server than it belongs to."""
    port = servers.servers["a"].port
    one = next(one for one in ask(port, "HKEYS", keys.SERVER) if one.isdigit())
    ask(port, "HDEL", keys.SERVER, one)
    ask(servers.servers["b"].port, "HSET", keys.SERVER, one, 1)
    _, (level, told) = found(on_servers)
    assert (Level.WARNING, True) == (level, told.startswith("1 partition is not where they belong"))


def test_another_list_is_a_failure(on_servers, opened, servers):
    """Too few servers, or one of them alone."""
    ((level, told),) = found(opened(servers.url_of("a", "b")))
    assert (Level.FAILURE, "it lacks c of the servers a, b, c") == (level, told)
    ((level, told),) = found(opened(servers.servers["a"].url))
    assert (Level.FAILURE, "this is server a of a, b, c") == (level, told)


@pytest.mark.parametrize("command", ["hgetall", "zcard"])
def test_what_one_server_forbids_is_for_its_own_partitions(on_servers, servers, command):
    """The others take writes and serve reads, and `doctor` names the server: all of them were 503."""
    slow = on_servers.collection("slow")
    names = by_partition(on_servers)
    others = [name for at, name in names.items() if on_servers.store.server_of(at) != "b"]
    b = servers.servers["b"].port
    ask(b, "ACL", "SETUSER", "default", f"-{command}")
    try:
        sample = on_servers.store.load()
        for name in others:
            slow.put(name, {"n": 1})
            assert 1 == slow.get(name)["n"]
        told = [one.found for one in redis.check(on_servers) if one.level is Level.FAILURE]
    finally:
        ask(b, "ACL", "SETUSER", "default", "+@all")
    assert "" == sample.misfit
    assert (command == "hgetall") == any("b refuses to say what is on it" in one for one in told)
