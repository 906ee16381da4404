"""Clients that write and read through HTTP, whatever happens, and note what they are told."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from math import exp, inf, log
from string import ascii_lowercase
from typing import Any

import httpx

from tests.chaos.history import History
from tests.chaos.linearizable import NOTHING, Operation
from tests.sizes import LIMIT, THRESHOLDS, sized
from tests.waiting import wait_until
from writebehind import until_answered

REGISTERS, COUNTERS = "registers", "counters"
#: Problems that say that a write was certainly not carried out.
NOT_DONE = {
    "partition-full",
    "receipts-full",
    "redis-memory",
    "dead-letters",
    "mongodb-unavailable",
    "not-found",
    "precondition-failed",
    "conflict",
}
#: Problems that a read may meet on a slow machine without any fault: there a look-out may take MongoDB for gone.
#: And for how long, seconds: a breaker that has opened is tried again after five.
NOT_NOW = {"mongodb-unavailable", "redis-unavailable", "redis-not-ready", "service-unavailable"}
ANSWERED_WITHIN_S = 20.0
#: How long a write with a key may take to be answered, while faults come one after the other, seconds.
REPEATED_WITHIN_S = 75.0
PAUSE_S = 0.01
#: The largest of usual documents as BSON, bytes, and the least that is filled up. The smallest of all is sent as
#: 10 bytes; a few are as large as clients may write them.
MOST_BYTES, LEAST_FILLED = 100_000, 128
LARGE = (*(size for size in THRESHOLDS if 4_000 < size < MOST_BYTES), MOST_BYTES, LIMIT)


def document(key: str, value: str, **fields: str) -> dict[str, Any]:
    """The document that has a value, whose size is up to the value too: so a reader knows all of it."""
    dice = random.Random(value)
    match dice.randrange(10):
        case 0:
            size = dice.choice(LARGE)
        case 1 | 2 | 3:
            size = round(exp(dice.uniform(log(LEAST_FILLED), log(MOST_BYTES))))
        case _:
            return {"_id": key, "v": value, **fields}
    return sized(key, size, v=value, **fields)


def content(document: dict[str, Any]) -> dict[str, Any]:
    """What is sent of a document whose id is in the path."""
    return {name: value for name, value in document.items() if name != "_id"}


class Done(Enum):
    """Whether a write was carried out."""

    SURELY = "surely"
    PERHAPS = "perhaps"
    NOT = "not"


class Window:
    """Keys of which only a few are written at a time, so that every fault meets the last writes to some."""

    def __init__(self, keys: Sequence[str], width: int, seconds: float) -> None:
        """Pass over the keys within so many seconds from now."""
        self.keys = keys
        self._width = width
        self._seconds = seconds
        self._began = time.monotonic()

    def current(self) -> Sequence[str]:
        """Those that are written now."""
        passed = min(1.0, (time.monotonic() - self._began) / self._seconds)
        first = int(passed * (len(self.keys) - self._width))
        return self.keys[first : first + self._width]


class Client(ABC):
    """One client, with a seed of its own, in a thread of its own, until `over` is set."""

    def __init__(self, number: int, url: str, seed: int, history: History, over: threading.Event) -> None:
        """Describe it; nothing is sent before `start`."""
        self._number = number
        self._url = url
        self._dice = random.Random(f"{seed}/{number}")
        self._history = history
        self._over = over
        self._sent = 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"client-{number}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for its end, and raise what went wrong with the client itself."""
        self._thread.join(timeout_s)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), "the client does not come to its end"

    @abstractmethod
    def _act(self) -> None:
        """Do one thing."""

    def _in_peace(self, http: httpx.Client, path: str, **sent: object) -> httpx.Response:
        """The answer to a read after all faults. What says that it comes later has to come soon."""

        def answer() -> httpx.Response | None:
            given = http.get(path, **sent)
            if given.status_code != 503:
                return given
            problem = given.json()["type"].rpartition(":")[2]
            self._history.refused_in_peace(problem)
            says_when = problem in NOT_NOW and "Retry-After" in given.headers
            return None if says_when else given

        return wait_until(answer, f"{path} to be answered", ANSWERED_WITHIN_S)

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=8, trust_env=False) as self._http:
                while not self._over.is_set():
                    self._act()
                    self._over.wait(PAUSE_S)
        except Exception as error:  # noqa: BLE001 - for the test's own thread to raise
            self._error = error

    def _value(self) -> str:
        """A value that nobody else writes."""
        self._sent += 1
        return f"{ascii_lowercase[self._number]}{self._sent}"

    def _send(self, method: str, path: str, **sent: object) -> httpx.Response | None:
        """The answer; `None` where it is unknown whether anything has happened."""
        try:
            answer = self._http.request(method, path, **sent)
        except httpx.ConnectError:
            self._history.refused()
            self._over.wait(0.1)
            raise NotDoneError from None
        except httpx.HTTPError:
            return None
        if answer.is_success:
            return answer
        if answer.status_code == 503:
            self._over.wait(0.05)
        problem = answer.json()["type"].rpartition(":")[2]
        if problem in NOT_DONE or method == "GET":
            self._history.refused()
            raise NotDoneError(answer)
        assert answer.status_code == 503, answer.text
        return None

    def _several(self, collection: str, wanted: Sequence[tuple[str, dict[str, Any] | None]]) -> list[Done]:
        """Write in one bulk: documents, or `None` for deletions."""
        items = [
            {"op": "delete", "id": key} if one is None else {"op": "put", "id": key, "doc": content(one)}
            for key, one in wanted
        ]
        began = time.monotonic()
        try:
            answer = self._send("POST", f"/v1/{collection}:bulk", json=items)
        except NotDoneError:
            return [Done.NOT] * len(items)
        ended = time.monotonic()
        results = [None] * len(items) if answer is None else answer.json()["results"]
        return [
            self._note_result(key, Operation("write", began, ended, NOTHING if one is None else one["v"]), result)
            for (key, one), result in zip(wanted, results, strict=True)
        ]

    def _note_result(self, key: str, operation: Operation, result: dict[str, Any] | None) -> Done:
        if result is not None and "version" in result:
            return self._note_write(key, operation, result)
        if result is None or result["error"]["type"].rpartition(":")[2] not in NOT_DONE:
            return self._note_write(key, replace(operation, ended=inf), None)
        self._history.refused()
        return Done.NOT

    def _note_write(self, key: str, operation: Operation, written: dict[str, Any] | None) -> Done:
        if written is None:
            self._history.note("unknown", key, operation)
            return Done.PERHAPS
        self._history.note("acknowledged", key, operation, written["version"])
        return Done.SURELY


