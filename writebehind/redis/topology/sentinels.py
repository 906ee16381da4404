"""Sentinels, of which any may say who is the primary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from writebehind.errors import told

#: A node of a cluster, or a Sentinel, that is asked where the servers are has this long to answer, seconds: there
#: are others, and the one that is asked first may be on the machine that was just lost.
ASKED_S = 0.5

#: redis-py would ask one that hangs up to eleven times, while another one may answer at once.
NEVER_AGAIN = Retry(NoBackoff(), 0)

Place = tuple[str, int]


def patience(timeout_s: float) -> dict[str, Any]:
    """Options of redis-py's clients to ask one for so long, or a shorter time."""
    limit = min(ASKED_S, timeout_s)
    return {"socket_timeout": limit, "socket_connect_timeout": limit, "protocol": 2}


def asked_once(count: int, timeout_s: float) -> dict[str, Any]:
    """Options of redis-py's clients to ask so many, one after the other, for so long in all at most."""
    return patience(timeout_s / count) | {"retry": NEVER_AGAIN}


class Sentinels(Sentinel):
    """Sentinels of one service, asked one after the other: the one that answered last first. Safe to share."""

    def __init__(self, hosts: Sequence[Place], options: Mapping[str, Any], *, timeout_s: float) -> None:
        """Ask none before that is needed.

        Args:
            hosts: where they listen.
            options: how to connect to them: user, password, TLS.
            timeout_s: for how long all of them together may keep whoever asks waiting, seconds.
        """
        asked = {**options, **asked_once(len(hosts), timeout_s)}
        super().__init__(hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]

    def discover_master(self, service_name: str) -> Place:
        """The primary, as `SentinelConnectionPool` asks for it.

        Raises:
            RedisTimeoutError: none answered in time.
            MasterNotFoundError: none names it, for the reasons that the error has.
        """
        failed: list[Exception] = []
        for one in self.sentinels:
            try:
                masters = one.sentinel_masters()
            except (RedisError, OSError) as error:
                failed.append(error)
                self._order(one, is_first=False)
                continue
            state = masters.get(service_name) if isinstance(masters, dict) else None
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                self._order(one, is_first=True)
                return state["ip"], state["port"]
        if failed and all(isinstance(error, RedisTimeoutError) for error in failed):
            raise failed[0]
        raise MasterNotFoundError("; ".join(map(told, failed)) or f"No master found for {service_name!r}")

    def _order(self, one: Redis, *, is_first: bool) -> None:
        """Ask one first the next time, or last."""
        others = [other for other in self.sentinels if other is not one]
        self.sentinels = [one, *others] if is_first else [*others, one]
