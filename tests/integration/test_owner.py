"""One Redis belongs to one MongoDB database: no other installation reads, writes or flushes what is in it."""

from __future__ import annotations

import threading

import pytest
from pymongo import MongoClient

from tests.commits import commit_one
from tests.integration.conftest import flush_all, put, stored
from writebehind import Pipeline, Settings
from writebehind.documents.entry import Entry
from writebehind.errors import (
    ConfigurationError,
    ForeignDatabaseError,
    ForeignRedisError,
    RedisFullError,
    RedisUnavailableError,
)
from writebehind.operations.adopt import Adopted, adopt
from writebehind.operations.drain import drain
from writebehind.operations.idle import NotDrainedError
from writebehind.operations.repartition import repartition
from writebehind.reading.read import Source
from writebehind.redis.keys import DATABASE, LISTENER, PARTITIONS, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.shared.owner import Owner
from writebehind.redis.store import CommitRequest
from writebehind.redis.wire import Wire

NAMED = {"filter": {"name": {"$param": "name"}}, "parameters": {"name": "string"}}


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    """Samples are as new as they can be, and nobody else has to be waited for."""
    monkeypatch.setattr("writebehind.operations.idle.SAMPLE_EVERY_S", 0.0)
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)


@pytest.fixture
def settings(settings) -> Settings:
    told = settings.model_dump()
    told["collections"]["users"] |= {"lookup": {"name": "string"}, "queries": {"named": NAMED}}
    return Settings.model_validate(told)


def of(pipeline: Pipeline, database: str, wire: Wire | None = None) -> Pipeline:
    """A process on the same servers whose settings name another MongoDB database."""
    settings = pipeline.settings.model_copy(update={"mongodb_database": database})
    return Pipeline(settings, wire=wire or pipeline.store._wire, client=pipeline._client)


@pytest.fixture
def foreign(pipeline) -> Pipeline:
    """A process of a second installation, on the Redis of the first one."""
    return of(pipeline, f"{pipeline.settings.mongodb_database}_b")


def recorded(pipeline: Pipeline) -> bytes:
    return pipeline.store._wire.call("GET", DATABASE)


# Whose it is ------------------------------------------------------------------------------------------


def test_the_first_process_records_its_database(pipeline, foreign):
    """A process of another database is told whose Redis it is, what it names itself, and what to do."""
    pipeline.check()
    pipeline.check()

    with pytest.raises(ForeignDatabaseError) as told:
        foreign.check()

    names = pipeline.settings.mongodb_database, foreign.settings.mongodb_database
    assert (
        f"MONGODB_DATABASE: this Redis belongs to database {names[0]!r}, not to {names[1]!r}: set REDIS_URL"
        in str(told.value)
    )
    assert "writebehind adopt" in str(told.value)
    assert f"database/{names[0]}".encode() == recorded(pipeline)


def test_whose_it_is_is_told_before_how_it_is_divided(pipeline, foreign):
    """A second installation is not told to take the first one's number of partitions."""
    pipeline.check()
    settings = foreign.settings.model_copy(update={"partitions": 7})
    with pytest.raises(ForeignDatabaseError):
        Pipeline(settings, wire=pipeline.store._wire, client=pipeline._client).check()


def test_the_first_write_of_a_library_records_it(pipeline, foreign):
    """Where no process has started that checks, the first use does, so that nobody else's worker takes it over."""
    pipeline.collection("users").put("ada", {"name": "Ada"})

    assert f"database/{pipeline.settings.mongodb_database}".encode() == recorded(pipeline)
    assert b"4" == pipeline.store._wire.call("GET", PARTITIONS)
    with pytest.raises(ForeignDatabaseError):
        foreign.check()


def test_an_installation_from_before_the_record(pipeline):
    """Where there is data and no record, the first process records its own database, and goes on."""
    put(pipeline, 3)
    pipeline.store._wire.call("DEL", DATABASE)

    pipeline.check()
    flush_all(pipeline)

    assert {"u0": 0, "u1": 1, "u2": 2} == stored(pipeline)
    assert f"database/{pipeline.settings.mongodb_database}".encode() == recorded(pipeline)


