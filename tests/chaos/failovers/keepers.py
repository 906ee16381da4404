"""Clients that each have documents of their own, so that what a read or MongoDB may have is known at once.

One client's writes to one document follow each other, and are numbered. A document that has met a write without an
answer is left alone from then on: that write may be carried out at any time, also after the next one.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Any, NamedTuple

import httpx

REGISTERS, COUNTER = "registers", "all"
#: Documents that a client has at a time.
DOCUMENTS = 12
PAUSE_S = 0.005
#: How long a client waits for an answer, seconds: longer than any request may take.
ANSWER_S = 15
#: Problems that say that a write was certainly not carried out.
NOT_DONE = {
    *("partition-full", "receipts-full", "redis-memory", "redis-not-ready", "dead-letters"),
    *("mongodb-unavailable", "service-unavailable", "not-found", "conflict"),
}


class Promise(IntEnum):
    """What a client knows of a write."""

    NONE = 0
    BUFFERED = 1
    KEPT = 2


@dataclass(slots=True)
class Write:
    """One write to a document.

    Attributes:
        value: what it has made of it; `None` for a deletion.
        promise: what is known of it.
        version: what it was acknowledged with; 0 where the answer did not say.
    """

    value: int | None
    promise: Promise = Promise.NONE
    version: int = 0


@dataclass(slots=True)
class Document:
    """One document: its writes, of which the first is that there is none.

    Attributes:
        key: its id.
        writes: in the order in which they were sent.
    """

    key: str
    writes: list[Write] = field(default_factory=lambda: [Write(None, Promise.KEPT)])

    def write(self, value: int | None) -> Write:
        """Note a write that is about to be sent."""
        self.writes.append(Write(value))
        return self.writes[-1]

    @property
    def kept(self) -> int:
        """The number of the latest write that outlives a failover."""
        return max(at for at, one in enumerate(self.writes) if one.promise is Promise.KEPT)

    def at(self, value: int | None) -> int:
        """The number of the latest write that made it what it is; -1 if none did."""
        return max((at for at, one in enumerate(self.writes) if one.value == value), default=-1)

    def known_by(self, at: int) -> int:
        """The version of a write, or one below it and above that of the write before."""
        return self.writes[at].version or max(one.version for one in self.writes[:at]) + 1


class Answer(NamedTuple):
    """An answer to a write: what it promises, and the version, 0 where it does not say."""

    promise: Promise
    version: int = 0


@dataclass(slots=True)
class Account:
    """What all clients of a run were told, and what was not as it should be."""

    violations: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    #: Whether a former primary may be read from, as nothing fences it.
    is_parted: bool = False
    #: Increments of the one counter, by what each has promised.
    counted: Counter[Promise] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, answer: str) -> None:
        """Count an answer."""
        with self.lock:
            self.answers[answer] += 1

    def broken(self, what: str) -> None:
        """Note something that may not be."""
        with self.lock:
            self.violations.append(what)


class Keeper:
    """One client, in a thread of its own, until `over` is set."""

    def __init__(self, name: str, url: str, seed: int, account: Account, over: threading.Event) -> None:
        """Describe it; nothing is sent before `start`."""
        self._name, self._url, self._account, self._over = name, url, account, over
        self._dice = random.Random(f"{seed}/{name}")
        self._names = count()
        self.documents = [self._new() for _ in range(DOCUMENTS)]
        self._now = list(self.documents)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, and raise what went wrong with the client itself."""
        self._thread.join(ANSWER_S * 2)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), "the client does not come to its end"

    def _new(self) -> Document:
        return Document(f"{self._name}-{next(self._names)}")

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=ANSWER_S, trust_env=False) as self._http:
                while not self._over.is_set():
                    self._dice.choices((self._put, self._delete, self._read, self._increment), (10, 3, 10, 2))[0]()
                    self._over.wait(PAUSE_S)
        except Exception as error:  # noqa: BLE001 - for the test's own thread to raise
            self._error = error

    # What it does -----------------------------------------------------------------------------------

    def _put(self) -> None:
        one = self._dice.choice(self._now)
        number = len(one.writes)
        self._write(one, number, "PUT", json={"n": number, "filler": "x" * self._dice.choice((0, 500, 5_000))})

    def _delete(self) -> None:
        self._write(self._dice.choice(self._now), None, "DELETE")

    def _write(self, one: Document, value: int | None, method: str, **sent: Any) -> None:
        write = one.write(value)
        answer = self._send(method, f"/v1/{REGISTERS}/{one.key}", **sent)
        if answer is None:
            self._now[self._now.index(one)] = new = self._new()
            self.documents.append(new)
        elif answer.promise is Promise.NONE:
            one.writes.remove(write)
        else:
            write.promise, write.version = answer

    def _increment(self) -> None:
        answer = self._send("POST", f"/v1/counters/{COUNTER}:increment", json={"n": 1})
        promise = Promise.NONE if answer is None else answer.promise
        if answer is None or promise is not Promise.NONE:
            with self._account.lock:
                self._account.counted[promise] += 1

    def _send(self, method: str, path: str, **sent: Any) -> Answer | None:
        """What is promised: nothing where it was certainly not carried out, `None` where nobody knows."""
        level = self._dice.choices(("replicated", "fsynced", "buffered"), (7, 2, 2))[0]
        try:
            answer = self._http.request(method, path, params={"durability": level}, **sent)
        except httpx.ConnectError:
            self._over.wait(0.1)
            return Answer(Promise.NONE)
        except httpx.HTTPError:
            self._account.note("no answer")
            return None
        if answer.is_success:
            # A deletion that is 204 has what was asked for; one that is not has a body that says so.
            said = {"durability": level, "version": 0} if answer.status_code == 204 else answer.json()
            self._account.note(said["durability"])
            promise = Promise.BUFFERED if said["durability"] == "buffered" else Promise.KEPT
            return Answer(promise, said["version"])
        problem = answer.json()["type"].rpartition(":")[2]
        self._account.note(problem)
        self._over.wait(0.05)
        if problem not in NOT_DONE and answer.status_code != 503:
            self._account.broken(f"{method} {path}: {answer.status_code} {answer.text}")
        return Answer(Promise.NONE) if problem in NOT_DONE else None

    def _read(self) -> None:
        one = self._dice.choice(self._now)
        kept, is_parted = one.kept, self._account.is_parted
        try:
            # A connection of its own, so that another process may answer than the one that was written to.
            answer = self._http.get(f"/v1/{REGISTERS}/{one.key}", headers={"Connection": "close"})
        except httpx.HTTPError:
            return
        if answer.status_code not in {200, 404} or "fwd=bypass" in answer.headers.get("Cache-Status", ""):
            self._over.wait(0.05)
            return
        self._account.note("read")
        value = answer.json()["n"] if answer.status_code == 200 else None
        if is_parted and 0 <= one.at(value) < kept:
            self._account.note("old read")
        else:
            self._see(one, value, kept, "a read found")

    def _see(self, one: Document, value: int | None, kept: int, where: str) -> None:
        if one.at(value) < kept:
            newer = one.writes[kept].value
            self._account.broken(f"{one.key}: {where} {value}, and {newer} was acknowledged after it")

    # What is left -----------------------------------------------------------------------------------

    def compare(self, stored: Mapping[str, int]) -> list[tuple[str, int]]:
        """Compare with what MongoDB has; the buffered writes that are lost, which may be: keys and versions."""
        lost: list[tuple[str, int]] = []
        for one in self.documents:
            value = stored.get(one.key)
            self._see(one, value, one.kept, "MongoDB has")
            first = one.at(value) + 1
            lost += [
                (one.key, one.known_by(at))
                for at, write in enumerate(one.writes[first:], first)
                if write.promise is Promise.BUFFERED
            ]
        return lost


def look_back(keepers: Sequence[Keeper], http: httpx.Client, stored: Mapping[str, int], account: Account) -> None:
    """After all faults, what the API answers is what MongoDB has."""
    keys = [one.key for keeper in keepers for one in keeper.documents]
    for at in range(0, len(keys), 100):
        answer = http.post(f"/v1/{REGISTERS}:get", json={"ids": keys[at : at + 100]}).raise_for_status().json()
        for key in keys[at : at + 100]:
            found = (answer["documents"].get(key) or {}).get("n")
            if found != stored.get(key):
                account.broken(f"{key}: the API has {found}, and MongoDB {stored.get(key)}")
