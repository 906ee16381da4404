"""A broker on Redis that answers, and refuses: its disk or its memory is full, or it is a replica by now.

Celery takes such an answer for a fault of the program: its worker ends, and so does the next one. Here it is what
a lost connection is: the worker stays, says so once, and goes on when Redis takes writes again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from celery.worker.state import maybe_shutdown
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, OutOfMemoryError, ResponseError

from writebehind.celery.names import PING
from writebehind.errors import told
from writebehind.logs.states import StateLog
from writebehind.redis.refusals import OF_PIPELINE, is_refused_for_now

log = logging.getLogger(__name__)

#: Between two tries whether it takes writes, seconds.
TRY_EVERY_S: Final = 1.0
#: Between two tries to connect: how much longer each time, and at most, seconds.
STEP_S, SOON_S = 0.5, 2.0
#: No key: `SET` with `XX` writes it never, and is refused as what does write. The least rights of
#: `writebehind.operations.acl` have its name.
PROBE: Final = f"{PING}.probe"
#: So many characters are told of what Redis says.
_SHOWN: Final = 120
_ADVICE: Final = (
    "nothing that is acknowledged is lost, and waits: see that Redis has room on its disk and in its memory, is a "
    "primary, and that ACL LOG names nothing"
)
_ADVICE_ALONE: Final = (
    "nothing that is acknowledged is lost, and waits: see that its replicas run and reach it, as it takes no "
    "writes without `min-replicas-to-write` of them"
)
#: Only flushes make room where documents that wait have filled it, and a worker that starts cannot have any then.
_ADVICE_FULL: Final = (
    "nothing that is acknowledged is lost, and waits: give Redis more memory; where documents that wait have "
    "filled it, `writebehind drain` makes room without a broker"
)

#: Whether the broker refuses; one for the process, as all its connections lead to it.
refusing: Final = StateLog(log, "broker_refuses", "broker_serves")


class BrokerRefusesError(RedisConnectionError):
    """The broker has refused a command. For kombu and Celery it is a connection that is lost."""


def refusal(error: BaseException | None) -> BaseException | None:
    """Answer of Redis that refuses for now, also where kombu has made an error of its own of it; or `None`."""
    while error is not None:
        if is_refused_for_now(error):
            return error
        error = error.__cause__ if isinstance(error, OperationalError) else None
    return None


def is_noted(error: BaseException | None) -> bool:
    """Note that the broker refuses, if an error says so; whether it does."""
    answer = refusal(error)
    if answer is not None:
        said = told(answer).rpartition(OF_PIPELINE)[2]
        advice = _ADVICE_FULL if isinstance(answer, OutOfMemoryError) else _ADVICE
        advice = _ADVICE_ALONE if said.startswith("NOREPLICAS") else advice
        refusing.begin(f"the broker refuses commands: {_shortened(said)}; {advice}")
    return answer is not None or isinstance(error, BrokerRefusesError)


def _shortened(said: str) -> str:
    """Words of Redis without its explanations of several sentences."""
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN].rstrip()} …"


def is_full(error: ResponseError) -> bool:
    """Whether Redis refuses only what needs memory, which is noted."""
    return isinstance(error, OutOfMemoryError) and is_noted(error)


def lost(error: ResponseError) -> Exception:
    """The error to raise in the place of an answer: a lost connection, where the broker refuses for now."""
    return BrokerRefusesError(told(error)) if is_noted(error) else error


def wait_for_writes(consumer: Any) -> None:
    """Have a worker's consumer wait, after each connection, until the broker takes writes.

    One that is lost within a second is made again after one: Celery logs a trace of the fifth in a second.

    What Redis refuses for now is a lost connection to it. What it refuses for good ends the worker, as faults do.
    """
    ensure_connected = consumer.ensure_connected
    served_at = -math.inf
    consumer.connection_errors = (*consumer.connection_errors, ResponseError)
    for name in ("on_connection_error_before_connected", "on_connection_error_after_connected"):
        setattr(consumer, name, partial(_see_lost, getattr(consumer, name)))

    def ensure_served(connection: Any) -> Any:
        nonlocal served_at
        # It may be one command only that is refused, and met at once: others are taken, which ends what is noted.
        if refusing.lasts or time.monotonic() - served_at < TRY_EVERY_S:
            time.sleep(TRY_EVERY_S)
        if consumer.app.conf.broker_connection_max_retries is None:  # else the worker would give up sooner
            _try_soon(connection)
        connection = ensure_connected(connection)
        if connection.transport.driver_type == "redis":
            while not _is_writable(connection.default_channel):
                maybe_shutdown()
                time.sleep(TRY_EVERY_S)
        served_at = time.monotonic()
        return connection

    consumer.ensure_connected = ensure_served


def _try_soon(connection: Any) -> None:
    """Have a connection be tried sooner than by Celery, which waits for 2 s after the first try, then for 4 s."""
    connection.ensure_connection = partial(
        connection.ensure_connection, interval_start=STEP_S / 2, interval_step=STEP_S, interval_max=SOON_S
    )


def _see_lost(handle: Callable[[Exception], Any], error: Exception) -> None:
    if isinstance(error, ResponseError) and not is_noted(error):
        raise error
    handle(error)


def see(channel: Any) -> bool:
    """Note that the broker refuses no longer, where it takes a write; whether it does not refuse.

    To be called where it has answered. Raises as the transport does where it is away.
    """
    if refusing.lasts and _is_writable(channel):
        is_over()
    return not refusing.lasts


def is_over() -> None:
    """Note that the broker has taken a command, if it refused before."""
    if refusing.lasts:
        refusing.end("the broker takes commands again")


def _is_writable(channel: Any) -> bool:
    """Whether Redis takes writes. Raises as the transport does where it is away."""
    try:
        with channel.conn_or_acquire() as client:
            client.set(PROBE, "", xx=True)
    except NoPermissionError:
        return True  # it is about this key: what the worker itself is refused decides
    except ResponseError as error:
        if not is_noted(error):
            raise
        return False
    return True
