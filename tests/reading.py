"""Readers of a store, joined as the pipeline joins them; the document that they read, and a sink that counts."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace

import bson

from tests.commits import commit_one
from writebehind import CollectionSettings
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.mongodb.sink import Sink
from writebehind.reading.loader import Loader
from writebehind.reading.reader import Reader
from writebehind.reading.revalidation import Revalidation
from writebehind.redis.commits import CommitRequest
from writebehind.redis.store import Store
from writebehind.tallies.families import READS
from writebehind.tallies.tallies import Tallies

ADA = DocumentId.of("users", "ada")


def reader_of(store, sink, *, load_timeout_ms, settings=None, refreshes=None, is_full=lambda: False) -> Reader:
    """A reader that counts nothing, as if Redis had room unless `is_full`, and had never been divided anew."""
    tallies = Tallies()
    loader = Loader(store, sink, load_timeout_ms=load_timeout_ms, is_full=is_full, tallies=tallies)
    revalidation = Revalidation(
        store,
        loader,
        load_timeout_ms=load_timeout_ms,
        settings=settings or (lambda _: CollectionSettings.model_validate({})),
        refreshes=refreshes,
        tallies=tallies,
    )
    sampler = SimpleNamespace(look=lambda: SimpleNamespace(check=lambda: None))
    return Reader(store, sink, loader, revalidation, sampler=sampler, seen=lambda _: None, tallies=tallies)


def reads_by_source(tallies: Tallies) -> Counter[str]:
    """How many documents were read, by where the answer came from."""
    found: Counter[str] = Counter()
    for (family, labels), numbers in tallies.read().items():
        if family == READS.name:
            found[labels[1]] += int(numbers[0])
    return found


class CountingSink(Sink):
    """Counts reads, and can hold them until the test lets them go on."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.reads = 0
        self.reading = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._lock = threading.Lock()

    def find(self, document_id):
        found = super().find(document_id)
        self._answer(1)
        return found

    def find_many(self, ids):
        found = super().find_many(ids)
        self._answer(len(ids))
        return found

    def find_portion(self, ids, *, most_bytes):
        found, left = super().find_portion(ids, most_bytes=most_bytes)
        self._answer(len(found))
        return found, left

    def _answer(self, count: int) -> None:
        with self._lock:
            self.reads += count
        self.reading.set()
        assert self.may_answer.wait(20)


def commit(store: Store, name: str) -> int:
    body = bson.encode({"_id": "ada", "name": name})
    payload = Entry(0, Kind.DOCUMENT, etag(body), body).payload
    return commit_one(store, CommitRequest(ADA.member, payload, 0)).version


def name_in(entry: Entry) -> str:
    return bson.decode(entry.body)["name"]
