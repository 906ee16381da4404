"""The examples of the library, as processes of their own on real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.acceptance.conftest import CONFIG, LIMITS, ROOT
from tests.integration.conftest import environment as servers_of
from tests.waiting import slowness, wait_until
from writebehind import connect
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.operations.drain import drain

EXAMPLES = ROOT / "examples"
CHANGED = {
    "_id": "example-ada",
    "name": "Ada Lovelace",
    "tags": ["poet"],
    "letters": 12,
    "address": {"city": "London"},
    "visits": 1,
}


@pytest.fixture
def environment(settings, valkey_wire) -> dict[str, str]:
    """What leads a process to empty servers."""
    return {
        **os.environ,
        **CONFIG,
        **servers_of(settings),
    }


def test_the_library_by_example(environment, mongo_client):
    """The script runs as it stands, says what the library answers, and leaves nothing behind."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "library.py"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert [
        "acknowledged: example-ada buffered",
        "read: {'_id': 'example-ada', 'name': 'Ada', 'tags': []}",
        "several: [{'_id': 'example-bob', 'name': 'Bob'}, None]",
        "visits: {'visits': 1}",
        f"changed: {CHANGED}",
        "counted: {'visits': 2}",
        "refused: somebody else was faster",
        "refused: a user needs a name",
        "deleted: ['example-ada', 'example-bob', 'example-grace']",
    ] == done.stdout.splitlines()
    assert "" == done.stderr
    assert 0 == mongo_client[environment["MONGODB_DATABASE"]]["users"].count_documents({})


@pytest.fixture
def fastapi(environment) -> Iterator[tuple[httpx.Client, subprocess.Popen]]:
    """The FastAPI application under uvicorn, and its process."""
    port = free_port()
    command = ["-m", "uvicorn", "app:app", "--app-dir", str(EXAMPLES / "fastapi_app"), "--port", str(port)]
    leader = subprocess.Popen(
        bound_to_parent([sys.executable, *command, "--log-level", "warning"]),
        env=environment,
        start_new_session=True,
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False, limits=LIMITS
        ) as client:
            wait_until(lambda: client.get("/openapi.json").status_code == 200, "uvicorn", 60)
            yield client, leader
    finally:
        end([Group(leader)])


def test_a_fastapi_application_reads_its_own_writes(fastapi, settings, mongo_client):
    """What the application acknowledges it reads at once, under load too; MongoDB has it once it is flushed."""
    client, leader = fastapi

    def write_and_read(n: int) -> bool:
        written = client.put(f"/users/u{n}", json={"name": f"User {n}", "tags": ["a"]}).raise_for_status().json()
        changed = client.patch(f"/users/u{n}", json={"tags": [str(n)]}).raise_for_status().json()
        read = client.get(f"/users/u{n}").json()
        return read == {"name": f"User {n}", "tags": [str(n)]} and changed["version"] > written["version"]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(write_and_read, range(100)))

    etag = client.get("/users/u1").headers["etag"]
    statuses = [
        client.put("/users/u1", json={"name": "One"}, headers={"If-Match": etag}).status_code,
        client.put("/users/u1", json={"name": "Two"}, headers={"If-Match": etag}).status_code,
        client.put("/users/u1", json={"name": ""}).status_code,
        client.put("/users/-%20-", json={"name": "a"}).status_code,
        client.patch("/users/nobody", json={"name": "a"}).status_code,
        client.delete("/users/u2").status_code,
        client.get("/users/u2").status_code,
    ]
    assert [200, 412, 422, 400, 404, 204, 404] == statuses

    with connect(settings.model_copy(update={"allow_unlisted": True})) as pipeline:
        assert 0 == drain(pipeline, timeout_s=30).pending
    stored = mongo_client[settings.mongodb_database]["users"]
    assert (99, "One") == (stored.count_documents({}), stored.find_one({"_id": "u1"})["name"])

    leader.send_signal(signal.SIGTERM)
    assert leader.wait(10 * slowness()) in {0, -signal.SIGTERM}
