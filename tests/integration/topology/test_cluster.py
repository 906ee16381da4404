"""A Redis Cluster: writes, reads and flushes as on one server, while slots move and primaries die."""

from __future__ import annotations

import time

import pytest

from tests.forking import in_child
from tests.integration.conftest import flush_all
from tests.integration.topology.conftest import PARTITIONS, TIMEOUT_MS
from tests.servers import freeze, permitted, resume
from tests.topologies import ClusterNode, EveryWire
from tests.waiting import slowness, wait_until
from web.app import create_app
from writebehind import BulkOperation, Durability, Pipeline
from writebehind.cli.status import _queues, _workers
from writebehind.errors import RedisNotReadyError, RedisUnavailableError
from writebehind.monitoring.page import Page
from writebehind.operations.acl import users as needed_users
from writebehind.operations.doctor import processes, redis
from writebehind.operations.doctor.findings import Finding, Level
from writebehind.redis import keys
from writebehind.redis.info import parse_info
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.topology.cluster import _slot
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.topology.routing import tag
from writebehind.settings.names import QUEUES
from writebehind.tallies import families

NAMES = [f"u{n}" for n in range(60)]


def by_partition(pipeline) -> dict[int, str]:
    """A document of each partition."""
    return {pipeline.store.partition_of(f"slow/s:{name}"): name for name in NAMES}


def node_with(cluster, name: str):
    """The node that listens at `host:port`."""
    return next(one for one in cluster.nodes if one.port == int(name.rpartition(":")[2]))


def begin_move(cluster, wire, key: str) -> tuple[int, ClusterNode, ClusterNode]:
    """Let the slot of a key be on its way to another primary; the slot, the node that has it, and that one."""
    slot = _slot(tag(key))
    source = node_with(cluster, wire.server_of(key))
    target = next(one for one in cluster.nodes if one is not source and b"master" in role(one))
    target.tell("SETSLOT", slot, "IMPORTING", source.tell("MYID"))
    source.tell("SETSLOT", slot, "MIGRATING", target.tell("MYID"))
    return slot, source, target


def end_move(slot: int, source: ClusterNode, target: ClusterNode) -> None:
    """Let a slot have moved."""
    for one in (target, source):
        one.tell("SETSLOT", slot, "NODE", target.tell("MYID"))


def move(cluster, wire, partition: int, *, meanwhile=lambda: None) -> None:
    """Move the slot of a partition to another primary, key by key; `meanwhile` when about half are there."""
    slot, source, target = begin_move(cluster, wire, partition_keys(partition).pending)
    keys = source.tell("GETKEYSINSLOT", slot, 10_000)
    half = len(keys) // 2
    for at, key in enumerate(sorted(keys)):
        if at == half:
            meanwhile()
        source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)
    end_move(slot, source, target)


def role(node) -> bytes:
    """The role of a node, as it says itself."""
    return node.ask("ROLE")[0]


def commands_of(node) -> int:
    """The number of commands that a node was ever sent."""
    return int(parse_info(node.ask("INFO", "stats"))["total_commands_processed"])


def test_a_node_that_was_emptied_is_told(on_cluster, cluster):
    """What was only there is lost, and nothing of what others have."""

    def told() -> tuple[int, list[int]]:
        figures = on_cluster.status()
        return figures["pending"], [one["pending"] for one in figures["lost_data"]]

    on_cluster.check()
    for name in by_partition(on_cluster).values():
        on_cluster.collection("slow").put(name, {})
    assert (PARTITIONS, []) == told()
    partition = 0
    node_with(cluster, on_cluster.store.server_of(partition)).ask("FLUSHALL")
    left, lost = told()
    assert 0 < left < PARTITIONS
    assert [PARTITIONS - left] == lost


def test_documents_are_written_read_and_flushed(on_cluster, wire):
    """A document in each partition reaches Redis and MongoDB, on whichever node it is."""
    users = on_cluster.collection("users")
    documents = by_partition(on_cluster)
    for name in documents.values():
        users.put(name, {"name": name})

    assert set(range(PARTITIONS)) == set(documents)
    assert 3 == len({wire.server_of(partition_keys(one).pending) for one in documents})
    assert {name: {"_id": name, "name": name} for name in documents.values()} == {
        name: users.get(name) for name in documents.values()
    }
    for one in range(PARTITIONS):
        on_cluster.flusher.flush(one)
    assert 0 == on_cluster.status()["pending"]


