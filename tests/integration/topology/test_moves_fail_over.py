"""Partitions that move between servers with names, of which one fails over to a replica that lacks the last."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import pytest

from tests.integration.conftest import flush_all
from tests.integration.topology.test_cluster import by_partition
from tests.integration.topology.test_servers import PARTITIONS, opened, servers
from tests.integration.topology.test_terms import cut_off
from tests.tiers import long
from tests.topologies import EveryWire, Watched
from tests.waiting import wait_until
from writebehind import Durability, Pipeline
from writebehind.errors import RedisUnavailableError
from writebehind.local.embedded import LOOPBACK
from writebehind.operations.rebalance import rebalance
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.topology import arriving, confirming, moving, named, rebalancing
from writebehind.redis.topology.guard import HOME
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.topology.record import MoveError

__all__ = ["opened", "servers"]  # fixtures

TIMEOUT_MS = 2_000
#: A replica that comes waits for no others.
AT_ONCE = {"repl-diskless-sync-delay": "0"}
#: What a move does one after the other; a replica hears nothing from before one of them on.
STEPS = ("_expect", "_copy", "_catch_up", "_complete", "_leave", "arrive", "_thaw", "see_arrived", "drop_left")
#: Who fails over at the end does so after the command has said how it went.
END = "the end"


class Pair:
    """A server with a replica, which takes its place when a test says so."""

    def __init__(self, directory) -> None:
        self.primary = Watched(directory / "primary", appendfsync="always", options=AT_ONCE)
        self.replica = Watched(directory / "replica", self.primary, appendfsync="always", options=AT_ONCE)
        self.is_cut = False

    def wait(self) -> None:
        wait_until(lambda: self.primary.ask("WAIT", 1, 100) == 1, "the replica", 30)

    def cut(self) -> None:
        cut_off(self.primary, self.replica)
        self.is_cut = True

    def rejoin(self) -> None:
        """Let the server that was lost follow the other one."""
        self.replica.start()
        self.replica.ask("REPLICAOF", LOOPBACK, self.primary.port)
        self.wait()


class Installation:
    """Two servers with names and a replica each, and processes that reach whoever is the primary."""

    def __init__(self, directory, build) -> None:
        self.pairs = {name: Pair(directory / name) for name in "ab"}
        self._build = build
        self._pipelines: list[Pipeline] = []

    def process(self, names: str = "ab") -> Pipeline:
        url = ";".join(f"{name}={self.pairs[name].primary.url}" for name in names)
        self._pipelines.append(self._build(url))
        return self._pipelines[-1]

    def end(self, pipeline: Pipeline) -> None:
        """Let a process end: nobody commits again what it wrote."""
        pipeline.lost_writes.close()
        pipeline.store._wire.close()
        self._pipelines.remove(pipeline)

    def fail_over(self, name: str) -> None:
        """Let a replica take the place of its primary, as Sentinels would."""
        pair = self.pairs[name]
        pair.primary.kill()
        pair.replica.ask("REPLICAOF", "NO", "ONE")
        pair.primary, pair.replica = pair.replica, pair.primary
        for one in self._pipelines:
            one.store._wire._servers._pools[name].connection_kwargs["port"] = pair.primary.port


@pytest.fixture
def installation(tmp_path, settings, mongo_client, hints, monkeypatch) -> Iterator[Installation]:
    monkeypatch.setattr(
        "writebehind.operations.rebalance.wait_for_forgotten", lambda _: None
    )  # all know the names
    monkeypatch.setattr(confirming, "_TRIES", 2)
    wires, pipelines = [], []

    def build(url: str) -> Pipeline:
        wires.append(EveryWire(open_servers(url, TIMEOUT_MS)))
        changed = settings.model_copy(
            update={"redis_url": url, "partitions": PARTITIONS, "redis_timeout_ms": TIMEOUT_MS}
        )
        pipelines.append(Pipeline(changed, hints=hints, wire=wires[-1], client=mongo_client))
        return pipelines[-1]

    made = Installation(tmp_path, build)
    with ExitStack() as stack:
        for pair in made.pairs.values():
            stack.enter_context(pair.primary)
            stack.enter_context(pair.replica)
        for pair in made.pairs.values():
            pair.wait()
        yield made
        for one in pipelines:
            one.lost_writes.close()
        for one in wires:
            one.close()


def written(installation, durability: Durability, n: int = 1) -> dict[int, str]:
    """A document in each partition, all on a; who has written it is gone."""
    alone = installation.process("a")
    alone.store.check()
    installation.end(alone)
    writer = installation.process()
    documents, slow = by_partition(writer), writer.collection("slow")
    levels = {slow.put(name, {"n": n}, durability=durability).durability for name in documents.values()}
    assert {durability} == levels
    installation.end(writer)
    return documents


def read(pipeline, documents) -> dict[int, int]:
    """What each document says, as soon as all are served."""

    def found() -> dict[int, int]:
        slow = pipeline.collection("slow")
        return {one: (slow.get(name) or {"n": 0})["n"] for one, name in documents.items()}

    return wait_until(found, "all partitions to be served", 30)


def write(pipeline, documents, n: int) -> None:
    for name in documents.values():
        wait_until(lambda name=name: pipeline.collection("slow").put(name, {"n": n}), "a write", 30)


class Failing:
    """A failover in the middle of a rebalancing: its replica hears nothing from before a step on."""

    def __init__(self, installation, name: str, cut: str, fails: str) -> None:
        self._installation, self._name, self._pair = installation, name, installation.pairs[name]
        self._cut, self._fails = cut, fails
        self.has_failed = False

    def before(self, step: str) -> None:
        if step == self._cut and not self._pair.is_cut:
            self._pair.cut()
        if step == self._fails and self._pair.is_cut and not self.has_failed:
            self.has_failed = True
            self._installation.fail_over(self._name)

    def patch(self, monkeypatch) -> None:
        for step in STEPS:
            owner = next(one for one in (moving.Move, moving, rebalancing) if hasattr(one, step))

            monkeypatch.setattr(owner, step, self._interrupted(step, getattr(owner, step)))

    def _interrupted(self, step: str, real):
        def interrupted(*arguments, **named):
            self.before(step)
            return real(*arguments, **named)

        return interrupted


#: From before which step on the replica hears nothing, and before which one it takes the primary's place.
CASES = [
    *((one, one) for one in ("_complete", "_leave", "arrive", "see_arrived")),
    *((one, END) for one in ("_copy", "arrive", "drop_left")),
    *(("_expect", "_copy"), ("_copy", "_catch_up"), ("_copy", "_complete"), ("_catch_up", "_complete")),
]
OTHERS = [(cut, fails) for cut in STEPS for fails in (cut, END) if (cut, fails) not in CASES]


@pytest.mark.parametrize("name", ["a", "b"], ids=["source", "target"])
@pytest.mark.parametrize(("cut", "fails"), [*CASES, *(pytest.param(*one, marks=long) for one in OTHERS)])
def test_what_was_replicated_outlives_a_failover_in_the_middle(
    installation, monkeypatch, mongo_client, name, cut, fails
):
    """Whatever the replica lacks: all is read and written by each process, and the next one moves the rest."""
    documents = written(installation, Durability.REPLICATED)
    mover, stale = installation.process(), installation.process()
    assert set(documents) == {one for one, n in read(stale, documents).items() if n == 1}
    failing = Failing(installation, name, cut, fails)
    with monkeypatch.context() as patched:
        failing.patch(patched)
        with suppress(MoveError, RedisUnavailableError):
            rebalance(mover)
    if not installation.pairs[name].is_cut:
        installation.pairs[name].cut()
    if not failing.has_failed:
        installation.fail_over(name)
    installation.pairs[name].rejoin()

    wait_until(lambda: rebalance(installation.process()), "a rebalancing", 60)
    fresh = installation.process()
    assert set(documents) == {one for one, n in read(fresh, documents).items() if n == 1}
    write(stale, documents, 2)
    assert {2} == set(read(fresh, documents).values()) == set(read(stale, documents).values())
    flush_all(fresh)
    stored = mongo_client[fresh.settings.mongodb_database]["slow"].find()
    assert dict.fromkeys(documents.values(), 2) == {one["_id"]: one["n"] for one in stored}
    assert (0, []) == (fresh.status()["dead_letters"], fresh.store.journal.conflicts(0, -1))


@pytest.mark.parametrize("name", ["a", "b"], ids=["source", "target"])
def test_nothing_moves_while_replicas_do_not_keep_up(installation, name):
    """What was fsynced goes to no server whose replica lacks it, and leaves none; the command says why."""
    documents = written(installation, Durability.FSYNCED)
    installation.pairs[name].cut()
    with pytest.raises(MoveError, match=f"replicas of server {name} do not confirm"):
        rebalance(installation.process())
    installation.fail_over(name)
    assert {1} == set(read(installation.process(), documents).values())


def comes_back_with(installation, moved: Sequence[str]) -> Pair:
    """A replica of `a` that has missed that these places moved takes its place; both of them."""
    pair = installation.pairs["a"]
    pair.cut()
    pair.replica.ask("REPLICAOF", "NO", "ONE")
    for one in moved:
        pair.replica.ask("HSET", keys.SERVER, one, 0)
    installation.fail_over("a")
    return pair


@pytest.mark.parametrize("first", ["write", "read", "look"])
def test_a_server_that_came_back_with_what_has_moved_lets_go_of_it(installation, first):
    """A replica that missed the move has the place of its primary: nobody writes there, whatever he knew."""
    documents = written(installation, Durability.REPLICATED)
    stale, mover = installation.process(), installation.process()
    assert {1} == set(read(stale, documents).values())
    moved = [one.place for one in rebalance(mover).moved]
    assert moved
    pair = comes_back_with(installation, moved)

    fresh = installation.process()
    if first == "look":
        fresh.store._wire.look_again()
    if first != "read":
        write(stale, documents, 2)
    expected = 1 if first == "read" else 2
    assert {expected} == set(read(stale, documents).values()) == set(read(fresh, documents).values())
    here = {one.decode() for one in pair.primary.ask("HKEYS", keys.SERVER)}
    assert set() == here.intersection(moved)
    pair.rejoin()
    finished = set(wait_until(lambda: rebalance(fresh), "the replica to keep up", 30).finished)
    assert set(moved) == finished


def test_who_meets_another_primary_asks_the_others_only_once(installation, monkeypatch):
    """A server that does not answer then is asked again, once for a while, and nobody waits for itself."""
    documents = written(installation, Durability.REPLICATED)
    pipeline = installation.process()
    pipeline.store._wire.look_again()
    asked = []
    records_of = named._records_of
    monkeypatch.setattr(
        named, "_records_of", lambda some: asked.append([one.name for one in some]) or records_of(some)
    )
    installation.pairs["b"].primary.kill()
    installation.fail_over("a")
    monkeypatch.setattr(named, "_ASK_AGAIN_S", 60.0)
    write(pipeline, documents, 2)
    assert 1 == asked.count(["b"])
    monkeypatch.setattr(named, "_ASK_AGAIN_S", 0.0)
    pipeline.store._wire._servers._seen.clear()
    installation.pairs["b"].primary.start()
    wait_until(lambda: pipeline.store._wire.look_again() or True, "b", 30)
    write(pipeline, documents, 3)
    count = len(asked)
    write(pipeline, documents, 4)
    assert count == len(asked)
    assert ["b"] in asked
    assert {4} == set(read(pipeline, documents).values())


def test_who_moves_partitions_greets_each_primary(installation):
    """Versions leap where a replica has taken a server's place, and only of what is there."""
    documents = written(installation, Durability.REPLICATED)
    pipeline = installation.process()
    moved = {int(one.place) for one in rebalance(pipeline).moved}
    installation.pairs["b"].wait()
    installation.fail_over("b")
    moving.asked(pipeline.store._wire.unguarded("b"), [("PING",)])

    ask = installation.pairs["b"].primary.ask
    assert {one: int(one in moved) for one in documents} == {
        one: ask("EXISTS", partition_keys(one).lapses) for one in documents
    }


