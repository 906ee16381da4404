"""A server of another installation in the place of one with a name, as where two URLs are mixed up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import flush_all
from tests.integration.topology.test_cluster import by_partition
from tests.integration.topology.test_servers import opened, servers
from tests.topologies import NamedServers, ask
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline
from writebehind.errors import ConfigurationError, ForeignDatabaseError, ForeignServerError
from writebehind.operations.adopt import adopt
from writebehind.operations.doctor import Level, redis
from writebehind.redis.keys import SERVER

__all__ = ["opened", "servers"]  # fixtures

OTHERS = "staging"


@pytest.fixture
def on_servers(opened, servers) -> Pipeline:
    """A pipeline that has met each of its servers, and looks at no sample that is old."""
    pipeline = opened(servers.url)
    pipeline.store.check()
    for name in by_partition(pipeline).values():
        pipeline.collection("slow").put(name, {"n": 1})
    flush_all(pipeline)
    return pipeline


@pytest.fixture
def others(opened, servers, tmp_path) -> Iterator[NamedServers]:
    """Servers of another installation with the same names, and a pending document in each partition."""
    with NamedServers(tmp_path, tuple(servers.servers)) as others:
        theirs = opened(others.url, mongodb_database=OTHERS)
        theirs.store.check()
        for name in by_partition(theirs).values():
            theirs.collection("slow").put(name, {"n": "theirs"})
        yield others


def databases(servers: NamedServers) -> set[bytes | None]:
    """The databases that servers belong to, as they say."""
    return {servers.ask(name, "HGET", SERVER, "database") for name in servers.servers}


def test_no_process_starts_with_it(on_servers, opened, servers, others):
    """Processes and commands end with a line, and `doctor` says the same."""
    mixed = opened(f"{servers.url_of('a', 'c')};{others.url_of('b')}")
    said = "server b belongs to database 'staging', not to"
    with pytest.raises(ConfigurationError, match=f"REDIS_URL: {said}"):
        mixed.store.check()
    assert [True] == [said in one.found for one in redis.check(mixed) if one.level is Level.FAILURE]


def test_one_that_takes_the_place_while_it_is_used_is_left_alone(on_servers, servers, others, mongo_client):
    """What is on it is neither read nor written nor flushed, and the others go on; so does it, once it is back."""
    ours, theirs = servers.servers["b"], others.servers["b"]
    slow, names = on_servers.collection("slow"), by_partition(on_servers)
    of_b = [name for at, name in names.items() if on_servers.store.server_of(at) == "b"]
    theirs.stop()
    ours.stop()
    port, theirs.port = theirs.port, ours.port
    theirs.start()
    try:
        held = others.servers["b"].port, ask(ours.port, "DBSIZE")
        for name in of_b:
            with pytest.raises(ForeignServerError):
                slow.put(name, {"n": 2})
            assert 1 == slow.get(name)["n"]  # of MongoDB
        problem = create_app(on_servers).test_client().put(f"/v1/slow/{of_b[0]}", json={"n": 2})
        assert (503, True) == (problem.status_code, problem.json["type"].endswith(":wrong-installation"))
        for name in set(names.values()) - set(of_b):
            slow.put(name, {"n": 2})
        wait_until(lambda: [one["server"] for one in on_servers.status()["away"]] == ["b"], "the status to say so")
        for at, name in names.items():
            if name not in of_b:
                on_servers.flusher.flush(at)
            else:
                with pytest.raises(ForeignServerError):
                    on_servers.flusher.flush(at)
        assert held == (ours.port, ask(ours.port, "DBSIZE"))
    finally:
        theirs.stop()
        theirs.port = port
        ours.start()
        theirs.start()
    wait_until(lambda: slow.put(of_b[0], {"n": 3}), "the server to be back")
    assert [1] == list(mongo_client[on_servers.store.database]["slow"].distinct("n"))


def test_records_of_before_are_completed_while_all_goes_on(on_servers, opened, servers):
    """Whoever looks next says whose they are: a process of before says nothing of it."""
    for name in servers.servers:
        servers.ask(name, "HDEL", SERVER, "database")
    later = opened(servers.url)
    later.collection("slow").put("d1", {"n": 2})
    assert {later.store.database.encode()} == databases(servers)


def test_all_of_them_are_given_to_another_database(on_servers, opened, servers):
    """By `adopt`, after which processes of that start."""
    adopted = opened(servers.url, mongodb_database=f"{on_servers.store.database}-new")
    adopt(adopted, force=True)
    assert {adopted.store.database.encode()} == databases(servers)
    adopted.store.check()
    adopted.collection("slow").put("d1", {"n": 2})
    with pytest.raises(ForeignDatabaseError):
        on_servers.store.check()
