"""Random histories of documents that share a unique field, flushed in any order, with crashes."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from tests.integration.contention.conftest import usernames
from tests.tiers import cases
from writebehind import Pipeline
from writebehind.errors import UnavailableError
from writebehind.flushing.dead_letters import Filter
from writebehind.redis.keys import partition_keys

IDS = ("a", "b", "c")
VALUES = ("x", "y", "z")
#: `make histories` takes 1,000.
HISTORIES = {"few": 15, "many": int(os.environ.get("HISTORIES", "60"))}
#: Rounds over all partitions in which everything must have come to MongoDB.
ROUNDS = 6
#: How likely a process dies before or after a step.
CRASHES = 0.1


class ProcessDiedError(BaseException):
    """The flush ends here, and nothing catches that."""


class Crashes:
    """Lets steps die, before or after they have happened, while `chance` is above 0."""

    def __init__(self, rng: random.Random) -> None:
        self.chance = 0.0
        self._rng = rng

    def on(self, monkeypatch, owner: object, name: str) -> None:
        step = getattr(owner, name)

        def dying(*arguments, **options):
            self._may_die()
            done = step(*arguments, **options)
            self._may_die()
            return done

        monkeypatch.setattr(owner, name, dying)

    def _may_die(self) -> None:
        if self._rng.random() < self.chance:
            raise ProcessDiedError


class History:
    """One history: what is done, and what MongoDB must have in the end."""

    def __init__(self, pipeline: Pipeline, rng: random.Random) -> None:
        self.state: dict[str, str | None] = {}
        self._users = pipeline.collection("users")
        self._pipeline = pipeline
        self._rng = rng

    def act(self) -> None:
        one, other, third = self._rng.sample(IDS, 3)
        match self._rng.choice(["put", "put", "delete", "exchange", "chain"]):
            case "put":
                self._give(one, self._any())
            case "delete":
                self._users.delete(one)
                self.state.pop(one, None)
            case "exchange":
                mine, theirs = self.state.get(one), self.state.get(other)
                self._give(one, theirs)
                self._give(other, mine)
            case "chain":
                first, second = self.state.get(other), self.state.get(third)
                self._give(one, first)
                self._give(other, second)
                self._give(third, self._any())

    def flush(self, name: str) -> None:
        """Flush one document's partition. If that dies, its lease has run out when the next one comes."""
        partition = self._pipeline.store.partition_of(f"users/s:{name}")
        try:
            self._pipeline.flusher.drain(partition, budget_s=10)
        except (ProcessDiedError, UnavailableError):
            self._pipeline.store._wire.call("DEL", partition_keys(partition).lease)

    def flush_all(self) -> None:
        for _ in range(ROUNDS):
            for name in self._rng.sample(IDS, 3):
                self.flush(name)
            if not self._pipeline.status()["pending"]:
                return

    def clear(self) -> None:
        for name in IDS:
            self._users.delete(name)
        self.flush_all()

    def _any(self) -> str | None:
        return self._rng.choice((*VALUES, None))

    def _give(self, name: str, value: str | None) -> None:
        self._users.put(name, {"n": self._rng.random()} if value is None else {"username": value})
        self.state[name] = value


@pytest.mark.parametrize("histories", cases(HISTORIES, {"few"}))
def test_random_histories(pipeline, stored, monkeypatch, histories):
    """Puts, deletions, exchanges and chains, flushed in any order with crashes, end as they were acknowledged.

    A dead letter is left only where two documents have one value as last acknowledged; then one of them has it.
    """
    rng = random.Random(13)
    crashes = Crashes(rng)
    for owner, name in ((pipeline.sink, "write"), (pipeline.sink, "unset"), (pipeline.store.pending, "settle")):
        crashes.on(monkeypatch, owner, name)
    for number in range(histories):
        history = History(pipeline, rng)
        crashes.chance = CRASHES
        for _ in range(rng.randint(1, 8)):
            history.act()
            if rng.random() < 0.5:
                history.flush(rng.choice(IDS))
        crashes.chance = 0.0
        history.flush_all()
        check(pipeline, history.state, usernames(stored), f"history {number}: {history.state}")
        history.clear()
        assert {} == usernames(stored)


def check(pipeline: Pipeline, state: dict[str, str | None], found: dict[str, str], which: str) -> None:
    """Compare what MongoDB has with what was acknowledged."""
    times = Counter(state.values())
    shared = {value for value, count in times.items() if value is not None and count > 1}
    certain = {name: value for name, value in state.items() if value not in shared}
    dead = {one.letter.id.text for one in pipeline.dead_letters.page(Filter()).letters}

    assert certain == {name: value for name, value in found.items() if name in certain}, which
    assert found.keys() <= state.keys(), which
    assert dead <= state.keys() - certain.keys(), which
    assert dict.fromkeys(shared, 1) == {value: list(found.values()).count(value) for value in shared}, which
    assert 0 == pipeline.status()["pending"], which


@pytest.mark.parametrize("histories", cases(HISTORIES, {"few"}))
def test_random_histories_of_two_fields(pipeline, stored, monkeypatch, histories):
    """Of documents that share values, be it by way of others, one at least is in MongoDB; and none leaves it."""
    rng = random.Random(30)
    users = pipeline.collection("users")
    crashes = Crashes(rng)
    for owner, name in ((pipeline.sink, "write"), (pipeline.sink, "unset"), (pipeline.store.pending, "settle")):
        crashes.on(monkeypatch, owner, name)
    for number in range(histories // 3):
        history, state, stays = History(pipeline, rng), {}, set()
        crashes.chance = CRASHES
        for _ in range(rng.randint(4, 20)):
            name = rng.choice(IDS)
            if rng.random() < 0.1:
                users.delete(name)
                state.pop(name, None)
                stays.discard(name)
            else:
                values = {"username": rng.choice(VALUES), "number": rng.choice(range(3))}
                state[name] = {key: value for key, value in values.items() if rng.random() < 0.9}
                users.put(name, state[name])
            if rng.random() < 0.5:
                history.flush(rng.choice(IDS))
                stays |= {one["_id"] for one in stored.find()} & state.keys()
        crashes.chance = 0.0
        for _ in range(2):
            history.flush_all()
            pipeline.maintenance.sweep()
        history.flush_all()

        found = {one.pop("_id"): one for one in stored.find({}, {"_v": 0})}
        dead = {one.letter.id.text for one in pipeline.dead_letters.page(Filter()).letters}
        which = f"history {number}: {state} {found} {dead}"
        alive = state.keys() - dead
        assert {name: state[name] for name in alive} == {name: found.get(name) for name in alive}, which
        assert all(together(state, name) & alive for name in dead), which
        assert stays <= found.keys() <= state.keys(), which
        assert 0 == pipeline.status()["pending"], which
        history.clear()


def together(state: dict[str, dict[str, object]], name: str) -> set[str]:
    """A document, those with which it shares a value, and so on."""
    found = {name}
    while more := {
        one for one in state.keys() - found if any(state[one].items() & state[other].items() for other in found)
    }:
        found |= more
    return found