class Writer(Client):
    """Writes and reads registers and counters that all of its kind share."""

    def __init__(
        self, number: int, url: str, seed: int, window: Window, history: History, over: threading.Event
    ) -> None:
        """Describe it; `window` has the keys."""
        super().__init__(number, url, seed, history, over)
        self._window = window
        actions: list[tuple[Callable[[str], None], int]] = [
            (self._get, 40),
            (self._put, 20),
            (self._delete, 14),
            (self._swap, 12),
            (self._bulk, 6),
            (self._increment, 16),
        ]
        self._actions = [action for action, _ in actions]
        self._weights = [weight for _, weight in actions]

    def _act(self) -> None:
        [action] = self._dice.choices(self._actions, self._weights)
        action(self._dice.choice(self._window.current()))

    def _write(self, key: str, value: str | None, method: str, path: str, **sent: object) -> None:
        began = time.monotonic()
        try:
            answer = self._send(method, path, **sent)
        except NotDoneError:
            return
        ended = inf if answer is None else time.monotonic()
        self._note_write(key, Operation("write", began, ended, value), answer and answer.json())

    def _get(self, key: str) -> None:
        # Also what is not written any more, or not yet.
        self._read(self._dice.choice(self._window.keys) if self._dice.random() < 0.5 else key)

    def _read(self, key: str) -> httpx.Response | None:
        """What is there; `None` where nothing certain is to be known, as when Redis is bypassed."""
        began = time.monotonic()
        try:
            answer = self._send("GET", f"/v1/{REGISTERS}/{key}")
        except NotDoneError as error:
            answer = error.answer
            if answer is None or answer.status_code != 404:
                return None
        if answer is None or "fwd=bypass" in answer.headers["Cache-Status"]:
            return None
        found = answer.json() if answer.status_code == 200 else None
        value = found["v"] if found else NOTHING
        assert not found or found == document(key, value), "this is another document, or a part of one"
        self._history.note("read", key, Operation("read", began, time.monotonic(), value))
        self._history.reads[self._number, key].append(value)
        return answer

    def _put(self, key: str) -> None:
        value = self._value()
        self._write(key, value, "PUT", f"/v1/{REGISTERS}/{key}", json=content(document(key, value)))

    def _delete(self, key: str) -> None:
        self._several(REGISTERS, [(key, None)])

    def _bulk(self, _: str) -> None:
        keys = self._dice.sample(self._window.current(), 4)
        self._several(REGISTERS, [(key, document(key, self._value())) for key in keys])

    def _swap(self, key: str) -> None:
        found = self._read(key)
        if found is None or found.status_code != 200:
            return
        value, expected = self._value(), found.json()["v"]
        began = time.monotonic()
        try:
            answer = self._send(
                "PUT",
                f"/v1/{REGISTERS}/{key}",
                json=content(document(key, value)),
                headers={"If-Match": found.headers["ETag"]},
            )
        except NotDoneError:
            return
        ended = inf if answer is None else time.monotonic()
        self._note_write(key, Operation("swap", began, ended, value, expected), answer and answer.json())

    def _increment(self, key: str) -> None:
        """Repeat an increment with its key until it is answered: none is left of which nobody knows."""

        def send(name: str) -> httpx.Response:
            path, headers = f"/v1/{COUNTERS}/{key}:increment", {"Idempotency-Key": name}
            return self._http.post(path, json={"n": 1}, headers=headers)

        answer = until_answered(send, within_s=REPEATED_WITHIN_S)
        assert answer.status_code in {200, 201}, answer.text
        self._history.increment(key, answer.json()["values"]["n"])


class NotDoneError(Exception):
    """The operation was certainly not carried out; `answer` says why, where there was one."""

    def __init__(self, answer: httpx.Response | None = None) -> None:
        super().__init__()
        self.answer = answer
