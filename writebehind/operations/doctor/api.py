"""The system that runs in this directory: whether each of its web processes answers, and `up` is at work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from writebehind.operations.doctor.findings import PATIENCE_S, Finding, of, ok
from writebehind.operations.running_here import remedies_here, system_here
from writebehind.pipeline import Pipeline
from writebehind.settings.running import DATA_DIR


def check(pipeline: Pipeline, data_dir: Path | None = None) -> Iterator[Finding]:
    """It answers. Of an API elsewhere the address is not known: a probe of `/healthz` is for whoever runs it.

    Args:
        pipeline: of the installation.
        data_dir: where that system has its data; `.writebehind` here by default.
    """
    state = system_here(pipeline.settings, data_dir or Path(DATA_DIR).absolute())
    if state is None:
        return
    found = [of(one) for one in remedies_here(pipeline.settings, state, timeout_s=PATIENCE_S)]
    yield from found
    if state.get("url") and not any(one.check == "api" for one in found):
        yield ok("api", f"{urlsplit(str(state['url'])).geturl()} answers")