def test_its_user_needs_no_more_than_it_says(on_cluster, cluster, wire):
    """`doctor --acl` permits all that writes, reads, flushes and the doctor do, also while a slot moves."""
    user, _ = needed_users(on_cluster.settings.model_copy(update={"broker_url": "redis://127.0.0.1/0"}))
    with permitted(user, cluster.url, *cluster.nodes) as url:
        own = EveryWire(open_servers(url, 5_000))
        narrow = Pipeline(on_cluster.settings, wire=own, client=on_cluster._client)
        users, documents = narrow.collection("users"), by_partition(on_cluster)
        for name in documents.values():
            users.put(name, {"name": name}, durability=Durability.REPLICATED)
        move(cluster, wire, 1, meanwhile=lambda: users.put(documents[1], {"name": documents[1]}))
        found = list(redis.check(narrow))
        flush_all(narrow)
        assert {name: name for name in documents.values()} == {
            name: users.get(name)["name"] for name in documents.values()
        }
        own.close()
    assert not [one for one in found if "refused" in one.found]


@pytest.mark.parametrize("level", [Durability.REPLICATED, Durability.FSYNCED])
def test_each_server_has_replicas_of_its_own(on_cluster, cluster, wire, level):
    """Writes that go to several servers at once are confirmed by each one's replica; who lacks it says so."""
    for one in cluster.nodes:
        one.ask("CONFIG", "SET", "appendfsync", "always")
    settings = on_cluster.settings.model_copy(update={"confirm_timeout_ms": 700})
    slow = Pipeline(settings, wire=wire, client=on_cluster._client).collection("slow")
    names = [*by_partition(on_cluster).values()]
    puts = [BulkOperation("put", name, {}) for name in names]
    written = slow.bulk(puts, durability=level)
    assert {(level, level is Durability.FSYNCED, 1)} == {
        (one.durability, one.confirmed.disk, one.confirmed.replicas) for one in written
    }

    of_server = {name: wire.server_of(partition_keys(of).pending) for of, name in by_partition(on_cluster).items()}
    lonely = node_with(cluster, of_server[names[0]])
    replica = next(one for one in cluster.nodes if role(one) == b"slave" and one.ask("ROLE")[2] == lonely.port)
    freeze(replica)
    try:
        written = slow.bulk(puts, durability=level)
    finally:
        resume(replica)
    assert {
        name: Durability.BUFFERED if of == of_server[names[0]] else level for name, of in of_server.items()
    } == {one.id: one.durability for one in written}


@pytest.mark.parametrize("count", [1, 3])
def test_a_slot_that_has_moved_is_followed(on_cluster, cluster, wire, count):
    """A write goes where the slot is now, and the next ones go there at once."""
    slow = on_cluster.collection("slow")
    partition, name = next(iter(by_partition(on_cluster).items()))
    slow.put(name, {"n": 0})
    for n in range(count):
        move(cluster, wire, partition)
        slow.put(name, {"n": n + 1})

    assert {"_id": name, "n": count} == slow.get(name)


def test_a_slot_on_its_way_is_waited_for(on_cluster, cluster, wire):
    """While half of a partition's keys are on either node, reads are served, and a write waits until it can be."""
    slow = on_cluster.collection("slow")
    partition, name = next(iter(by_partition(on_cluster).items()))
    others = [f"x{n}" for n in range(400) if on_cluster.store.partition_of(f"slow/s:x{n}") == partition]
    for one in (name, *others):
        slow.put(one, {"n": 0})
    seen = []

    def look() -> None:
        seen.extend(slow.get(one)["n"] for one in (name, *others))
        began = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            slow.put(name, {"n": 1})
        seen.append(time.monotonic() - began < 3 * slowness())

    move(cluster, wire, partition, meanwhile=look)
    slow.put(name, {"n": 2})

    assert [0] * (1 + len(others)) + [True] == seen
    assert 2 == slow.get(name)["n"]
    assert 1 + len(others) == on_cluster.status()["pending"]


