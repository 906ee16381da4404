"""Real servers that fork after connections were opened: gunicorn with `--preload`, and Celery's `prefork` pool."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.acceptance.conftest import CONFIG, LIMITS, ROOT, in_threads
from tests.acceptance.topology import redis_servers
from tests.acceptance.variants import GUNICORN, LARGE, VARIANT, WEB_PROCESSES, WORKER_PROCESSES
from tests.conftest import TOPOLOGY
from tests.tiers import long
from tests.tls import TlsFront
from tests.topologies import OF_ONE_SERVER
from tests.waiting import wait_until
from writebehind import Pipeline, connect, load_settings
from writebehind.celery import FlushPublisher
from writebehind.local.embedded import EmbeddedMongo, free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

pytestmark = pytest.mark.acceptance

DOCUMENTS, READERS, READS = 200, 16, 80
#: Ways to Redis, and how long a child lives. Each is tried once; `make variants` tries each with each. TLS ends
#: before one port.
ALL = ["plain", "tls"] if TOPOLOGY in OF_ONE_SERVER else ["plain"]
WAYS = ALL if VARIANT else ALL[-1:]
CHILDREN = {"for good": None, "for two tasks": 2}
PAIRS = [
    pytest.param(way, one, marks=() if one == "for good" else long)
    for way in ALL
    for one in CHILDREN
    if VARIANT or len(ALL) == 1 or (way == "tls") == (one == "for good")
]
WORKER = (
    "celery -q -A tests.acceptance.warmed:app worker -Q flush,refresh,maintenance --loglevel info "
    f"--pool prefork --concurrency {WORKER_PROCESSES} --without-gossip --without-mingle"
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[dict[str, str]]:
    with redis_servers(tmp_path_factory.mktemp("forks")) as env:
        yield env


@pytest.fixture
def env(request, redis, mongo: EmbeddedMongo, authority, database_name) -> Iterator[dict[str, str]]:
    """What tells processes where the servers are."""
    with ExitStack() as stack:
        if request.param == "tls":
            front = TlsFront(authority.server_context(), urlsplit(redis["REDIS_URL"]).port)
            redis = {"REDIS_URL": authority.redis_url(stack.enter_context(front).port)}
        yield {
            **CONFIG,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            **redis,
            "MONGODB_URL": mongo.url,
            "MONGODB_DATABASE": database_name,
            "WRITEBEHIND_PORT": str(free_port()),
            # On a busy machine Redis would be taken for one that hangs, and bypassed.
            "WRITEBEHIND_REDIS_TIMEOUT_MS": "30000",
        }


@pytest.fixture
def pipeline(redis, mongo, env) -> Iterator[Pipeline]:
    """A process of its own beside them, on an empty Redis."""
    settings = load_settings(
        redis_url=redis["REDIS_URL"],
        broker_url=redis.get("BROKER_URL", ""),
        mongodb_url=mongo.url,
        mongodb_database=env["MONGODB_DATABASE"],
        collections={"users": {}},
    )
    hints = FlushPublisher(settings)
    with connect(settings, hints=hints) as pipeline:
        pipeline.store._wire.on_each([("FLUSHALL",)])
        yield pipeline
    hints.close()


@contextmanager
def running(command: str, env: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """A server as a process of its own; it has said what stands in the log."""
    with log.open("wb") as out:
        command = bound_to_parent(["/bin/sh", "-c", f"exec {command}"])
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        end([Group(process)], grace_s=20)


@pytest.mark.parametrize("env", WAYS, indirect=True)
def test_gunicorn_preloads_the_api(env, pipeline, tmp_path):
    """Each of many answers is that of the document which was asked for, from Redis, and none is an error."""
    users = pipeline.collection("users")
    for n in range(DOCUMENTS):
        users.put(f"d{n}", {"n": n, "fill": "x" * LARGE})
    command, log = GUNICORN.replace("web.app:create_app", "tests.acceptance.warmed:create"), tmp_path / "log"
    found: list[tuple[str, str, int]] = []

    with running(command, env, log) as server:
        wait_until(lambda: len(server.children()) == WEB_PROCESSES, "its processes", 30)
        url = f"http://127.0.0.1:{env['WRITEBEHIND_PORT']}/v1/users/"
        with httpx.Client(base_url=url, timeout=30, trust_env=False, limits=LIMITS) as http:

            def read(reader: int) -> None:
                for turn in range(READS):
                    one = f"d{(reader * 7 + turn) % DOCUMENTS}"
                    answer = http.get(one).raise_for_status()
                    found.append((one, answer.json()["_id"], answer.headers["Cache-Status"].split("; ")[1]))

            in_threads(READERS, read)

    assert READERS * READS == len(found)
    assert [] == [one for one in found if one != (one[0], one[0], "hit")]
    assert "Traceback" not in log.read_text()


def children(said: str) -> set[int]:
    """The numbers of the children that have logged something."""
    return {int(number) for number in re.findall(r"ForkPoolWorker-(\d+)", said)}


@pytest.mark.parametrize(("env", "life"), PAIRS, indirect=["env"])
def test_celery_forks_a_worker(env, pipeline, tmp_path, life):
    """The children of a worker that has connections flush at once and none fails, however often it forks anew."""
    users, log = pipeline.collection("users"), tmp_path / "log"
    written, most = {}, CHILDREN[life]
    command = f"{WORKER} --max-tasks-per-child {most}" if most else WORKER
    with running(command, env, log) as worker:
        wait_until(lambda: b" ready." in log.read_bytes(), "the worker", 60)
        assert WORKER_PROCESSES == len(worker.children())
        for turn in count():
            for n in range(DOCUMENTS):
                written[f"d{n}"] = users.put(f"d{n}", {"n": turn, "fill": "x" * LARGE}).version
            if turn >= 5 and (most is None or max(children(log.read_text()), default=0) > WORKER_PROCESSES):
                break
        wait_until(lambda: pipeline.status()["pending"] == 0, "everything to be in MongoDB", 30)
        said = log.read_text()

    stored = {one["_id"]: one["_v"] for one in pipeline.sink._database["users"].find()}
    assert written == stored
    assert 0 == pipeline.status()["dead_letters"]
    assert "Traceback" not in said
    assert children(said)
