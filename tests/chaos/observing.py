"""An observer of the chaos: whatever happens, it must see nothing that is wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.chaos.faults import SETTINGS, System
from writebehind import Pipeline, load_settings
from writebehind.consistency import tally

#: Collections, as the settings of the processes have them, in variables.
_OF_COLLECTION = "WRITEBEHIND_COLLECTIONS__"
#: More than the settings have, so that much is looked at in a short run.
CPU_PERCENT = 10


@contextmanager
def observed(system: System) -> Iterator[dict[str, Any]]:
    """Observe within it; what was seen is there at the end, as `tally.figures` tells it."""
    seen: dict[str, Any] = {}
    stop = threading.Event()
    settings = load_settings(
        redis_url=system.redis.url,
        mongodb_url=f"{system.mongo.url}",
        mongodb_database=system.stack.mongodb_database,
        redis_timeout_ms=1_000,
        confirm_timeout_ms=500,
        mongodb_timeout_ms=1_500,
        hot_samples=0,
        consistency_cpu_percent=CPU_PERCENT,
        collections=_collections(),
    )
    with Pipeline(settings) as pipeline:
        observer = pipeline.observer()
        thread = threading.Thread(target=observer.run, args=(stop,))
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive()
        seen |= tally.figures(observer.tally.total)
        seen["inconsistent"] = tally.recorded(pipeline.store)["inconsistent"]


def _collections() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"counters": {}, "foreign": {}}
    for name, value in SETTINGS.items():
        if name.startswith(_OF_COLLECTION):
            collection, setting, *field = name.removeprefix(_OF_COLLECTION).split("__")
            if field:
                found.setdefault(collection, {}).setdefault(setting, {})[field[0]] = value
            else:
                found.setdefault(collection, {})[setting] = value
    return found