def test_a_full_redis_says_whose_it_is(pipeline, foreign):
    """A worker of another installation does not start on it, and one that is the first records its database."""
    wire = pipeline.store._wire
    wire.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(RedisFullError):
            wire.call("SET", "more", "data")
        pipeline.check()
        with pytest.raises(ForeignDatabaseError):
            foreign.check()
    finally:
        wire.call("CONFIG", "SET", "maxmemory", "0")


def test_what_is_no_record(pipeline, foreign, caplog):
    """Other hands put something in its place: it is told, and the first start records its own again."""
    pipeline.store._wire.call("SET", DATABASE, "shop")

    pipeline.check()

    assert "other hands put b'shop' in the place of wb:database" in caplog.text
    with pytest.raises(ForeignDatabaseError):
        foreign.check()


@pytest.mark.parametrize(
    "owner", [Owner("shop"), Owner("shop", "store"), Owner("Läden-2"), Owner("moving", "database")]
)
def test_a_record_is_read_as_it_was_written(owner):
    assert owner == Owner.parse(owner.record)


@pytest.mark.parametrize(
    "record",
    [
        None,
        b"",
        b"shop",
        b"database/",
        b"database/a/b",
        b"moving/a",
        b"moving//b",
        b"database/" + b"x" * 64,
        b"database/\xff",
    ],
)
def test_what_nobody_has_written_is_no_record(record):
    assert Owner.parse(record) is None


# What another installation may not do -----------------------------------------------------------------


def test_nothing_is_acknowledged_for_another_database(pipeline, foreign):
    """A write of another installation is refused, with what to do, and changes nothing."""
    pipeline.collection("users").put("ada", {"name": "Ada"})
    before = pipeline.store.cache.get("users/s:ada")

    for name in ("users", "slow", "through", "around"):
        with pytest.raises(RedisUnavailableError, match=r"belongs to database.*REDIS_URL"):
            foreign.collection(name).put("ada", {"name": "Eve"})
        with pytest.raises(RedisUnavailableError, match="belongs to database"):
            foreign.collection(name).delete("ada")

    assert (before, 1) == (pipeline.store.cache.get("users/s:ada"), pipeline.status()["pending"])


def test_reads_of_another_installation_go_past_this_redis(pipeline, foreign, mongo_client):
    """They find what their own database has, and leave nothing of it here: documents, values and queries."""
    pipeline.collection("users").put("ada", {"name": "Ada", "of": "a"})
    theirs = mongo_client[foreign.settings.mongodb_database]["users"]
    theirs.insert_many([{"_id": "ada", "name": "Eve", "of": "b"}, {"_id": "bob", "name": "Bob", "of": "b"}])
    wire, users = pipeline.store._wire, foreign.collection("users")
    before = sorted(wire.call("KEYS", "*"))

    assert Source.BYPASS is users.read("ada").source
    assert {"_id": "ada", "name": "Eve", "of": "b"} == users.get("ada")
    assert [{"_id": "bob", "name": "Bob", "of": "b"}] == users.mget(["bob"])
    assert ["bob", None] == [
        found and found.value for found, _ in (users.look_up("name", n) for n in ("Bob", "Ada"))
    ]
    assert ["bob"] == [one["_id"] for one in users.query("named", {"name": "Bob"})]

    assert before == sorted(wire.call("KEYS", "*"))


def test_nothing_is_flushed_to_another_database(pipeline, foreign, mongo_client):
    """A flusher of another installation writes nothing, and the partition is free for its own at once."""
    partition = pipeline.store.partition_of("users/s:ada")
    pipeline.collection("users").put("ada", {"name": "Ada"})
    wire, of_it = pipeline.store._wire, partition_keys(pipeline.store.partition_of("users/s:ada"))
    for flush in (
        lambda: foreign.flusher.flush(partition),
        lambda: foreign.flusher.drain(partition, budget_s=1),
        lambda: foreign.flusher.persist({"users/s:ada": 1}, timeout_ms=500),
    ):
        with pytest.raises(ForeignRedisError, match="belongs to database"):
            flush()
        assert [0, 0] == [wire.call("EXISTS", key) for key in (of_it.lease, of_it.scheduled)]

    assert foreign.settings.mongodb_database not in mongo_client.list_database_names()
    assert 1 == pipeline.flusher.flush(partition).persisted


