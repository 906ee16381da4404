"""A state machine drives documents with unique values, and checks that they are found by those and by no others.

Writers, flushers and readers stop between any two of their steps, die there, or go on much later. Values move from
one document to the next, two documents have the same one, and MongoDB refuses the second. On real servers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.flushing import flusher_of, limits
from tests.integration.conftest import flush_all
from tests.integration.test_promises import Crash, Paused, Stepped
from tests.tiers import long
from writebehind import Pipeline, Settings
from writebehind.documents.entry import DELETED
from writebehind.flushing.dead_letters import Filter
from writebehind.hooks import NO_HOOKS
from writebehind.querying.derived import Derived
from writebehind.querying.unique_fields import Alias, Lookups
from writebehind.redis.keys import partition_keys
from writebehind.writing.writer import Writer

COLLECTION, FIELD = "users", "name"
# The fewer, the more often they meet.
NAMES, VALUES = ["u1", "u2"], ["ada", "bob"]
PARTITIONS = 3
names, values = st.sampled_from(NAMES), st.sampled_from(VALUES)
#: What a document is given; `None` deletes it.
given_values = st.sampled_from([*VALUES, *VALUES, None])


@dataclass
class Given:
    """What a document was given last, and whether that was acknowledged."""

    value: str | None = None
    acknowledged: bool = True


def lasting(pipeline: Pipeline) -> list[str]:
    """What lookups keep in Redis without TTL."""
    wire = pipeline.store._wire
    keys = [key for pattern in ("wb:*:alias*", "wb:*:claimed:*") for key in wire.call("KEYS", pattern)]
    return [key.decode() for key in keys if wire.call("PTTL", key) == -1]


class FoundByValue(RuleBasedStateMachine):
    pipeline: Pipeline  # set for each run, below
    clear: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.clear()
        self.users = self.pipeline.collection(COLLECTION)
        self.given = {name: Given() for name in NAMES}
        self.late: list[tuple[Paused, Given | str | None]] = []
        self.written = 0

    def teardown(self) -> None:
        while self.late:
            self.go_on()
        self.let_leases_run_out()
        flush_all(self.pipeline)
        for value in VALUES:
            self.look_up(value)
        if self.pipeline.dead_letters.count():  # what MongoDB refused is claimed for good
            for name in NAMES:
                self.users.delete(name)
            flush_all(self.pipeline)
        assert [] == lasting(self.pipeline)

    # Readers ----------------------------------------------------------------------------------------

    @rule(value=values)
    def look_up(self, value: str) -> None:
        if self.is_asked(value):
            return
        found, _ = self.users.look_up(FIELD, value)
        carriers = {name: one.acknowledged for name, one in self.given.items() if one.value == value}
        assert found is None or found.text in carriers
        assert found is not None or not any(carriers.values())

    @rule(value=values, at=st.sampled_from(["before find_by", "after find_by"]))
    def begin_a_late_lookup(self, value: str, at: str) -> None:
        if self.is_asked(value) or value in [of for _, of in self.late]:  # that one would wait for this one
            return
        parts = self.pipeline

        def look(report: Callable[[str], None]) -> None:
            sink = Stepped(parts.sink, report)
            Lookups(parts.store, sink, parts.reader, load_timeout_ms=30_000).find(self.alias(value), self.settings)

        self.begin(look, at, of=value)

    @rule(value=values)
    def let_an_alias_expire(self, value: str) -> None:
        self.pipeline.store._wire.call("DEL", self.keys(value).alias(self.alias(value).name))

    @rule(name=names)
    def evict(self, name: str) -> None:
        key = self.pipeline.store.cache.key(self.users.id(name).member)
        if self.pipeline.store._wire.call("PTTL", key) > 0:
            self.pipeline.store._wire.call("DEL", key)

    # Writers ----------------------------------------------------------------------------------------

    @rule(name=names, value=given_values, look=st.booleans())
    def write(self, name: str, value: str | None, look: bool) -> None:
        self.write_in_steps(name, value, lambda _: None)
        self.given[name] = Given(value)
        if look:
            for one in VALUES:
                self.look_up(one)

    @rule(name=names, value=given_values, at=st.sampled_from(["before written", "before release"]))
    def begin_a_late_write(self, name: str, value: str | None, at: str) -> None:
        """It is committed; its values are not claimed yet, or its former claims not released."""
        self.given[name] = Given(value, acknowledged=False)
        self.begin(lambda report: self.write_in_steps(name, value, report), at, of=self.given[name])

    @rule(name=names, value=given_values)
    def write_and_crash(self, name: str, value: str | None) -> None:
        def report(step: str) -> None:
            if step == "before written":
                raise Crash

        with suppress(Crash):
            self.write_in_steps(name, value, report)
        self.given[name] = Given(value, acknowledged=False)

    # Flushers ---------------------------------------------------------------------------------------

    @rule()
    def flush(self) -> None:
        self.let_leases_run_out()
        flush_all(self.pipeline)
        unsettled = self.pipeline.store.unsettled.among([self.users.id(name).member for name in NAMES])
        for name, one in self.given.items():  # what MongoDB has is found, whether it was acknowledged or not
            one.acknowledged |= self.users.id(name).member not in unsettled

    @rule(name=names, at=st.sampled_from(["before write", "before settle", "before settled", "before release"]))
    def begin_a_late_flush(self, name: str, at: str) -> None:
        self.let_leases_run_out()
        partition, parts = self.pipeline.store.partition_of(self.users.id(name).member), self.pipeline

        def flush(report: Callable[[str], None]) -> None:
            flusher = flusher_of(
                parts,
                limits(10, 60_000),
                store=Stepped(parts.store, report),
                sink=Stepped(parts.sink, report),
                lookups=self.lookups_in_steps(report),
            )
            flusher.flush(partition)

        self.begin(flush, at)
        self.let_leases_run_out()

    @rule()
    def replay(self) -> None:
        replayed = self.pipeline.dead_letters.replay(self.pipeline.dead_letters.all(Filter()))
        for name, one in self.given.items():  # whose claims may not have been made when they were written
            one.acknowledged |= self.users.id(name).member in replayed

    @precondition(lambda self: self.late)
    @rule()
    def go_on(self) -> None:
        self.end(*self.late.pop(0))

    # How --------------------------------------------------------------------------------------------

    @property
    def settings(self):
        return self.users.settings

    def alias(self, value: str) -> Alias:
        return Alias.of(COLLECTION, FIELD, value)

    def keys(self, value: str):
        return partition_keys(self.pipeline.store.partition_of(self.alias(value).name))

    def is_asked(self, value: str) -> bool:
        """Whether a reader that is late asks MongoDB for it: others would wait for that one."""
        load = self.keys(value).alias_load(self.alias(value).name)
        return bool(self.pipeline.store._wire.call("EXISTS", load))

    def begin(
        self, call: Callable[[Callable[[str], None]], object], at: str, of: Given | str | None = None
    ) -> None:
        """Let it stop there; `of` is what a write gives or a lookup looks for."""
        paused = Paused(call, at)
        if paused.over:  # it did not come by there
            self.end(paused, of)
        else:
            self.late.append((paused, of))

    def end(self, paused: Paused, of: Given | str | None) -> None:
        paused.go_on()
        if isinstance(of, Given):
            of.acknowledged = True

    def write_in_steps(self, name: str, value: str | None, report: Callable[[str], None]) -> None:
        derived = Derived(self.lookups_in_steps(report), self.pipeline.queries)
        parts = replace(self.users._writer._parts, derived=derived)
        writer = Writer(COLLECTION, self.settings, parts, NO_HOOKS)
        self.written += 1
        document = {FIELD: value, "n": self.written}
        document_id = writer.id(name)
        writer.write(document_id, DELETED if value is None else writer.entry(document_id, document))

    def lookups_in_steps(self, report: Callable[[str], None]):
        parts = self.pipeline
        lookups = Lookups(parts.store, parts.sink, parts.reader, load_timeout_ms=30_000)
        release = lookups._release
        lookups._release = lambda *spent: report("before release") or release(*spent)
        return Stepped(lookups, report)

    def let_leases_run_out(self) -> None:
        of = [partition_keys(partition) for partition in range(PARTITIONS)]
        self.pipeline.store._wire.calls([("DEL", one.lease, one.scheduled) for one in of])


@pytest.fixture
def unique(settings, valkey_wire, mongo_client) -> Pipeline:
    users = {"flush_delay_ms": 0, "lookup": {FIELD: "string"}, "ttl": 600, "negative_ttl": 600}
    chosen = settings.model_dump() | {"collections": {COLLECTION: users}, "partitions": PARTITIONS}
    pipeline = Pipeline(Settings.model_validate(chosen), wire=valkey_wire, client=mongo_client)
    pipeline.sink.create_unique_index(COLLECTION, FIELD)
    return pipeline


@pytest.mark.parametrize("examples", [20, pytest.param(60, marks=long)])
def test_documents_are_found_by_their_values(unique, examples):
    """Whatever order things happen in, a document is found by its last acknowledged value and by no other one."""

    def clear(_: object = None) -> None:
        unique.store._wire.call("FLUSHALL")
        unique.sink._database[COLLECTION].delete_many({})

    machine = type("Machine", (FoundByValue,), {"pipeline": unique, "clear": clear})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_is_left_under_load(unique):
    """Four threads write to one document and each to another, while two flush: nothing is left without TTL."""
    users, over = unique.collection(COLLECTION), threading.Event()

    def write(seed: int) -> None:
        name = f"u{seed}"
        for n in range(150):
            users.put(name, {FIELD: f"{seed} {n}"})
            found = [users.look_up(FIELD, f"{seed} {one}")[0] for one in (n, n - 1)]
            assert [name, None] == [one and one.text for one in found]
            users.put("shared", {"n": n} if n % 3 else {FIELD: f"shared {n % 4}"})

    def keep_flushing() -> None:
        while not over.is_set():
            for partition in range(PARTITIONS):
                unique.flusher.flush(partition)

    with ThreadPoolExecutor(6) as threads:
        flushers = [threads.submit(keep_flushing) for _ in range(2)]
        try:
            list(threads.map(write, range(4)))
        finally:
            over.set()
        for one in flushers:
            one.result()
    flush_all(unique)
    assert ([], 0) == (lasting(unique), unique.dead_letters.count())
