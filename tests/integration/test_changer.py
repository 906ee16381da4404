"""Changes to one document by many at once: each is applied to what the others have made of it."""

from __future__ import annotations

from typing import Any

import pytest

from writebehind import Pipeline
from writebehind.collection import Collection
from writebehind.documents.patches import Document
from writebehind.errors import ConflictError
from writebehind.writing import writer


class Clock:
    """A clock that goes on only when it is told so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SlowTurn:
    """Stands in for a lock that others hold for a minute before it is one's turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._clock.now += 60

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(writer, "time", clock)
    return clock


@pytest.fixture
def users(pipeline) -> Collection:
    """A collection with a document that counts its changes."""
    users = pipeline.collection("users")
    users.put("ada", {"ours": 0, "theirs": 0})
    return users


class Others:
    """A change of ours, which others come before in its first tries; each of these takes so many seconds."""

    def __init__(self, pipeline: Pipeline, clock: Clock, times: float, seconds: float = 0) -> None:
        self._theirs = Pipeline(pipeline.settings, wire=pipeline.store._wire, client=pipeline._client)
        self._clock, self._times, self._seconds = clock, times, seconds
        self.tries = 0

    def __call__(self, document: Document) -> Document:
        self.tries += 1
        if self.tries <= self._times:
            self._clock.now += self._seconds
            self._theirs.collection("users").put("ada", {**document, "theirs": document["theirs"] + 1})
        return {**document, "ours": document["ours"] + 1}


def counted(users: Collection) -> dict[str, Any]:
    return {name: value for name, value in users.get("ada").items() if name != "_id"}


def test_who_waits_for_others_of_the_process_has_all_the_time_for_it(pipeline, users, clock, monkeypatch):
    """The time in which others are to let a change through begins with its turn: many callers are no conflict."""
    monkeypatch.setattr(users._writer, "_stripes", [SlowTurn(clock)])
    monkeypatch.setattr(writer, "_STRIPES", 1)
    monkeypatch.setattr(writer, "CONFLICT_TRIES", 1)

    users.patch("ada", Others(pipeline, clock, times=3))

    assert {"ours": 1, "theirs": 3} == counted(users)


def test_a_process_that_is_stopped_for_long_tries_again(pipeline, users, clock):
    """Time alone makes no conflict: a process that hardly ran has not tried yet."""
    users.patch("ada", Others(pipeline, clock, times=10, seconds=60))

    assert {"ours": 1, "theirs": 10} == counted(users)


def test_others_that_are_always_faster(pipeline, users, clock):
    """A change that never gets through is refused after a bounded time and many tries, and changes nothing."""
    change = Others(pipeline, clock, times=float("inf"))

    with pytest.raises(ConflictError):
        users.patch("ada", change)

    assert clock.now <= writer.CONFLICT_DEADLINE_S + 1
    assert change.tries > writer.CONFLICT_TRIES
    assert {"ours": 0, "theirs": change.tries} == counted(users)
