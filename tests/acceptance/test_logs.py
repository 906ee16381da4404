"""Logs of the whole system as JSON: each line of each process is one object, also in outages and at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import CONFIG, ROOT, System, start
from tests.acceptance.variants import VARIANT, own_server
from tests.servers import GuardedRedis
from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedMongo

pytestmark = pytest.mark.acceptance

#: Ids that would forge lines.
IDS = ["a%0Ab", "a%E2%80%A8b", "a%1B%5B2Kb", "a%C2%85b", "a%00b", "%7B%22level%22:%22info%22%7D%0A"]
#: Processes whose lines another program writes in its own format, or nobody's.
SERVERS = {"redis", "mongodb"}
EVENTS = (ROOT / "docs" / "logs.md").read_text().partition("## Events")[2]
JSON = {
    "WRITEBEHIND_LOG_FORMAT": "json",
    "WRITEBEHIND_ACCESS_LOG": "true",
    "WRITEBEHIND_MONGODB_TIMEOUT_MS": "1000",
}

#: Commands of operators that ask Redis for more than the processes do.
COMMANDS = [("doctor", "--json"), ("drain",), ("reconcile", "--all")]


def run(servers: dict[str, str], *words: str) -> str:
    """What a command says of the system's servers."""
    command = [sys.executable, "-P", "-m", "writebehind", *words]
    ended = subprocess.run(
        command, env={**os.environ, **CONFIG, **servers}, capture_output=True, text=True, check=False
    )
    return ended.stdout + ended.stderr


def lines(directory: Path) -> dict[str, list[str]]:
    """The lines of each process."""
    files = [one for one in (directory / "log").glob("*.log") if one.stem not in SERVERS]
    return {one.stem: one.read_text().splitlines() for one in files}


def records(directory: Path) -> list[dict[str, Any]]:
    """The lines of all processes, of which each is an object."""
    return [json.loads(line) for some in lines(directory).values() for line in some]


def events(directory: Path) -> dict[str, Counter[str]]:
    """How often each process has logged each event, besides requests."""
    found: dict[str, Counter[str]] = {}
    for one in records(directory):
        if one.get("event", "request") != "request":
            found.setdefault(one["process"], Counter())[one["event"]] += 1
    return found


def have(directory: Path, event: str) -> bool:
    """Whether both workers have logged an event."""
    return all(event in events(directory)[one] for one in ("worker", "maintenance"))


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, Any]:
    """The system that had an outage of each server, stopped by now: where its logs are, and what was answered."""
    directory = tmp_path_factory.mktemp("logs")
    (directory / "system").mkdir()
    answers: dict[str, Any] = {}
    with GuardedRedis(directory, appendfsync="always") as redis, EmbeddedMongo(directory) as mongo:
        urls = {"REDIS_URL": redis.guarded_url, "MONGODB_URL": mongo.url}
        with start(directory / "system", **urls, **JSON) as stack, System(stack) as system:
            data = stack.data_dir
            system.wait_for_workers()
            answers["begun"] = sum(map(len, events(data).values()))
            for one in IDS:
                system.http.put(f"/v1/users/{one}", json={"n": 1, "s": "\u2028\n{}\x85"})
            answers["put"] = system.http.put("/v1/users/ada", json={"n": 1}, headers={"X-Request-Id": "mine"})
            answers["missing"] = system.http.get("/v1/users/nobody")
            system.wait_until_drained()

            web = psutil.Process(stack.pids()["web"])
            killed = web.children(recursive=True)[-1]
            answers["killed"] = killed.pid
            for one in (killed, psutil.Process(stack.pids()["beat"])):
                one.kill()  # which the web server and the supervisor tell
            wait_until(lambda: system.http.get("/readyz").status_code == 200, "the API to go on")
            wait_until(lambda: events(data)["beat"]["started"] == 2, "beat to be back")
            answers["commands"] = [run(system.servers, *words) for words in COMMANDS]
            answers["refused"] = redis.refused()
            before = events(data)
            redis.kill()
            wait_until(lambda: system.http.get("/readyz").status_code == 503, "the API to see it")
            wait_until(lambda: have(data, "redis_lost"), "workers to see it")
            assert 503 == system.http.put("/v1/users/away", json={}).status_code
            redis.start()
            wait_until(lambda: have(data, "redis_back"), "workers to see it")
            system.wait_until_ready()
            system.wait_for_workers()
            after = events(data)
            answers["restart"] = {name: some - before.get(name, Counter()) for name, some in after.items()}
            answers["restart_lines"] = sum(some.total() for some in answers["restart"].values())

            mongo.kill()
            statuses = [system.http.get(f"/v1/users/none-{n}").status_code for n in range(4)]
            mongo.start()
            wait_until(lambda: system.http.get("/v1/users/none-9").status_code == 404, "MongoDB to be back")
            answers["statuses"] = statuses
            answers["refused"] += redis.refused()
    return {"directory": data, "answers": answers}


