"""Documents that meet in a unique value: MongoDB ends as was acknowledged, in whatever order they are flushed."""

from __future__ import annotations

import re

import pytest

from tests.integration.conftest import flush_all
from writebehind import BulkOperation, Pipeline
from writebehind.change_stream.applier import OutsideChange
from writebehind.flushing.contention import REPLAYED
from writebehind.flushing.dead_letters import Filter
from writebehind.querying.unique_fields import MOST_LOOKS
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script

IDS = ("a", "b", "c")
VALUES = ("x", "y", "z")
HISTORIES = 1_000


@pytest.fixture
def settings(settings):
    collections = {
        "users": {"lookup": {"username": "string", "number": "int"}},
        "theirs": {"lookup": {"username": "string"}, "on_conflict": "theirs"},
        "plain": {},
    }
    return settings.model_copy(
        update={
            "collections": {
                name: type(settings.collections["users"]).model_validate({"flush_delay_ms": 0, **one})
                for name, one in collections.items()
            }
        }
    )


@pytest.fixture(autouse=True)
def indexes(pipeline):
    for field in ("username", "number"):
        pipeline.sink.create_unique_index("users", field)


def flush(pipeline: Pipeline, name: str) -> None:
    """Flush the partition of one document."""
    pipeline.flusher.drain(pipeline.store.partition_of(f"users/s:{name}"), budget_s=10)


def spread(pipeline: Pipeline, count: int) -> list[str]:
    """Ids whose partitions take turns."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        if pipeline.store.partition_of(f"users/s:{number}") == len(found) % pipeline.settings.partitions:
            found.append(str(number))
        number += 1
    return found


def usernames(stored) -> dict[str, str]:
    return {one["_id"]: one.get("username") for one in stored.find()}


def letters(pipeline: Pipeline) -> int:
    return pipeline.dead_letters.count()


def test_a_value_that_a_deleted_document_had(pipeline, users, stored):
    """The new document is flushed first: the deletion is brought to MongoDB before it."""
    old, new = spread(pipeline, 2)
    users.put(old, {"username": "x"})
    flush_all(pipeline)
    users.delete(old)
    users.put(new, {"username": "x"})

    flush(pipeline, new)

    assert {new: "x"} == usernames(stored)
    assert (0, 0) == (letters(pipeline), pipeline.status()["pending"])


@pytest.mark.parametrize("length", [2, 3, 9])
@pytest.mark.parametrize("first", ["head", "tail"])
@pytest.mark.parametrize("circle", [True, False], ids=["circle", "chain"])
def test_values_that_move_on(pipeline, users, stored, length, first, circle):
    """Each document gets the value of the next one; in a circle the last gets that of the first."""
    names = spread(pipeline, length)
    for at, name in enumerate(names):
        users.put(name, {"username": str(at)})
    flush_all(pipeline)
    wanted = {name: str(at + 1) for at, name in enumerate(names)}
    if circle:
        wanted[names[-1]] = "0"
    for name, value in wanted.items():
        users.put(name, {"username": value})

    flush(pipeline, names[0] if first == "head" else names[-1])
    flush_all(pipeline)

    assert wanted == usernames(stored)
    assert 0 == letters(pipeline)


def test_an_exchange_of_two_unique_fields(pipeline, users, stored):
    """Both at once."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "x", "number": 1})
    users.put(other, {"username": "y", "number": 2})
    flush_all(pipeline)
    users.put(one, {"username": "y", "number": 2})
    users.put(other, {"username": "x", "number": 1})

    flush_all(pipeline)

    found = {found["_id"]: (found["username"], found["number"]) for found in stored.find()}
    assert {one: ("y", 2), other: ("x", 1)} == found
    assert 0 == letters(pipeline)


def test_an_exchange_of_documents_of_others(pipeline, users, stored):
    """What somebody else has put into MongoDB, without a version, leaves it for a moment as well."""
    one, other = spread(pipeline, 2)
    stored.insert_many([{"_id": one, "username": "x"}, {"_id": other, "username": "y"}])
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})

    flush_all(pipeline)

    assert {one: "y", other: "x"} == usernames(stored)
    assert 0 == letters(pipeline)


def test_readers_of_an_exchange_see_all_of_it(pipeline, users, stored, monkeypatch):
    """While one document has left MongoDB, it is read by its id and found by its value."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "x"})
    users.put(other, {"username": "y"})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})
    seen = []
    vacate = pipeline.sink.vacate

    def vacating(*arguments):
        vacate(*arguments)
        seen.append(({name: users.get(name) for name in (one, other)}, users.look_up("username", "x")[0]))

    monkeypatch.setattr(pipeline.sink, "vacate", vacating)
    flush_all(pipeline)

    states = {one: {"_id": one, "username": "y"}, other: {"_id": other, "username": "x"}}
    assert [(states, users.id(other))] == seen


def test_two_documents_that_both_have_a_value(pipeline, users, stored):
    """The one that comes second is a dead letter, until the first one gives the value up."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    assert ({first: "x"}, 1) == (usernames(stored), letters(pipeline))

    users.put(first, {"username": "y"})
    flush_all(pipeline)
    flush_all(pipeline)

    assert ({first: "y", second: "x"}, 0) == (usernames(stored), letters(pipeline))


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


