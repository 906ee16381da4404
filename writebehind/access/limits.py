"""Limits of clients: a concurrency, and a rate, for which each process has token buckets.

A bucket is one number, the time at which it is full again (GCRA, the generic cell rate algorithm): what is spent
moves it ahead, and who would move it further than a window is refused. Redis has the same number of the processes
together. No request waits for it: a thread brings the two together about once a second.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import Final

from writebehind import forks
from writebehind.errors import RedisUnavailableError
from writebehind.redis.shared.spending import KEPT_MS, LONGEST_MS, Spending, Spent

log = logging.getLogger(__name__)

#: Between two times that processes tell each other what was spent, seconds.
SHARE_EVERY_S: Final = 1.0
#: Told is what takes so long to have back, ms: of clients that spend less the others learn nothing, nor need they.
SHARED_FROM_MS: Final = 1000 / 16
#: What rounding may make of nothing, ms.
_LEAST_MS: Final = 0.001
#: Addresses, and subjects of tokens, that are told apart: those seen last, of each up to 600 bytes.
MOST_ADDRESSES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Limit:
    """Limits of one client.

    Attributes:
        rate: items in a second, 0 for any number.
        window_s: so many seconds' worth of it a client may spend at once, if it has spent nothing before.
        concurrency: its requests at a time in one process, 0 for any number.
    """

    rate: float = 0.0
    window_s: float = 10.0
    concurrency: int = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.rate or self.concurrency)

    @property
    def quota(self) -> int:
        """The items that a client may spend at once."""
        return max(1, int(self.rate * self.window_s))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Reason for which a request is not served now.

    Attributes:
        limit: the one that is met: `rate` or `concurrency`.
        retry_after_s: when it is worth while to come again, seconds.
    """

    limit: str
    retry_after_s: int = 1


class Client:
    """One client, and what it has left. Its `Clients` changes it, under their lock."""

    __slots__ = ("cost_ms", "full_at", "in_progress", "limit", "name", "room_ms", "since", "untold_ms")

    def __init__(self, name: str, limit: Limit) -> None:
        """One with this limit that has spent nothing."""
        self.name = name
        self.in_progress = 0
        #: When it has all back, by the monotonic clock, ms; what nobody was told of, and since when there is such.
        self.full_at = self.untold_ms = self.since = 0.0
        self.set(limit)

    def set(self, limit: Limit) -> None:
        """Let another limit hold from now on."""
        self.limit = limit
        #: How long it takes to have one item back, and the quota, ms.
        self.cost_ms = 1000 / limit.rate if limit.rate else 0.0
        self.room_ms = self.cost_ms * limit.quota

    @property
    def left(self) -> int:
        """The items that it may spend now."""
        if not self.cost_ms:
            return 0
        return max(0, int((self.room_ms - max(0.0, self.full_at - _now_ms()) + _LEAST_MS) / self.cost_ms))

    @property
    def full_in_s(self) -> int:
        """In how many seconds it has its quota back."""
        return max(0, math.ceil((self.full_at - _now_ms()) / 1000))


