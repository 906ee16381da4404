"""Messages as workers take them from the broker, where other hands may have changed them.

Celery ends a worker for some of what it cannot read, and gives the message to the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default

from writebehind.celery.delays import DELAY
from writebehind.celery.sieve import drop
from writebehind.settings.bounds import LONGEST_S

#: The name of the strategy below, for the options of tasks.
STRATEGY: Final = "writebehind.celery.messages:checked"


def checked(task: Any, app: Celery, consumer: Any, **options: Any) -> Callable[..., Any]:
    """A task's strategy: Celery's own, of messages that it can read, with the time by this worker's clock."""
    handle: Callable[..., Any] = default(task, app, consumer, **options)

    def on_message(message: Any, *arguments: Any, **more: Any) -> Any:
        try:
            _check(task, message.payload)
            message.headers.update(_readable(message.headers))
        except Exception as error:  # noqa: BLE001 - whatever it is that cannot be read
            return drop(consumer, message, error)
        return handle(message, *arguments, **more)

    return on_message


def _check(task: Any, payload: Any) -> None:
    """Refuse what is no arguments of the task, and other tasks that would come after: none of ours has any."""
    arguments, named, embedded = payload
    if not (isinstance(payload, list) and isinstance(arguments, list) and isinstance(named, dict)):
        raise InvalidTaskError("no arguments")
    if any(embedded.values()):
        raise InvalidTaskError("tasks that come after it")
    task.__header__(*arguments, **named)  # which raises TypeError


def _readable(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers that Celery or we count on; a number that is none counts as 0."""
    if not isinstance(headers["id"], str):
        raise InvalidTaskError("its id is no text")
    if expires := headers.get("expires"):
        datetime.fromisoformat(expires).astimezone(UTC)
    delay_ms = _count(headers.get(DELAY))
    waits = 0 < delay_ms <= LONGEST_S * 1000
    return {
        "retries": _count(headers.get("retries")),
        **dict.fromkeys(("timelimit", "stamps", "stamped_headers")),  # ours have none
        "expires": expires or None,
        "eta": (datetime.now(UTC) + timedelta(milliseconds=delay_ms)).isoformat() if waits else None,
    }


def _count(value: object) -> int:
    return max(value, 0) if type(value) is int else 0
