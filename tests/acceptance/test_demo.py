"""`writebehind demo` as it is run: the whole system, real data, and a comparison that finds what is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import httpx
import psutil
import pytest

from tests.tiers import long
from tests.waiting import wait_until
from writebehind.local.supervisor import bound_to_parent

pytestmark = pytest.mark.acceptance

DEMO = (sys.executable, "-m", "writebehind", "demo")
#: Longer than what waits for MongoDB, seconds.
OUTLASTS_S = 8.0
#: Changes one document in MongoDB after everything is persisted, and before the comparison.
TAMPER = """
from bson import Int64
from writebehind.cli import main
from writebehind.demo import run

stored_documents = run.stored_documents

def tampered(client, database):
    one = {"name": {"$exists": True}, "_v": {"$gt": Int64(0)}}
    changed = client[database].cities.update_one(one, {"$set": {"name": "Atlantis"}})
    assert changed.modified_count == 1
    return stored_documents(client, database)

run.stored_documents = tampered
main()
"""


def test_mongodb_has_exactly_what_was_acknowledged():
    """The demo ends with 0, says what it did in one line of JSON, and leaves nothing pending."""
    ended = subprocess.run([*DEMO, "--documents", "100", "--json"], capture_output=True, text=True, check=False)

    assert 0 == ended.returncode, ended.stderr
    result = json.loads(ended.stdout)
    assert result["good"]
    assert (0, 0, 0) == (result["mismatches"], result["dead_letters"], result["pending"])
    assert result["documents"] > 90
    assert result["acknowledged_writes"] > result["mongodb_operations"] >= 100 - 10
    assert result["reads_checked"] > 0
    assert "the system is ready" in ended.stderr
    assert "this takes about 20 s; " in ended.stderr


@long
def test_a_document_changed_behind_its_back_fails_the_demo():
    """One changed document is one mismatch, which is named, and the exit status is 1."""
    command = [sys.executable, "-c", TAMPER, "demo", "--documents", "60", "--json"]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 1 == ended.returncode, ended.stderr
    result = json.loads(ended.stdout)
    assert 1 == result["mismatches"], result["first_mismatches"]
    (mismatch,) = result["first_mismatches"]
    assert "cities" == mismatch["collection"]
    assert "Atlantis" in mismatch["found"]


@long
def test_a_mongodb_that_stands_still_loses_nothing(tmp_path):
    """It does what it was sent when it goes on, and is sent some of it again: nothing is lost, or done twice."""
    command = bound_to_parent([*DEMO, "--documents", "3000", "--json", "--keep", str(tmp_path / "demo")])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = iter(process.stderr.readline, "")
        assert any("sending: " in line for line in said)
        told = json.loads((tmp_path / "demo" / "up.json").read_text())
        mongodb = psutil.Process(told["pids"]["mongodb"])

        def oldest_s() -> float:
            return httpx.get(f"{told['url']}/admin/status", timeout=30).json()["oldest_pending_seconds"]

        for _ in range(2):
            mongodb.suspend()
            wait_until(lambda: oldest_s() > OUTLASTS_S, "writes to wait", 60)
            mongodb.resume()
            wait_until(lambda: oldest_s() < OUTLASTS_S, "MongoDB to go on", 60)
        result, rest = process.communicate()

    assert 0 == process.returncode, result + rest


@long
def test_ctrl_c_leaves_nothing_behind(tmp_path):
    """An interrupted demo says so in one line, ends with 130, and every process that it started is gone."""
    state = tmp_path / "demo" / "up.json"
    command = bound_to_parent([*DEMO, "--documents", "20000", "--keep", str(state.parent)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "sending: " not in process.stdout.readline():
            pass
        children = [psutil.Process(pid) for pid in json.loads(state.read_text())["pids"].values()]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()

    assert 130 == process.returncode
    assert "writebehind: The demo was interrupted; everything it started is stopped.\n" == said
    wait_until(lambda: not any(child.is_running() for child in children), "the end of all processes")
