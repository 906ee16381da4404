"""A state machine drives the pipeline through writes, flushes, crashes and delays, and checks its promises.

P1 nothing acknowledged is lost, P2 the last acknowledged write wins, P3 reads see it, P4 what is pending has no
TTL, P5 a fill hides nothing. On real servers, with one difference: time does not pass, leases are ended by hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf

import bson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.commits import commit_one
from tests.counts import adds_up
from tests.flushing import flusher_of, limits
from tests.reading import reader_of
from tests.tiers import long
from writebehind import Pipeline, Settings
from writebehind.documents.entry import DELETED, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import etag
from writebehind.redis.commits import ABSENT, CommitRequest, CommitStatus
from writebehind.redis.keys import partition_keys

COLLECTION = "users"
# One partition and two documents: the fewer, the more often they meet.
PARTITIONS = 1
NAMES = ["a", "b"]
names = st.sampled_from(NAMES)
partitions = st.integers(0, PARTITIONS - 1)
kinds = st.sampled_from([Kind.DOCUMENT, Kind.DOCUMENT, Kind.DELETED])


class Crash(BaseException):
    """The process died here."""


class Stepped:
    """Passes calls on to a store, its parts, or a sink, and reports before and after each."""

    def __init__(self, target: object, report: Callable[[str], None]) -> None:
        self._target = target
        self._report = report

    def __getattr__(self, name: str) -> object:
        method = getattr(self._target, name)
        if not callable(method):
            is_part = type(method).__module__.startswith("writebehind.redis.")
            return Stepped(method, self._report) if is_part else method

        said = name.removesuffix("_plain")  # it is settled in columns, or document by document

        def step(*args: object, **kwargs: object) -> object:
            self._report(f"before {said}")
            answer = method(*args, **kwargs)
            self._report(f"after {said}")
            return answer

        return step


#: The step by which a flusher claims what is due; the one that finds nothing more lets go of the partition.
LET_GO = "claim"


class Paused:
    """A call in a thread of its own that stops at a step until it is told to go on."""

    def __init__(self, call: Callable[[Callable[[str], None]], object], at: str, *, times: int = 1) -> None:
        self._at, self._left = at, times
        self._stopped, self._go_on = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()
        assert self._stopped.wait(10)

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def go_on(self) -> None:
        self._go_on.set()
        self._thread.join(10)
        assert self.over
        if self.error is not None:
            raise self.error

    def _run(self, call: Callable[[Callable[[str], None]], object]) -> None:
        try:
            call(self._report)
        except BaseException as error:  # noqa: BLE001 - handed over to the test's thread
            self.error = error
        finally:
            self._stopped.set()

    def _report(self, step: str) -> None:
        self._left -= step == self._at
        if not self._left and step == self._at and not self._go_on.is_set():
            self._stopped.set()
            assert self._go_on.wait(20)


class Promises(RuleBasedStateMachine):
    pipeline: Pipeline  # set for each run, below
    clear: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.clear()
        self.store = self.pipeline.store
        self.documents = self.pipeline.sink._database.with_options(bson.DEFAULT_CODEC_OPTIONS)[COLLECTION]
        self.expected: dict[str, int | None] = dict.fromkeys(NAMES)
        self.acknowledged: dict[str, int] = {}
        self.writes = 0
        self.late_flushers: list[Paused] = []
        self.late_readers: list[Paused] = []
        self.next = 0

    def teardown(self) -> None:
        for paused in (*self.late_flushers, *self.late_readers):
            paused.go_on()
        self.drain()
        self.store._wire.calls([("DEL", partition_keys(partition).lease) for partition in range(PARTITIONS)])
        self.pipeline.maintenance.audit_deletions()
        found = {one["_id"]: one["n"] for one in self.documents.find()}
        assert {name: n for name, n in self.expected.items() if n is not None} == found
        for name in NAMES:
            assert self.expected[name] == self.value_of(self.read(name)), name

    # What clients do --------------------------------------------------------------------------------

    @rule(name=names, kind=kinds)
    def write(self, name: str, kind: Kind) -> None:
        self.commit(name, self.document(name) if kind is Kind.DOCUMENT else DELETED)

    @rule(name=names)
    def create(self, name: str) -> None:
        self.read(name)
        status = self.commit(name, self.document(name), ABSENT)
        assert status is (CommitStatus.OK if self.was is None else CommitStatus.FAILED)

    @rule(name=names, fits=st.booleans())
    def put_if_match(self, name: str, fits: bool) -> None:
        current = self.read(name)
        condition = current.etag if fits and current.exists else "0" * 32
        status = self.commit(name, self.document(name), condition)
        assert status is (CommitStatus.OK if condition == current.etag else CommitStatus.FAILED)

    @rule(name=names)
    def get(self, name: str) -> None:
        assert self.expected[name] == self.value_of(self.read(name))

    @rule(name=names)
    def begin_a_slow_read(self, name: str) -> None:
        def read(report: Callable[[str], None]) -> None:
            reader = reader_of(Stepped(self.store, report), self.pipeline.sink, load_timeout_ms=30_000)
            reader.get(self.id(name), self.settings)

        self.evict(name)
        paused = Paused(read, "before fill")
        if not paused.over:
            # Its right to load runs out, so that the readers after it need not wait.
            self.store._wire.call("DEL", self.keys(name).load(self.id(name).member))
            self.late_readers.append(paused)

    @precondition(lambda self: self.late_readers)
    @rule()
    def end_a_slow_read(self) -> None:
        self.late_readers.pop(0).go_on()

    # What workers do --------------------------------------------------------------------------------

    @rule(partition=partitions)
    def flush(self, partition: int) -> None:
        self.pipeline.flusher.flush(partition)

    @rule(partition=partitions, steps=st.integers(0, 12))
    def flush_and_crash(self, partition: int, steps: int) -> None:
        left = steps

        def report(_: str) -> None:
            nonlocal left
            if left == 0:
                raise Crash
            left -= 1

        with suppress(Crash):
            self.stepped_flush(partition, report)
        self.let_leases_run_out(partition)

    @rule(name=names, kind=kinds, at=st.sampled_from(["values", "write", "settle", LET_GO]))
    def begin_a_late_flush(self, name: str, kind: Kind, at: str) -> None:
        """A flusher stops before a step, for longer than its lease."""
        self.write(name, kind)
        partition = self.store.partition_of(self.id(name).member)
        paused = Paused(
            lambda report: self.stepped_flush(partition, report), f"before {at}", times=2 if at == LET_GO else 1
        )
        assert not paused.over
        self.late_flushers.append(paused)
        self.let_leases_run_out(partition)

    @precondition(lambda self: self.late_flushers)
    @rule()
    def end_a_late_flush(self) -> None:
        """It goes on as if nothing had happened."""
        self.late_flushers.pop(0).go_on()

    @rule()
    def sweep(self) -> None:
        self.pipeline.maintenance.sweep()

    @precondition(lambda self: not self.late_flushers)
    @rule()
    def audit(self) -> None:
        """Only after the grace: when no flusher is late any more."""
        self.pipeline.maintenance.audit_deletions()

    # What others do ---------------------------------------------------------------------------------

    @rule(name=names)
    def evict(self, name: str) -> None:
        """Redis may drop what has a TTL."""
        key = self.keys(name).entry(self.id(name).member)
        _, ttl_ms = self.store.cache.get(self.id(name).member)
        if ttl_ms > 0:
            self.store._wire.call("DEL", key)

    @rule(name=names)
    def change_outside(self, name: str) -> None:
        """Somebody else changes a document that is not pending, and the pipeline hears of it."""
        if self.is_pending(name) or self.late_flushers:
            return
        found = self.documents.find_one({"_id": name})
        if found is not None and found.get("_v", inf) < self.acknowledged.get(name, 0):
            return  # a late flush has brought it back, and the audit of deletions will take it out
        self.next += 1
        if self.documents.update_one({"_id": name}, {"$set": {"n": self.next}}).matched_count:
            self.store.cache.invalidate_many([self.id(name).member])[0]
            self.expected[name] = self.next

    @rule(name=names)
    def delete_outside(self, name: str) -> None:
        if self.is_pending(name) or self.late_flushers:
            return
        self.documents.delete_one({"_id": name})
        self.store.cache.invalidate_many([self.id(name).member])[0]
        self.expected[name] = None
        self.acknowledged.pop(name, None)

    # What must hold after every step ----------------------------------------------------------------

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        for name, version in self.acknowledged.items():
            if self.is_pending(name):
                continue
            found = self.documents.find_one({"_id": name})
            if self.expected[name] is not None:
                assert found is not None, name
                assert found["_v"] >= version, name

    @invariant()
    def each_acknowledged_write_is_counted_once(self) -> None:
        counted = self.store.metrics.counters()
        assert self.writes == counted["acknowledged"]
        assert adds_up(counted, pending=sum(map(self.is_pending, NAMES))), counted

    @invariant()
    def what_is_pending_is_there_for_good(self) -> None:
        for name in NAMES:
            if self.is_pending(name):
                entry, ttl_ms = self.store.cache.get(self.id(name).member)
                assert (True, -1) == (entry is not None, ttl_ms), name

    @invariant()
    def no_cached_value_is_old(self) -> None:
        for name in NAMES:
            entry, _ = self.store.cache.get(self.id(name).member)
            assert entry is None or self.expected[name] == self.value_of(entry), name

    @invariant()
    def no_older_document_replaces_a_newer_one(self) -> None:
        for one in self.documents.find():
            clean = not self.is_pending(one["_id"])
            if clean and self.expected[one["_id"]] is not None:
                assert self.expected[one["_id"]] == one["n"], one

    # How --------------------------------------------------------------------------------------------

    @property
    def settings(self):
        return self.pipeline.settings.collections[COLLECTION]

    def id(self, name: str) -> DocumentId:
        return DocumentId.of(COLLECTION, name)

    def keys(self, name: str):
        return partition_keys(self.store.partition_of(self.id(name).member))

    def is_pending(self, name: str) -> bool:
        return self.store._wire.call("ZSCORE", self.keys(name).pending, self.id(name).member) is not None

    def document(self, name: str) -> Entry:
        self.next += 1
        body = bson.encode({"_id": name, "n": self.next})
        return Entry(0, Kind.DOCUMENT, etag(body), body)

    def value_of(self, entry: Entry) -> int | None:
        return bson.decode(entry.body)["n"] if entry.exists else None

    def read(self, name: str) -> Entry:
        return self.pipeline.reader.get(self.id(name), self.settings).entry

    def commit(self, name: str, entry: Entry, condition: str = "") -> CommitStatus:
        self.was = self.expected[name]
        commit = commit_one(self.store, CommitRequest(self.id(name).member, entry.payload, 0, condition))
        if commit.status is CommitStatus.OK:
            assert commit.version > self.acknowledged.get(name, 0)
            self.acknowledged[name] = commit.version
            self.writes += 1
            self.expected[name] = self.value_of(entry)
        return commit.status

    def stepped_flush(self, partition: int, report: Callable[[str], None]) -> None:
        flusher = flusher_of(
            self.pipeline,
            limits(2, 60_000),
            store=Stepped(self.store, report),
            sink=Stepped(self.pipeline.sink, report),
        )
        flusher.flush(partition)

    def let_leases_run_out(self, partition: int) -> None:
        of = partition_keys(partition)
        self.store._wire.call("DEL", of.lease, of.scheduled)

    def drain(self) -> None:
        for partition in range(PARTITIONS):
            self.let_leases_run_out(partition)
            self.pipeline.flusher.flush(partition)
        assert 0 == self.pipeline.status()["pending"]


@pytest.fixture
def frozen_pipeline(valkey, mongo, mongo_client, valkey_wire, database_name, monkeypatch):
    monkeypatch.setattr("writebehind.flushing.deletion_audit.GRACE_LEASES", -1)  # all are due for their audit
    config = Settings(
        redis_url=valkey.url,
        mongodb_url=mongo.url,
        mongodb_database=database_name,
        partitions=PARTITIONS,
        collections={COLLECTION: {"flush_delay_ms": 0}},
    )
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=long)])
def test_the_promises_hold(frozen_pipeline, database_name, examples):
    """Whatever order things happen in, nothing acknowledged is lost, undone, hidden or left to expire."""

    def clear(_: object = None) -> None:
        frozen_pipeline.store._wire.call("FLUSHALL")
        frozen_pipeline.sink._database[COLLECTION].delete_many({})

    machine = type("Machine", (Promises,), {"pipeline": frozen_pipeline, "clear": clear})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
