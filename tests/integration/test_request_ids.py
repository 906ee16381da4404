"""Every 500 of a server is in its log by the request id that its answer has, whatever the server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.waiting import wait_until
from writebehind.access.keys import Token, new_id
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

ROOT = Path(__file__).parents[2]
#: The service with a fault that nobody foresaw, in a module from which each server can take it.
FAILING = """
from web.__main__ import main
from web.app import create_app
from writebehind.reading.reader import Reader

def fail(*_, **__):
    raise ZeroDivisionError("nobody foresaw it")

Reader.get_or_bypass = fail

if __name__ == "__main__":
    main()
"""
SERVERS = {
    "granian": ["{module}"],
    "gunicorn": [
        "-m",
        "gunicorn",
        "--preload",
        "--workers",
        "2",
        "--bind",
        "127.0.0.1:{port}",
        "failing:create_app()",
    ],
}


@pytest.mark.parametrize("server", SERVERS)
def test_every_500_is_in_the_log(server, tmp_path):
    """Each by its own id, a client's or a new one, with the error."""
    module, log_file, port = tmp_path / "failing.py", tmp_path / "log", free_port()
    module.write_text(FAILING)
    env = os.environ | {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "MONGODB_URL": "mongodb://127.0.0.1:2/",
        "WRITEBEHIND_PORT": str(port),
        "WRITEBEHIND_WEB_WORKERS": "2",
        "WRITEBEHIND_ALLOW_UNLISTED": "true",
        "WRITEBEHIND_ROOT_KEY": (
            key := Token.new(new_id()).text
        ),  # or all is refused until Redis was asked for keys
    }
    command = [sys.executable, *(word.format(module=module, port=port) for word in SERVERS[server])]
    with log_file.open("wb") as log:
        leader = subprocess.Popen(
            bound_to_parent(command), cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:
            http.headers["Authorization"] = f"Bearer {key}"
            wait_until(lambda: http.get("/healthz").status_code == 200, "the server", 30)
            answers = [
                http.get("/v1/users/ada", headers={"X-Request-Id": f"of-ada-{n}"} if n % 2 else {})
                for n in range(8)
            ]
        assert {500} == {one.status_code for one in answers}
        ids = [one.json()["request_id"] for one in answers]
        assert ids == [one.headers["X-Request-Id"] for one in answers]
        assert 8 == len(set(ids))
        wait_until(lambda: log_file.read_text().count("ZeroDivisionError: nobody foresaw it") == 8, "the errors")
        said = log_file.read_text()
        assert dict.fromkeys(ids, 1) == {one: said.count(f"GET /v1/users/ada [{one}] failed") for one in ids}
    finally:
        end([Group(leader)])
