"""One primary of a Redis Cluster is away, and nothing takes its place: only its own partitions wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.conftest import Hints
from tests.integration.topology.conftest import TIMEOUT_MS
from tests.listening import running, wait_to_listen
from tests.topologies import Cluster, EveryWire
from tests.waiting import wait_until
from web.app import create_app
from writebehind import BulkOperation, Pipeline, load_settings
from writebehind.documents.codec import decode
from writebehind.documents.durability import Durability
from writebehind.errors import RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.topology.opening import open_servers

PARTITIONS = 16
COLLECTIONS: dict[str, dict[str, Any]] = {
    "users": {},
    "through": {"write": "through"},
    "people": {"lookup": {"email": "string"}},
    "listed": {"queries": {"all": {"filter": {}, "limit": 10}}},
}


@dataclass(frozen=True)
class Away:
    """A pipeline, the partitions whose server is away, and those of the others."""

    pipeline: Pipeline
    hints: Hints
    lost: list[int]
    served: list[int]

    def names(self, of: str, collection: str = "users") -> dict[int, str]:
        """The name of a document in each partition."""
        return names_in(self.pipeline, of, collection)

    def put(self, of: str, collection: str = "users") -> dict[int, str]:
        """Write a document in each partition that is served; their names."""
        names = {at: one for at, one in self.names(of, collection).items() if at in self.served}
        for one in names.values():
            self.pipeline.collection(collection).put(one, {"n": 1})
        return names

    def flush(self) -> None:
        """Flush each partition that is served."""
        for one in self.served:
            self.pipeline.flusher.flush(one)

    def pending(self) -> set[str]:
        """The members that are pending in partitions that are served."""
        wire = self.pipeline.store._wire
        found = wire.calls([("ZRANGE", partition_keys(one).pending, 0, -1) for one in self.served])
        return {one.decode() for some in found for one in some}

    def is_served(self, key: str) -> bool:
        """Whether the server that has a key answers."""
        store = self.pipeline.store
        return store._wire.server_of(key) in store.clocks_ms()


def names_in(pipeline: Pipeline, of: str, collection: str = "users") -> dict[int, str]:
    """The name of a document in each partition."""
    found, names = (f"{of}{n}" for n in range(10_000)), {}
    while len(names) < PARTITIONS:
        name = next(found)
        names.setdefault(pipeline.store.partition_of(f"{collection}/s:{name}"), name)
    return dict(sorted(names.items()))


@pytest.fixture(scope="module")
def stays(tmp_path_factory) -> Iterator[Cluster]:
    """Three primaries with a replica each, which stay replicas."""
    with Cluster(tmp_path_factory.mktemp("stays"), fails_over=False) as cluster:
        yield cluster


def pipeline_on(cluster: Cluster, directory: Path, mongo, client: MongoClient, hints: Hints) -> Pipeline:
    """A pipeline on an empty cluster, which has seen whose Redis it is."""
    wire = EveryWire(open_servers(cluster.url, TIMEOUT_MS))
    wire.call("FLUSHALL")
    empty = directory / "writebehind.toml"
    empty.touch()
    with pytest.MonkeyPatch.context() as patch:  # the fixture for this is one for each test
        patch.setenv("WRITEBEHIND_CONFIG", str(empty))
        settings = load_settings(
            redis_url=cluster.url,
            mongodb_url=mongo.url,
            mongodb_database=directory.name,
            partitions=PARTITIONS,
            hot_samples=0,
            defaults={"flush_delay_ms": 0},
            collections=COLLECTIONS,
        )
    pipeline = Pipeline(settings, hints=hints, wire=wire, client=client)
    pipeline.check()
    return pipeline


@pytest.fixture(scope="module", params=[0, 1, 2])
def away(request, tmp_path_factory, stays, mongo, mongo_client: MongoClient) -> Iterator[Away]:
    """Each primary in turn is killed, while a listener leads."""
    directory, hints = tmp_path_factory.mktemp(f"away{request.param}"), Hints()
    pipeline = pipeline_on(stays, directory, mongo, mongo_client, hints)
    wire, dead = pipeline.store._wire, stays.nodes[request.param]
    places = {one: wire.server_of(partition_keys(one).pending) for one in range(PARTITIONS)}
    lost = [one for one, place in places.items() if place.endswith(f":{dead.port}")]
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        dead.kill()
        try:
            yield Away(pipeline, hints, lost, [one for one in places if one not in lost])
        finally:
            dead.start()
            wait_until(stays.is_whole, "the cluster to be whole", 30)
    wire.close()


def test_changes_wait_for_their_server(stays, tmp_path, mongo, mongo_client):
    """What others change is seen at once where Redis answers, and elsewhere when it does again."""
    pipeline = pipeline_on(stays, tmp_path, mongo, mongo_client, Hints())
    names, users = names_in(pipeline, "held"), pipeline.collection("users")
    stored = mongo_client[pipeline.settings.mongodb_database]["users"]
    stored.insert_many([{"_id": one, "n": 0} for one in names.values()])
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        assert {0} == {users.get(one)["n"] for one in names.values()}
        dead = stays.nodes[0]
        dead.kill()
        for n in (1, 2):
            stored.update_many({}, {"$set": {"n": n}})
        dead.start()

        def seen() -> set[int]:
            return {users.get(one)["n"] for one in names.values()}

        wait_until(lambda: seen() == {2}, "all changes", 30)
    wait_until(stays.is_whole, "the cluster to be whole", 30)
    pipeline.store._wire.close()


def test_traffic_may_come_and_no_address_is_told(away: Away):
    """Who needs no key to ask is told how much waits, and not where the node is."""
    answer = create_app(away.pipeline).test_client().get("/readyz")
    told = f"part of the cluster does not answer, which has {len(away.lost)} partitions"
    assert (200, told, [{"server": None, "partitions": away.lost}]) == (
        answer.status_code,
        answer.json["redis"],
        answer.json["away"],
    )
    assert "127.0.0.1" not in answer.text


def test_the_other_partitions_are_flushed(away: Away, mongo_client):
    """What is acknowledged elsewhere reaches MongoDB, whichever server it is; the lease is given back."""
    names = away.put("flushed")
    away.flush()

    users = mongo_client[away.pipeline.settings.mongodb_database]["users"]
    assert len(names) == users.count_documents({"_id": {"$in": [*names.values()]}})
    assert set() == away.pending()
    leases = [away.pipeline.store._wire.call("EXISTS", partition_keys(one).lease) for one in away.served]
    assert {0} == set(leases)


def test_a_lost_partition_is_not_flushed(away: Away):
    """A flush of a partition whose server is away says so."""
    with pytest.raises(RedisUnavailableError):
        away.pipeline.flusher.flush(away.lost[0])


def test_the_other_partitions_are_swept(away: Away):
    """What nobody has flushed there is found, and deletions are audited."""
    names = away.put("swept")
    del away.hints[:]
    wire = away.pipeline.store._wire
    for one in names:  # the hints of these writes were lost, and they are overdue
        of = partition_keys(one)
        wire.call("DEL", of.scheduled)
        for member in wire.call("ZRANGE", of.pending, 0, -1):
            wire.call("ZADD", of.pending, 1, member)
    swept = away.pipeline.maintenance.sweep()

    assert {*away.served} == {one.partition for one in away.hints}
    assert (len(away.served), len(away.lost)) == (swept["enqueued"], swept["away"])
    assert 0 == away.pipeline.maintenance.audit_deletions()["deleted_again"]
    away.flush()


def test_documents_with_unique_values_need_the_servers_of_these(away: Away, mongo_client):
    """Of a bulk those are acknowledged whose values are served; the others wait for these, and no others do."""
    people, store = away.pipeline.collection("people"), away.pipeline.store
    names = [one for at, one in away.names("anna", "people").items() if at in away.served]
    has_value = {name: store.partition_of(f"people/email=s:{name}") in away.served for name in names}
    results = people.bulk([BulkOperation("put", one, {"email": one}) for one in names])

    assert {True, False} == set(has_value.values())
    assert has_value == {
        name: not isinstance(one, RedisUnavailableError) for name, one in zip(names, results, strict=True)
    }
    away.flush()
    stored = mongo_client[away.pipeline.settings.mongodb_database]["people"]
    assert len(names) == stored.count_documents({"_id": {"$in": names}})
    assert {f"people/s:{name}" for name in names if not has_value[name]} == away.pending()
    assert all(people.look_up("email", name)[0] is not None for name in names if has_value[name])


def test_what_queries_are_told_is_not_settled_before(away: Away):
    """While the server of a collection's changes is away its documents wait, and other collections do not."""
    listed, users = away.put("list", "listed"), away.put("beside")
    away.flush()

    pending, waiting = away.pending(), {f"listed/s:{one}" for one in listed.values()}
    assert (set() if away.is_served(keys.changes("listed")[0]) else waiting) == pending & waiting
    assert not pending & {f"users/s:{one}" for one in users.values()}