def test_a_mover_that_was_stopped_before_it_freezes(opened, servers, monkeypatch):
    """Another one has begun to fill the new server meanwhile: the first one finds that its right is over."""
    opened(servers.url_of("a", "b")).store.check()
    three = opened(servers.url)
    documents = by_partition(three)
    for name in documents.values():
        three.collection("slow").put(name, {"n": 1})
    one = next(one for one in rebalance(three, dry_run=True).moved if one.place != HOME)
    wire = three.store._wire
    three.store.rebalancing.use(["a", "b", "c"])
    moves = [
        moving.Move(
            one.place, wire.unguarded(one.source), wire.unguarded(one.target), moves=1, report=lambda _: None
        )
        for _ in range(2)
    ]
    stopped, goes_on, copies, may_copy = (threading.Event() for _ in range(4))
    catch_up, copy = moving.Move._catch_up, moving.Move._copy

    def stop(self, changed):
        catch_up(self, changed)
        if self is moves[0]:
            stopped.set()
            goes_on.wait(30)

    def take_long(self, some):
        if self is moves[1]:
            copies.set()
            may_copy.wait(30)
        copy(self, some)

    monkeypatch.setattr(moving.Move, "_catch_up", stop)
    monkeypatch.setattr(moving.Move, "_copy", take_long)
    failed = []

    def run(move):
        try:
            move.run()
        except MoveError as error:
            failed.append((moves.index(move), str(error)))

    threads = [threading.Thread(target=run, args=(move,)) for move in moves]
    threads[0].start()
    assert stopped.wait(30)
    threads[1].start()
    assert copies.wait(30)
    goes_on.set()
    threads[0].join()
    may_copy.set()
    threads[1].join()

    assert [(0, f"somebody else moves partition {one.place}")] == failed
    assert 1 == three.collection("slow").get(documents[int(one.place)])["n"]
    assert b"1" == servers.ask(one.target, "HGET", keys.SERVER, one.place)


