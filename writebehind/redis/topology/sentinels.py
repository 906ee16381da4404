"""Sentinels, of which any may say who is the primary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from writebehind.redis.connections import reason

#: A node of a cluster, or a Sentinel, that is asked where the servers are has this long to answer, seconds: there
#: are others, and the one that is asked first may be on the machine that was just lost.
ASKED_S = 0.5


Place = tuple[str, int]


class Once(Retry):
    """Asks a Sentinel once, while redis-py would ask one that hangs up to eleven times.

    One that refuses to answer, or is none, counts as away: redis-py, and kombu with it, would ask no other one.
    """

    def __init__(self) -> None:
        """Take no arguments, as there is nothing to choose."""
        super().__init__(NoBackoff(), 0)

    def call_with_retry(self, *arguments: Any, **options: Any) -> Any:
        """As redis-py has it.

        Raises:
            RedisConnectionError: in the place of all but an answer, and of one that is late.
        """
        try:
            return super().call_with_retry(*arguments, **options)
        except (ResponseError, InvalidResponse) as error:
            raise RedisConnectionError(reason(error)) from error


def patience(timeout_s: float) -> dict[str, Any]:
    """Options of redis-py's clients to ask one for so long, or a shorter time."""
    limit = min(ASKED_S, timeout_s)
    return {"socket_timeout": limit, "socket_connect_timeout": limit, "protocol": 2}


def asked_once(count: int, timeout_s: float) -> dict[str, Any]:
    """Options of redis-py's clients to ask so many, one after the other, for so long in all at most."""
    return patience(timeout_s / count) | {"retry": Once()}


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
        failed: dict[str, Exception] = {}
        is_known = answered = False
        for one in self.sentinels:
            try:
                masters = one.sentinel_masters()
            except (RedisConnectionError, RedisTimeoutError) as error:
                failed[_place(one)] = error
                self._order(one, is_first=False)
                continue
            state = masters.get(service_name) if isinstance(masters, dict) else None
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                self._order(one, is_first=True)
                return state["ip"], state["port"]
            answered, is_known = True, is_known or state is not None
        if failed and not answered and all(isinstance(error, RedisTimeoutError) for error in failed.values()):
            raise next(iter(failed.values()))
        raise MasterNotFoundError("; ".join(_reasons(service_name, failed, answered=answered, is_known=is_known)))

    def _order(self, one: Redis, *, is_first: bool) -> None:
        """Ask one first the next time, or last."""
        others = [other for other in self.sentinels if other is not one]
        self.sentinels = [one, *others] if is_first else [*others, one]


def _reasons(service: str, failed: Mapping[str, Exception], *, answered: bool, is_known: bool) -> Iterator[str]:
    """The reasons why no Sentinel names a primary."""
    if is_known:
        yield f"no primary of {service!r} is up, as Sentinels see it"
    elif answered:
        yield f"Sentinels know no {service!r}: name the service in REDIS_URL as `sentinel monitor` does"
    for place, error in failed.items():
        yield f"Sentinel {place} does not answer: {reason(error)}"


def _place(one: Redis) -> str:
    options = one.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"