class Clients:
    """The clients of a process. Safe to share between threads."""

    def __init__(self, limit: Limit, spending: Spending, *, most_addresses: int = MOST_ADDRESSES) -> None:
        """Hold clients to a limit, unless they have one of their own.

        Args:
            limit: of each client.
            spending: what processes tell each other.
            most_addresses: how many addresses and subjects are told apart.
        """
        self._limit = limit
        self._spending = spending
        self._half = max(1, most_addresses // 2)
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Know nobody of the parent process."""
        #: Those of keys, of which there are few; and addresses and subjects that came lately, and those before.
        self._keys: dict[str, Client] = {}
        self._late: dict[str, Client] = {}
        self._early: dict[str, Client] = {}
        self._untold: set[Client] = set()

    def __len__(self) -> int:
        """The number of those that are known."""
        return len(self._keys) + len(self._late) + len(self._early)

    def of_key(self, key_id: str, rate: float | None = None, concurrency: int | None = None) -> Client | None:
        """The holder of a key, which may have limits of its own; `None` where it has none at all."""
        limit = self._limit
        if rate is not None or concurrency is not None:
            limit = Limit(
                limit.rate if rate is None else rate,
                limit.window_s,
                limit.concurrency if concurrency is None else concurrency,
            )
        if not limit:
            return None
        client = self._keys.get(key_id)
        if client is None:
            client = self._keys.setdefault(key_id, Client(f"key {key_id}", limit))
        elif client.limit != limit:
            client.set(limit)
        return client

    def of_address(self, address: str) -> Client | None:
        """Whoever comes from an address; `None` where there is no limit.

        Who did not come while half as many new ones did as may be told apart is forgotten. So many addresses could
        spend as much anyway.
        """
        return self._one_of_many(f"address {address}")

    def of_subject(self, name: str) -> Client | None:
        """The subject of a token; `None` where there is no limit. It is forgotten as an address is."""
        return self._one_of_many(f"subject {name}")

    def _one_of_many(self, name: str) -> Client | None:
        if not self._limit:
            return None
        client = self._late.get(name)
        if client is not None:
            return client
        with self._lock:
            client = self._early.pop(name, None) or Client(name, self._limit)
            if len(self._late) >= self._half:
                self._late, self._early = {}, self._late
            return self._late.setdefault(name, client)

    def begin(self, client: Client, items: int = 1) -> Refusal | None:
        """Let a client begin a request, for `end` to end; or say why it may not now.

        Args:
            client: whose it is.
            items: of the request, one or none: who spends nothing may begin it also if nothing is left.
        """
        limit = client.limit
        with self._lock:
            if limit.concurrency and client.in_progress >= limit.concurrency:
                return Refusal("concurrency")
            if items and limit.rate:
                now = _now_ms()
                over_ms = client.full_at - now + client.cost_ms - client.room_ms
                if over_ms > _LEAST_MS:
                    return Refusal("rate", max(1, math.ceil(over_ms / 1000)))
                self._spend(client, client.cost_ms, now)
            client.in_progress += 1
            return None

    def spend(self, client: Client, items: int) -> None:
        """Count more items of a request that was let in, however many: who has spent too much waits the longer."""
        if client.cost_ms and items > 0:
            with self._lock:
                self._spend(client, items * client.cost_ms, _now_ms())

    def end(self, client: Client) -> None:
        """Note that a request is over."""
        with self._lock:
            client.in_progress -= 1

    def share(self) -> None:
        """Tell what was spent here, and learn what was spent elsewhere.

        What Redis does not take is never told: each process holds clients to their limits by itself meanwhile.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        with self._lock:
            now = _now_ms()
            told = [one for one in self._untold if one.untold_ms >= SHARED_FROM_MS]
            said = [Spent(one.name, now - one.since, one.untold_ms) for one in told]
            small = {one for one in self._untold if one.untold_ms < SHARED_FROM_MS and one.since > now - KEPT_MS}
            for one in self._untold - small:
                one.untold_ms = 0.0
            self._untold = small
        for one, left_ms in zip(told, self._spending.note(said), strict=True):
            with self._lock:
                one.full_at = max(one.full_at, _now_ms() + left_ms + one.untold_ms)

    def watch(self, stop: threading.Event) -> None:
        """Share again and again, until the event is set."""
        while not stop.wait(SHARE_EVERY_S):
            try:
                self.share()
            except RedisUnavailableError as error:
                log.debug("clients are held to their limits by each process: %s", error)

    def _spend(self, client: Client, cost_ms: float, now: float) -> None:
        client.full_at = min(max(client.full_at, now) + cost_ms, now + max(LONGEST_MS, client.room_ms))
        if not client.untold_ms:
            client.since = now
            self._untold.add(client)
        client.untold_ms += cost_ms


def _now_ms() -> float:
    return time.monotonic() * 1000
