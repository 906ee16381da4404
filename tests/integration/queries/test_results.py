"""Results of queries are kept, so that MongoDB is asked seldom: when they are loaded anew, and what outages do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.conftest import flush_all
from tests.integration.queries.conftest import ids, lives_in
from writebehind import Pipeline, Settings
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, RedisFullError
from writebehind.querying.cached_queries import SPARE
from writebehind.reading.read import Source
from writebehind.redis.derived.results import MOST_CHANGED, MOST_PENDING
from writebehind.redis.keys import changes
from writebehind.redis.scripts import script


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


def test_missed_changes_of_a_collection_that_is_not_listed(config, valkey_wire, mongo_client, monkeypatch):
    """Its results are loaded anew as well, be they there or on their way."""
    values = config.model_dump() | {"allow_unlisted": True, "defaults": {"queries": {"all": {"ttl": 600}}}}
    pipeline = Pipeline(Settings.model_validate(values), wire=valkey_wire, client=mongo_client)
    other, database = pipeline.collection("misc"), mongo_client[config.mongodb_database]
    assert [] == other.query("all")
    database["misc"].insert_one({"_id": "one"})
    pipeline.applier.forget("", lambda: None)
    assert [{"_id": "one"}] == other.query("all")

    find = pipeline.sink.find_places

    def missed(*wanted: object) -> object:
        found = find(*wanted)
        database["pages"].insert_one({"_id": "two"})
        pipeline.applier.forget("", lambda: None)
        monkeypatch.setattr(pipeline.sink, "find_places", find)
        return found

    monkeypatch.setattr(pipeline.sink, "find_places", missed)
    pipeline.collection("pages").query("all")
    assert [{"_id": "two"}] == pipeline.collection("pages").query("all")


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
