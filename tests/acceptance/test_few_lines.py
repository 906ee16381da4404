"""Lines that all processes log when a server ends and begins again, or hangs, while clients write and read.

With two web processes and two workers that flush, so one process of each kind more than `writebehind up` starts.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import System, start
from tests.acceptance.variants import own_server
from tests.load import Client, Writes
from tests.servers import freeze, resume
from tests.tiers import long
from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, EmbeddedServer
from writebehind.local.procfile import default_procfile
from writebehind.outage_log import QUIET_S

#: So many lines are told at most, over all processes.
MOST_LINES = 14
#: How long a server hangs, seconds: longer than it is waited for.
HANGS_S = {"redis": 5, "mongodb": 10}
#: Lines that say how an outage ends, and that count what failed meanwhile.
OVER = {"redis_back", "breaker_closed"}

pytestmark = pytest.mark.acceptance


class Misses(Client):
    """Reads what nobody has cached, each time over a new connection, so that each web process is asked."""

    def ask(self, http: httpx.Client, turn: int) -> None:  # noqa: ARG002 - it has one connection
        for path in (f"/v1/users/none-{turn}", "/v1/users/queries/in_city?city=London"):
            httpx.get(self._url + path, timeout=30, trust_env=False)


@dataclass(frozen=True)
class Running:
    """The system on servers that only the test ends."""

    system: System
    servers: dict[str, EmbeddedServer]

    def lines(self) -> list[dict[str, Any]]:
        files = [one for one in (self.system.stack.data_dir / "log").glob("*.log") if one.stem not in self.servers]
        return [json.loads(line) for one in files for line in one.read_text().splitlines()]

    def lines_since(self, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in self.lines() if one not in before]


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    directory: Path = tmp_path_factory.mktemp("few")
    procfile = default_procfile().read_text()
    [worker] = [one for one in procfile.splitlines() if one.startswith("worker: ")]
    (directory / "system").mkdir()
    (directory / "Procfile").write_text(f"{procfile}\n{worker.replace('worker: ', 'second: ', 1)}\n")
    with (
        EmbeddedRedis(directory, appendfsync="always") as redis,
        EmbeddedMongo(directory) as mongo,
        ExitStack() as stack,
    ):
        env = {"REDIS_URL": redis.url, "MONGODB_URL": mongo.url, "WRITEBEHIND_WEB_WORKERS": "2"}
        env["WRITEBEHIND_LOG_FORMAT"] = "json"
        started = stack.enter_context(start(directory / "system", procfile=directory / "Procfile", **env))
        system = stack.enter_context(System(started))
        wait_until(lambda: system.status()["workers"] == 3, "all workers", 60)
        yield Running(system, {"redis": redis, "mongodb": mongo})


def told_over(lines: list[dict[str, Any]]) -> set[str]:
    """Processes that told the end of an outage."""
    return {one["process"] for one in lines if one.get("event") in OVER}


def away(server: EmbeddedServer, how: str) -> None:
    """Have a server away for a while, in one of three ways."""
    if how == "hangs":
        freeze(server)
        pause(HANGS_S[server.name])
        resume(server)
        return
    server.stop() if how == "ends" else server.kill()
    pause(2)
    server.start()


def pause(seconds: float) -> None:
    """Let clients and processes go on meanwhile."""
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= over, "a while to be over", seconds + 1)


@own_server
@long
@pytest.mark.parametrize("how", ["ends", "is killed", "hangs"])
@pytest.mark.parametrize("which", ["redis", "mongodb"])
def test_an_outage_is_told_in_few_lines(running, which, how):
    """A line by each process whose work it holds up, and one when it is over, which says what it has cost."""
    system, before = running.system, running.lines()
    ids = [f"{which}-{how.replace(' ', '-')}-{n}" for n in range(50)]
    writes, misses = Writes(system.stack.url, "users", ids, 0.05, system.fill), Misses(system.stack.url, 0.05)
    with writes, misses:
        wait_until(lambda: writes.count > 20, "the writes to begin")
        away(running.servers[which], how)
        system.wait_until_ready(60)
        wait_until(lambda: system.http.get("/v1/users/none").status_code == 404, "MongoDB to be asked", 60)
        # Either of the two may be the one that met the outage: both are asked until one tells its end.
        wait_until(lambda: "web" in told_over(running.lines_since(before)), "a web process to tell the end", 60)
    system.wait_until_drained(60)
    pause(QUIET_S + 5)  # in which outages are told to be over

    new = running.lines_since(before)
    events = Counter(one.get("event", one["message"]) for one in new)
    assert len(new) <= MOST_LINES, [(one["process"], one["message"]) for one in new]
    began = "redis_lost" if which == "redis" else "breaker_opened"
    processes = {one["process"] for one in new if one.get("event") == began}
    assert "web" in processes, events  # others only if they asked meanwhile
    assert "web" in told_over(new), events  # others once they ask again, which may be after the end of this test
    assert all(one["count"] >= 0 for one in new if one.get("event") in OVER)
    if which == "redis" or how == "hangs":  # one of MongoDB's may be so short that no call meets it
        assert sum(one["count"] for one in new if one.get("event") in OVER) > 0
