"""Repeat a write until it is answered: with one key it counts once, however often it was sent."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from time import monotonic, sleep, time
from typing import Any, TypeVar
from uuid import uuid4

from writebehind.errors import ConflictError, ForeignRedisError, PipelineClosedError, UnavailableError

T = TypeVar("T")

#: Statuses after which the same request may be answered; after 409 only with Retry-After, as most of them stay.
_IN_FLIGHT, _LATER = 409, frozenset({429, 500, 502, 503, 504})
#: Errors of the library that no later call gets past.
_LASTING = (ForeignRedisError, PipelineClosedError)
#: The first pause and the longest, seconds, where the server does not say when to come again.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


def until_answered(
    call: Callable[[str], T],
    *,
    key: str | None = None,
    within_s: float = 60.0,
    repeat_on: tuple[type[Exception], ...] = (),
) -> T:
    """Call `call(key)`, each time with the same key, until it is answered; return its answer.

    The call sends one write that has the key, with the library or by HTTP:

        until_answered(lambda key: users.increment("ada", {"visits": 1}, key=key))
        until_answered(lambda key: http.post(path, json={"visits": 1}, headers={"Idempotency-Key": key}))

    It is repeated after errors that pass, or do not say whether the write has happened: `UnavailableError` and
    `ConflictError` of the library, `ConnectionError`, `TimeoutError`, and `httpx.TransportError`. An answer of
    HTTP, which is anything with `status_code` and `headers`, counts as none if it is 429, 500, 502, 503 or 504,
    or 409 with `Retry-After`. Pauses double from 50 ms to 5 s, last up to twice as long at random, and are no
    shorter than the server asks for.

    Args:
        call: sends the write. Whatever else it does is repeated too.
        key: idempotency key; a new UUID without it. Who keeps it may go on after a crash.
        within_s: seconds after which no call begins. Each call needs a time limit of its own.
        repeat_on: more errors to repeat on, such as `requests.ConnectionError`.

    Returns:
        The first answer that counts, be it a refusal; when the time is over, the last one that does not.

    Raises:
        Exception: whatever `call` raises that is none of these errors; and the last of these when time is over.
            Then the write may have happened: go on with the same key, or ask for its receipt.
    """
    key = key or str(uuid4())
    until, pause_s = monotonic() + within_s, _FIRST_PAUSE_S
    while True:
        # Those who were refused together do not come again together.
        jitter_s = random.uniform(0, pause_s)  # noqa: S311 - nobody gains by guessing it
        try:
            answer = call(key)
        except (*_passing(), *repeat_on) as error:
            wait_s = max(pause_s, getattr(error, "retry_after_s", None) or 0.0) + jitter_s
            if isinstance(error, _LASTING) or monotonic() + wait_s > until:
                raise
        else:
            asked_s = _asked_by(answer)
            wait_s = max(pause_s, asked_s or 0.0) + jitter_s
            if asked_s is None or monotonic() + wait_s > until:
                return answer
        sleep(wait_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def _passing() -> tuple[type[Exception], ...]:
    """Errors after which the same call makes sense: of httpx too, where somebody has imported it."""
    httpx = sys.modules.get("httpx")
    of_httpx = (httpx.TransportError,) if httpx else ()
    return (UnavailableError, ConflictError, ConnectionError, TimeoutError, *of_httpx)


def _asked_by(answer: Any) -> float | None:
    """Seconds that the server asks to wait, at least; `None` of an answer that stands."""
    status = getattr(answer, "status_code", None)
    if status not in _LATER and status != _IN_FLIGHT:
        return None
    given = answer.headers.get("Retry-After")
    if given is None:
        return None if status == _IN_FLIGHT else 0.0
    return _seconds(given)


def _seconds(given: str) -> float:
    """The value of Retry-After: seconds or a date (RFC 9110, 10.2.3); 0 for what is neither."""
    try:
        seconds = float(given) if given.isdecimal() else parsedate_to_datetime(given).timestamp() - time()
    except (ValueError, OverflowError):
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
