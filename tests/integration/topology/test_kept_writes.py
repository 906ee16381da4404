"""What a process keeps of what it has acknowledged, and for how long: until a new primary says what is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from tests.integration.topology.test_lost_writes import Process, fail_over, servers, start
from tests.integration.topology.test_terms import cut_off
from tests.topologies import Watched
from tests.waiting import wait_until
from writebehind import BulkOperation, Written
from writebehind.collection import Collection
from writebehind.documents.codec import encode
from writebehind.documents.entry import Entry
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.redis.commits import CommitRequest, CommitStatus
from writebehind.redis.receipts import Once, answer_of
from writebehind.redis.round_trip import UndecidedError

__all__ = ["servers", "start"]  # fixtures


def test_a_repetition_that_was_acknowledged_is_kept(servers, start):
    """Who has made the writes dies before anybody is told; another process tells it, and promises them by that."""
    gone, process = start(), start()
    process.users().put("warm", {"n": 0})
    cut_off(*servers)

    once = [{"op": "test", "path": "/n", "value": 0}, {"op": "replace", "path": "/n", "value": 1}]

    def all_of_them(users: Collection) -> list[Written]:
        return [
            users.put("put", {"n": 1}, key="1"),
            users.patch("put", {"m": 2}, key="2"),
            users.increment("counted", {"n": 1}, key="3").written,
            users.increment("counted", {"n": 1}, key="4").written,
            users.delete("deleted", key="5"),
            users.patch("tested", json_patch=once, key="6"),  # fails when it is done again
        ]

    for name in ("deleted", "tested"):
        gone.users().put(name, {"n": 0})
    first = all_of_them(gone.users())
    gone.pipeline.lost_writes.close()
    gone.wire.close()
    users = process.users()
    again = all_of_them(users)
    assert [(one.version, True) for one in first] == [(one.version, one.replayed) for one in again]

    fail_over(servers, process)

    expected = {"put": {"_id": "put", "n": 1, "m": 2}, "counted": {"_id": "counted", "n": 2}, "deleted": None}
    expected["tested"] = {"_id": "tested", "n": 1}
    assert expected == {name: users.get(name) for name in expected}
    assert {"recommitted": 4} == process.fates()
    assert [(one.version, True) for one in first] == [(one.version, one.replayed) for one in all_of_them(users)]


def test_a_repetition_over_the_loop_is_kept(servers, start):
    """What it is not known of what the first request made is left to a thread, which looks."""
    process = start()
    process.users().put("bob", {})
    store, key = process.pipeline.store, IdempotencyKey.of("1", [b"request"])

    def answered(entry: Entry) -> CommitStatus:
        once = Once(key, answer_of("users/s:ada", entry.etag))
        request = CommitRequest("users/s:ada", entry.payload, 0, once=once)
        trip = store.commit_trip(request, lambda commit: commit.status, lambda _: None)
        return trip.conclude(trip.server.exchange(trip.commands))

    entry, other = (Entry.loaded(encode({"n": n}), 0) for n in (1, 2))
    assert CommitStatus.OK is answered(entry)
    store.recent.release(store.recent.position)
    assert CommitStatus.REPEATED is answered(entry)
    ((_, kept),) = store.recent.since(0)[0]
    assert ("users/s:ada", entry.payload) == (kept.member, kept.payload)
    with pytest.raises(UndecidedError):
        answered(other)


def test_what_took_too_much_memory_may_be_lost(servers, start):
    """Writes that were dropped are told to be perhaps lost, and only where some may be."""
    process = start()
    users, recent = process.users(), process.pipeline.store.recent
    recent._most_bytes = 50_000
    users.put("first", {"n": 0})
    cut_off(*servers)
    users.bulk([BulkOperation("put", f"u{n}", {"n": n, "text": "x" * 1_000}) for n in range(100)])
    kept = len(recent._writes)
    assert 0 < kept < 50

    fail_over(servers, process)

    assert {"recommitted": kept, "unknown": 101 - kept} == process.fates()


def test_writes_that_replicas_have_are_forgotten(servers, start):
    """Nothing is kept for longer, and no thread stays behind."""
    process = start()
    users, recent = process.users(), process.pipeline.store.recent
    users.put("ada", {"n": 1})
    assert not recent.is_empty
    wait_until(lambda: recent.is_empty, "the replica to have told so", 20)
    wait_until(lambda: not recent._is_watched, "the thread to end", 20)
    users.put("ada", {"n": 2})
    wait_until(lambda: recent.is_empty, "the replica to have told so", 20)
    assert {} == process.fates()


def test_nothing_is_kept_without_replicas(pipeline, users):
    """A server alone costs nothing."""
    users.put("ada", {"n": 1})
    assert pipeline.store.recent.is_empty
    assert not pipeline.store.recent._is_watched


@pytest.fixture
def followed(servers, tmp_path) -> Iterator[Watched]:
    """The new primary, once it has died: a third server follows it, and confirms all that it writes."""
    third = Watched(tmp_path / "third", servers[1])
    with third:
        yield third


def looks(process: Process, count: int) -> None:
    """Wait until a process has looked so often at what replicas have."""
    recovery, seen = process.pipeline.store.recovery, []
    ask = recovery.replication
    recovery.replication = lambda: seen.append(1) or ask()
    wait_until(lambda: len(seen) > count, "the process to look", 30)
    recovery.replication = ask


def test_nothing_is_forgotten_before_versions_leap(servers, start, followed):
    """A new primary that takes no writes yet cannot say what is lost, although a replica has all that it has."""
    process = start()
    users = process.users()
    users.put("ada", {"n": 1})
    cut_off(*servers)
    users.put("ada", {"n": 2})
    servers[0].kill()
    servers[1].ask("CONFIG", "SET", "min-replicas-to-write", 2)
    servers[1].ask("REPLICAOF", "NO", "ONE")
    process.follow(servers[1])
    wait_until(lambda: servers[1].ask("WAIT", 1, 100) == 1, "the third server to follow", 30)
    looks(process, 4)
    assert not process.pipeline.store.recent.is_empty

    servers[1].ask("CONFIG", "SET", "min-replicas-to-write", 1)

    wait_until(lambda: process.fates() == {"recommitted": 1}, "it to be there again", 20)
    assert 2 == users.get("ada")["n"]
    wait_until(lambda: process.pipeline.store.recent.is_empty, "the replica to have told so", 20)


def test_what_is_acknowledged_while_some_versions_cannot_leap_is_not_told_to_be_lost(servers, start):
    """Where one partition may not be touched, a process writes to the others, and meets the new primary later."""
    process, other = start(), start()
    users = process.users()
    users.put("ada", {"n": 0})
    mine = process.pipeline.store.partition_of("users/s:ada")
    cut_off(*servers)
    lost = next(
        name
        for name in map(str, range(99))
        if process.pipeline.store.partition_of(f"users/s:{name}") not in {0, mine}
    )
    users.put(lost, {"n": 1})
    servers[0].kill()
    all_but_its_term = ("~wb:[^{]*", "~wb:{[^0]}:*", "~wb:{0}:[^t]*")
    servers[1].ask("ACL", "SETUSER", "default", "resetkeys", *all_but_its_term)
    servers[1].ask("REPLICAOF", "NO", "ONE")
    process.follow(servers[1])
    other.follow(servers[1])
    users.put("ada", {"n": 1})
    other.users().put("ada", {"n": 2})
    looks(process, 2)

    servers[1].ask("ACL", "SETUSER", "default", "allkeys")

    wait_until(process.seen_to, "the process to see to what was lost", 20)
    assert {"recommitted": 1} == process.fates()
    assert (2, 1) == (users.get("ada")["n"], users.get(lost)["n"])


def test_what_is_lost_is_asked_of_the_new_primary(servers, start):
    """The former one lives, and connections to it are open when the process meets the new one."""
    process = start()
    users = process.users()
    users.put("ada", {"n": 1})
    connections = process.wire.connections("")
    terms = connections.greeting.__self__
    cut_off(*servers)
    users.put("ada", {"n": 2})
    servers[1].ask("REPLICAOF", "NO", "ONE")
    in_use = []

    def meet(term: str, partitions: Sequence[int]) -> None:
        """Others give back what they had, and the process looks before this thread goes on."""
        while in_use:
            connections.answers(in_use.pop())
        process.pipeline.lost_writes.meet(term, partitions)
        if threading.current_thread() is threading.main_thread():  # the one that looks may meet it too
            wait_until(process.seen_to, "the process to see to what was lost", 20)

    terms._met, before = meet, connections.term
    connections._pool.connection_kwargs["port"] = servers[1].port

    def is_met() -> bool:
        in_use.append(connections.send([("PING",)]))
        return connections.term != before

    wait_until(is_met, "the new primary to be met", 30)

    assert {"recommitted": 1} == process.fates()
    assert 2 == users.get("ada")["n"]
