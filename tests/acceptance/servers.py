"""Web processes of a test's own, on the servers of a running system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.acceptance.conftest import CONFIG, LIMITS, ROOT, System
from tests.described import client_of
from tests.waiting import wait_until
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

RUN_WEB = ("-m", "writebehind", "run", "web")


@dataclass(frozen=True)
class WebServer:
    """Where it listens, a client of it, and its process."""

    port: int
    http: httpx.Client
    process: psutil.Process

    def mebibytes(self) -> float:
        """The memory of its largest process."""
        return max(one.memory_info().rss for one in self._processes()) / (1 << 20)

    def peak_mebibytes(self) -> float:
        """The most that the memory of one of its processes has been since `forget_peaks`, on Linux."""
        said = (Path(f"/proc/{one.pid}/status").read_text() for one in self._processes())
        return max(int(one.partition("VmHWM:")[2].split()[0]) for one in said) / (1 << 10)

    def forget_peaks(self) -> None:
        """Let peaks begin with what there is."""
        for one in self._processes():
            Path(f"/proc/{one.pid}/clear_refs").write_text("5")

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def _is_ready(http: httpx.Client) -> bool:
    return http.get("/readyz").status_code == 200


@contextmanager
def web_server(system: System, command: Sequence[str] = RUN_WEB, **env: str) -> Iterator[WebServer]:
    """Serve with `python <command>`, in which {port} is the port, until the end of the block."""
    port = free_port()
    environment = {
        **os.environ,
        **CONFIG,
        **system.servers,
        "WRITEBEHIND_PORT": str(port),
        **env,
    }
    words = [sys.executable, *(word.format(port=port) for word in command)]
    leader = subprocess.Popen(bound_to_parent(words), cwd=ROOT, env=environment, start_new_session=True)
    server = Group(leader)
    try:
        with client_of(f"http://127.0.0.1:{port}", timeout=30, limits=LIMITS) as http:
            wait_until(lambda: leader.poll() is not None or _is_ready(http), "a web process", 60)
            assert leader.poll() is None, f"it has ended with {leader.returncode}, for which see its last line"
            yield WebServer(port, http, psutil.Process(leader.pid))
    finally:
        end([server])
