"""The API of the system that runs in this directory: whether each of its web processes answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from writebehind.operations.doctor.findings import Finding, failure, ok
from writebehind.operations.probing import requests_to_all, silences_of_api
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.process_identity import stopped_of
from writebehind.settings.running import DATA_DIR, state_of

#: How long an answer is waited for, seconds.
PATIENCE_S: Final = 2.0


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """It answers. Of an API elsewhere the address is not known: a probe of `/healthz` is for whoever runs it."""
    state = state_of(Path(DATA_DIR).absolute())
    if state is None or not state.get("url") or state["redis_url"] != pipeline.settings.redis_url:
        return
    settings, place = pipeline.settings, urlsplit(str(state["url"]))
    silent = silences_of_api(settings, place.hostname or "", place.port or settings.port, timeout_s=PATIENCE_S)
    if not silent:
        yield ok("api", f"{place.geturl()} answers")
        return
    pid = (state.get("pids") or {}).get("web")
    stopped = stopped_of(pid) if isinstance(pid, int) else []
    asked = counted(requests_to_all(settings), "request")
    found = f"{place.geturl()} leaves {len(silent)} of {asked} without an answer"
    if stopped:
        named = ", ".join(map(str, stopped))
        advice = f"`kill -CONT {' '.join(map(str, stopped))}` lets it go on; `kill -KILL` has `up` start it anew"
        yield failure("api", f"{found}: process {named} is stopped", advice)
    else:
        advice = "look at the log of web; `kill -KILL` of a process that is stuck has `up` start it anew"
        yield failure("api", f"{found}: {silent[0]}", advice)
