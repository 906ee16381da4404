"""Writes and invalidations between a load and its fill: they win."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.reader.conftest import SETTINGS
from tests.reading import ADA, commit, name_in
from writebehind.change_stream.applier import OutsideChange
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId


@pytest.mark.parametrize("who", ["the pipeline", "somebody else"])
def test_no_fill_hides_what_came_in_between(pipeline, users, monkeypatch, who):
    """500 documents are changed between their load and its fill: no reader is told the old state afterwards."""
    rounds, find = 500, pipeline.sink.find
    ids = [DocumentId.of("users", str(n)) for n in range(rounds)]
    changed = set()

    def changed_meanwhile(document_id: DocumentId) -> Entry:
        found = find(document_id)
        if document_id not in changed:
            changed.add(document_id)
            if who == "the pipeline":
                pipeline.collection("users").put(document_id.text, {"n": 1})
            else:
                users.update_one({"_id": document_id.value}, {"$set": {"n": 1}})
                assert 0 == pipeline.applier.apply([OutsideChange(document_id, "update", 1)]).conflicts
        return found

    users.insert_many([{"_id": one.value, "n": 0} for one in ids])
    monkeypatch.setattr(pipeline.sink, "find", changed_meanwhile)
    first, second = ([pipeline.collection("users").get(one.text)["n"] for one in ids] for _ in range(2))

    assert (rounds, [1] * rounds, [1] * rounds) == (len(changed), first, second)


def test_a_write_during_the_load_wins(reader, store, sink, users):
    """A reader whose load was overtaken by a write returns the write, and caches nothing older."""
    users.insert_one({"_id": "ada", "name": "old"})
    sink.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(reader.get, ADA, SETTINGS)
        assert sink.reading.wait(10)
        commit(store, "new")
        sink.may_answer.set()

        assert "new" == name_in(read.result(10).entry)

    assert "new" == name_in(store.cache.get(ADA.member)[0])


def test_an_invalidation_during_the_load_wins(reader, store, sink, users):
    """A value that was loaded before an invalidation is not cached after it: it is loaded again."""
    users.insert_one({"_id": "ada", "name": "old"})
    sink.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(reader.get, ADA, SETTINGS)
        assert sink.reading.wait(10)
        users.update_one({"_id": "ada"}, {"$set": {"name": "new"}})
        store.cache.invalidate_many([ADA.member])[0]
        sink.may_answer.set()

        assert "new" == name_in(read.result(10).entry)

    assert ("new", 2) == (name_in(store.cache.get(ADA.member)[0]), sink.reads)


def test_readers_that_wait_see_the_write_that_came_in_between(reader, store, sink, users):
    """A reader that joined a load which a write overtook sees the write too."""
    users.insert_one({"_id": "ada", "name": "old"})
    sink.may_answer.clear()
    with ThreadPoolExecutor(10) as threads:
        reads = [threads.submit(reader.get, ADA, SETTINGS) for _ in range(10)]
        assert sink.reading.wait(10)
        commit(store, "new")
        sink.may_answer.set()

        assert {"new"} == {name_in(read.result(10).entry) for read in reads}