def test_nothing_is_maintained_for_another_database(pipeline, foreign, hints):
    """No periodic task of another installation does anything here, nor does a worker of it hand anything over."""
    put(pipeline, 3)
    pipeline.collection("users").delete("ada")
    flush_all(pipeline)
    put(pipeline, 3, n=10)
    wire = pipeline.store._wire
    before = {key: wire.call("DUMP", key) for key in wire.call("KEYS", "*")}
    of_it = foreign.maintenance

    for task in (of_it.sweep, of_it.audit_deletions, of_it.reconcile, of_it.decay, of_it.warm, of_it.hand_over):
        with pytest.raises(RedisUnavailableError, match="belongs to database"):
            task()

    assert before == {key: wire.call("DUMP", key) for key in wire.call("KEYS", "*")}


def test_a_listener_of_another_database_does_not_lead(pipeline, foreign):
    """It neither takes the lease nor says anything in the status, which is the other installation's."""
    pipeline.check()
    listener = foreign.listener()
    thread = threading.Thread(target=listener.listen)
    checks = threading.Event()
    check = listener._check

    def noted() -> None:
        checks.set()
        check()

    listener._check = noted
    thread.start()
    assert checks.wait(10)
    listener.stop()
    thread.join(10)

    assert not thread.is_alive()
    assert [] == pipeline.store._wire.call("KEYS", "wb:listener*")


def test_a_process_that_runs_notices(pipeline, foreign):
    """Redis was emptied, and another installation came first: nothing is acknowledged or flushed any more."""
    pipeline.collection("users").put("ada", {"name": "Ada"})
    pipeline.store._wire.call("FLUSHALL")
    foreign.collection("users").put("eve", {"name": "Eve"})

    with pytest.raises(RedisUnavailableError, match="belongs to database"):
        pipeline.collection("users").put("ada", {"name": "Ada"})
    with pytest.raises(RedisUnavailableError, match="belongs to database"):
        pipeline.flusher.flush(pipeline.store.partition_of("users/s:eve"))
    assert 1 == foreign.status()["pending"]


def test_what_is_seen_at_the_last_moment(pipeline, foreign, monkeypatch, mongo_client):
    """What a flusher has read just before another installation's Redis took this one's place is not written."""
    pipeline.collection("users").put("ada", {"name": "Ada"})
    entries, wire = pipeline.store.pending.entries, pipeline.store._wire

    def then_another(*arguments):
        found = entries(*arguments)
        wire.call("SET", DATABASE, Owner(foreign.settings.mongodb_database).record)
        return found

    monkeypatch.setattr(pipeline.store.pending, "entries", then_another)
    with pytest.raises(ForeignRedisError):
        pipeline.flusher.flush(pipeline.store.partition_of("users/s:ada"))
    assert pipeline.settings.mongodb_database not in mongo_client.list_database_names()


@pytest.mark.parametrize(
    "act", [lambda one: drain(one, timeout_s=5), lambda one: repartition(one, 8)], ids=["drain", "repartition"]
)
def test_operations_of_another_installation(pipeline, foreign, act):
    """They refuse, with what to do, and change nothing."""
    put(pipeline, 2)
    with pytest.raises(ForeignDatabaseError, match="belongs to database"):
        act(foreign)
    assert (2, b"4") == (pipeline.status()["pending"], pipeline.store._wire.call("GET", PARTITIONS))


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("drain",),
        ("repartition", "8"),
        ("reconcile",),
        ("reconcile", "--all"),
        ("warm",),
        ("hot-keys",),
        ("conflicts",),
        ("listen",),
        ("dead-letters", "list"),
    ],
)
def test_commands_of_another_installation(pipeline, run, monkeypatch, command):
    """A command whose settings name another database does not start, and says what to do."""
    pipeline.check()
    monkeypatch.setenv("MONGODB_DATABASE", "of_others")
    with pytest.raises(ForeignDatabaseError, match=r"not to 'of_others': set REDIS_URL"):
        run(*command)


