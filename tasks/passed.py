"""Settings that an installation passes to Celery: of its workers and connections, none that tasks depend on."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from celery.app.defaults import NAMESPACES, flatten

from writebehind.errors import ConfigurationError

#: Celery's settings, by the names that Celery documents; each knows the values that it can have.
_KNOWN: Final[dict[str, Any]] = dict(flatten(NAMESPACES))
#: Where messages go, how they are written, and when: web processes publish without them.
_FIXED: Final = frozenset(
    (
        "accept_content",
        "beat_schedule",
        "beat_scheduler",
        "broker_read_url",
        "broker_url",
        "broker_use_ssl",
        "broker_write_url",
        "imports",
        "include",
        "worker_consumer",
        "worker_hijack_root_logger",
        "worker_redirect_stdouts",
    )
)
#: Settings of tasks that change no promise; what else there is of them does.
_OF_TASKS: Final = frozenset(("task_send_sent_event", "task_track_started"))
#: The types that a value has in TOML and JSON, by what Celery calls them.
_KINDS: Final[dict[str, set[type]]] = {
    "bool": {bool},
    "int": {int},
    "float": {int, float},
    "str": {str},
    "string": {str},
    "dict": {dict},
    "list": {list},
    "tuple": {list},
}


def passed(given: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a worker or of beat: what is given, over what is ours.

    Options of the broker's transport are taken one by one, as most of ours stay.

    Args:
        given: settings by the names that Celery documents, such as `worker_prefetch_multiplier`.
        ours: the configuration without them.

    Raises:
        ConfigurationError: Celery has no such setting, or none with such a value; or writebehind depends on it.
    """
    found = dict(ours)
    for name, value in given.items():
        if name not in _KNOWN:
            near = get_close_matches(name.lower(), _KNOWN, 1)
            hint = f": do you mean {near[0]}?" if near else ", see its documentation for their names"
            raise ConfigurationError(f"celery.{name}: Celery has no such setting{hint}")
        if name in _FIXED or (name.startswith("task_") and name not in _OF_TASKS):
            raise ConfigurationError(f"celery.{name}: flush tasks depend on it: leave it out")
        found[name] = _checked(name, value)
        if name == "broker_transport_options":
            found[name] = ours.get(name, {}) | found[name]
    return found


def _checked(name: str, value: Any) -> Any:
    """A value that the setting can have."""
    kind = str(getattr(_KNOWN[name].type, "__name__", _KNOWN[name].type))
    if value is None and _KNOWN[name].default is None:
        return value
    if kind in _KINDS and type(value) not in _KINDS[kind]:
        raise ConfigurationError(f"celery.{name}: needs a {kind}, and not {type(value).__name__}")
    if type(value) in {int, float} and not value >= 0:
        raise ConfigurationError(f"celery.{name}: must not be below 0")
    return value
