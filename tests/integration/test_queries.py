"""Cached queries on real servers: what they answer is exact, and MongoDB is asked seldom."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from bson import Decimal128
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.integration.conftest import flush_all
from writebehind import Pipeline, Settings
from writebehind.change_stream.applier import OutsideChange
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, RedisFullError, RequestError, UnknownQueryError
from writebehind.querying.cached_queries import SPARE
from writebehind.reading.read import Source
from writebehind.redis.keys import changes
from writebehind.redis.results import MOST_CHANGED, MOST_PENDING
from writebehind.redis.scripts import script

QUERIES = {
    "in_city": {
        "filter": {"city": {"$param": "city"}},
        "sort": {"rank": -1},
        "limit": 3,
        "parameters": {"city": "string"},
    },
    "young": {"filter": {"age": {"$lt": {"$param": "age"}}}, "parameters": {"age": "int"}},
    "names": {"sort": {"name": 1}, "projection": {"name": 1, "_id": 0}},
    "by_part": {"sort": {"parts.size": 1}, "limit": 2},
}


@pytest.fixture
def config(settings) -> Settings:
    users = {"queries": QUERIES, "flush_delay_ms": 60_000, "ttl": 600}
    values = {"collections": {"users": users, "others": {}}, "partitions": 4, "query_interval": 3_600}
    return Settings.model_validate(settings.model_dump() | values)


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


@pytest.fixture
def asked(pipeline, other, monkeypatch) -> list[dict]:
    """The filters that MongoDB is asked for."""
    filters: list[dict] = []
    for one in (pipeline, other):
        find = one.sink.find_places
        monkeypatch.setattr(
            one.sink, "find_places", lambda *wanted, find=find: filters.append(wanted[1]) or find(*wanted)
        )
    return filters


def ids(users, city: str = "London") -> list[str]:
    return [one["_id"] for one in users.query("in_city", {"city": city})]


def lives_in(city: str, rank: int = 0, **more: object) -> dict:
    return {"city": city, "rank": rank, **more}


def test_what_mongodb_has(users, stored, asked):
    """It is asked once for each set of arguments; later answers come from Redis."""
    stored.insert_many([{"_id": f"u{n}", **lives_in("London", n)} for n in range(5)])
    assert ["u4", "u3", "u2"] == ids(users)
    assert ["u4", "u3", "u2"] == ids(users)
    assert [] == ids(users, "Paris")
    assert [] == ids(users, "Paris")
    assert [{"city": "London"}, {"city": "Paris"}] == asked
    answer = users.read_query("in_city", {"city": "London"})
    assert Source.HIT is answer.source
    assert 50_000 < answer.ttl_ms <= 60_000


def test_pending_writes_are_there(users, stored, asked):
    """A document is in the answer as soon as it is acknowledged, in its place, and a deleted one is not."""
    stored.insert_many([{"_id": f"u{n}", **lives_in("London", n)} for n in range(4)])
    assert ["u3", "u2", "u1"] == ids(users)
    users.put("new", lives_in("London", 2.5))
    assert ["u3", "new", "u2"] == ids(users)
    users.delete("u3")
    assert ["new", "u2", "u1"] == ids(users)
    users.patch("u2", lambda document: document | {"city": "Paris"})
    assert ["new", "u1", "u0"] == ids(users)
    users.put("u0", lives_in("London", 9))
    assert ["u0", "new", "u1"] == ids(users)
    assert [{"city": "London"}] == asked


def test_a_number_that_is_none(pipeline, users):
    """NaN is neither less nor greater than a number, whether MongoDB has it or not."""
    for name, age in (("nan", float("nan")), ("decimal", Decimal128("NaN")), ("child", 3)):
        users.put(name, {"age": age})
    assert ["child"] == [one["_id"] for one in users.query("young", {"age": 5})]
    flush_all(pipeline)
    assert ["child"] == [one["_id"] for one in users.query("young", {"age": 5})]


def test_a_sort_into_an_array(users, stored):
    """What is no document in an array counts as null, be the others pending or in MongoDB."""
    stored.insert_many([{"_id": f"u{n}", "parts": [{"size": n}]} for n in range(3, 20)])
    assert ["u3", "u4"] == [one["_id"] for one in users.query("by_part")]
    users.put("null", {"parts": [7, {"size": 100}]})
    users.put("first", {"parts": [{"size": 50}, {"size": 1}]})
    users.put("last", {"parts": [{"size": 100}]})
    assert ["null", "first"] == [one["_id"] for one in users.query("by_part")]


def test_a_server_that_sorts_in_another_way(users, stored, asked):
    """What it has found is answered, and it is not asked again for more of the same.

    The embedded server passes over what is no document in an array: to it the last of what it finds is no null.
    """
    stored.insert_many([{"_id": f"u{n}", "parts": [{"size": n}]} for n in range(1, 20)])
    stored.insert_one({"_id": "odd", "parts": [0, {"size": SPARE + 1.5}]})
    users.put("new", {"parts": [{"size": 50}]})
    assert 2 == len(users.query("by_part"))
    assert 1 == len(asked)


def test_persisted_writes_stay_there(pipeline, users, stored, asked):
    """What MongoDB has got since it was asked is still in the answer, without asking it again."""
    stored.insert_one({"_id": "old", **lives_in("London", 1)})
    users.put("new", lives_in("London", 2))
    assert ["new", "old"] == ids(users)
    flush_all(pipeline)
    asked.clear()
    for _ in range(2):
        assert ["new", "old"] == ids(users)
    users.delete("old")
    flush_all(pipeline)
    assert ["new"] == ids(users)
    assert 1 >= len(asked)  # as results are to be loaded anew once in the interval


def test_dead_letters_are_there(pipeline, users, stored, mongo_client):
    """A document that MongoDB refuses is acknowledged all the same."""
    stored.create_index("mail", unique=True, sparse=True)
    stored.insert_one({"_id": "old", "mail": "a@b"})
    users.put("new", lives_in("London", mail="a@b"))
    flush_all(pipeline)
    assert {"users": 1} == pipeline.dead_letters.by_collection()
    pipeline._sampler._taken = 0
    assert ["new"] == ids(users)


def test_results_are_loaded_anew_at_most_once_in_the_interval(
    config, valkey_wire, mongo_client, asked, monkeypatch
):
    """A collection that is written all the time costs MongoDB one query for each interval, not for each write."""
    pipeline = Pipeline(config, wire=valkey_wire, client=mongo_client)
    filters = []
    find = pipeline.sink.find_places
    monkeypatch.setattr(pipeline.sink, "find_places", lambda *wanted: filters.append(wanted) or find(*wanted))
    users = pipeline.collection("users")
    for n in range(20):
        users.put(f"u{n}", lives_in("London", n))
        flush_all(pipeline)
        assert f"u{n}" == ids(users)[0]
    assert 2 >= len(filters)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"sort": {"rank": 1}}, {"sort": {"rank": -1}}, ["u3", "u2"]),
        ({"sort": {"city": 1, "rank": -1}}, {"sort": {"rank": -1, "city": 1}}, ["u3", "u2"]),
        ({"sort": {"rank": 1}, "limit": 1}, {"sort": {"rank": 1}}, ["u0", "u1"]),
        ({"sort": {"rank": 1}}, {"sort": {"rank": 1}, "filter": {"rank": {"$gt": 1}}}, ["u2", "u3"]),
    ],
    ids=["sort", "order of sorts", "limit", "filter"],
)
def test_settings_that_are_changed(config, valkey_wire, mongo_client, stored, before, after, expected):
    """Processes of which each has other settings of a query answer by their own, one after the other."""
    stored.insert_many([{"_id": f"u{n}", **lives_in("London" if n % 2 else "Paris", n)} for n in range(4)])

    def answer(query: dict) -> list[str]:
        users = {"queries": {"top": {"limit": 2} | query}}
        changed = Settings.model_validate(config.model_dump() | {"collections": {"users": users}})
        pipeline = Pipeline(changed, wire=valkey_wire, client=mongo_client)
        return [one["_id"] for one in pipeline.collection("users").query("top")]

    first = answer(before)
    assert expected == answer(after)
    assert first == answer(before)


def test_what_others_change(pipeline, users, stored, asked):
    """An external insert, update and deletion show once the listener has told of them."""
    stored.insert_many([{"_id": f"u{n}", **lives_in("London", n)} for n in range(3)])
    assert ["u2", "u1", "u0"] == ids(users)

    def tell(operation: str, *names: str) -> None:
        pipeline.applier.apply([OutsideChange(DocumentId.of("users", one), operation, 1) for one in names])

    stored.insert_one({"_id": "new", **lives_in("London", 9)})
    tell("insert", "new")
    assert ["new", "u2", "u1"] == ids(users)
    stored.update_one({"_id": "u2"}, {"$set": {"city": "Paris"}})
    tell("update", "u2")
    assert ["new", "u1", "u0"] == ids(users)
    stored.delete_one({"_id": "new"})
    tell("delete", "new")
    assert ["u1", "u0"] == ids(users)


def test_a_collection_that_is_forgotten(pipeline, users, stored, asked):
    """Where nobody knows what has changed, results are loaded anew."""
    assert [] == ids(users)
    stored.insert_one({"_id": "new", **lives_in("London")})
    assert [] == ids(users)
    pipeline.applier.forget("", lambda: None)
    assert ["new"] == ids(users)


def test_more_is_asked_for_when_many_are_gone(users, stored, asked):
    """Where so many of what was found are gone that others may come in, MongoDB is asked again."""
    stored.insert_many([{"_id": f"u{n:02}", **lives_in("London", n)} for n in range(60)])
    assert ["u59", "u58", "u57"] == ids(users)
    for n in range(59, 59 - SPARE - 1, -1):
        users.delete(f"u{n:02}")
    left = 59 - SPARE - 1
    assert [f"u{n:02}" for n in (left, left - 1, left - 2)] == ids(users)
    assert 3 == len(asked)  # again for as many, and then for more


def test_many_are_gone_before_the_first_answer(users, stored, asked):
    """MongoDB is asked for more until there are enough, and what it is asked for then is not kept for ever."""
    stored.insert_many([{"_id": f"u{n:02}", **lives_in("London", n)} for n in range(60)])
    for n in range(59, 9, -1):
        users.delete(f"u{n:02}")
    assert ["u09", "u08", "u07"] == ids(users)
    assert ["u09", "u08", "u07"] == ids(users)
    assert 3 == len(asked)  # 8, 32 and 128 documents


def test_what_comes_last_may_not_be_next(users, stored, monkeypatch):
    """A new document that comes after all that MongoDB was asked for is not taken for the next one."""
    monkeypatch.setattr("writebehind.querying.cached_queries.SPARE", 1)
    stored.insert_many([{"_id": f"u{n}", **lives_in("London", n)} for n in range(1, 11)])
    assert ["u10", "u9", "u8"] == ids(users)
    users.put("last", lives_in("London", 0))
    users.delete("u10")
    users.delete("u9")
    assert ["u8", "u7", "u6"] == ids(users)


def test_a_result_that_is_too_old(config, valkey_wire, mongo_client, stored):
    """A result is not served once it is not known what has changed since, though another reader loads it anew."""
    pipeline = Pipeline(config.model_copy(update={"load_timeout_ms": 300}), wire=valkey_wire, client=mongo_client)
    users = pipeline.collection("users")
    assert [] == ids(users)
    for name in ("a", "b"):
        users.put(name, lives_in("London"))
        flush_all(pipeline)
        valkey_wire.call("HSET", "wb:changes:{users}", "at", 0)  # the interval is over
    [key] = valkey_wire.call("KEYS", "wb:{*}:query:*")
    valkey_wire.call("SET", key.replace(b":query:", b":queryload:"), "another", "PX", 60_000)
    assert ["a", "b"] == sorted(ids(users))


def test_one_look_however_many_readers(users, other, stored, asked):
    """Of many readers of two processes, one asks MongoDB."""
    stored.insert_many([{"_id": f"u{n}", **lives_in("London", n)} for n in range(3)])
    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(lambda n: ids((users, other.collection("users"))[n % 2]), range(200)))
    assert [["u2", "u1", "u0"]] * 200 == answers
    assert 1 == len(asked)


def test_nobody_waits_while_a_result_is_loaded_anew(pipeline, other, stored, monkeypatch, asked):
    """While one reader loads, the others are served from the last result and what has changed since."""
    users, late = pipeline.collection("users"), other.collection("users")
    stored.insert_one({"_id": "old", **lives_in("London", 1)})
    assert ["old"] == ids(users)
    users.put("new", lives_in("London", 2))
    flush_all(pipeline)  # the first change of all: results are to be loaded anew
    served = []
    find = pipeline.sink.find_places

    def while_loading(*wanted):
        served.append(ids(late))
        return find(*wanted)

    monkeypatch.setattr(pipeline.sink, "find_places", while_loading)
    assert ["new", "old"] == ids(users)
    assert [["new", "old"]] == served


def test_many_changes(pipeline, users, stored, asked):
    """After more changes than are looked at one by one the result is loaded anew."""
    for n in range(MOST_CHANGED + 10):
        users.put(f"u{n:04}", lives_in("London" if n % 100 == 0 else "Paris", n))
    assert ["u0500", "u0400", "u0300"] == ids(users)
    flush_all(pipeline)
    assert ["u0500", "u0400", "u0300"] == ids(users)
    users.delete("u0500")
    assert ["u0400", "u0300", "u0200"] == ids(users)


def test_so_much_is_pending_that_some_may_be_missing(pipeline, users, stored):
    """The answer says so; what MongoDB has found is as it was last acknowledged all the same."""
    stored.insert_one({"_id": "old", **lives_in("London", 10_000)})
    assert ["old"] == ids(users)
    assert not users.read_query("in_city", {"city": "London"}).partial
    for n in range((MOST_PENDING + 60) * pipeline.settings.partitions):
        users.put(f"u{n:04}", lives_in("Paris"))
    assert users.read_query("in_city", {"city": "London"}).partial
    users.delete("old")
    assert [] == ids(users)


def test_a_projection(users):
    """Only the fields that the query wants are there."""
    users.put("b", {"name": "Bob", "age": 3})
    users.put("a", {"name": "Ada", "age": 36})
    assert [{"name": "Ada"}, {"name": "Bob"}] == users.query("names")
    assert ["b"] == [one["_id"] for one in users.query("young", {"age": 5})]


def test_what_cannot_be_asked(pipeline, users):
    """Unknown queries and parameters, and values of another type."""
    with pytest.raises(UnknownQueryError, match="queries: in_city, young, names"):
        users.query("old")
    with pytest.raises(UnknownQueryError, match="queries: none"):
        pipeline.collection("others").query("in_city", {"city": "x"})
    for arguments in ({}, {"city": "x", "age": 1}, {"town": "x"}):
        with pytest.raises(RequestError, match=r"are: city \(string\)"):
            users.query("in_city", arguments)
    with pytest.raises(RequestError, match="age: this is no value of type int"):
        users.query("young", {"age": "x"})


def test_mongodb_away(users, stored, pipeline, monkeypatch):
    """What Redis knows is answered; what it does not know is an error, and may be asked for again at once."""
    stored.insert_one({"_id": "old", **lives_in("London", 1)})
    assert ["old"] == ids(users)
    users.put("new", lives_in("London", 2))

    def fail(*_: object) -> None:
        raise MongoUnavailableError("no")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.sink, "find_places", fail)
        assert ["new", "old"] == ids(users)
        with pytest.raises(MongoUnavailableError):
            ids(users, "Paris")
    assert [] == ids(users, "Paris")


def test_redis_is_full(pipeline, users, stored):
    """What cannot be kept is answered all the same, with what is pending."""
    stored.insert_one({"_id": "old", **lives_in("London", 1)})
    users.put("new", lives_in("London", 2))
    fill = pipeline.store._wire.run

    def full(step, *arguments):
        if step.name == "fill_derived":
            raise RedisFullError
        return fill(step, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.store._wire, "run", full)
        assert [["new", "old"]] * 2 == [ids(users), ids(users)]


def test_redis_away(config, mongo_client, stored):
    """Without Redis MongoDB is asked, and the answer says so."""
    away = config.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    stored.insert_many([{"_id": f"u{n}", **lives_in("London", n)} for n in range(5)])
    answer = Pipeline(away, client=mongo_client).collection("users").read_query("in_city", {"city": "London"})
    assert (Source.BYPASS, -1) == (answer.source, answer.ttl_ms)
    assert ["u4", "u3", "u2"] == [one["_id"] for one in answer.documents()]


def test_changes_are_numbered(wire):
    """Each change has the next number; the first one in an interval begins an epoch, old ones are forgotten."""
    changed, state = changes("users")

    def note(*members: str, unknown: int = 0, interval_ms: int = 60_000) -> int:
        return wire.run(script("record_changes"), (changed, state), (interval_ms, unknown, *members))

    def now() -> tuple[dict[str, int], list[int]]:
        flat = wire.call("ZRANGE", changed, 0, -1, "WITHSCORES")
        numbers = wire.call("HMGET", state, "number", "epoch", "before")
        return {a.decode(): int(b) for a, b in zip(flat[::2], flat[1::2], strict=True)}, [
            int(one) for one in numbers
        ]

    assert (1, ({"a": 1, "b": 1}, [1, 1, 0])) == (note("a", "b"), now())
    assert (0, ({"a": 1, "b": 2}, [2, 1, 0])) == (note("b"), now())
    assert (1, ({"b": 2, "c": 3}, [3, 3, 1])) == (note("c", interval_ms=0), now())
    wire.call("HSET", state, "at", 1 << 50)  # the server's clock has stepped back
    assert (1, ({"d": 4}, [4, 4, 3])) == (note("d"), now())
    assert (1, ({}, [5, 5, 5])) == (note(unknown=1), now())


CITIES, NAMES = ("London", "Paris"), tuple(f"u{n}" for n in range(16))


class Model(RuleBasedStateMachine):
    """Whatever is written, flushed, forgotten or changed by others: an answer is what a scan of all would find."""

    parts: tuple[Pipeline, object]

    @initialize()
    def empty(self) -> None:
        self.pipeline, self.stored = self.parts
        self.pipeline.store._wire.call("FLUSHALL")
        self.stored.delete_many({})
        self.expected: dict[str, dict] = {}
        self.users = self.pipeline.collection("users")

    @rule(name=st.sampled_from(NAMES), city=st.sampled_from(CITIES), rank=st.integers(0, 30))
    def put(self, name: str, city: str, rank: int) -> None:
        self.users.put(name, lives_in(city, rank))
        self.expected[name] = lives_in(city, rank)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        self.users.delete(name)
        self.expected.pop(name, None)

    @rule(n=st.integers(1, 3))
    def flush(self, n: int) -> None:
        """What is due in some partitions."""
        for partition in range(n):
            self.pipeline.flusher.drain(partition, budget_s=5)

    @rule()
    def later(self) -> None:
        """The interval is over."""
        self.pipeline.store._wire.call("HSET", "wb:changes:{users}", "at", 0)

    @rule(name=st.sampled_from(NAMES), city=st.sampled_from(CITIES), rank=st.integers(0, 30))
    def outside(self, name: str, city: str, rank: int) -> None:
        """Somebody else writes, and the listener tells of it; what is pending stands."""
        one = DocumentId.of("users", name)
        pending = bool(self.pipeline.store.pending.unsettled([one.member]))
        if pending:
            return
        self.stored.replace_one({"_id": name}, lives_in(city, rank), upsert=True)
        self.pipeline.applier.apply([OutsideChange(one, "replace", 1)])
        self.expected[name] = lives_in(city, rank)

    @rule()
    def evict(self) -> None:
        """Redis drops what has a TTL."""
        wire = self.pipeline.store._wire
        for key in wire.call("KEYS", "wb:{*}:entry:*"):
            if wire.call("PTTL", key) >= 0:
                wire.call("DEL", key)

    @rule(city=st.sampled_from(CITIES))
    def ask(self, city: str) -> None:
        """Not after each step, so that results grow old."""
        ranks = sorted((one["rank"] for one in self.expected.values() if one["city"] == city), reverse=True)
        found = self.users.query("in_city", {"city": city})
        assert ranks[:3] == [one["rank"] for one in found]
        assert all(self.expected[one.pop("_id")] == one for one in found)

    def teardown(self) -> None:
        for city in CITIES:
            self.ask(city)


def test_answers_are_exact(pipeline, stored, monkeypatch):
    """In every order of what may happen."""
    monkeypatch.setattr("writebehind.querying.cached_queries.SPARE", 1)  # so that results are often too short

    class Bound(Model):
        pass

    Bound.parts = pipeline, stored
    quick = hypothesis_settings(
        max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Bound, settings=quick)


def test_answers_are_exact_while_others_write(config, valkey_wire, mongo_client):
    """Readers see all that was acknowledged before they asked, while flushes and new results go on."""
    quick = config.model_copy(update={"query_interval": 0.02})
    pipelines = [Pipeline(quick, wire=valkey_wire, client=mongo_client) for _ in range(2)]
    over = threading.Event()
    latest = [0]

    def write() -> None:
        users = pipelines[0].collection("users")
        for rank in range(1, 400):
            users.put(f"u{rank % 50}", lives_in("London", rank))
            latest[0] = rank
        over.set()

    def flush() -> None:
        while not over.is_set():
            for partition in random.sample(range(4), 4):
                pipelines[0].flusher.drain(partition, budget_s=1)

    def read(n: int) -> int:
        users, reads = pipelines[n % 2].collection("users"), 0
        while not over.is_set():
            before = latest[0]
            top = [one["rank"] for one in users.query("in_city", {"city": "London"})]
            assert before <= (top[0] if top else 0), (before, top)
            assert top == sorted(top, reverse=True)
            reads += 1
        return reads

    with ThreadPoolExecutor(6) as threads:
        readers = [threads.submit(read, n) for n in range(4)]
        others = [threads.submit(flush), threads.submit(write)]
        assert all(one.result(60) > 10 for one in readers)
        for one in others:
            one.result(60)