# On purpose -------------------------------------------------------------------------------------------


@pytest.fixture
def drained(pipeline, settings) -> Pipeline:
    """A pipeline with documents and a deletion, of which nothing is pending; nobody waits for its time-out."""
    pipeline.settings = settings.model_copy(update={"redis_timeout_ms": 1})
    pipeline.check()
    put(pipeline, 10)
    pipeline.collection("slow").delete("u0")
    drain(pipeline, timeout_s=30)
    return pipeline


@pytest.fixture
def renamed(drained, mongo_client: MongoClient) -> Pipeline:
    """The same documents in a database of another name, and a process of it."""
    names = drained.settings.mongodb_database, f"{drained.settings.mongodb_database}_b"
    mongo_client[names[1]]["slow"].insert_many(list(mongo_client[names[0]]["slow"].find()))
    return of(drained, names[1])


def test_a_database_that_was_renamed(drained, renamed):
    """Documents are read as before, versions go on growing, the cache is dropped, and the listener begins anew."""
    wire = drained.store._wire
    ahead = drained.store.now_ms() * 1000 + 10**12
    wire.call("SET", partition_keys(2).clock, ahead)
    drained.collection("slow").get("u1")
    wire.call("SET", LISTENER, "{}")

    done = adopt(renamed)

    before, after = drained.settings.mongodb_database, renamed.settings.mongodb_database
    assert Adopted(before, after, dropped=10) == done
    renamed.check()
    slow = renamed.collection("slow")
    assert [None, *({"_id": f"u{n}", "n": n} for n in range(1, 10))] == [slow.get(f"u{n}") for n in range(10)]
    at = next(n for n in range(99) if drained.store.partition_of(f"slow/s:u{n}") == 2)
    assert slow.put(f"u{at}", {}).version > ahead
    assert not wire.call("EXISTS", LISTENER)
    assert all(not renamed.store.deletions.before(one, 1 << 52, limit=-1) for one in range(4))
    with pytest.raises(ForeignDatabaseError):
        drained.check()


def test_it_refuses(drained, renamed):
    """While something is pending or dead, or a worker alive, nothing is changed, and it is said what to do."""
    drained.collection("slow").put("late", {})
    with pytest.raises(NotDrainedError, match="1 document is pending: run `writebehind drain` first"):
        adopt(renamed)
    drained.store.pending.bury("slow/s:late", drained.store.cache.get("slow/s:late")[0].version_digits, b"{}")
    with pytest.raises(NotDrainedError, match="1 dead letter is left: replay"):
        adopt(renamed)
    drained.store.metrics.record_heartbeat("worker@here")
    for force in (False, True):
        with pytest.raises(NotDrainedError, match=r"stop the workers first.*worker@here"):
            adopt(renamed, force=force)
    drained.check()


def test_by_force(drained, renamed):
    """What is pending or dead goes to the new database, and it is said how much that is."""
    drained.collection("slow").put("late", {"n": 1})
    drained.collection("slow").put("dead", {"n": 2})
    drained.store.pending.bury("slow/s:dead", drained.store.cache.get("slow/s:dead")[0].version_digits, b"{}")

    done = adopt(renamed, force=True)

    assert (1, 1) == (done.pending, done.dead_letters)
    assert {"_id": "late", "n": 1} == renamed.collection("slow").get("late")
    drain(renamed, timeout_s=30)
    assert 1 == stored(renamed)["late"]
    assert "late" not in stored(drained)
    assert 1 == renamed.status()["dead_letters"]


def test_a_write_that_slips_in(drained, renamed, monkeypatch):
    """A write of a process that did not know yet stops it, and the record is as before."""

    def slip_in(_: Pipeline) -> None:
        commit_one(drained.store, CommitRequest("slow/s:late", Entry.loaded(b"late", 0).payload, 60_000))

    monkeypatch.setattr("writebehind.operations.adopt.wait_for_forgotten", slip_in)
    with pytest.raises(NotDrainedError, match="pending"):
        adopt(renamed)
    drained.check()
    assert 1 == drained.status()["pending"]


