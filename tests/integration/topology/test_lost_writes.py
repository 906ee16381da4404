"""Writes that a failover has lost: the process that has acknowledged them commits them again, and tells of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.integration.conftest import flush_all
from tests.integration.topology.test_terms import cut_off
from tests.topologies import Sentinels, Watched
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.collection import Collection
from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import connection_pool
from writebehind.redis.keys import partition_keys
from writebehind.redis.recent import Recent
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.wire import Wire
from writebehind.settings.collection import CollectionSettings

TIMEOUT_MS = 1_000
LOST = "writebehind_lost_writes"


class Process:
    """A pipeline as a process of its own has one, which a failover leads from a primary to its replica."""

    def __init__(self, settings, client, server: Watched) -> None:
        self._pool = connection_pool(server.url, TIMEOUT_MS)
        self.wire = Wire(self._pool)
        changed = settings.model_copy(update={"redis_url": server.url})
        self.pipeline = Pipeline(changed, wire=self.wire, client=client)

    def users(self, name: str = "users") -> Collection:
        return self.pipeline.collection(name)

    def follow(self, server: Watched) -> None:
        """Find another server where the primary was, as Sentinels name it."""
        self._pool.connection_kwargs["port"] = server.port
        self.wire.close()

    def fates(self) -> dict[str, int]:
        """What this process has counted of what was lost."""
        counts = self.pipeline.tallies.read().items()
        return {fate: int(numbers[0]) for (family, (fate, *_)), numbers in counts if family == LOST}

    def seen_to(self) -> bool:
        """Whether it has seen to all failovers that it has met."""
        lost = self.pipeline.lost_writes
        return lost._met == lost._seen_to > 0


@pytest.fixture
def servers(tmp_path) -> Iterator[tuple[Watched, Watched]]:
    """A primary and its replica."""
    primary = Watched(tmp_path / "primary")
    replica = Watched(tmp_path / "replica", primary)
    with primary, replica:
        wait_until(lambda: primary.ask("WAIT", 1, 100) == 1, "the replica", 30)
        yield primary, replica


@pytest.fixture
def start(settings, mongo_client, servers):
    """Starts processes on the primary."""
    started: list[Process] = []

    def start(**changed: object) -> Process:
        started.append(Process(settings.model_copy(update=changed), mongo_client, servers[0]))
        return started[-1]

    yield start
    for one in started:
        one.pipeline.lost_writes.close()
        one.wire.close()


def promote(servers: tuple[Watched, Watched]) -> None:
    """The primary dies, and the replica takes its place."""
    primary, replica = servers
    primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")


def meet(servers: tuple[Watched, Watched], process: Process) -> None:
    """A process meets the new primary, and sees to what was lost."""
    before = process.pipeline.lost_writes._met
    process.follow(servers[1])
    wait_until(
        lambda: process.seen_to() and process.pipeline.lost_writes._met > before,
        "the process to see to what was lost",
        20,
    )


def fail_over(servers: tuple[Watched, Watched], process: Process) -> None:
    """Both."""
    promote(servers)
    meet(servers, process)


def stored(process: Process, mongo_client, name: str = "users") -> dict[str, int]:
    """What MongoDB has when all is flushed."""
    flush_all(process.pipeline)
    found = mongo_client[process.pipeline.settings.mongodb_database][name].find()
    return {one["_id"]: one["n"] for one in found}


def test_what_was_lost_is_committed_again(servers, start, mongo_client, caplog):
    """Writes and a deletion that the replica has missed are there again; they are counted, logged and shown."""
    process = start()
    users = process.users()
    for name in ("ada", "bob", "gone"):
        users.put(name, {"n": 1})
    cut_off(*servers)
    users.put("bob", {"n": 2})
    users.put("bob", {"n": 3})
    written = users.put("new", {"n": 1})
    users.delete("gone")

    with caplog.at_level(logging.WARNING):
        fail_over(servers, process)

    assert [1, 3, 1, None] == [(users.get(one) or {}).get("n") for one in ("ada", "bob", "new", "gone")]
    assert {"recommitted": 3} == process.fates()
    (line,) = [one for one in caplog.records if getattr(one, "event", "") == "writes_lost"]
    assert 3 == line.recommitted
    (found,) = process.pipeline.reconciler.history.passes()
    assert ({"lost": 3}, {"lost": 3}) == (found.found, found.repaired)
    assert f"users/s:new@{written.version}" in found.samples["lost"]
    assert {"ada": 1, "bob": 3, "new": 1} == stored(process, mongo_client)
    status = process.pipeline.status()
    assert (0, 0) == (status["pending"], status["dead_letters"])


def test_no_increment_counts_twice(servers, start, mongo_client):
    """The document that a lost increment made is committed again, however often that is tried."""
    process = start()
    users = process.users()
    users.increment("kept", {"n": 1})
    wait_until(lambda: servers[0].ask("WAIT", 1, 100) == 1, "the replica to have it", 10)
    users.increment("lost", {"n": 1})
    cut_off(*servers)
    users.increment("lost", {"n": 1})
    fail_over(servers, process)
    for _ in range(3):
        process.pipeline.lost_writes.meet("", range(process.pipeline.store.partitions))
        wait_until(process.seen_to, "another look", 20)

    users.increment("kept", {"n": 1})
    users.increment("lost", {"n": 1})

    assert {"kept": 2, "lost": 3} == stored(process, mongo_client)
    assert {"recommitted": 1} == process.fates()


def test_no_increment_with_a_key_counts_twice(servers, start, mongo_client):
    """What was lost is known by its key again, everywhere: the last increment has seen the one before."""
    process, other = start(), start()
    users = process.users()
    users.increment("ada", {"n": 1}, key="1")
    cut_off(*servers)
    done = [users.increment("ada", {"n": 1}, key=key) for key in ("2", "3")]
    fail_over(servers, process)
    other.follow(servers[1])

    every = [(one, key) for one in (process, other) for key in ("1", "2", "3")]
    again = [one.users().increment("ada", {"n": 1}, key=key) for one, key in every]

    assert [True] * 6 == [one.written.replayed for one in again]
    assert [one.values for one in done] * 2 == [one.values for number, one in enumerate(again) if number % 3]
    assert {"ada": 3} == stored(process, mongo_client)
    assert {"recommitted": 1} == process.fates()


def test_what_is_newer_stands(servers, start, mongo_client):
    """A write that another process makes after the failover stands, a deletion too, also once it is settled."""
    process, other = start(), start()
    users = process.users()
    for name in ("put", "deleted", "settled"):
        users.put(name, {"n": 0})
    cut_off(*servers)
    for name in ("put", "deleted", "settled"):
        users.put(name, {"n": 1})
    promote(servers)
    other.follow(servers[1])
    other.users().put("put", {"n": 2})
    other.users().delete("settled")
    flush_all(other.pipeline)
    for partition in range(other.pipeline.settings.partitions):
        servers[1].ask("DEL", partition_keys(partition).entry("users/s:settled"))
    other.users().delete("deleted")

    meet(servers, process)

    assert {"put": 2} == stored(process, mongo_client)
    assert {"superseded": 3} == process.fates()
    assert 0 == process.pipeline.status()["dead_letters"]


def test_what_mongodb_has_is_left_to_it(servers, start, mongo_client):
    """A write that was persisted before the failover is not lost, and a newer one that is there stands.

    Of two that the former primary had, the newer one saw the other.
    """
    process = start()
    users = process.users()
    users.put("first", {"n": 1})
    cut_off(*servers)
    for name in ("persisted", "seen", "unseen"):
        users.put(name, {"n": 1})
    flush_all(process.pipeline)
    collection = mongo_client[process.pipeline.settings.mongodb_database]["users"]
    for name, further in (("seen", 1), ("unseen", 3_600 * 10**6)):
        collection.update_one({"_id": name}, {"$set": {"n": 2}, "$inc": {"_v": further}})

    fail_over(servers, process)

    assert [1, 2, 2] == [users.get(one)["n"] for one in ("persisted", "seen", "unseen")]
    assert {"superseded": 1} == process.fates()
    assert 0 == process.pipeline.status()["dead_letters"]


def test_what_redis_has_of_old_is_brought_up_to_date(servers, start, mongo_client):
    """Where the replica has an older state, and MongoDB the one that was lost, readers see the latter."""
    process = start()
    users = process.users()
    users.put("ada", {"n": 1})
    flush_all(process.pipeline)
    cut_off(*servers)
    users.put("ada", {"n": 2})
    flush_all(process.pipeline)

    fail_over(servers, process)

    assert 2 == users.get("ada")["n"]
    assert {"ada": 2} == stored(process, mongo_client)
    assert 0 == process.pipeline.status()["dead_letters"]


def test_a_value_is_claimed_again(start, servers):
    """A document that was lost is found by its unique value again."""
    process = start(collections={"people": CollectionSettings(lookup={"email": "string"})})
    people = process.users("people")
    people.put("bob", {"n": 1, "email": "bob@example.com"})
    cut_off(*servers)
    people.put("ada", {"n": 1, "email": "ada@example.com"})
    fail_over(servers, process)
    assert "ada" == people.look_up("email", "ada@example.com")[0].text


def test_a_primary_that_is_cut_off_and_goes_on(servers, start):
    """What it acknowledges beyond the versions that the new one leaps to is lost with it, and committed again."""
    process = start()
    users = process.users()
    users.put("ada", {"n": 1})
    cut_off(*servers)
    servers[1].ask("REPLICAOF", "NO", "ONE")
    other = start()
    other.follow(servers[1])
    other.users().put("bob", {"n": 1})
    beyond_us = process.pipeline.store.now_ms() * 1000 + 60 * 10**6
    for partition in range(process.pipeline.settings.partitions):
        servers[0].ask("SET", partition_keys(partition).clock, beyond_us)
    version = users.put("ada", {"n": 2}).version

    meet(servers, process)

    assert (2, version) == (users.get("ada")["n"], users.read("ada").entry.version)
    assert {"recommitted": 1} == process.fates()
    assert users.put("ada", {"n": 3}).version > version


def test_an_answer_that_comes_after_the_new_primary_was_met(servers, start):
    """What the former primary has acknowledged meanwhile is seen to in the next looks."""
    process = start(redis_timeout_ms=30_000)
    users, store = process.users(), process.pipeline.store
    users.put("ada", {"n": 1})
    cut_off(*servers)
    lost = users.put("ada", {"n": 2})
    entry = users.read("ada").entry
    store.recent.release(store.recent.position)
    users.put("bob", {"n": 1})
    fail_over(servers, process)
    assert 1 == users.get("ada")["n"]

    store.recent.add([Recent("users/s:ada", lost.version, entry.payload)])

    wait_until(lambda: process.fates() == {"recommitted": 2}, "the next look", 20)
    assert 2 == users.get("ada")["n"]


def test_two_failovers(tmp_path, settings, mongo_client):
    """What was committed again after one failover and is lost in the next is committed once more."""
    primary = Watched(tmp_path / "primary")
    replica, another = (Watched(tmp_path / name, primary) for name in ("replica", "another"))
    with primary, replica, another:
        wait_until(lambda: primary.ask("WAIT", 2, 100) == 2, "the replicas", 30)
        process = Process(settings, mongo_client, primary)
        users = process.users()
        users.put("ada", {"n": 1})
        cut_off(primary, replica)
        cut_off(primary, another)
        users.put("ada", {"n": 2})
        fail_over((primary, replica), process)
        assert 2 == users.get("ada")["n"]
        users.put("bob", {"n": 1})
        replica.kill()
        another.ask("REPLICAOF", "NO", "ONE")
        process.follow(another)
        wait_until(lambda: process.fates() == {"recommitted": 3}, "the process to see to both", 20)
        assert (2, 1) == (users.get("ada")["n"], users.get("bob")["n"])
        assert {"ada": 2, "bob": 1} == stored(process, mongo_client)
        process.pipeline.lost_writes.close()
        process.wire.close()


def test_a_failover_by_sentinels(tmp_path, settings, mongo_client):
    """Whatever Sentinels promote: each write that this process has acknowledged is there in the end."""
    with Sentinels(tmp_path) as watched:
        wire = Wire(open_servers(watched.url, TIMEOUT_MS))
        changed = settings.model_copy(update={"redis_url": watched.url})
        pipeline = Pipeline(changed, wire=wire, client=mongo_client)
        users = pipeline.collection("users")
        acknowledged = {}

        def write(name: str, n: int) -> bool:
            try:
                users.put(name, {"n": n})
            except RedisUnavailableError:
                return False
            acknowledged[name] = n
            return True

        for n in range(20):
            write(f"u{n}", 1)
        old = watched.primary
        cut_off(old, next(one for one in watched.servers if one is not old))
        for n in range(10, 30):
            write(f"u{n}", 2)
        assert 30 == len(acknowledged)
        old.kill()

        wait_until(lambda: write("after", 3), "the replica to take over", 30)
        lost = pipeline.lost_writes
        wait_until(lambda: lost._met == lost._seen_to > 0, "the process to see to what was lost", 20)

        flush_all(pipeline)
        found = mongo_client[changed.mongodb_database]["users"].find()
        assert acknowledged == {one["_id"]: one["n"] for one in found}
        assert 0 == pipeline.status()["dead_letters"]
        lost.close()
        wire.close()


@pytest.mark.parametrize("fails_over", [False, True], ids=["another server", "its server"])
def test_only_a_failover_of_its_own_server_has_lost_a_write(servers, start, fails_over):
    """Versions may leap where nothing is lost, as where a slot has come to a node that failed over before."""
    process, other = start(), start()
    process.users().put("ada", {"n": 1})
    cut_off(*servers)
    process.users().put("bob", {"n": 1})
    other.users().put("bob", {"n": 2})
    lost, store = process.pipeline.lost_writes, process.pipeline.store
    wait_until(lambda: lost._known, "a look at the lapses")
    partition = store.partition_of("users/s:bob")
    servers[0].ask("LPUSH", partition_keys(partition).lapses, "1 2 3")

    lost.meet("another", [one for one in range(store.partitions) if (one == partition) == fails_over])

    wait_until(process.seen_to, "the process to see to what was lost", 20)
    assert ({"superseded": 1} if fails_over else {}) == process.fates()