def test_of_several_documents_those_that_are_away_are_from_mongodb(away: Away, mongo_client):
    """Each says so; what is pending in the others is read from Redis."""
    names = away.names("read")
    mongo_client[away.pipeline.settings.mongodb_database]["users"].insert_many(
        [{"_id": one, "n": 0} for one in names.values()]
    )
    away.put("read")
    found = away.pipeline.collection("users").read_each(names.values())

    assert {at: (0 if at in away.lost else 1, at in away.lost) for at in names} == {
        at: (decode(entry.body)["n"], bypassed) for at, (entry, bypassed) in zip(names, found, strict=True)
    }


def test_of_writes_through_those_elsewhere_reach_mongodb(away: Away):
    """A bulk says of each how far it has come."""
    names = away.names("thr", "through")
    results = away.pipeline.collection("through").bulk([BulkOperation("put", one, {}) for one in names.values()])

    assert {at: Durability.PERSISTED if at in away.served else None for at in names} == {
        at: getattr(one, "durability", None) for at, one in zip(names, results, strict=True)
    }


def test_periodic_tasks_go_on(away: Away):
    """Hot keys are known and cool down, documents are warmed, and workers hand over."""
    names = away.put("hot")
    away.flush()
    members = [f"users/s:{one}" for one in names.values()]
    away.pipeline.store.heat.add({f"users/s:{one}": 100.0 for one in away.names("hot").values()}, most=100)
    away.pipeline.store.cache.invalidate_many(members)

    assert set(members) <= {one.id.member for one in away.pipeline.hot_keys.top(1_000)}
    assert {"kept": len(names)} == away.pipeline.maintenance.decay()

    def are_warm() -> bool:
        """A listener that hears of the flush only now has what is being loaded loaded again."""
        away.pipeline.maintenance.warm()
        return all(one.header for one in away.pipeline.store.cache.headers(members))

    wait_until(are_warm, "the documents to be warm", 10)
    away.pipeline.maintenance.hand_over()


