"""Access: whether anybody who reaches the API may do everything."""

from __future__ import annotations

import time
from collections.abc import Iterator

from writebehind.errors import RedisUnavailableError
from writebehind.operations.doctor.findings import Finding, failure, ok
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted

_CHECK = "access"
_MAKE = "make a key: `writebehind keys create NAME --allow admin`"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Users of the API, as the settings and the keys say it."""
    settings = pipeline.settings
    try:
        live = sum(one.is_live(time.time() * 1000) for one in pipeline.keyring.all().values())
        is_on = pipeline.keyring.is_on()
    except RedisUnavailableError as error:
        yield failure(_CHECK, f"nothing is known of API keys: {error}", "see to Redis first")
        return
    if is_on:
        live += bool(settings.root_key)
        found = f"{counted(live, 'live API key')}: nobody may do anything without one"
        yield ok(_CHECK, found) if live else failure(_CHECK, found, _MAKE)
    elif settings.insecure:
        found = f"WRITEBEHIND_INSECURE: everybody who reaches {settings.host} may do everything"
        yield failure(_CHECK, found, f"{_MAKE}, and set it no more")
    elif settings.is_open:
        yield ok(_CHECK, "there is no API key: everybody on this machine may do everything")
    else:
        found = f"there is no API key, and the API listens on {settings.host}: it does not start"
        yield failure(_CHECK, found, _MAKE)