@pytest.mark.skipif("tls" in VARIANT, reason="the way through TLS names no user")
def test_its_user_of_redis_needs_no_more_than_it_says(told):
    """`doctor --acl` permits all that processes and commands do, also when Redis was restarted."""
    assert [] == told["answers"]["refused"]
    doctor, drained, reconciled = told["answers"]["commands"]
    assert '"check":"broker","level":"ok"' in doctor
    assert "refused" not in doctor
    assert "0 pending" in drained
    assert "keys looked at" in reconciled


def test_each_line_is_an_object(told):
    """Of its own process: none was made an object by the supervisor, but for the supervisor's own lines."""
    found = lines(told["directory"])
    if "preload" in VARIANT:  # which has another server, with a log of its own
        found.pop("web", None)
    else:
        assert "web" in found
    assert {"worker", "maintenance", "beat", "listen", "exporter", "flower", "system"} <= found.keys()
    for name, some in found.items():
        for line in some:
            one = json.loads(line)
            assert name in {one["process"], "up"}, line
            assert {"time", "level", "logger", "process", "pid", "message"} <= one.keys(), line
            assert "Traceback" not in one["message"]


def test_each_change_of_state_is_an_event(told):
    """Processes have started, one listens, Redis was lost and is back, and so was MongoDB."""
    found, answers = events(told["directory"]), told["answers"]
    for name in ("worker", "maintenance", "flower", "exporter"):
        assert 1 == found[name]["started"]
    assert 2 == found["beat"]["started"]  # one was killed
    documented = set(re.findall("`([a-z_-]+)`", "".join(re.findall(r"(?m)^\| (`[^|]+) \|", EVENTS))))
    assert set().union(*found.values()) <= documented
    assert found["listen"]["leader_taken"]
    for name in ("worker", "maintenance"):
        assert {"redis_lost": 1, "redis_back": 1}.items() <= answers["restart"][name].items()
        assert "outage_began" not in answers["restart"][name]  # which would say the same
    if "web" in found:  # else it is another server's
        assert {"redis_lost": 1, "redis_back": 1}.items() <= answers["restart"]["web"].items()
        assert "outage_began" not in answers["restart"]["web"]
        assert (1, 1) == (found["web"]["breaker_opened"], found["web"]["breaker_closed"])
    assert 503 in answers["statuses"]


@own_server
def test_a_web_process_that_was_killed_is_told_once(told):
    """Which one, and by which signal; nothing else says that it has ended."""
    of_web = [
        one for one in records(told["directory"]) if one["process"] == "web" and "granian" not in one["logger"]
    ]
    (one,) = (one for one in of_web if one.get("event") == "web_process_ended")
    assert (told["answers"]["killed"], -signal.SIGKILL) == (one["child"], one["exit_status"])
    assert "was ended by SIGKILL, and is started anew" in one["message"]
    assert "Unexpected exit" not in "".join(lines(told["directory"])["web"])


def test_a_restart_of_redis_is_told_in_few_lines(told):
    """Also where it is the broker as well, and as the start of all processes."""
    assert told["answers"]["restart_lines"] <= 12, told["answers"]["restart"]
    assert told["answers"]["begun"] < 15


def test_each_request_is_in_the_access_log(told):
    """By the id that its answer has, with what was answered."""
    requests = {one["request_id"]: one for one in records(told["directory"]) if one.get("event") == "request"}
    if not requests:
        pytest.skip("another server serves the API")
    put, missing = told["answers"]["put"], told["answers"]["missing"]
    one = requests["mine"]
    assert ("PUT", "/v1/users/ada", put.status_code) == (one["method"], one["path"], one["status"])
    assert (len(put.content), "127.0.0.1") == (one["bytes"], one["client"])
    assert 404 == requests[missing.headers["X-Request-Id"]]["status"]
    assert {f"/v1/users/{one}" for one in IDS} <= {one["path"] for one in requests.values()}
