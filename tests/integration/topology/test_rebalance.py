"""Servers with names that get more or fewer, while documents are read and written."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import orjson
import pytest

from tests.integration.topology.test_cluster import by_partition
from tests.integration.topology.test_servers import PARTITIONS, opened, servers
from tests.servers import permitted
from tests.topologies import ask
from tests.waiting import wait_until
from web.app import create_app
from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.operations.acl import users
from writebehind.operations.drain import drain
from writebehind.operations.rebalance import goal_of, rebalance
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.topology import moving, rebalancing
from writebehind.redis.topology.arriving import drop_left
from writebehind.redis.topology.guard import HOME
from writebehind.redis.topology.record import Left, MoveError, fair

__all__ = ["opened", "servers"]  # fixtures


@pytest.fixture
def two(opened, servers):
    """A pipeline on the servers a and b, of three that it knows."""
    opened(servers.url_of("a", "b")).store.check()
    return opened(servers.url)


def place(pipeline, partition: int) -> str:
    """The name of the server that a partition is on now."""
    pipeline.store._wire.look_again()
    return pipeline.store.server_of(partition)


def keys_of(servers, name: str) -> set[str]:
    """The keys of a server, without its own record."""
    return {key.decode() for key in ask(servers.servers[name].port, "KEYS", "*")} - {keys.SERVER}


def write(pipeline, n: int) -> dict[int, str]:
    """A document in each partition."""
    documents = by_partition(pipeline)
    for name in documents.values():
        pipeline.collection("slow").put(name, {"n": n})
    return documents


def read(pipeline, documents) -> set[int]:
    """What the documents say."""
    return {pipeline.collection("slow").get(name)["n"] for name in documents.values()}


def test_a_server_that_comes_gets_its_share(two, opened, servers):
    """Only what belongs to it then moves, with all that it holds; nothing is left where it was."""
    documents = write(two, 1)
    before = {one: place(two, one) for one in documents}
    result = rebalance(two)

    assert {str(one): "c" for one in documents if fair(str(one), ("a", "b", "c")) == "c"} == {
        one.place: one.target for one in result.moved
    }
    other = opened(servers.url)
    assert {one: fair(str(one), ("a", "b", "c")) for one in documents} == {
        one: place(other, one) for one in documents
    }
    assert all(place(other, one) in {before[one], "c"} for one in documents)
    assert {1} == read(two, documents) == read(other, documents)
    assert len(documents) == two.status()["pending"]
    moved = {f"wb:{{{one.place}}}:" for one in result.moved}
    left = keys_of(servers, "a") | keys_of(servers, "b")
    assert not [key for key in left if key.startswith(tuple(moved))]
    assert len(documents) == drain(two, timeout_s=20).persisted
    assert 0 == two.status()["pending"]


def test_its_user_needs_no_more_than_it_says(two, opened, servers):
    """`doctor --acl` permits all that a move does, as of each server."""
    documents = write(two, 1)
    first, *others = users(two.settings)
    assert {first.commands, others[0].commands} == {first.commands, *(one.commands for one in others)}
    with permitted(first, servers.url, *servers.servers.values()) as url:
        narrow = opened(url)
        assert rebalance(narrow).moved
        assert {1} == read(narrow, documents)
        assert len(documents) == drain(narrow, timeout_s=20).persisted


def test_a_server_that_goes_has_nothing_left(two, opened, servers):
    """Its partitions, and what belongs to none, are spread over the others, and a process may do without it."""
    documents = write(two, 1)
    result = rebalance(two, without=["a"])

    assert ["b", "c"] == list(result.servers)
    assert HOME in {one.place for one in result.moved}
    assert set() == keys_of(servers, "a")
    without = opened(servers.url_of("b", "c"))
    without.store.check()
    assert {1} == read(without, documents)
    assert len(documents) == without.status()["pending"]
    with pytest.raises(ConfigurationError, match="it lacks c of the servers b, c"):
        opened(servers.url_of("a", "b")).store.check()


def test_a_process_with_an_old_list_is_told_as_that(two, opened, servers):
    """It writes nothing that has gone to a server which it lacks, reads that from MongoDB, and says why."""
    old = opened(servers.url_of("a", "b"))
    documents = write(old, 1)
    client = create_app(old).test_client()
    gone = next(documents[int(one.place)] for one in rebalance(two).moved if one.place != HOME)
    answer = client.put(f"/v1/slow/{gone}", json={"n": 2})
    assert (503, "wrong-installation") == (answer.status_code, answer.json["type"].rpartition(":")[2])
    assert "fwd=bypass" in client.get(f"/v1/slow/{gone}").headers["Cache-Status"]
    status = client.get("/admin/status").json
    (told,) = status["to_do"]
    assert "This process does not fit its Redis" == status["title"]
    assert told["advice"].startswith("REDIS_URL lacks server c: add it")
    assert "add what is missing" in client.get("/readyz").json["redis"]
    with pytest.raises(
        ConfigurationError, match="run `writebehind rebalance --without c` while REDIS_URL still has"
    ):
        rebalance(opened(servers.url_of("a", "b")), without=["c"])


def test_versions_go_on_above_all_that_were_issued(two):
    """Also where the clock of the new server is behind."""
    documents = write(two, 1)
    ahead = two.store.now_ms() * 1000 + 10**12
    for one in documents:
        two.store._wire.call("SET", partition_keys(one).clock, ahead)
    rebalance(two)
    write(two, 2)

    assert {ahead + 1} == {int(two.store._wire.call("GET", partition_keys(one).clock)) for one in documents}
    assert {2} == read(two, documents)


def test_what_expires_keeps_its_life(two):
    """A copy has the TTL of what was copied."""
    documents = write(two, 1)
    for one in documents:
        two.store._wire.call("SET", partition_keys(one).load("slow/s:x"), "token", "PX", 50_000)
    rebalance(two)

    lives = [two.store._wire.call("PTTL", partition_keys(one).load("slow/s:x")) for one in documents]
    assert all(40_000 < life <= 50_000 for life in lives)


def test_what_is_about_to_expire_does_so(two, monkeypatch):
    """A key with less than a millisecond left gets no life without an end where it goes."""
    documents, ask_for = write(two, 1), moving.asked
    for one in documents:
        two.store._wire.call("SET", partition_keys(one).load("slow/s:x"), "token", "PX", 50_000)

    def nearly_over(server, commands):
        answers = ask_for(server, commands)
        return [0 if one[0] == "PTTL" and answers[at] > 0 else answers[at] for at, one in enumerate(commands)]

    monkeypatch.setattr(moving, "asked", nearly_over)
    moved = rebalance(two).moved
    loads = [partition_keys(int(one.place)).load("slow/s:x") for one in moved]
    assert loads
    wait_until(lambda: not any(two.store._wire.call("EXISTS", one) for one in loads), "tokens to expire")


def test_what_changes_meanwhile_is_copied(two, opened, servers, monkeypatch):
    """Writes between the copy and the freeze are there, and so are deletions of keys."""
    documents, other = write(two, 1), opened(servers.url)
    catch_up = moving.Move._catch_up

    def meanwhile(self, changed):
        catch_up(self, changed)
        if self._place != HOME:
            name = documents[int(self._place)]
            other.collection("slow").put(name, {"n": 2})
            other.store._wire.call("SET", partition_keys(int(self._place)).load("slow/s:y"), "token")

    monkeypatch.setattr(moving.Move, "_catch_up", meanwhile)
    moved = {int(one.place) for one in rebalance(two).moved}

    assert moved
    assert {name: 2 if one in moved else 1 for one, name in documents.items()} == {
        name: two.collection("slow").get(name)["n"] for name in documents.values()
    }
    assert {b"token"} == {two.store._wire.call("GET", partition_keys(one).load("slow/s:y")) for one in moved}


@contextmanager
def dying(monkeypatch, name: str, *, after: bool):
    """Have a rebalancing die before or after a step of its first move."""
    owner = next(one for one in (moving.Move, moving, rebalancing) if hasattr(one, name))
    step = getattr(owner, name)

    def die(*arguments, **named):
        if after:
            step(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, die)
        yield


@pytest.mark.parametrize(
    ("step", "after"),
    [
        *(("_catch_up", False), ("_catch_up", True), ("_complete", False), ("_complete", True)),
        *(("_leave", True), ("_thaw", True), ("arrive", False), ("arrive", True)),
        *(("see_arrived", False), ("drop_left", False), ("drop_left", True)),
    ],
)
def test_what_was_interrupted_is_finished_by_starting_again(two, opened, servers, monkeypatch, step, after):
    """Wherever it dies, all is read and written, and the next one moves the rest."""
    documents = write(two, 1)
    with dying(monkeypatch, step, after=after), pytest.raises(KeyboardInterrupt):
        rebalance(two)
    other = opened(servers.url)
    assert {1} == read(other, documents) == read(two, documents)
    write(other, 2)
    assert {2} == read(two, documents)

    rebalance(two)
    assert {one: fair(str(one), ("a", "b", "c")) for one in documents} == {
        one: place(two, one) for one in documents
    }
    assert {2} == read(two, documents) == read(other, documents)
    for name in ("a", "b", "c"):
        tags = {key[4 : key.index("}")] for key in keys_of(servers, name) if key.startswith("wb:{")}
        assert tags <= {str(one) for one in documents if place(two, one) == name}
    assert [] == list(rebalance(two).moved)


def test_a_copy_that_has_not_arrived_is_not_read(two, opened, servers, monkeypatch):
    """It may be taken back, and change where it was: who reads it waits."""
    documents, other = write(two, 1), opened(servers.url)
    leave, seen = moving.Move._leave, []

    def look(self, left):
        has_left = leave(self, left)
        if self._place != HOME and not seen:
            other.store._wire.look_again()
            seen.append(other.store._wire._servers.way(partition_keys(int(self._place)).pending))
            thread = threading.Thread(target=lambda: seen.append(read(other, documents)))
            thread.start()
            thread.join(0.1)
            seen.append(thread)
        return has_left

    monkeypatch.setattr(moving.Move, "_leave", look)
    assert rebalance(two).moved
    way, thread, *_ = seen
    thread.join()
    assert way is None
    assert [{1}] == seen[2:]


def test_a_frozen_partition_waits_and_goes_on(two, servers):
    """A write waits while its partition is frozen, and reads are served; it goes on where it was."""
    documents = write(two, 1)
    one = next(one for one in documents if place(two, one) == "a")
    ask(servers.servers["a"].port, "SET", f"wb:{{{one}}}:frozen", "token", "PX", 300)

    assert 1 == two.collection("slow").get(documents[one])["n"]
    two.collection("slow").put(documents[one], {"n": 2})
    assert 2 == two.collection("slow").get(documents[one])["n"]
    assert 0 == ask(servers.servers["a"].port, "EXISTS", f"wb:{{{one}}}:frozen")


def test_a_move_that_freezes_too_long_gives_way(two, monkeypatch):
    """What cannot be copied in time goes on where it was, and the move says so."""
    documents = write(two, 1)
    monkeypatch.setattr(moving, "FREEZE_MS", 1)
    monkeypatch.setattr(moving, "TOLD_WITHIN_S", 0.05)
    finish = moving.Move._copy

    def slow(self, some):
        threading.Event().wait(0.01)
        finish(self, some)

    monkeypatch.setattr(moving.Move, "_copy", slow)
    with pytest.raises(MoveError, match="changes too fast to be moved"):
        rebalance(two)
    write(two, 2)
    assert {2} == read(two, documents)


def test_a_mover_that_was_stopped_for_long_changes_nothing(two, servers):
    """Its copies are refused, once somebody else has begun to copy the same, or has ended."""
    documents = write(two, 1)
    one = next(one for one in rebalance(two, dry_run=True).moved if one.place != HOME)
    wire = two.store._wire

    def move() -> moving.Move:
        source, target = wire.unguarded(one.source), wire.unguarded(one.target)
        return moving.Move(one.place, source, target, moves=1, report=lambda _: None)

    two.store.rebalancing.use(["a", "b", "c"])
    stale = move()
    moving._run(stale._target, moving._EXPECT, (keys.SERVER,), (one.place, stale._token, ""))
    move().run()
    write(two, 2)
    with pytest.raises(MoveError, match="somebody else moves"):
        stale._receive([(partition_keys(int(one.place)).clock.encode(), 0, b"")])
    drop_left(stale._target, one.place, Left.of("c", 1, "mark"))
    assert {2} == read(two, documents)


def test_a_mover_whose_source_was_emptied_changes_nothing(two, servers):
    """What it has read before is older than what is written where the partition is recorded anew."""
    goal, wire = ("a", "b", "c"), two.store._wire
    one = next(one for one in two.store.rebalancing.plan(goal, PARTITIONS) if one.source == "a")
    two.store.rebalancing.use(goal)
    key = partition_keys(int(one.place)).sent
    source, target = wire.unguarded("a"), wire.unguarded(one.target)
    mover = moving.Move(one.place, source, target, moves=1, report=lambda _: None)
    (expected,) = target.exchange(
        [("EVAL", script("expect_partition").source, 1, keys.SERVER, one.place, mover._token, "")]
    )
    _, old = source.exchange([("HSET", key, "m", "old"), ("DUMP", key)])
    source.exchange([("FLUSHALL",)])
    two.store.check()
    wire.call("HSET", key, "m", "new")

    with pytest.raises(MoveError):
        mover._receive([(key.encode(), 0, old)])
    assert (1, "a", b"new") == (expected, place(two, int(one.place)), wire.call("HGET", key, "m"))
    for server in (source, target):
        server.close()


def test_two_do_not_rebalance_at_once(two, monkeypatch):
    """The second one waits for what a killed one has left, and then says so, and moves nothing."""
    monkeypatch.setattr("writebehind.operations.rebalance.LEASE_MS", 500)
    write(two, 1)
    other, ended = two.store.lease(keys.REBALANCE_LEASE, 500), threading.Event()

    def hold() -> None:
        while not ended.wait(0.02):
            other.take()

    other.take()
    holder = threading.Thread(target=hold)
    holder.start()
    try:
        with pytest.raises(ConfigurationError, match="somebody else is rebalancing"):
            rebalance(two)
    finally:
        ended.set()
        holder.join()
    assert rebalance(two).moved


def test_one_server_without_a_name_becomes_three(opened, servers, monkeypatch):
    """It gets a name, and the others their shares; who knows it by no name writes nothing from then on."""
    monkeypatch.setattr("writebehind.operations.rebalance.wait_for_forgotten", lambda _: None)
    alone = opened(servers.servers["b"].url)
    alone.store.check()
    documents = write(alone, 1)
    three = opened(servers.url)
    three.store.check()
    rebalance(three)

    assert {1} == read(three, documents)
    assert {one: fair(str(one), ("a", "b", "c")) for one in documents} == {
        one: place(three, one) for one in documents
    }
    with pytest.raises(ConfigurationError, match="this is server b of"):
        alone.store.check()


def test_a_stranger_is_not_taken_in(two, opened, servers):
    """A server that another installation uses by itself."""
    write(two, 1)
    opened(servers.servers["c"].url).store.check()
    with pytest.raises(ConfigurationError, match="server c holds an installation of its own"):
        rebalance(two)


@pytest.mark.parametrize(
    ("names", "without", "said"),
    [
        ((), (), "only servers with names"),
        (("a",), ("x",), "no server x"),
        (("a",), ("a",), "a server must be left"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(names, without, said):
    """One line says what is wrong."""
    with pytest.raises(ConfigurationError, match=said):
        goal_of(names, without)


def test_a_server_that_is_away_is_missed(two, servers):
    """Nothing is moved while one of them cannot be asked."""
    write(two, 1)
    servers.servers["b"].kill()
    try:
        with pytest.raises(RedisUnavailableError, match="server b does not answer"):
            rebalance(two, dry_run=True)
    finally:
        servers.servers["b"].start()


@pytest.mark.parametrize("arguments", [(), ("--dry-run",), ("--without", "b")], ids=" ".join)
def test_the_command_misses_a_server_that_is_away(two, servers, run, monkeypatch, arguments):
    """It says which, and moves nothing: neither to others, nor from the one that is away."""
    write(two, 1)
    monkeypatch.setenv("REDIS_URL", servers.url)
    monkeypatch.setenv("WRITEBEHIND_PARTITIONS", str(PARTITIONS))
    servers.servers["b"].kill()
    try:
        with pytest.raises(RedisUnavailableError, match="server b does not answer"):
            run("rebalance", *arguments)
        assert set() == keys_of(servers, "c")
    finally:
        servers.servers["b"].start()


def test_the_command_says_what_has_moved(two, servers, run, settings, monkeypatch):
    """A dry run moves nothing; the command says what it did, in words or in JSON."""
    write(two, 1)
    monkeypatch.setenv("REDIS_URL", servers.url)
    monkeypatch.setenv("WRITEBEHIND_PARTITIONS", str(PARTITIONS))
    planned = orjson.loads(run("rebalance", "--dry-run", "--json").stdout)
    assert planned["moved"]
    assert set() == keys_of(servers, "c")
    count = sum(one["place"] != HOME for one in planned["moved"])
    assert (PARTITIONS, count) == (planned["partitions"], planned["pending"])  # one in each
    assert planned["about_bytes"] > 0
    foretold = run("rebalance", "--dry-run").stdout.splitlines()[-1]
    assert f"{count} of {PARTITIONS} partitions would move, with {count} pending documents and about" in foretold
    said = run("rebalance").stdout
    assert f"{count} of {PARTITIONS} partitions have moved, with " in said
    assert f"0 of {PARTITIONS} partitions would move" in run("rebalance", "--dry-run").stdout
    assert all(f"partition {one['place']} has moved from {one['source']} to c" in said for one in planned["moved"])
    assert "a, b, c have all partitions, and no write waited longer than" in said
    assert [] == orjson.loads(run("rebalance", "--json").stdout)["moved"]
    said = run("rebalance", "--without", "c").stdout
    assert "take c out of REDIS_URL of all processes, and restart these" in said