def test_a_slot_of_which_nothing_has_moved_takes_no_writes(on_cluster, cluster, wire):
    """A write names keys that there are not, of which neither node knows where they are; few tries say so."""
    slow = on_cluster.collection("slow")
    name = by_partition(on_cluster)[1]
    slow.put(name, {"n": 0})
    slot, source, target = begin_move(cluster, wire, partition_keys(1).pending)
    before = commands_of(source) + commands_of(target)
    try:
        with pytest.raises(RedisNotReadyError, match="moves the slot of a partition key by key") as refused:
            slow.put(name, {"n": 1})
        assert "CLUSTER MIGRATESLOTS" in str(refused.value)
        for key in source.tell("GETKEYSINSLOT", slot, 1_000):
            source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)
        with pytest.raises(RedisNotReadyError, match="moves the slot of a partition key by key"):
            slow.put(name, {"n": 2})
        asked = commands_of(source) + commands_of(target) - before
    finally:
        end_move(slot, source, target)
    slow.put(name, {"n": 3})
    assert 3 == slow.get(name)["n"]
    assert asked < 400 * slowness()


def test_a_slot_that_moves_as_a_whole_stops_no_write(on_cluster, cluster, wire):
    """`CLUSTER MIGRATESLOTS`: writes go on meanwhile, none is refused, and all are there afterwards."""
    slow, name = on_cluster.collection("slow"), by_partition(on_cluster)[1]
    source = node_with(cluster, wire.server_of(partition_keys(1).pending))
    if not any(one.startswith(b"MIGRATESLOTS") for one in source.tell("HELP")):
        pytest.skip("this server has no atomic slot migration, as Valkey has since 9.0")
    others = [f"x{n}" for n in range(400) if on_cluster.store.partition_of(f"slow/s:x{n}") == 1]
    for one in (name, *others):
        slow.put(one, {"n": 0})
    target = next(one for one in cluster.nodes if one is not source and role(one) == b"master")
    written, slot = 0, _slot("1")

    def is_there() -> bool:
        nonlocal written
        written += 1
        began = time.monotonic()
        slow.put(name, {"n": written})
        assert time.monotonic() - began < TIMEOUT_MS / 1000
        return wire.server_of(partition_keys(1).pending) == f"127.0.0.1:{target.port}"

    source.tell("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.tell("MYID"))
    wait_until(is_there, "the slot to be elsewhere", 30)
    assert [written, *[0] * len(others)] == [slow.get(one)["n"] for one in (name, *others)]
    flush_all(on_cluster)


@pytest.mark.parametrize(
    "take",
    [
        lambda wire, call: wire.run(script("take_lease"), *call),
        lambda wire, call: wire.run_many(script("take_lease"), [call])[0],
        lambda wire, call: wire.run_each(script("take_lease"), [call])[0][0],
        lambda wire, call: wire.run_each(script("take_lease"), [call], lambda _: [("WAIT", 0, 1)])[0][0],
        lambda wire, call: wire.look_before(script("take_lease"), [call], [])[0][0],
    ],
    ids=["run", "run_many", "run_each", "confirmed", "look_before"],
)
def test_a_step_meets_a_node_that_knows_no_step(on_cluster, cluster, wire, take):
    """The one that a slot is on its way to, which was just added, is told the step within a few round trips."""
    key = keys.REBALANCE_LEASE
    slot, source, target = begin_move(cluster, wire, key)
    target.ask("SCRIPT", "FLUSH")
    before = commands_of(source)
    try:
        taken = take(wire, ((key,), ("token", 60_000, "1", "")))
        asked = commands_of(source) - before
    finally:
        end_move(slot, source, target)
    assert (1, 1) == (taken, wire.call("DEL", key))
    assert asked < 10


def test_a_dead_primary_makes_only_its_partitions_unavailable(on_cluster, cluster, wire):
    """Of a bulk, the items of a frozen node are 503, and the others are written; its replica then takes over."""
    slow, documents = on_cluster.collection("slow"), by_partition(on_cluster)
    for name in documents.values():
        slow.put(name, {"n": 0})
    places = {one: wire.server_of(partition_keys(one).pending) for one in documents}
    dead = node_with(cluster, places[0])
    dead.kill()
    try:
        results = slow.bulk([BulkOperation("put", name, {"n": 1}) for name in documents.values()])
        failed = {one for one, found in zip(documents, results, strict=True) if isinstance(found, Exception)}
        assert {one for one in documents if places[one] == places[0]} == failed

        def written() -> bool:
            try:
                slow.put(documents[0], {"n": 2})
            except RedisUnavailableError:
                return False
            return True

        wait_until(written, "the replica to take over", 20)
        assert {2 if one == 0 else 1 if one not in failed else 0 for one in documents} >= {1, 2}
        assert {name: 2 if one == 0 else 0 if one in failed else 1 for one, name in documents.items()} == {
            name: slow.get(name)["n"] for name in documents.values()
        }
    finally:
        dead.start()
        wait_until(cluster.is_whole, "the cluster to be whole", 30)


def test_what_a_failover_loses_is_committed_again(on_cluster, cluster, wire):
    """A replica that has missed writes takes over: they are there again, and others are not touched."""
    slow, documents = on_cluster.collection("slow"), by_partition(on_cluster)
    for name in documents.values():
        slow.put(name, {"n": 0})
    places = {one: wire.server_of(partition_keys(one).pending) for one in documents}
    dead = node_with(cluster, places[0])
    wait_until(lambda: dead.ask("WAIT", 1, 100) == 1, "the replica to have all", 30)
    dead.ask("ACL", "SETUSER", "default", "-psync", "-sync")
    dead.ask("CLIENT", "KILL", "TYPE", "replica")
    versions = {name: slow.put(name, {"n": 1}).version for name in documents.values()}
    lost = [name for one, name in documents.items() if places[one] == places[0]]
    dead.kill()
    try:
        wait_until(lambda: fates(on_cluster) == {"recommitted": len(lost)}, "all to be there again", 40)

        assert versions == {name: slow.read(name).entry.version for name in versions}
        assert {1} == {slow.get(name)["n"] for name in versions}
    finally:
        dead.start()
        wait_until(cluster.is_whole, "the cluster to be whole", 30)


def test_a_slot_that_is_on_its_way_keeps_no_lost_write_from_coming_back(on_cluster, cluster, wire):
    """The new primary lets versions leap of all that it has: connections to it are kept, and all is seen to."""
    slow, documents = on_cluster.collection("slow"), by_partition(on_cluster)
    for name in documents.values():
        slow.put(name, {"n": 0})
    moving, slot = 3, _slot("3")
    dead = node_with(cluster, wire.server_of(partition_keys(moving).pending))
    target = next(one for one in cluster.nodes if one is not dead and role(one) == b"master")
    mine = [name for one, name in documents.items() if one != moving and is_at(wire, one, dead)]
    target.tell("SETSLOT", slot, "IMPORTING", dead.tell("MYID"))
    dead.tell("SETSLOT", slot, "MIGRATING", target.tell("MYID"))
    for key in dead.tell("GETKEYSINSLOT", slot, 1_000):
        dead.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)
    wait_until(lambda: dead.ask("WAIT", 1, 100) == 1, "the replica to have all", 30)
    replica = next(one for one in cluster.nodes if role(one) == b"slave" and one.ask("ROLE")[2] == dead.port)
    dead.ask("ACL", "SETUSER", "default", "-psync", "-sync")
    dead.ask("CLIENT", "KILL", "TYPE", "replica")
    for name in mine:
        slow.put(name, {"n": 1})
    dead.kill()
    try:
        wait_until(lambda: fates(on_cluster) == {"recommitted": len(mine)}, "all to be there again", 40)
        assert {1} == {slow.get(name)["n"] for name in mine}
        before = connections_to(replica)
        for _ in range(20):
            slow.put(mine[0], {"n": 2})
        assert connections_to(replica) - before < 10
    finally:
        for one in (target, replica):
            one.tell("SETSLOT", slot, "NODE", target.tell("MYID"))
        dead.start()
        wait_until(cluster.is_whole, "the cluster to be whole", 30)


