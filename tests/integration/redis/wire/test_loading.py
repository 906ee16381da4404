"""A Redis that was restarted, and loads its data: it answers, and cannot serve yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.waiting import wait_until
from writebehind.errors import RedisNotReadyError, RedisUnavailableError
from writebehind.flask.problems import problem_of
from writebehind.local.embedded import EmbeddedRedis
from writebehind.redis.connections import connection_pool
from writebehind.redis.wire import Wire

KEYS = 400


class Slow(EmbeddedRedis):
    """A server that takes so long for each key that it loads, and has started when it loads."""

    delay_us = 0

    def _command(self) -> list[str]:
        slow = ("--key-load-delay", str(self.delay_us), "--loading-process-events-interval-bytes", "1024")
        return [*super()._command(), *slow]

    def _answering_pid(self) -> int | None:
        try:
            info: Any = self.client().info("server")
        except redis.RedisError:
            return None
        return int(info["process_id"])

    def client(self) -> redis.Redis:
        """A client that tries once."""
        return redis.Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))


@pytest.fixture
def server(tmp_path) -> Iterator[Slow]:
    """One with data, in the file that is loaded by keys."""
    with Slow(tmp_path) as server, server.client() as client:
        for number in range(KEYS):
            client.set(f"key{number}", "x" * 1_100)
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the file", 30)
        wait_until(lambda: not client.info("persistence")["aof_rewrite_scheduled"], "the file", 30)
        yield server


def test_a_server_that_loads_is_not_ready(server, caplog):
    """What was sent was not carried out: try again soon; the log says once what lasts, and when it is over."""
    wire = Wire(connection_pool(server.url, 5_000))
    assert wire.call("EXISTS", "key0")
    server.stop()
    server.delay_us = 50_000
    server.start()
    try:
        for _ in range(2):
            with pytest.raises(RedisNotReadyError, match="cannot serve now") as refused:
                wire.call("GET", "key0")
        problem = problem_of(refused.value)
        assert (503, "redis-not-ready", 1) == (problem.status, problem.name, problem.retry_after)
    finally:
        with server.client() as client:
            client.config_set("key-load-delay", 0)

    def answers() -> bool:
        try:
            return bool(wire.call("EXISTS", "key0"))
        except RedisUnavailableError:
            return False

    wait_until(answers, "the data to be loaded", 60)
    began, ended = [one for one in caplog.messages if one.startswith("Redis")]
    assert began.startswith("Redis loads its data, and serves nobody until it has")
    assert ended.startswith("Redis answers again")
    wire.close()
