"""Whatever other hands put in the place of a key of Redis: nothing is an error of ours, and all is well soon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import count

import pytest

from tests.waiting import wait_until
from writebehind import Pipeline, Settings
from writebehind.errors import SpoiledError, TooManyDeadLettersError, UnavailableError
from writebehind.flushing.dead_letters import Filter
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.history.series import series
from writebehind.redis import keys
from writebehind.redis.keys import FLUSHED, PartitionKeys, changes, partition_keys, type_of
from writebehind.redis.pending import Hint
from writebehind.redis.scripts import script
from writebehind.redis.shared.spending import Spent
from writebehind.redis.wire import Wire
from writebehind.writing.writer import Written

ID = "ada"
MEMBER = f"users/s:{ID}"
QUERY = {"filter": {"name": {"$param": "name"}}, "parameters": {"name": "string"}}
VALUES = {"lookup": {"name": "string"}, "queries": {"named": QUERY}, "flush_delay_ms": 0}
#: What is no number, no JSON, no name, no UTF-8; and numbers and JSON that nobody would write.
TEXTS = [
    b"\xff\xfe",
    b"",
    b"9" * 40,
    b"1e300",
    b"nan",
    b'{"at_ms": [], "token": 5}',
]
OF_NAMED_SERVERS = {keys.SERVER, keys.REBALANCE_LEASE}
#: All that there are, from the module of keys itself; but what only servers with names have, and read.
OF_ALL = [
    *sorted(
        {key for key in vars(keys).values() if isinstance(key, str) and key.startswith("wb:")} - OF_NAMED_SERVERS
    ),
    *(*changes("users"), FLUSHED),
]
#: Not the term and lapses, which nobody looks at without a failover, see `topology/test_terms.py`; nor what
#: there is only while the number of partitions grows.
OF_OTHERS = {"prefix", "term", "lapses", "divided", "arriving", "leaving"}
OF_PARTITION = [one.name for one in fields(PartitionKeys) if one.name not in OF_OTHERS]
OF_DOCUMENT = ["entry", "load", "kept", "waiting", "claimed", "alias", "aliasload", "aliasclaims"]
GROUPS = {
    "of the installation": OF_ALL,
    "of a partition": OF_PARTITION,
    "of a document": OF_DOCUMENT,
    "of a query": ["query", "queryload"],
}

#: How a key comes to hold something, by the type that it is of then.
PUTS: dict[str, Callable[[Wire, str, bytes], object]] = {
    "string": lambda wire, key, text: wire.call("SET", key, text),
    "list": lambda wire, key, text: wire.call("RPUSH", key, text, text),
    "hash": lambda wire, key, text: wire.call("HSET", key, text, text, MEMBER, text, "users", text, *FIELDS(text)),
    "zset": lambda wire, key, text: wire.call("ZADD", key, "inf", text, "-inf", MEMBER, 5, b"x" + text),
    "set": lambda wire, key, text: wire.call("SADD", key, text, MEMBER),
}


def FIELDS(text: bytes) -> list[bytes]:  # noqa: N802 - a table of what fields there are
    """Fields of hashes that are read by their names, each with the text."""
    names = ("number", "epoch", "before", "at", "since", "decayed", "floor", "state", "until", "batches", "warm")
    return [part for name in names for part in (name.encode(), text)]


@pytest.fixture
def settings(settings) -> Settings:
    many = {"collections": {"users": VALUES}, "hot_samples": 1, "load_timeout_ms": 500}
    # A process that is refused may leave a lease of the installation behind.
    many |= {"mongodb_timeout_ms": 500, "lease_ms": 1_000}
    return Settings.model_validate(settings.model_dump() | many)


@pytest.fixture
def pipeline(pipeline, monkeypatch) -> Iterator[Pipeline]:
    monkeypatch.setattr("writebehind.reconcile.reconciler.GRACE_S", 0.0)
    monkeypatch.setattr("writebehind.status.KEPT_S", 0)
    yield pipeline
    pipeline.hot_keys.close()


def neighbour(pipeline: Pipeline) -> str:
    """The id of a document of the same partition."""
    of = pipeline.store.partition_of
    return next(one for one in map(str, count()) if of(f"users/s:{one}") == of(MEMBER))


def name_of(pipeline: Pipeline, key: str) -> str:
    """The key that is meant: of the partition of the document, or of the document itself, where it is one."""
    if key in OF_PARTITION:
        return getattr(partition_keys(pipeline.store.partition_of(MEMBER)), key)
    if key in {"query", "queryload"}:
        [found] = pipeline.store._wire.call("KEYS", "wb:*:query:*")
        return found.decode().replace(":query:", f":{key}:")
    if key in {"alias", "aliasload", "aliasclaims"}:
        name = "users/name=s:Ada"
        return f"{partition_keys(pipeline.store.partition_of(name)).prefix}{key}:{name}"
    if key in OF_DOCUMENT:
        return f"{partition_keys(pipeline.store.partition_of(MEMBER)).prefix}{key}:{MEMBER}"
    return key


def work(pipeline: Pipeline) -> list[str]:
    """Do all that there is, with the document and with its neighbours; what was refused for now."""
    users, maintenance = pipeline.collection("users"), pipeline.maintenance
    letters = pipeline.dead_letters

    steps: dict[str, Callable[[], object]] = {
        "put": lambda: users.put(ID, {"name": "Ada"}),
        "neighbours": lambda: [users.put(f"n{n}", {"name": f"N{n}"}) for n in range(8)],
        "increment": lambda: users.increment(ID, {"n": 1}),
        "get": lambda: users.get(ID),
        "list": lambda: users.page(limit=1),
        "look up": lambda: users.look_up("name", "Ada"),
        "query": lambda: users.query("named", {"name": "Ada"}),
        "flush": lambda: work_off(pipeline),
        "hot": pipeline.hot_keys.send,
        "decay": maintenance.decay,
        "warm": maintenance.warm,
        "delete": lambda: users.delete("gone"),
        "flush again": lambda: work_off(pipeline),
        "sweep": maintenance.sweep,
        "audit": maintenance.audit_deletions,
        "reconcile": pipeline.reconciler.make_pass,
        "go on": maintenance.reconcile,
        "step": lambda: pipeline.store.pending.move_times(
            pipeline.store.partition_of(MEMBER), from_ms=0, to_ms=1, by_ms=-9_000, noted_ms=1, limit=9
        ),
        "waiting": lambda: pipeline.store.awaited.waiting(MEMBER, about=10),
        "letters": lambda: [one.as_json() for one in letters.all(Filter())],
        "replay": lambda: letters.replay(letters.page(Filter()).letters, conflicts=True),
        "conflicts": pipeline.conflicts.latest,
        "workers": lambda: pipeline.store.workers.record_proof("one", ["flush"]),
        "consumers": pipeline.store.workers.consumers,
        "spending": lambda: list(pipeline.store.spending.note([Spent("key 1", 0, 1)])),
        "runs": maintenance.decay,
        "breaker": pipeline.breaker.state,
        "lead the history": pipeline.store.lease(keys.HISTORY_LEASE, 5_000).take,
        "history": lambda: series(pipeline.store),
        "history again": lambda: series(pipeline.store),
        "status": lambda: pipeline.status(partitions=True),
        "drift": lambda: [one.as_dict() for one in pipeline.reconciler.history.passes()],
        "complaints": lambda: pipeline.store.complaints.latest(0),
        "sample": pipeline._sampler._take,
        "API keys": pipeline.keyring.all,
        "labels": lambda: pipeline.store.labels.told_apart(["ape"]),
    }
    refused = []
    for name, step in steps.items():
        try:
            step()
        except (UnavailableError, TooManyDeadLettersError):
            refused.append(name)
    return refused


@pytest.mark.parametrize("kind", ["list", "string"])
@pytest.mark.parametrize("keys_of", GROUPS.values(), ids=GROUPS)
def test_keys_of_another_type(pipeline, users, keys_of, kind):
    """They are taken out by the first who meets each, who may be refused for that; and all is persisted."""
    work(pipeline)
    acknowledged = users.put(neighbour(pipeline), {"n": kind})
    wire = pipeline.store._wire
    names = [name_of(pipeline, key) for key in keys_of]
    for name in names:
        assert type_of(name)
        wire.call("DEL", name)
        PUTS["set" if type_of(name) == kind else kind](wire, name, b"garbage")

    assert_well(pipeline, users, acknowledged)

    types = {name: wire.call("TYPE", name).decode() for name in names}
    assert {} == {name: kind for name, kind in types.items() if kind not in {"none", type_of(name)}}


@pytest.mark.parametrize("key", ["lease", "sent", "deleted", "clock", "entry"])
def test_a_flush_that_meets_one_gives_its_partition_back(pipeline, users, key):
    """It is tried again soon, and not when its lease is over: what is pending in the partition is persisted."""
    users.put(ID, {"name": "Ada"})
    acknowledged = users.put(neighbour(pipeline), {"n": 1})
    wire, name = pipeline.store._wire, name_of(pipeline, key)
    wire.call("DEL", name)
    wire.call("RPUSH", name, "garbage")
    partition, hint = pipeline.store.partition_of(MEMBER), Hint(0, "", 0)

    for _ in range(2):
        try:
            pipeline.flusher.flush(partition, ticket=hint.ticket)
        except FlushInterruptedError as error:
            hint = error.hint

    assert hint.delay_ms < 1_000
    stored = pipeline.sink._database["users"].find_one({"_id": neighbour(pipeline)})
    assert (acknowledged.version, 0) == (stored["_v"], pipeline.status()["pending"])


@pytest.mark.parametrize("keys_of", GROUPS.values(), ids=GROUPS)
def test_garbage_in_keys(pipeline, users, keys_of):
    """Of their own types, but no number, name or JSON that anybody has written: the same."""
    work(pipeline)
    wire = pipeline.store._wire
    for text in TEXTS:
        acknowledged = users.put(neighbour(pipeline), {"n": repr(text)})
        for name in [name_of(pipeline, key) for key in keys_of]:
            wire.call("DEL", name)
            PUTS[type_of(name)](wire, name, text)

        assert_well(pipeline, users, acknowledged)


@pytest.mark.parametrize("key", ["pending", "dead", "dead_counts", "wb:changed:{users}", "wb:changes:{users}"])
def test_no_query_goes_round_what_is_in_the_way(pipeline, users, key):
    """Redis answers, so a query is refused once, and never without an acknowledged write of another partition."""
    work(pipeline)
    of = pipeline.store.partition_of
    other = next(one for one in map(str, count()) if of(f"users/s:{one}") != of(MEMBER))
    users.put(other, {"name": "Ada", "n": 1})
    wire, name = pipeline.store._wire, name_of(pipeline, key)
    wire.call("DEL", name)
    wire.call("RPUSH", name, "garbage")

    refused = 0
    for _ in range(3):
        try:
            answer = users.query("named", {"name": "Ada"})
        except SpoiledError:
            refused += 1
        else:
            assert other in [one["_id"] for one in answer]
    assert 1 >= refused


@pytest.mark.parametrize("read", ["read", "read_many", "look_up"])
def test_no_reader_goes_round_what_is_in_the_way(pipeline, users, read):
    """The same for one document, for several, and for a lookup."""
    users.put(ID, {"name": "Ada", "n": 1})
    wire, name = pipeline.store._wire, name_of(pipeline, "alias" if read == "look_up" else "entry")
    wire.call("DEL", name)
    wire.call("RPUSH", name, "garbage")
    arguments = {"read": (ID,), "read_many": ([ID],), "look_up": ("name", "Ada")}

    with pytest.raises(SpoiledError):
        getattr(users, read)(*arguments[read])


def test_counts_of_dead_letters_that_cannot_be(pipeline, users):
    """No more are shown than there are, no write is refused for them, and reconciling clears them."""
    of = partition_keys(pipeline.store.partition_of(MEMBER))
    wire = pipeline.store._wire
    wire.call("HSET", of.dead_counts, "users", 10**15, "nobody", 5, b"\xff", 10**18, "less", -7, "none", "x")

    users.put(ID, {"name": "Ada"})
    assert {} == pipeline.status()["dead_letters_by_collection"]
    assert {} == pipeline.store.load().dead
    pipeline.reconciler.make_pass()
    noted = wire.call("HVALS", of.dead_counts)
    assert {b"0", b"x"} >= {*noted}


@pytest.mark.parametrize(
    ("command", "dropped"), [(("SADD", "{k}", "x"), 1), (("ZADD", "{k}", 1, "x"), 0), ((), 0)]
)
def test_only_what_is_of_another_type_is_taken_out(valkey_wire, command, dropped):
    """Whoever comes second may find what is in its place by now."""
    if command:
        valkey_wire.call(*command)

    assert dropped == valkey_wire.run(script("drop_mistyped"), ("{k}",), ("zset",))
    assert bool(command) - dropped == valkey_wire.call("EXISTS", "{k}")


def assert_well(pipeline: Pipeline, users, acknowledged: Written) -> None:
    """Soon nothing is refused any more; what is written then is read and persisted, as what was written before."""
    deadline = time.monotonic() + 10
    while refused := work(pipeline):  # any other error is one of the test
        assert time.monotonic() < deadline, refused
    written = wait_until(lambda: put(users), "the document to be taken", 10)
    assert 7 == users.get(ID)["n"]
    assert {f"N{n}" for n in range(8)} == {users.get(f"n{n}")["name"] for n in range(8)}
    wait_until(lambda: not (work_off(pipeline) or pipeline.status()["pending"]), "all to be persisted", 10)
    stored = pipeline.sink._database["users"]
    assert written.version == stored.find_one({"_id": ID})["_v"]
    assert acknowledged.version == stored.find_one({"_id": neighbour(pipeline)})["_v"]
    assert 8 == stored.count_documents({"name": {"$regex": "^N"}})


def put(users) -> Written | None:
    """What was written; `None` while the last sample says that too much is kept of the document."""
    try:
        return users.put(ID, {"name": "Ada", "n": 7})
    except TooManyDeadLettersError:
        return None


def work_off(pipeline: Pipeline) -> None:
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.drain(partition, budget_s=2)