def test_a_value_that_others_set_free(pipeline, users, stored):
    """The dead letter is tried again when somebody else has changed the document that had its value."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    stored.delete_one({"_id": first})

    pipeline.applier.apply([OutsideChange(users.id(first), "delete", pipeline.store.now_ms())])
    flush_all(pipeline)

    assert ({second: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_a_replay_brings_what_is_in_the_way_first(pipeline, users, stored):
    """An operator who replays a letter need not know the order."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    users.delete(first)

    [letter] = pipeline.dead_letters.page(Filter()).letters
    pipeline.dead_letters.replay([letter])
    flush(pipeline, second)

    assert ({second: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_a_holder_that_becomes_a_dead_letter_itself(pipeline, users, stored):
    """It has given its value up by what was acknowledged, so who waits for the value gets it."""
    holder, waits, other = spread(pipeline, 3)
    users.put(holder, {"username": "x"})
    users.put(other, {"username": "y"})
    flush_all(pipeline)
    users.put(waits, {"username": "x"})
    flush(pipeline, waits)
    assert 1 == letters(pipeline)

    users.put(holder, {"username": "y"})
    flush_all(pipeline)
    flush_all(pipeline)

    assert ("x", "y") == (usernames(stored)[waits], usernames(stored)[other])
    assert [holder] == [one.letter.id.text for one in pipeline.dead_letters.page(Filter()).letters]


@pytest.mark.parametrize("step", ["note", "_refuse", "look"])
def test_a_flusher_that_dies_while_it_gives_up(pipeline, users, stored, monkeypatch, step):
    """And the holder changes meanwhile: the sweep finds what nobody else will."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    owner = pipeline.flusher._recorder if step == "_refuse" else pipeline.contention
    done = getattr(owner, step)

    def dies(*arguments, **options):
        if step != "look":
            done(*arguments, **options)
        users.put(first, {"username": "y"})
        flush(pipeline, first)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        with pytest.raises(KeyboardInterrupt):
            flush(pipeline, second)
    pipeline.store._wire.call("DEL", partition_keys(pipeline.store.partition_of(f"users/s:{second}")).lease)
    pipeline.maintenance.sweep()
    flush_all(pipeline)

    assert ({first: "y", second: "x"}, 0) == (usernames(stored), letters(pipeline))
    pipeline.contention.changed([f"users/s:{first}"])
    pipeline.maintenance.sweep()
    assert not any(
        pipeline.store._wire.call("EXISTS", partition_keys(one).awaited)
        for one in range(pipeline.settings.partitions)
    )


@pytest.mark.parametrize("field", ["email", "number"])
def test_a_unique_index_that_is_not_listed(pipeline, users, stored, field):
    """Nobody knows what frees its values: the second document is a dead letter at once, as in any collection."""
    one, other = spread(pipeline, 2)
    stored.create_index("email", unique=True, sparse=True)
    users.put(one, {"username": "x", field: 5})
    flush_all(pipeline)
    users.put(other, {"username": "y", field: 5})
    sends = []
    write = pipeline.sink.write
    pipeline.sink.write = lambda *arguments, **options: sends.append(1) or write(*arguments, **options)

    flush(pipeline, other)

    assert 1 == letters(pipeline)
    assert len(sends) <= 3


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


def test_many_that_wait_for_one_value(pipeline, users, stored):
    """A few are tried when it is given up, and one of them gets it."""
    first, *others = spread(pipeline, 41)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    for name in others:
        users.put(name, {"username": "x"})
    flush_all(pipeline)
    assert len(others) == letters(pipeline)

    users.put(first, {"username": "y"})
    replays = []
    replay = pipeline.dead_letters.replay
    pipeline.dead_letters.replay = lambda found, **options: replays.extend(found) or replay(found, **options)
    flush(pipeline, first)
    assert 1 <= len(replays) <= REPLAYED
    flush_all(pipeline)

    assert ["x"] == [value for name, value in usernames(stored).items() if name != first]
    assert len(others) - 1 == letters(pipeline)


def test_a_holder_that_changes_while_it_is_looked_at(pipeline, users, stored, monkeypatch):
    """And a flusher that dies after the burial: the sweep finds that the value is free."""
    first, second = spread(pipeline, 2)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(second, {"username": "x"})
    contention, recorder = pipeline.contention, pipeline.flusher._recorder
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


def test_a_document_behind_one_that_is_dead(pipeline, users, stored):
    """Its value is free, as that one has given it up, although MongoDB will not take what it became instead."""
    holder, dead, last = spread(pipeline, 3)
    users.put(holder, {"username": "x"})
    users.put(dead, {"username": "y"})
    flush_all(pipeline)
    users.put(dead, {"username": "x"})
    users.put(last, {"username": "y"})

    flush(pipeline, last)

    assert ("x", "y") == (usernames(stored)[holder], usernames(stored)[last])
    assert [dead] == [one.letter.id.text for one in pipeline.dead_letters.page(Filter()).letters]
    assert {"_id": dead, "username": "x"} == users.get(dead)


def test_a_value_that_was_taken_from_a_dead_letter(pipeline, stored):
    """What is left of it in MongoDB is ours: the change stream's event makes no conflict of what came since."""
    theirs = pipeline.collection("theirs")
    documents = stored.database["theirs"]
    documents.create_index("username", unique=True, sparse=True)
    one, other, waits = (theirs.id(name) for name in ("one", "other", "waits"))
    theirs.put("one", {"username": "x", "n": 1})
    theirs.put("other", {"username": "y"})
    flush_all(pipeline)
    theirs.put("one", {"username": "y", "n": 2})
    theirs.put("waits", {"username": "x"})
    flush_all(pipeline)
    assert {"other": "y", "waits": "x", "one": None} == usernames(documents)
    assert 1 == letters(pipeline)

    left = pipeline.sink.find(one)
    theirs.put("one", {"username": "z"})
    pipeline.store.pending.record_sending(
        pipeline.store.partition_of(one.member), {one.member: theirs.read("one").entry}
    )
    applied = pipeline.applier.apply([OutsideChange(one, "replace", pipeline.store.now_ms() + 5_000, left)])
    assert (0, 0) == (applied.conflicts, letters(pipeline))
    flush_all(pipeline)

    assert {"other": "y", "waits": "x", "one": "z"} == usernames(documents)
    assert other != waits


def test_a_letter_that_waits_for_another_one_by_now(pipeline, users, stored):
    """It is not tried again as long as anybody has the value, and then it is."""
    first, second, waits = spread(pipeline, 3)
    users.put(first, {"username": "x"})
    flush_all(pipeline)
    users.put(waits, {"username": "x"})
    flush(pipeline, waits)
    users.put(first, {})
    users.put(second, {"username": "x"})
    flush(pipeline, second)
    flush_all(pipeline)
    [letter] = pipeline.dead_letters.page(Filter()).letters

    for n in range(3):
        users.put(first, {"n": n})
        flush(pipeline, first)
        pipeline.maintenance.sweep()
    assert [letter] == pipeline.dead_letters.page(Filter()).letters

    users.delete(second)
    flush_all(pipeline)
    flush_all(pipeline)
    assert ("x", 0) == (usernames(stored)[waits], letters(pipeline))


def test_a_document_of_others(pipeline, users, stored):
    """Whose id none of ours can have keeps its value: ours is a dead letter, and the rest is flushed."""
    stored.insert_one({"_id": 0.5, "username": "x"})
    users.put("a", {"username": "x"})
    users.put("b", {"username": "y"})

    flush_all(pipeline)

    assert 1 == letters(pipeline)
    assert "y" == usernames(stored)["b"]


def test_the_cycle_is_nobody_elses_change(pipeline, users, stored):
    """The deletion that lets the others pass is known again when MongoDB reports it."""
    outside = []
    one, other = spread(pipeline, 2)
    for name, value in ((one, "x"), (other, "y")):
        users.put(name, {"username": value})
    flush_all(pipeline)
    users.put(one, {"username": "y"})
    users.put(other, {"username": "x"})
    vacate = pipeline.sink.vacate

    def vacating(document_id, seen):
        vacate(document_id, seen)
        known = pipeline.applier._known([document_id.member])[document_id.member]
        outside.append((known.pending, known.sent.has_deletion))

    pipeline.sink.vacate = vacating
    flush_all(pipeline)

    assert [(True, True)] == outside


@pytest.mark.parametrize(("version", "counts"), [(7, " 3 1"), (8, "")])
def test_attempts_go_on_being_counted_in_a_circle(valkey_wire, version, counts):
    """Those of the version that was tried: else a document that MongoDB never takes is tried without end."""
    valkey_wire.call("HSET", "{k}:sent", "users/s:a", f"{7:016d}X 1000 {6:016d}X 3 1")
    notes = ("users/s:a", f"{version:016d}X", f"{version - 1:016d}X")

    valkey_wire.run(script("record_vacating"), ("{k}:sent",), notes)

    noted = valkey_wire.call("HGET", "{k}:sent", "users/s:a").decode()
    assert re.fullmatch(rf"{version:016d}X \d+ {version - 1:016d}X{counts}", noted)
