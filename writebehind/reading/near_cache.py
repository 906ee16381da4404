"""A near cache: entries that one process keeps in its own memory, as long as Redis says nothing to the contrary.

Redis broadcasts the names of entries that change (`CLIENT TRACKING … BCAST`) to a connection that listens. Another
process may read the old state for as long as such a message is on its way: usually well below a millisecond, and
up to `SILENT_S` where the connection hangs. So it is an option of a collection.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from writebehind import forks
from writebehind.documents.entry import Entry

log = logging.getLogger(__name__)

#: An entry is read from Redis again after this time or half of what it is fresh for, whichever is less, seconds:
#: so that somebody looks at its age in Redis and has it refreshed in time.
MOST_AGE_S = 5.0
#: Between two signs of life that the server is asked for, seconds.
PING_S = 1.0
#: After so long without one nothing is served from here, seconds.
SILENT_S = 2.0
#: Before the next try to listen, seconds.
RETRY_S = 1.0

_CHANNEL = b"__redis__:invalidate"
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: Entry
    fresh_until: float
    until: float


class NearCache:
    """The near cache of one process. Safe to share between threads."""

    def __init__(self, pool: ConnectionPool, prefixes: Sequence[str], *, most: int, most_bytes: int) -> None:
        """Listen to keys with these prefixes, from the first look on; keep so many entries and bytes at most."""
        self._pool = pool
        self._prefixes = prefixes
        self._most = most
        self._most_bytes = most_bytes
        self._lock = forks.lock()
        self._connections: list[Any] = []
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Keep nothing, and listen from the next look on: nobody tells this process yet what changes."""
        for connection in self._connections:
            connection.disconnect()
        self._connections = []
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0
        self._expected: dict[str, object] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        #: Until when the server is known to tell what changes, by the monotonic clock.
        self._told_until = 0.0
        self._pinged = 0.0

    def get(self, key: str) -> tuple[Entry, int] | None:
        """An entry, and for how many ms it is fresh, -1 for without an end; `None` where Redis has to be asked."""
        if self._thread is None:
            self._start()
        kept, now = self._kept.get(key), time.monotonic()
        if kept is None or now >= kept.until or now >= self._told_until:
            return None
        return kept.entry, -1 if kept.fresh_until < 0 else int((kept.fresh_until - now) * 1000)

    def expect(self, key: str) -> object:
        """Announce that an entry is about to be read from Redis. What it returns goes to `keep`.

        Readers who announce the same one after the other share a ticket: nothing was told in between.
        """
        with self._lock:
            if len(self._expected) >= self._most:  # readers that failed leave theirs behind
                self._expected.clear()
            return self._expected.setdefault(key, object())

    def keep(self, key: str, ticket: object, entry: Entry, fresh_ms: int) -> None:
        """Keep what was read and is fresh for so long, -1 for without an end; unless it changed since `expect`."""
        now = time.monotonic()
        age_s = MOST_AGE_S if fresh_ms < 0 else min(MOST_AGE_S, fresh_ms / 2000)
        kept = _Kept(entry, -1 if fresh_ms < 0 else now + fresh_ms / 1000, now + age_s)
        with self._lock:
            if self._expected.get(key) is not ticket:
                return
            del self._expected[key]
            if now >= self._told_until:
                return
            self._forget(key)
            room = self._most_bytes - len(entry.body)
            if room < 0:
                return
            while len(self._kept) >= self._most or self._bytes > room:
                self._forget(next(iter(self._kept)))
            self._kept[key] = kept
            self._bytes += len(entry.body)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget entries that have changed, be it in this process, which need not wait for the message."""
        with self._lock:
            for key in keys:
                self._forget(key)
                self._expected.pop(key, None)

    def __len__(self) -> int:
        """How many entries are kept."""
        return len(self._kept)

    def close(self) -> None:
        """End the thread that listens."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(SILENT_S)

    # Listening ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="near-cache", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except _AWAY as error:
                log.info("near cache off: %s", error)
            except ResponseError as error:
                log.warning("near cache off, Redis does not track keys: %s", error)
            self._forget_all()
            self._stopping.wait(RETRY_S * random.uniform(0.5, 1))  # noqa: S311 - no secret

    def _listen(self) -> None:
        listener, tracker = (self._pool.connection_class(**self._pool.connection_kwargs) for _ in range(2))
        self._connections = [listener, tracker]
        try:
            number = _ask(listener, "CLIENT", "ID")
            _ask(listener, "SUBSCRIBE", _CHANNEL)
            # Two connections, as the older protocol has no messages beside answers.
            prefixes = [part for prefix in self._prefixes for part in ("PREFIX", prefix)]
            _ask(tracker, "CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST", *prefixes)
            self._forget_kept()  # what is being read may have changed before anybody told
            asked = self._pinged = time.monotonic()
            self._told_until = asked + SILENT_S
            while not self._stopping.is_set():
                if listener.can_read(timeout=PING_S / 4):
                    self._take(listener.read_response())
                if (now := time.monotonic()) - asked >= PING_S:
                    _ask(tracker, "PING")  # which tracks for as long as it lives
                    asked = now
                    self._pinged = asked
                    listener.send_command("PING")  # the answer comes in its turn, after all messages before it
        finally:
            listener.disconnect()
            tracker.disconnect()

    def _take(self, message: Any) -> None:
        if message[0] == b"pong":
            self._told_until = self._pinged + SILENT_S
        elif message[:2] == [b"message", _CHANNEL]:
            if message[2] is None:  # the whole database was emptied
                self._forget_kept()
            else:
                self.drop(key.decode() for key in message[2])

    def _forget_all(self) -> None:
        self._told_until = 0.0
        self._forget_kept()

    def _forget_kept(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0
            self._expected.clear()

    def _forget(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept.entry.body)


def _ask(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()
