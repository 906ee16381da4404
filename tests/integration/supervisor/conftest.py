"""Processes are kept running, and none is left behind: the supervisor, and `writebehind up` around it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from writebehind.local.stack import Stack

STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"


#: Servers that do not answer, for tests that need none.
NOBODY = {"REDIS_URL": "redis://127.0.0.1:1/0", "MONGODB_URL": "mongodb://127.0.0.1:2/"}


#: Stands in for the API: answers 200 to everything on the port that `up` chose.
WEB = """
import http.server, os
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["WRITEBEHIND_PORT"])), Ok).serve_forever()
"""


@pytest.fixture
def procfile(tmp_path):
    return _write_procfile(tmp_path)


@pytest.fixture
def stack(tmp_path, procfile):
    with Stack(tmp_path / "data", cwd=tmp_path, env=NOBODY, arguments=("--procfile", str(procfile))) as stack:
        yield stack


def _write_procfile(directory: Path) -> Path:
    (directory / "stub.py").write_text(WEB)
    path = directory / "Procfile"
    path.write_text("web: exec python stub.py\nother: exec sleep 60\n")
    return path


def _up(cwd, *arguments, **variables):
    command = [sys.executable, "-m", "writebehind", "up", *arguments]
    env = os.environ | variables
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=30, check=False)


def _is_over(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
