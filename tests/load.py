"""Clients that ask again and again at a steady rate, and remember what they were told."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Self

import httpx

from tests.sizes import mixed


class Client:
    """Asks every `every_s` seconds, in a thread of its own, for as long as its `with` block lasts."""

    def __init__(self, url: str, every_s: float) -> None:
        self._url = url
        self._every_s = every_s
        self._over = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def ask(self, http: httpx.Client, turn: int) -> None:
        """One request."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as http:
                for turn in count():
                    self.ask(http, turn)
                    if self._over.wait(self._every_s):
                        return
        except Exception as error:  # noqa: BLE001 - for the test's own thread to raise
            self._error = error


class Writes(Client):
    """Puts documents in turn, some of them large; `acknowledged` has each one's latest version and number."""

    def __init__(
        self,
        url: str,
        collection: str,
        ids: Sequence[str],
        every_s: float = 0.02,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(url, every_s)
        self._fields = fields or {}
        self._collection = collection
        self._ids = ids
        self.acknowledged: dict[str, tuple[int, int]] = {}
        self.count = 0
        self.refused: list[httpx.Response] = []

    def ask(self, http: httpx.Client, turn: int) -> None:
        one = self._ids[turn % len(self._ids)]
        document = {"n": turn, **mixed(turn), **self._fields}
        answer = http.put(f"/v1/{self._collection}/{one}", json=document)
        if answer.is_success:
            self.acknowledged[one] = (answer.json()["version"], turn)
            self.count += 1
        else:
            self.refused.append(answer)


class Reads(Client):
    """Gets the same document, and notes how many seconds each answer took."""

    def __init__(self, url: str, path: str, every_s: float = 0.02) -> None:
        super().__init__(url, every_s)
        self._path = path
        self.seconds: list[float] = []

    def ask(self, http: httpx.Client, turn: int) -> None:  # noqa: ARG002 - all reads are the same
        began = time.perf_counter()
        http.get(self._path).raise_for_status()
        self.seconds.append(time.perf_counter() - began)
