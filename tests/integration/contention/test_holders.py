"""The document that holds a unique value: found, looked at, brought first, and disturbed no more than needed."""

from __future__ import annotations

import pytest

from tests.integration.conftest import flush_all
from tests.integration.contention.conftest import flush, letters, spread, usernames
from writebehind import BulkOperation
from writebehind.errors import MongoUnavailableError
from writebehind.flushing.dead_letters import Filter
from writebehind.querying.unique_fields import MOST_LOOKS
from writebehind.redis.keys import partition_keys


def test_a_holder_that_redis_does_not_have(pipeline, users, stored):
    """What MongoDB has of it is what was acknowledged: the other one is a dead letter, and waits for it."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "x"})
    flush_all(pipeline)
    pipeline.store.cache.invalidate_many([f"users/s:{one}"])[0]
    users.put(other, {"username": "x"})

    flush(pipeline, other)

    assert 1 == letters(pipeline)
    assert 0 == pipeline.contention.sweep(pipeline.store.partition_of(f"users/s:{one}"))
    users.put(other, {"username": "y"})
    assert 0 == pipeline.contention.sweep(pipeline.store.partition_of(f"users/s:{one}"))
    flush(pipeline, other)
    assert 0 == pipeline.contention.sweep(pipeline.store.partition_of(f"users/s:{one}"))


def test_who_has_no_unique_value_frees_none(pipeline, stored, monkeypatch):
    """A document of another collection becomes a dead letter without a look for those that wait."""
    stored.database["plain"].create_index("mail", unique=True)
    plain = pipeline.collection("plain")
    asked = []
    monkeypatch.setattr(pipeline.contention, "changed", asked.append)
    for name in ("a", "b"):
        plain.put(name, {"mail": "same"})
        flush_all(pipeline)

    assert (1, []) == (letters(pipeline), asked)


def test_a_holder_that_has_just_gone(pipeline, users, stored, monkeypatch):
    """One look that finds nobody is no sign of another index: the document is tried once more."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "x"})
    flush_all(pipeline)
    users.put(other, {"username": "x"})
    resolve = pipeline.contention.resolve

    def late(*arguments, **options):
        stored.delete_one({"_id": one})
        return resolve(*arguments, **options)

    monkeypatch.setattr(pipeline.contention, "resolve", late)
    flush(pipeline, other)

    assert ({other: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_a_holder_that_keeps_its_value_disturbs_nobody(pipeline, users, stored):
    """A letter stays the one that an operator has looked at, however often the other document is written."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    [letter] = pipeline.dead_letters.page(Filter()).letters

    for n in range(5):
        users.put(first, {"username": "x", "n": n})
        flush(pipeline, first)
        pipeline.store.cache.invalidate_many([f"users/s:{first}"])[0]
        pipeline.maintenance.sweep()
        users.get(first)
        pipeline.maintenance.sweep()

    assert [letter] == pipeline.dead_letters.page(Filter()).letters
    assert 1 == pipeline.dead_letters.discard([letter])


def test_a_holder_that_keeps_its_value_costs_no_look(pipeline, users):
    """Who waits for a value is looked at when it is given up, not whenever the document changes that has it."""
    first, *others = spread(pipeline, 5)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    for name in others:
        users.put(name, {"username": "x"})
    flush_all(pipeline)
    looks = []
    find_holders = pipeline.sink.find_holders
    pipeline.sink.find_holders = lambda *arguments: looks.append(arguments) or find_holders(*arguments)

    users.put(first, {"username": "x", "n": 1})
    flush(pipeline, first)

    assert 0 == pipeline.contention.changed([f"users/s:{first}"])
    assert not looks
    assert len(others) == letters(pipeline)


def test_who_waits_on_when_another_waits_no_more(pipeline, users, stored):
    """A document that has got another value is forgotten, and those that wait beside it are not."""
    first, second, third = spread(pipeline, 3)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    for name in (second, third):
        users.put(name, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "y"})
    flush_all(pipeline)
    pipeline.maintenance.sweep()
    assert 1 == letters(pipeline)

    users.put(first, {"username": "z"})
    flush(pipeline, first)
    flush_all(pipeline)

    assert {first: "z", second: "y", third: "x"} == usernames(stored)
    assert 0 == letters(pipeline)


def test_a_holder_that_changes_while_it_is_looked_at(pipeline, users, stored, monkeypatch):
    """And a flusher that dies after the burial: the sweep finds that the value is free."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    contention, recorder = pipeline.contention, pipeline.flusher._batches._recorder
    yields, refuse = contention._yields, recorder._refuse

    def changes(*arguments):
        yielded = yields(*arguments)
        users.put(first, {"username": "y"})
        return yielded

    def dies(outcome, summary):
        flush(pipeline, first)
        refuse(outcome, summary)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(contention, "_yields", changes)
        patch.setattr(recorder, "_refuse", dies)
        with pytest.raises(KeyboardInterrupt):
            flush(pipeline, second)
    pipeline.store._wire.call("DEL", partition_keys(pipeline.store.partition_of(f"users/s:{second}")).lease)
    pipeline.maintenance.sweep()
    flush_all(pipeline)

    assert ({first: "y", second: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_an_entry_that_nobody_can_read(pipeline, users, stored):
    """Of a document that waits, or of one that has the value: the others are flushed and written all the same."""
    first, second, third = spread(pipeline, 3)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    pipeline.store._wire.call("SET", pipeline.store.cache.key(f"users/s:{second}"), "nobody can read this")

    users.put(first, {"username": "y"})
    users.put(third, {"username": "z"})
    flush_all(pipeline)
    pipeline.maintenance.sweep()
    assert {first: "y", third: "z"} == usernames(stored)

    pipeline.store._wire.call("SET", pipeline.store.cache.key(f"users/s:{first}"), "nor this")
    assert users.put(third, {"username": "y"}).version


def test_many_documents_of_one_value_cost_each_write_little(pipeline, users):
    """The answer looks at a few of the others only."""
    looks = []
    get = pipeline.store.cache.get
    pipeline.store.cache.get = lambda member: looks.append(member) or get(member)

    done = users.bulk([BulkOperation("put", f"u{n}", document={"username": "x"}) for n in range(300)])

    assert all(one.version for one in done)
    assert len(looks) <= MOST_LOOKS


def test_mongodb_goes_while_a_holder_is_looked_for(pipeline, users, stored, monkeypatch):
    """The document whose value is taken stays pending, and its neighbours in the batch are settled."""
    one, *others = spread(pipeline, 1 + 2 * pipeline.settings.partitions)
    users.put(one, {"username": "x"})
    flush_all(pipeline)
    partition = pipeline.store.partition_of(f"users/s:{others[0]}")
    contested, neighbour = (name for name in others if pipeline.store.partition_of(f"users/s:{name}") == partition)
    users.put(contested, {"username": "x"})
    users.put(neighbour, {"username": "y"})

    def away(*_, **__):
        raise MongoUnavailableError("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.contention, "resolve", away)
        pipeline.flusher.flush(partition)

    of = partition_keys(partition)
    assert [f"users/s:{contested}".encode()] == pipeline.store._wire.call("ZRANGE", of.pending, 0, -1)
    assert {one: "x", neighbour: "y"} == usernames(stored)
    assert 0 == letters(pipeline)


@pytest.mark.parametrize("meanwhile", ["pending", "settled", "expired", "put again"])
def test_a_holder_that_is_deleted_while_it_is_written(pipeline, other, users, stored, monkeypatch, meanwhile):
    """The flusher of another partition writes it, and deletes it again at once; nobody waits for the audit."""
    holder, waits = spread(pipeline, 2)
    users.put(holder, {"username": "x"})
    flush_all(pipeline)
    users.put(holder, {"username": "y"})
    users.put(waits, {"username": "x"})
    write = pipeline.sink.write
    late = []

    def deleted_before(collection, writes, **options):
        if writes[0].id.text == holder and not late:
            late.append(writes)
            users.delete(holder)
            if meanwhile != "pending":
                flush(other, holder)
            if meanwhile == "expired":
                pipeline.store.cache.invalidate_many([f"users/s:{holder}"])[0]
            if meanwhile == "put again":
                users.put(holder, {"username": "z"})
        return write(collection, writes, **options)

    monkeypatch.setattr(pipeline.sink, "write", deleted_before)
    flush(pipeline, waits)

    assert late
    assert {waits: "x"} == usernames(stored)
    flush_all(pipeline)
    left = {holder: "z"} if meanwhile == "put again" else {}
    assert ({waits: "x", **left}, 0) == (usernames(stored), letters(pipeline))