def test_changes_of_others_are_heard_of(away: Away, mongo_client):
    """A listener that leads goes on with the documents of the servers that answer, whichever is away."""
    names, users = away.names("heard"), away.pipeline.collection("users")
    stored = mongo_client[away.pipeline.settings.mongodb_database]["users"]
    stored.insert_many([{"_id": one, "n": 0} for one in names.values()])
    served = [names[at] for at in away.served]
    wait_until(lambda: {users.get(one)["n"] for one in served} == {0}, "the documents", 10)
    for n in (1, 2):
        stored.update_many({"_id": {"$in": [*names.values()]}}, {"$set": {"n": n}})
        wait_until(lambda n=n: {users.get(one)["n"] for one in served} == {n}, "the changes", 10)


def test_a_process_that_starts_meanwhile_waits_for_the_records(away: Away, mongo_client):
    """It has not seen whose Redis it is, so it writes nothing; others that have seen it do."""
    new = Pipeline(away.pipeline.settings, wire=away.pipeline.store._wire, client=mongo_client)
    name = next(iter(away.put("new").values()))
    if away.is_served(keys.DATABASE) and away.is_served(keys.PARTITIONS):
        assert new.collection("users").put(name, {"n": 2}).version
    else:
        with pytest.raises(RedisUnavailableError):
            new.collection("users").put(name, {"n": 2})
        with pytest.raises(RedisUnavailableError):
            new.check()
    away.pipeline.check()
    away.flush()
