"""Clients that put, delete and exchange documents with a unique value, and find them by it, whatever happens.

Each owns its documents and its values, and sees to it that no two of its documents have one value in the end. A
write that was not answered may be carried out at any time: its document and its values are then left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

import httpx

from tests.chaos.clients import Client, Done, NotDoneError, content, document
from tests.chaos.history import History
from tests.chaos.linearizable import NOTHING, Operation

ACCOUNTS, FIELD = "accounts", "name"
#: How many documents one client has at a time, and how many of these have no value, on the average.
DOCUMENTS, NAMELESS = 6, 0.2
#: How long it may take after all faults that a document gets another value, seconds.
PARTED_WITHIN_S = 60

#: What a document is to become: with a value, with none (''), or nothing at all.
Wanted = str | None


class Owner(Client):
    """Gives unique values to documents, and passes them on."""

    def __init__(self, number: int, url: str, seed: int, history: History, over: threading.Event) -> None:
        """Describe it."""
        super().__init__(number, url, seed, history, over)
        self._prefix = f"s{seed}-{number}-"
        self._documents = 0
        self._names: list[str] = []
        #: What each document was last acknowledged as, and values that writes without an answer may give it yet.
        self._now: dict[str, dict[str, Any] | None] = {}
        self._perhaps: dict[str, set[str]] = {}
        self._keys = [self._new_key() for _ in range(DOCUMENTS)]

    def _act(self) -> None:
        if self._dice.random() < 0.4:
            self._look_up()
            return
        self._give(self._plan())
        self._part()
        self._keys = [self._new_key() if self._perhaps[key] else key for key in self._keys]

    # What is to be ----------------------------------------------------------------------------------

    def _plan(self) -> list[tuple[str, Wanted]]:
        """What some documents are to become, one after the other."""
        one, other, third = self._dice.sample(self._keys, 3)
        match self._dice.choice(["put", "delete", "exchange", "circle", "chain", "pass on"]):
            case "put":
                return [(one, self._any())]
            case "delete":
                return [(one, None)]
            case "exchange":
                return [(one, self._name(other)), (other, self._name(one))]
            case "circle":
                return [(one, self._name(other)), (other, self._name(third)), (third, self._name(one))]
            case "chain":
                return [(one, self._name(other)), (other, self._name(third)), (third, self._any())]
        return [(other, self._dice.choice([None, ""])), (one, self._name(other))]

    def _any(self) -> str:
        return "" if self._dice.random() < NAMELESS else self._free()

    def _name(self, key: str) -> str:
        return (self._now[key] or {}).get(FIELD, "")

    def _free(self) -> str:
        """A value that no document has, nor can be given by a write that is still on its way."""
        taken = {name for key in self._now for name in self._names_of(key)}
        free = [name for name in self._names if name not in taken]
        if len(free) < 2:
            self._names.append(f"{self._prefix}{len(self._names)}")
            return self._names[-1]
        return self._dice.choice(free)

    def _names_of(self, key: str) -> set[str]:
        """All values that a document may have."""
        return {self._name(key), *self._perhaps[key]} - {""}

    def _new_key(self) -> str:
        self._documents += 1
        key = f"{self._prefix}{self._documents}"
        self._now[key], self._perhaps[key] = None, set()
        return key

    # What is done -----------------------------------------------------------------------------------

    def _give(self, plan: Sequence[tuple[str, Wanted]]) -> None:
        """Do what is planned, in one bulk or one by one, up to what is not carried out for sure."""
        wanted = [(key, self._document(key, name)) for key, name in plan]
        if len(wanted) == 1 or self._dice.random() < 0.4:
            self._note(wanted, self._several(ACCOUNTS, wanted))
            return
        for key, one in wanted:
            done = self._put(key, one) if one else self._several(ACCOUNTS, [(key, None)])[0]
            self._note([(key, one)], [done])
            if done is not Done.SURELY:
                break

    def _document(self, key: str, name: Wanted) -> dict[str, Any] | None:
        if name is None:
            return None
        fields = {FIELD: name} if name else {}
        return document(key, self._value(), **fields)

    def _put(self, key: str, one: dict[str, Any]) -> Done:
        began = time.monotonic()
        try:
            answer = self._send("PUT", f"/v1/{ACCOUNTS}/{key}", json=content(one))
        except NotDoneError:
            return Done.NOT
        ended = inf if answer is None else time.monotonic()
        return self._note_write(key, Operation("write", began, ended, one["v"]), answer and answer.json())

    def _note(self, wanted: Sequence[tuple[str, dict[str, Any] | None]], done: Sequence[Done]) -> None:
        for (key, one), how in zip(wanted, done, strict=True):
            if how is Done.SURELY:
                self._now[key] = one
            elif how is Done.PERHAPS:
                self._perhaps[key].add((one or {}).get(FIELD, ""))

    def _part(self) -> None:
        """Give other values to documents that have one which another may have, until none is left."""
        deadline = inf
        while key := next(self._meeting(), None):
            if self._over.is_set():
                deadline = min(deadline, time.monotonic() + PARTED_WITHIN_S)
            assert time.monotonic() < deadline, f"{key} gets no other value"
            one = self._document(key, self._free())
            assert one is not None
            self._note([(key, one)], [self._put(key, one)])

    def _meeting(self) -> Iterator[str]:
        for key in self._now:
            mine = self._name(key)
            if mine and any(mine in self._names_of(other) for other in self._now if other != key):
                yield key

    # What is found ----------------------------------------------------------------------------------

    def _look_up(self) -> None:
        if self._dice.random() < 0.3:
            self._find(self._free(), None)
            return
        sure = [key for key in self._keys if self._name(key)]
        if sure:
            key = self._dice.choice(sure)
            self._find(self._name(key), key)

    def _find(self, name: str, key: str | None) -> None:
        """Look a value up that is known to lead to a document, or to none."""
        began = time.monotonic()
        try:
            answer = self._send("GET", f"/v1/{ACCOUNTS}", params={FIELD: name})
        except NotDoneError as error:
            answer = error.answer
            if answer is None or answer.status_code != 404:
                return
        if answer is None or "fwd=bypass" in answer.headers["Cache-Status"]:
            return
        found = answer.json() if answer.status_code == 200 else None
        self._compare(key, name, found)
        if key:
            value = found["v"] if found else NOTHING
            self._history.note("read", key, Operation("read", began, time.monotonic(), value))

    def _compare(self, key: str | None, name: str, found: dict[str, Any] | None) -> None:
        wanted = self._now[key] if key else None
        if found != wanted:
            self._history.misled(name, f"{_shown(wanted)} was acknowledged, and {_shown(found)} is found")

    def look_back(self, http: httpx.Client) -> None:
        """After all faults, look all values up once more that are known to lead to a document: each answers."""
        for key in self._now:
            if self._name(key) and not self._perhaps[key]:
                answer = self._in_peace(http, f"/v1/{ACCOUNTS}", params={FIELD: self._name(key)})
                self._compare(key, self._name(key), answer.json() if answer.status_code == 200 else None)


def _shown(one: dict[str, Any] | None) -> str:
    return f"{one['_id']} {one['v']}" if one else "nothing"