@pytest.mark.parametrize("known", [False, True], ids=["not known", "known"])
def test_nothing_is_dropped_that_no_disk_has(opened, servers, monkeypatch, known):
    """Where the new server writes no append-only file, it stays; Redis before 7.2 promises no disk."""
    opened(servers.url_of("a", "b")).store.check()
    three = opened(servers.url)
    documents = by_partition(three)
    for name in documents.values():
        three.collection("slow").put(name, {"n": 1})
    servers.ask("c", "CONFIG", "SET", "appendonly", "no")
    exchange = arriving.Connections.exchange

    def of_former_release(self, commands):
        return exchange(self, [("WAITAOV", *one[1:]) if one[0] == "WAITAOF" else one for one in commands])

    try:
        if known:
            with pytest.raises(MoveError, match="the disk of server c does not confirm"):
                rebalance(three)
        else:
            monkeypatch.setattr(arriving.Connections, "exchange", of_former_release)
            assert rebalance(three).moved
    finally:
        servers.ask("c", "CONFIG", "SET", "appendonly", "yes")
    left = [key for name in "ab" for key in servers.ask(name, "HKEYS", keys.SERVER) if key.startswith(b"left:")]
    assert known == bool(left)
    assert {1} == set(read(three, documents).values())
    assert known == bool(wait_until(lambda: [rebalance(three)], "the disk", 30)[0].finished)
