"""A broker that refuses: what a worker takes for it, and asks to find out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, ResponseError

from writebehind.celery import refusing
from writebehind.operations.acl import BROKER_KEYS


@pytest.fixture(autouse=True)
def known_to_nobody() -> Iterator[None]:
    refusing.refusing.begin_anew()
    yield
    refusing.refusing.begin_anew()


def channel(answer: Exception | None) -> Any:
    """A channel to a Redis that answers a write so."""

    def write(*_: Any, **__: Any) -> None:
        if answer is not None:
            raise answer

    @contextmanager
    def connected() -> Iterator[Any]:
        yield SimpleNamespace(set=write)

    return SimpleNamespace(conn_or_acquire=connected)


def test_the_probe_is_within_the_least_rights():
    """A user as `writebehind doctor --acl` prints it may ask."""
    assert any(fnmatchcase(refusing.PROBE, pattern) for pattern in BROKER_KEYS)


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "see that its replicas run and reach it"),
        (
            ResponseError("MISCONF Redis is configured to save RDB snapshots"),
            "see that Redis has room on its disk",
        ),
    ],
)
def test_the_line_says_what_to_see_to(caplog, answer, advice):
    """It is what the words of Redis are about."""
    assert refusing.is_noted(answer)
    assert advice in caplog.text


@pytest.mark.parametrize(
    ("answer", "is_served"),
    [
        (None, True),
        (NoPermissionError("No permissions to access a key"), True),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), False),
        (ReadOnlyError("You can't write against a read only replica."), False),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), False),
    ],
)
def test_it_is_over_when_a_write_is_taken(answer, is_served):
    """A right to the probe that is missing says nothing: the worker's own commands decide."""
    assert refusing.is_noted(ReadOnlyError("before"))
    assert is_served == refusing.see(channel(answer))
    assert is_served != refusing.refusing.lasts


def connection_error(consumer: Any, name: str) -> Callable[[Exception], None]:
    refusing.wait_for_writes(consumer)
    return getattr(consumer, name)


@pytest.mark.parametrize("name", ["on_connection_error_before_connected", "on_connection_error_after_connected"])
def test_what_never_passes_ends_the_worker(name):
    """It would connect again for ever: an answer of Redis is a lost connection only where it refuses for now."""
    lost: list[Exception] = []
    consumer = SimpleNamespace(
        ensure_connected=None,
        connection_errors=(OSError,),
        on_connection_error_before_connected=lost.append,
        on_connection_error_after_connected=lost.append,
    )
    handle = connection_error(consumer, name)
    for_now = [OSError("gone"), ReadOnlyError("a replica"), refusing.BrokerRefusesError("full")]
    for error in for_now:
        handle(error)
    with pytest.raises(ResponseError, match="unknown command"):
        handle(ResponseError("unknown command 'BRPOP'"))
    assert for_now == lost


def waits(
    monkeypatch: pytest.MonkeyPatch, most: int | None, tries: int, change: Callable[[Any], None]
) -> list[float]:
    """The seconds between tries of a consumer that is changed so to connect to a broker that is away."""
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
    waited: list[float] = []

    def ensure_connected(one: Connection) -> Connection:
        return one.ensure_connection(lambda _, interval: waited.append(interval), max_retries=tries)

    with Connection("redis://127.0.0.1:1/0") as connection:
        consumer = SimpleNamespace(
            app=SimpleNamespace(conf=SimpleNamespace(broker_connection_max_retries=most)),
            connection_errors=(),
            ensure_connected=ensure_connected,
            on_connection_error_before_connected=None,
            on_connection_error_after_connected=None,
        )
        change(consumer)
        with pytest.raises(OperationalError):
            consumer.ensure_connected(connection)
    return waited


def test_a_broker_that_is_lost_is_soon_tried_again(monkeypatch):
    """Several times in the first seconds, and every two seconds then."""
    waited = waits(monkeypatch, None, 60, refusing.wait_for_writes)

    assert [0.25, 0.75, 1.25, 1.75] == waited[:4]
    assert {2.0} == set(waited[4:])


def test_a_connection_that_is_lost_at_once_is_made_again_after_a_second(monkeypatch):
    """Also where nothing is noted, as other commands are taken: of the fifth in a second Celery logs a trace."""
    now_s = 100.0
    waited: list[float] = []
    monkeypatch.setattr(refusing, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=waited.append))
    connection = SimpleNamespace(transport=SimpleNamespace(driver_type="amqp"))
    consumer = SimpleNamespace(
        app=SimpleNamespace(conf=SimpleNamespace(broker_connection_max_retries=100)),
        connection_errors=(),
        ensure_connected=lambda one: one,
        on_connection_error_before_connected=None,
        on_connection_error_after_connected=None,
    )
    refusing.wait_for_writes(consumer)

    def waits_after(seconds: float) -> list[float]:
        nonlocal now_s
        now_s += seconds
        waited.clear()
        assert connection is consumer.ensure_connected(connection)
        return [*waited]

    assert [] == waits_after(0)
    assert [refusing.TRY_EVERY_S] == waits_after(0.25)
    assert [refusing.TRY_EVERY_S] == waits_after(0.25)
    assert [] == waits_after(60)


@pytest.mark.parametrize("most", [0, 1, 10, 20, 100])
def test_where_tries_are_counted_a_worker_gives_up_no_sooner_than_celery(monkeypatch, most):
    """Celery waits for 2, 4, 6 s and so on: tries that come sooner would be used up sooner."""
    celery = waits(monkeypatch, most, most, change=lambda _: None)

    assert most == len(celery)
    assert sum(celery) <= sum(waits(monkeypatch, most, most, refusing.wait_for_writes))