def test_nobody_writes_meanwhile(drained, renamed, monkeypatch):
    """Neither a process of the old database nor one of the new one, until it is done."""
    refused = []

    def meanwhile(_: Pipeline) -> None:
        for pipeline in (drained, renamed):
            with pytest.raises(RedisUnavailableError, match="is being moved from database") as told:
                pipeline.collection("slow").put("u1", {})
            refused.append(told.value)

    monkeypatch.setattr("writebehind.operations.adopt.wait_for_forgotten", meanwhile)
    adopt(renamed)
    assert 2 == len(refused)


def test_two_at_once(drained, renamed, monkeypatch):
    """Somebody else who moves it at the same time is noticed, and nothing is dropped."""

    def meanwhile(_: Pipeline) -> None:
        drained.store._wire.call("SET", DATABASE, Owner("a", "b").record)

    drained.collection("slow").get("u1")
    monkeypatch.setattr("writebehind.operations.adopt.wait_for_forgotten", meanwhile)
    with pytest.raises(ConfigurationError, match="somebody else moves this Redis"):
        adopt(renamed)
    assert Owner("a", "b").record == recorded(drained)


class CrashError(Exception):
    """The process dies here."""


def crash_at(monkeypatch, pipeline: Pipeline, call: int) -> None:
    """Let this thread die instead of asking Redis once more after so many times."""
    wire, asked, this = pipeline.store._wire, iter(range(call)), threading.get_ident()
    exchange = wire.exchange

    def ask(commands):
        if threading.get_ident() == this and next(asked, None) is None:
            raise CrashError
        return exchange(commands)

    monkeypatch.setattr(wire, "exchange", ask)


@pytest.mark.parametrize("undo", [False, True])
def test_it_may_die_anywhere(drained, renamed, monkeypatch, undo):
    """Wherever it dies: run again with either name, Redis belongs to that database, and to nobody else."""
    ours, others = (drained, renamed) if undo else (renamed, drained)
    for call in range(1000):
        drained.store._wire.call("SET", DATABASE, Owner(drained.settings.mongodb_database).record)
        try:
            with monkeypatch.context() as patch:
                crash_at(patch, renamed, call)
                adopt(renamed)
        except CrashError:
            adopt(ours)
        else:
            break
        ours.check()
        with pytest.raises(ForeignDatabaseError):
            others.check()
        assert {"_id": "u1", "n": 1} == ours.collection("slow").get("u1")
    assert 10 < call < 999


def test_a_redis_that_nobody_has_used(drained, renamed):
    """The database is recorded, so that a process of another one does not start."""
    drained.store._wire.call("FLUSHALL")
    name = renamed.settings.mongodb_database
    assert Adopted(name, name) == adopt(renamed)
    with pytest.raises(ForeignDatabaseError):
        drained.check()


def test_the_adopt_command(run, drained, monkeypatch):
    """The command says whose Redis it was and is; by force also what goes along."""
    monkeypatch.setenv("WRITEBEHIND_REDIS_TIMEOUT_MS", "200")
    monkeypatch.setenv("WRITEBEHIND_CONFIRM_TIMEOUT_MS", "100")
    before = drained.settings.mongodb_database
    assert f"belongs to database {before!r} already" in run("adopt").stdout

    monkeypatch.setenv("MONGODB_DATABASE", "b")
    assert f"this Redis belonged to database {before!r}, and belongs to 'b' now\n" == run("adopt").stdout

    of(drained, "b").collection("slow").put("late", {})
    monkeypatch.setenv("MONGODB_DATABASE", "c")
    with pytest.raises(NotDrainedError):
        run("adopt")
    told = run("adopt", "--force")
    assert "1 pending document and 0 dead letters of 'b' are in Redis, and go to 'c'" in told.stderr


# The atomic steps, on each kind of Redis --------------------------------------------------------------


def test_who_comes_first_is_recorded(wire):
    """Whoever comes later is told, and changes nothing."""
    first = script("record_first")
    assert [b"database/a", b"database/a"] == [
        wire.run(first, (DATABASE,), (f"database/{name}",)) for name in ("a", "b")
    ]
    assert b"database/a" == wire.call("GET", DATABASE)
