"""Clients that go on while an operator changes the system, and the command that changes it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.acceptance.conftest import CONFIG, ROOT
from writebehind.local.supervisor import bound_to_parent


class Stopping:
    """Something that goes on until it is told to stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()


@contextmanager
def stopping(load: Stopping) -> Iterator[None]:
    """Within it the clients go on; also after a failure they end."""
    try:
        yield
    finally:
        load.stop.set()


def beside(servers: Mapping[str, str], *command: str) -> subprocess.Popen[str]:
    """Start a command of ours beside the system on these servers."""
    return subprocess.Popen(
        bound_to_parent([sys.executable, "-m", "writebehind", *command]),
        cwd=ROOT,
        env={**os.environ, **CONFIG, **servers},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