def is_at(wire, partition: int, node) -> bool:
    """Whether a node has a partition."""
    return wire.server_of(partition_keys(partition).pending).endswith(f":{node.port}")


def connections_to(node) -> int:
    """How many were ever opened, this one too."""
    return int(parse_info(node.ask("INFO", "stats"))["total_connections_received"])


def fates(pipeline: Pipeline) -> dict[str, int]:
    """What the process has counted of what was lost."""
    counts = pipeline.tallies.read().items()
    return {of[0]: int(numbers[0]) for (family, of), numbers in counts if family == families.LOST_WRITES.name}


@pytest.mark.parametrize("record", [keys.DATABASE, keys.PARTITIONS, keys.BREAKER])
def test_partitions_are_written_while_the_server_of_the_records_is_away(
    on_cluster, cluster, wire, monkeypatch, record
):
    """What is told of the whole installation is on one server: the others take writes without it."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    slow, documents = on_cluster.collection("slow"), by_partition(on_cluster)
    for name in documents.values():
        slow.put(name, {"n": 0})
    home = wire.server_of(record)
    others = [name for one, name in documents.items() if wire.server_of(partition_keys(one).pending) != home]
    dead = node_with(cluster, home)
    dead.kill()
    try:
        assert others
        for name in others:
            slow.put(name, {"n": 1})
    finally:
        dead.start()
        wait_until(cluster.is_whole, "the cluster to be whole", 30)


@pytest.mark.parametrize("key", [keys.WORKERS, keys.PROCESSES, keys.CONSUMERS])
def test_workers_are_not_called_missing_where_a_node_refuses_their_heartbeats(on_cluster, cluster, wire, key):
    """They are at work as before: it is Redis that is to be seen to."""
    store, long_ago_ms = on_cluster.store, wire.now_ms() - 30_000
    on_cluster.check()
    store.workers.record_proof("w@h", QUEUES)
    store.attendance.note_seen()
    if key == keys.WORKERS:
        wire.call("ZADD", keys.WORKERS, long_ago_ms, "w@h")
    for queue in QUEUES:  # noted after the others, or with them
        wire.call("ZADD", keys.CONSUMERS, long_ago_ms, f"w@h {queue}")
    node = node_with(cluster, wire.server_of(key))
    node.ask("CONFIG", "SET", "min-replicas-to-write", 9)
    try:
        figures, page = on_cluster.status(), Page(on_cluster).render("")[0].decode()
        readiness = create_app(on_cluster).test_client().get("/readyz")
    finally:
        node.ask("CONFIG", "SET", "min-replicas-to-write", 0)

    assert "redis-refuses" == figures["to_do"][0]["condition"]
    assert {"no-worker", "queue", "worker"}.isdisjoint(one["condition"] for one in figures["to_do"])
    assert (True, []) == (figures["heartbeats_refused"], figures["unconsumed"])
    found = [*processes.consumers(figures), *processes.awaited(figures["awaited_workers"], is_refused=True)]
    assert {Level.OK} == {one.level for one in found}
    told = f"{_workers(figures)[0]}; {_queues(figures)[0]}"
    assert "Redis refuses to record heartbeats" in told
    assert "writebehind_workers " not in page
    assert (200, None, None) == (
        readiness.status_code,
        readiness.json["workers"],
        readiness.json["silent_workers"],
    )
    (told,) = readiness.json["refusing"]
    assert (None, figures["refusing"][0]["partitions"]) == (told["server"], told["partitions"])
    assert "127.0.0.1" not in readiness.text
    after = on_cluster.status()
    assert (False, [*QUEUES]) == (after["heartbeats_refused"], after["unconsumed"])


def test_doctor_says_whether_the_others_go_on_while_a_node_is_away(on_cluster, cluster):
    """By default of Redis they do not."""

    def told(level: Level) -> Finding | None:
        """What it says once each node has answered in time, which one on a busy machine may not."""
        (one,) = (one for one in redis.check(on_cluster) if one.check == "redis cluster")
        return one if one.level is level else None

    try:
        for setting, level in (("no", Level.OK), ("yes", Level.WARNING)):
            cluster.nodes[1].ask("CONFIG", "SET", "cluster-require-full-coverage", setting)
            one = wait_until(lambda level=level: told(level), f"it to say what {setting!r} means")
    finally:
        cluster.nodes[1].ask("CONFIG", "SET", "cluster-require-full-coverage", "no")

    assert f":{cluster.nodes[1].port}: " in one.found


def test_a_fork_has_connections_of_its_own(on_cluster):
    """A child process asks for the map and the documents itself."""
    slow = on_cluster.collection("slow")
    slow.put("u1", {"n": 1})

    assert 1 == in_child(lambda: slow.get("u1")["n"])
    assert 1 == slow.get("u1")["n"]
