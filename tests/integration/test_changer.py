"""Changes to one document by many at once: each is applied to what the others have made of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

import pytest

from writebehind import Pipeline
from writebehind.collection import Collection
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.patches import Document
from writebehind.errors import ConflictError, MongoUnavailableError
from writebehind.hooks import Hooks
from writebehind.writing import turns, writer


class Clock:
    """A clock that goes on only when it is told so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SlowTurns:
    """Stands in for turns that others have for a minute before it is one's own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @contextmanager
    def of(self, _member: str) -> Iterator[None]:
        self._clock.now += 60
        yield


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


def counted(users: Collection, one: str = "ada") -> dict[str, Any]:
    return {name: value for name, value in users.get(one).items() if name != "_id"}


def test_who_waits_for_others_of_the_process_has_all_the_time_for_it(pipeline, users, clock, monkeypatch):
    """The time in which others are to let a change through begins with its turn: many callers are no conflict."""
    monkeypatch.setattr(users._writer, "_turns", SlowTurns(clock))
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


@pytest.fixture
def one_line(monkeypatch) -> None:
    """Let any two documents of a collection have one line."""
    monkeypatch.setattr(turns, "LINES", 1)


@pytest.mark.usefixtures("one_line")
@pytest.mark.parametrize("is_hook", [False, True], ids=["function", "hook"])
def test_a_change_within_a_change(pipeline, is_hook):
    """What a function or a hook changes besides is changed at once, in whatever line its document is."""
    own = Pipeline(pipeline.settings, wire=pipeline.store._wire, client=pipeline._client, hooks={"users": Hooks(
        before_commit=lambda document, one: counting(document) if is_hook and one.text == "ada" else document
    )})  # fmt: skip
    users = own.collection("users")

    def counting(document: Document) -> Document:
        users.increment("total", {"changes": 1})
        return document

    users.put("ada", {"n": 0})
    users.put("total", {"changes": 0})
    with ThreadPoolExecutor(1) as threads:
        step = (
            (lambda document: document | {"n": 1}) if is_hook else (lambda document: counting(document) | {"n": 1})
        )
        threads.submit(users.patch, "ada", step).result(20)
    assert {"_id": "total", "changes": 1} == users.get("total")
    assert 1 == users.get("ada")["n"]


def test_two_changes_that_change_what_the_other_one_changes(pipeline, users):
    """Neither waits for the other: both happen, whichever comes first."""
    both = Barrier(2)
    users.put("bob", {"ours": 0, "theirs": 0})

    def move(source: str, target: str) -> None:
        first = True

        def step(document: Document) -> Document:
            nonlocal first
            if first:
                first = False
                both.wait(10)
                users.increment(target, {"theirs": 1})
            return document | {"ours": document["ours"] + 1}

        users.patch(source, step)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(move, "ada", "bob"), threads.submit(move, "bob", "ada")]:
            done.result(20)
    assert [{"ours": 1, "theirs": 1}] * 2 == [counted(users, "ada"), counted(users, "bob")]


@pytest.mark.usefixtures("one_line")
def test_a_change_that_waits_for_another_thread(pipeline, monkeypatch):
    """That one goes on without its turn, when it has waited in vain."""
    monkeypatch.setattr(turns, "PATIENCE_S", 0.05)
    users = Pipeline(pipeline.settings, wire=pipeline.store._wire, client=pipeline._client).collection("users")
    users.put("ada", {"n": 0})
    users.put("total", {"changes": 0})
    with ThreadPoolExecutor(1) as threads, ThreadPoolExecutor(1) as others:

        def step(document: Document) -> Document:
            others.submit(users.increment, "total", {"changes": 1}).result(10)
            return document | {"n": 1}

        threads.submit(users.patch, "ada", step).result(20)
    assert (1, 1) == (users.get("ada")["n"], users.get("total")["changes"])


@pytest.mark.parametrize("change", ["patch", "put"])
def test_a_document_that_cannot_be_kept(settings, pipeline, sink, monkeypatch, change):
    """Where loading takes longer than its right lives, a change ends in time, and blames no other writer."""
    monkeypatch.setattr(writer, "CONFLICT_DEADLINE_S", 0.2)
    hasty = settings.model_copy(update={"load_timeout_ms": 40})
    slow = Pipeline(hasty, wire=pipeline.store._wire, client=pipeline._client)
    sink._database["users"].insert_one({"_id": "ada", "n": 1})
    find, loads = slow.sink.find, []

    def find_slowly(one: DocumentId) -> Entry:
        loads.append(one)
        time.sleep(0.06)
        return find(one)

    monkeypatch.setattr(slow.sink, "find", find_slowly)
    users = slow.collection("users")
    with pytest.raises(MongoUnavailableError, match="does not stay in Redis"):
        users.patch("ada", {"n": 2}) if change == "patch" else users.put("ada", {"n": 2}, if_match="*")
    assert len(loads) < writer.CONFLICT_TRIES
    assert 1 == pipeline.collection("users").get("ada")["n"]
