"""Reads through the cache: what a miss loads, for whom, and for how long others wait."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace

import pytest

from tests.integration.reader.conftest import SETTINGS
from tests.reading import ADA, commit, name_in, reader_of
from writebehind.documents.entry import ABSENT
from writebehind.reading.read import Source
from writebehind.redis.cache import Leased

#: A right to load lives so long: many times as long as loads of many threads take on a busy machine.
LOADS_WITHIN_MS = 2_000


def test_a_miss_loads_and_the_next_read_hits(reader, sink, users):
    """A document is read from MongoDB once, and from Redis from then on."""
    users.insert_one({"_id": "ada", "name": "Ada"})

    first, second = reader.get(ADA, SETTINGS), reader.get(ADA, SETTINGS)

    assert (Source.MISS, Source.HIT, 1) == (first.source, second.source, sink.reads)
    assert 0.5 == reader.hit_ratio()
    assert first.entry == second.entry
    assert 50_000 < second.ttl_ms <= 60_000


def test_how_long_a_load_takes_is_noted_in_milliseconds(reader, users, monkeypatch):
    """An entry is read anew the sooner the longer that takes."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    ticks, began = count(), round(time.monotonic())
    monkeypatch.setattr(
        "writebehind.reading.loader.time", SimpleNamespace(monotonic=lambda: began + next(ticks) / 1_000)
    )
    noted = []
    monkeypatch.setattr(reader._loader.load_times, "note", lambda _, ms: noted.append(ms))

    reader.get(ADA, SETTINGS)

    [ms] = noted
    assert (True, True) == (ms > 0.5, abs(ms - round(ms)) < 1e-6)


def test_absence_is_cached_for_a_shorter_time(reader, sink):
    """That a document does not exist is remembered too."""
    first, second = reader.get(ADA, SETTINGS), reader.get(ADA, SETTINGS)

    assert (ABSENT, ABSENT, 1) == (first.entry, second.entry, sink.reads)
    assert 0 < second.ttl_ms <= 5_000


def test_one_load_however_many_readers(store, sink, users):
    """Of 200 readers in two processes' worth of threads that miss at once, one asks MongoDB."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    readers = [reader_of(store, sink, load_timeout_ms=10_000) for _ in range(2)]
    sink.may_answer.clear()
    with ThreadPoolExecutor(200) as threads:
        reads = [threads.submit(readers[n % 2].get, ADA, SETTINGS) for n in range(200)]
        assert sink.reading.wait(10)
        sink.may_answer.set()
        found = [read.result(20) for read in reads]

    assert {"Ada"} == {name_in(read.entry) for read in found}
    assert 1 == sink.reads


def test_a_reader_that_died_does_not_keep_others_waiting(store, sink, users):
    """When the one that had the right to load is gone, another loads once its right has run out."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    store.loads.get_or_lease(ADA.member, "dead", life_ms=200)

    read = reader_of(store, sink, load_timeout_ms=5_000).get(ADA, SETTINGS)

    assert ("Ada", 1) == (name_in(read.entry), sink.reads)


def test_a_reader_does_not_wait_for_ever(store, sink, users, monkeypatch):
    """A reader whose time is over, as others have the right, looks at MongoDB itself and caches nothing."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    monkeypatch.setattr(store.loads, "get_or_lease", lambda *_, **__: Leased(None, -1, may_load=False))

    read = reader_of(store, sink, load_timeout_ms=100).get(ADA, SETTINGS)

    assert ("Ada", Source.MISS, None) == (name_in(read.entry), read.source, store.cache.get(ADA.member)[0])
    assert not read.stored


@pytest.mark.parametrize("waited", [False, True])
def test_whether_a_reader_has_waited_for_another_is_told(reader, store, monkeypatch, waited):
    """It shares what the other has loaded; one that finds it at once has it from Redis."""
    lease, looks = store.loads.get_or_lease, count()

    def there_by_then(*arguments, **others) -> Leased:
        if waited and not next(looks):
            return Leased(None, -1, may_load=False)
        commit(store, "Ada")
        return lease(*arguments, **others)

    monkeypatch.setattr(store.loads, "get_or_lease", there_by_then)

    read = reader.get(ADA, SETTINGS)

    assert ("Ada", Source.COLLAPSED if waited else Source.HIT) == (name_in(read.entry), read.source)


def test_readers_whose_loader_died_load_once(store, sink, users):
    """Of readers in many processes that wait for one that is gone, one loads and the others go on waiting."""
    users.insert_one({"_id": "ada", "name": "Ada"})
    processes = [reader_of(store, sink, load_timeout_ms=LOADS_WITHIN_MS) for _ in range(20)]
    store.loads.get_or_lease(ADA.member, "dead", life_ms=LOADS_WITHIN_MS)
    with ThreadPoolExecutor(len(processes)) as threads:
        reads = list(threads.map(lambda reader: reader.get(ADA, SETTINGS), processes))

    assert {"Ada"} == {name_in(read.entry) for read in reads}
    assert 1 == sink.reads
