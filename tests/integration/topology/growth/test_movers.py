"""Partitions that become more: whoever divides them is interrupted, stopped, or late."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import pytest

from tests.integration.conftest import stored
from tests.integration.topology.growth.conftest import (
    AFTER,
    BEFORE,
    DOCUMENTS,
    NEVER,
    in_partitions,
    names,
    out_of_place,
    read,
    sleep,
    write,
)
from writebehind.operations.drain import drain
from writebehind.operations.growth import grow
from writebehind.redis.commits import CommitRequest
from writebehind.redis.keys import View, partition_keys
from writebehind.redis.shared.partition_count import Division, PartitionCount
from writebehind.redis.topology import confirming, growing, splitting
from writebehind.redis.topology.guard import frozen_key
from writebehind.redis.topology.record import MoveError
from writebehind.redis.topology.splitting import Splitting


def test_what_was_interrupted_is_gone_on_with(halfway, process):
    """The second process divides what the first had not, and nothing is lost."""
    write(halfway, 2)
    result = grow(process(partitions=AFTER), AFTER)

    assert (BEFORE, BEFORE // 2) == (result.before, result.divided)
    assert {2} == read(halfway)
    assert DOCUMENTS == sum(len(some) for some in in_partitions(halfway).values())


@pytest.mark.parametrize("step", ["_copy_members", "_catch_up", "_finish", "_divide", "_thaw", "clean"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_who_dies_at_a_step_loses_nothing(one, process, monkeypatch, step, after):
    """Everybody goes on, with what there is; who starts it again brings it to its end."""
    made = getattr(Splitting, step)

    def die(self, *arguments, **named):
        if after:
            made(self, *arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Splitting, step, die)
        with pytest.raises(KeyboardInterrupt):
            grow(process(), AFTER)
    beside = process()
    assert {1} == read(beside)
    write(beside, 2, names()[::2])
    beside.collection("slow").delete(names()[1])
    grow(process(), AFTER)

    expected = dict.fromkeys(names()[::2], 2) | dict.fromkeys(names()[3::2], 1)
    slow = one.collection("slow")
    assert expected == {name: slow.get(name)["n"] for name in expected}
    assert slow.get(names()[1]) is None
    assert [] == out_of_place(one)
    assert {f"slow/s:{name}": {one.store.partition_of(f"slow/s:{name}")} for name in names()} == in_partitions(one)


def test_a_mover_that_was_stopped_writes_nothing_later(one, process, monkeypatch):
    """Another one has taken its place: new partitions refuse what it still sends."""
    finish = Splitting._finish

    def overtaken(self, changed, standings):
        monkeypatch.setattr(Splitting, "_finish", finish)
        other.store.growing.expect(self._view, "another")
        write(one, 2)
        return finish(self, changed, standings)

    other = process()
    monkeypatch.setattr(Splitting, "_finish", overtaken)
    with pytest.raises(MoveError, match="somebody else fills partition"):
        grow(process(), AFTER)
    assert {2} == read(other)


def test_a_mover_that_was_stopped_marks_nothing_later(one, process, monkeypatch):
    """Also where there was nothing left to send: another one has begun to take its copies out."""
    divide = Splitting._finish

    def overtaken(self, changed, standings):
        self._catch_up(changed)
        process().store._wire.call("SET", partition_keys(self._partition + BEFORE).arriving, "another")
        return divide(self, changed, standings)

    monkeypatch.setattr(Splitting, "_finish", overtaken)
    with pytest.raises(MoveError, match="somebody else fills partition"):
        grow(process(), AFTER)
    assert [] == one.store._wire.call("KEYS", "wb:{*}:divided")


def test_a_mover_that_was_stopped_takes_nothing_out_later(one, process):
    """It took partitions for undivided that are in use by the time at which it begins to fill them."""
    late = process()
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    late.store.division.follow()
    view = late.store.layout.view
    grow(process(), AFTER)

    with pytest.raises(MoveError, match="somebody else has divided partition 0"):
        late.store.growing.expect(view, "late")
    assert {1} == read(one)
    assert DOCUMENTS == sum(map(len, in_partitions(one).values()))


def test_a_mover_waits_for_the_freeze_of_another(one, process, monkeypatch):
    """That one may still mark the partition, and then its copies are no copies any more."""
    monkeypatch.setattr(growing, "WAITS_S", 0.05)
    late = process()
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    late.store.division.follow()
    one.store._wire.call("SET", frozen_key("1"), "another")
    with pytest.raises(MoveError, match="somebody else divides partition 1"):
        late.store.growing.expect(late.store.layout.view, "late")
    one.store._wire.call("PEXPIRE", frozen_key("1"), 20)
    monkeypatch.undo()
    late.store.growing.expect(late.store.layout.view, "late")


def test_a_freeze_that_ends_too_early_divides_nothing(one, process, monkeypatch):
    """What was written since is not left behind: it is tried again."""
    divide, tried = Splitting._divide, []

    def late(self, freeze, standing):
        tried.append(self._partition)
        if len(tried) == 1:
            one.store._wire.call("DEL", partition_keys(self._partition).prefix + "frozen")
            write(one, 2)
        return divide(self, freeze, standing)

    monkeypatch.setattr(Splitting, "_divide", late)
    grow(process(), AFTER)
    assert BEFORE + 1 == len(tried)
    assert {2} == read(process())


def test_a_copy_that_was_left_is_not_read(one, process, monkeypatch):
    """By a process that takes the partition for undivided, until it is taken out."""
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    behind, beside, clean = sleep(process()), process(), Splitting.clean

    def late(self, *, thoroughly: bool) -> None:
        some = [each for each in names() if View(BEFORE).number(f"slow/s:{each}") == self._partition]
        write(beside, 2, some)
        assert self._partition not in behind.store.layout.view.divided
        assert {2} == {behind.collection("slow").get(each)["n"] for each in some}
        clean(self, thoroughly=thoroughly)

    monkeypatch.setattr(Splitting, "clean", late)
    assert BEFORE == grow(process(), AFTER).divided


def test_copies_that_were_left_in_new_partitions_are_taken_out(one, process, monkeypatch):
    """What is gone since, where they come from, does not come back."""
    with monkeypatch.context() as patch:
        patch.setattr(Splitting, "_finish", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            grow(process(), AFTER)
    name = next(
        each for each in names() if View(BEFORE).number(f"slow/s:{each}") == 0 != one.store.partition_of(each)
    )
    one.collection("slow").delete(name)
    drain(one, timeout_s=30)
    entries = [partition_keys(at).entry(f"slow/s:{each}") for each in names() for at in range(BEFORE)]
    one.store._wire.call("DEL", *entries)
    grow(process(), AFTER)

    assert {} == in_partitions(one)
    assert [] == one.store._wire.call("KEYS", "wb:{*}:entry:*")


def test_what_is_out_of_place_waits_until_all_are_divided(halfway, process):
    """A flusher that meets a stray would take it for a copy, or a copy for a stray."""
    asleep, beside = process(), process()
    asleep.store._wire._lookout.due = NEVER
    asleep.store.division.follow = lambda: None
    name = next(
        each
        for each in names()
        if View(BEFORE).number(f"slow/s:{each}") == 0 != View(AFTER).number(f"slow/s:{each}")
    )
    payload = halfway.store._wire.call("GET", halfway.store.layout.of(f"slow/s:{name}").entry(f"slow/s:{name}"))[
        16:
    ]
    asleep.store.commit_many([CommitRequest(f"slow/s:{name}", payload, delay_ms=0)])
    assert 2 == len(in_partitions(beside)[f"slow/s:{name}"])
    began = time.monotonic()
    beside.flusher.drain(0, budget_s=60)

    assert time.monotonic() - began < 30  # it waits, and nobody tries it again and again
    assert {1} == read(beside)
    grow(process(), AFTER)
    drain(beside, timeout_s=30)
    assert {} == in_partitions(beside)
    assert dict.fromkeys(names(), 1) == stored(beside)


def test_a_division_that_replicas_do_not_have_is_taken_back(one, process, monkeypatch):
    """Only as long as nobody can have acted on it: while it is frozen."""
    of = splitting.Standing.of

    def with_a_replica(server, least=0):
        return replace(of(server, least), replicas=1)

    monkeypatch.setattr(PartitionCount, "see_confirmed", lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(splitting.Standing, "of", with_a_replica)  # which there is not
        patch.setattr(splitting, "MOST_FREEZES", 1)
        with pytest.raises(MoveError, match="changes too fast"):
            grow(process(), AFTER)
    assert [] == one.store._wire.call("KEYS", "wb:{*}:divided")
    assert {1} == read(one)

    wait = splitting.asked

    def late(server, commands):
        answers = wait(server, commands)
        if commands[-1][0] == "WAIT":
            wait(server, [("DEL", *(frozen_key(str(at)) for at in range(BEFORE)))])
        return answers

    with monkeypatch.context() as patch:
        patch.setattr(splitting.Standing, "of", with_a_replica)
        patch.setattr(splitting, "asked", late)
        patch.setattr(confirming, "_TRIES", 1)
        with pytest.raises(MoveError, match="replicas of Redis do not confirm"):
            grow(process(), AFTER)
    assert 1 == len(one.store._wire.call("KEYS", "wb:{*}:divided"))
    assert {1} == read(one)


def test_what_new_partitions_have_stays_where_the_mark_of_the_old_one_is_lost(halfway, process, mongo_client):
    """As with the node that it was on: what others have acknowledged is not taken for copies that are left."""
    write(halfway, 2)
    wire = halfway.store._wire
    wire.call("DEL", *wire.call("KEYS", "wb:{0}:*"))
    kept = [each for each in names() if View(AFTER).number(f"slow/s:{each}") != 0]
    again, *others = [each for each in kept if View(BEFORE).number(f"slow/s:{each}") == 0]
    later = process()
    write(later, 3, [again])
    assert later.collection("slow").get(others[0]) is None  # nothing says where it is

    grow(process(), AFTER)
    slow = process(partitions=AFTER).collection("slow")
    assert {2} == {slow.get(each)["n"] for each in others}
    drain(process(partitions=AFTER), timeout_s=30)
    expected = {each: 3 if each == again else 2 for each in kept}
    assert expected == {each: slow.get(each)["n"] for each in kept}
    found = mongo_client[halfway.settings.mongodb_database]["slow"].find({"_id": {"$in": kept}})
    assert expected == {each["_id"]: each["n"] for each in found}


def test_partitions_that_are_divided_are_noted_as_in_use(halfway, process):
    """Also those of a mover of a former release, or of one that died before it could."""
    wire, new = halfway.store._wire, [partition_keys(at).arriving for at in range(BEFORE, AFTER, BEFORE)]
    assert {b"in use"} == {wire.call("GET", one) for one in new}
    for one in new:
        wire.call("DEL", one)
    grow(process(), AFTER)
    assert {b"in use"} == {wire.call("GET", partition_keys(at).arriving) for at in range(BEFORE, AFTER)}
