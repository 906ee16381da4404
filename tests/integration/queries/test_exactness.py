"""Answers of queries are exact, whatever happens in whatever order."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.integration.queries.conftest import lives_in
from tests.tiers import long
from writebehind import Pipeline
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.ids import DocumentId

CITIES, NAMES = ("London", "Paris"), tuple(f"u{n}" for n in range(16))


class Model(RuleBasedStateMachine):
    """Whatever is written, flushed, forgotten or changed by others: an answer is what a scan of all would find."""

    parts: tuple[Pipeline, object]

    @initialize()
    def empty(self) -> None:
        self.pipeline, self.stored = self.parts
        self.pipeline.store._wire.call("FLUSHALL")
        self.stored.delete_many({})
        self.expected: dict[str, dict] = {}
        self.users = self.pipeline.collection("users")

    @rule(name=st.sampled_from(NAMES), city=st.sampled_from(CITIES), rank=st.integers(0, 30))
    def put(self, name: str, city: str, rank: int) -> None:
        self.users.put(name, lives_in(city, rank))
        self.expected[name] = lives_in(city, rank)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        self.users.delete(name)
        self.expected.pop(name, None)

    @rule(n=st.integers(1, 3))
    def flush(self, n: int) -> None:
        """What is due in some partitions."""
        for partition in range(n):
            self.pipeline.flusher.drain(partition, budget_s=5)

    @rule()
    def later(self) -> None:
        """The interval is over."""
        self.pipeline.store._wire.call("HSET", "wb:changes:{users}", "at", 0)

    @rule(name=st.sampled_from(NAMES), city=st.sampled_from(CITIES), rank=st.integers(0, 30))
    def outside(self, name: str, city: str, rank: int) -> None:
        """Somebody else writes, and the listener tells of it; what is pending stands."""
        one = DocumentId.of("users", name)
        pending = bool(self.pipeline.store.unsettled.among([one.member]))
        if pending:
            return
        self.stored.replace_one({"_id": name}, lives_in(city, rank), upsert=True)
        self.pipeline.applier.apply([OutsideChange(one, "replace", 1)])
        self.expected[name] = lives_in(city, rank)

    @rule()
    def evict(self) -> None:
        """Redis drops what has a TTL."""
        wire = self.pipeline.store._wire
        for key in wire.call("KEYS", "wb:{*}:entry:*"):
            if wire.call("PTTL", key) >= 0:
                wire.call("DEL", key)

    @rule(city=st.sampled_from(CITIES))
    def ask(self, city: str) -> None:
        """Not after each step, so that results grow old."""
        ranks = sorted((one["rank"] for one in self.expected.values() if one["city"] == city), reverse=True)
        found = self.users.query("in_city", {"city": city})
        assert ranks[:3] == [one["rank"] for one in found]
        assert all(self.expected[one.pop("_id")] == one for one in found)

    def teardown(self) -> None:
        for city in CITIES:
            self.ask(city)


@pytest.mark.parametrize("examples", [20, pytest.param(60, marks=long)])
def test_answers_are_exact(pipeline, stored, monkeypatch, examples):
    """In every order of what may happen."""
    monkeypatch.setattr("writebehind.querying.cached_queries.SPARE", 1)  # so that results are often too short

    class Bound(Model):
        pass

    Bound.parts = pipeline, stored
    quick = hypothesis_settings(
        max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Bound, settings=quick)


def test_answers_are_exact_while_others_write(config, valkey_wire, mongo_client):
    """Readers see all that was acknowledged before they asked, while flushes and new results go on."""
    quick = config.model_copy(update={"query_interval": 0.02})
    pipelines = [Pipeline(quick, wire=valkey_wire, client=mongo_client) for _ in range(2)]
    over = threading.Event()
    latest = [0]

    def write() -> None:
        users = pipelines[0].collection("users")
        for rank in range(1, 400):
            users.put(f"u{rank % 50}", lives_in("London", rank))
            latest[0] = rank
        over.set()

    def flush() -> None:
        while not over.is_set():
            for partition in random.sample(range(4), 4):
                pipelines[0].flusher.drain(partition, budget_s=1)

    def read(n: int) -> int:
        users, reads = pipelines[n % 2].collection("users"), 0
        while not over.is_set():
            before = latest[0]
            top = [one["rank"] for one in users.query("in_city", {"city": "London"})]
            assert before <= (top[0] if top else 0), (before, top)
            assert top == sorted(top, reverse=True)
            reads += 1
        return reads

    with ThreadPoolExecutor(6) as threads:
        readers = [threads.submit(read, n) for n in range(4)]
        others = [threads.submit(flush), threads.submit(write)]
        assert all(one.result(60) > 10 for one in readers)
        for one in others:
            one.result(60)
