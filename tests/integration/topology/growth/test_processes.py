"""Partitions that become more: processes that know the former number."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import bson
import pytest

from tests.integration.conftest import stored
from tests.integration.topology.growth.conftest import (
    AFTER,
    BEFORE,
    DOCUMENTS,
    in_partitions,
    leaving_first,
    long_idle,
    names,
    read,
    sleep,
    write,
)
from writebehind import BulkOperation, Durability
from writebehind.documents.entry import Entry
from writebehind.errors import ConfigurationError
from writebehind.flushing.recorder import Recorder
from writebehind.operations.drain import drain
from writebehind.operations.growth import grow
from writebehind.redis.commits import CommitRequest
from writebehind.redis.pending import Pending
from writebehind.redis.shared.partition_count import Division
from writebehind.redis.topology.splitting import Splitting


def test_a_process_that_knows_too_little_is_refused_and_finds_out(one, process):
    """Its reads are done where the documents are by now, although it took the partitions for undivided."""
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    behind = sleep(process())
    assert frozenset() == behind.store.layout.view.divided
    grow(process(), AFTER)
    assert frozenset() == behind.store.layout.view.divided

    slow = behind.collection("slow")
    assert {1} == {one["n"] for one in slow.mget(names())}
    assert frozenset(range(BEFORE)) == behind.store.layout.view.divided


@pytest.mark.parametrize("way", ["one", "bulk"])
def test_a_write_by_a_process_that_knows_too_little(one, process, way):
    """It is made where the document is by now, with a version above the last one."""
    one.store.division.change(Division(BEFORE), Division(BEFORE, AFTER, online=True))
    behind, beside = sleep(process()), process()
    grow(process(), AFTER)
    assert frozenset() == behind.store.layout.view.divided
    assert BEFORE == behind.store.layout.view.partitions
    if way == "one":
        write(behind, 2)
    else:
        results = behind.collection("slow").bulk([BulkOperation("put", name, {"n": 2}) for name in names()])
        assert DOCUMENTS == len([one for one in results if one.version])

    assert {2} == read(beside)
    assert DOCUMENTS == sum(len(some) for some in in_partitions(beside).values())


def test_both_numbers_at_once(halfway, process):
    """While half of the partitions are divided, documents of both halves are read, written and flushed."""
    beside = process()
    assert {1} == read(beside)
    assert frozenset(range(BEFORE // 2)) == beside.store.layout.view.divided
    write(beside, 2)
    assert {2} == read(halfway)
    write(halfway, 3)
    assert {3} == read(beside)
    assert DOCUMENTS == drain(beside, timeout_s=30).persisted
    assert {3} == read(halfway)


def test_a_write_of_a_process_that_slept_through_it_is_brought_home(one, process):
    """Nobody looks for it where it was put, and it is newer: it is not lost."""
    asleep = sleep(process())
    grow(process(), AFTER)
    assert BEFORE == asleep.store.partitions
    write(asleep, 2)
    beside = process()
    for at in range(BEFORE):
        beside.flusher.drain(at, budget_s=10)
    drain(beside, timeout_s=30)

    assert {2} == read(beside)


@pytest.mark.parametrize("way", ["put", "commit", "get"])
def test_a_process_that_did_nothing_meanwhile(one, process, way):
    """Its first step goes where the document is by now, although its keys were made before it looked."""
    idle, beside = long_idle(process), process()
    name = leaving_first()
    payload = Entry.loaded(bson.encode({"_id": name, "n": 2}), 0).payload
    if way == "commit":
        idle.store.commit_many([CommitRequest(f"slow/s:{name}", payload, delay_ms=0)])
    elif way == "put":
        idle.collection("slow").put(name, {"n": 2})
    else:
        beside.collection("slow").put(name, {"n": 2})
        idle.store._wire._lookout.due = 0.0

    assert {"_id": name, "n": 2} == idle.collection("slow").get(name)
    assert AFTER == idle.store.partitions
    assert {idle.store.partition_of(f"slow/s:{name}")} == in_partitions(beside)[f"slow/s:{name}"]


def test_threads_of_a_process_that_did_nothing_meanwhile(one, process, monkeypatch):
    """While one of them looks, no other goes by what was known long ago."""
    idle, name = long_idle(process), leaving_first()
    looks, look, other = [], idle.store._wire._lookout._look, []

    def slow_look() -> None:
        looks.append(1)
        if len(looks) == 1:
            other.append(threads.submit(idle.collection("slow").put, name, {"n": 2}))
            with pytest.raises(TimeoutError):
                other[0].result(0.1)
        look()

    monkeypatch.setattr(idle.store._wire._lookout, "_look", slow_look)
    with ThreadPoolExecutor(1) as threads:
        idle.store.now_ms()
        idle.store._wire.call("PING", "wb:nothing")
        other[0].result()
    assert 1 == len(looks)
    assert {idle.store.partition_of(f"slow/s:{name}")} == in_partitions(idle)[f"slow/s:{name}"]


def test_a_stray_write_is_not_taken_out_with_what_has_gone(one, process, monkeypatch):
    """What a process that slept has put there since the partition was divided stays, until it is brought home."""
    asleep = sleep(process())
    clean = Splitting.clean

    def late(self, *, thoroughly: bool) -> None:
        write(asleep, self._partition + 10)
        clean(self, thoroughly=thoroughly)

    monkeypatch.setattr(Splitting, "clean", late)
    grow(process(), AFTER)
    monkeypatch.undo()
    beside = process()
    for at in range(BEFORE):
        beside.flusher.drain(at, budget_s=10)
    drain(beside, timeout_s=30)

    assert {BEFORE - 1 + 10} == read(beside)


def test_a_process_with_another_number_does_not_start(halfway, process):
    """Neither while the number grows nor after that."""
    with pytest.raises(ConfigurationError, match="is being changed from 4 to 16"):
        process(partitions=3).store.check()
    grow(process(), AFTER)
    with pytest.raises(ConfigurationError, match="holds data in 16 partitions"):
        process(partitions=8).store.check()


@pytest.mark.parametrize("step", ["note_sending", "settle_plain", "record_sending", "settle"])
def test_a_flush_that_is_overtaken_begins_anew(one, process, monkeypatch, step):
    """The partition is divided between two steps of it: nothing is lost, and all of it is persisted in the end."""
    made, begun = getattr(Pending, step), []

    def overtaken(self, *arguments, **named):
        if not begun:
            begun.append(step)
            grow(process(), AFTER)
        return made(self, *arguments, **named)

    beside = process()
    if step in {"record_sending", "settle"}:  # which is where somebody is told of each document
        monkeypatch.setattr(Recorder, "is_told", lambda *_: True)
    monkeypatch.setattr(Pending, step, overtaken)
    drain(beside, timeout_s=30)

    assert begun
    assert dict.fromkeys(names(), 1) == stored(beside)
    assert {} == in_partitions(one)
    assert 0 == sum(beside.store.letters.counts().values())


def test_a_write_that_waits_for_mongodb_is_persisted_meanwhile(one, process, monkeypatch):
    """Its document is looked for again where it is by then."""
    made, begun = Pending.note_sending, []

    def overtaken(self, *arguments, **named):
        if not begun:
            begun.append(1)
            grow(process(), AFTER)
        return made(self, *arguments, **named)

    monkeypatch.setattr(Pending, "note_sending", overtaken)
    written = process().collection("through").bulk([BulkOperation("put", name, {"n": 3}) for name in names()])

    assert begun
    assert {Durability.PERSISTED} == {each.durability for each in written}
