"""What processes take while they read many documents of others, as large as MongoDB has them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bson import Int64
from pymongo import MongoClient

from tests.sizes import FOREIGN_LIMIT, VERSION_BYTES, sized
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis
from writebehind.local.supervisor import bound_to_parent

pytestmark = pytest.mark.acceptance
#: Memory of a reader depends on how far the server is ahead of it: beside other tests it says little.
by_itself = pytest.mark.skipif("MEMORY" not in os.environ, reason="takes two minutes by itself: `make memory`")

MANY, MOST_MEBIBYTES = 30, 512
NAMES = [f"large{n}" for n in range(MANY)]

#: Each does its work in a process of its own, which then says how much memory it has taken at most, KiB.
PROLOGUE = f"""
import resource, sys, threading, time
from writebehind import connect, load_settings
from writebehind.pipeline import Pipeline
from writebehind.documents.ids import DocumentId
from web.large import return_large_blocks

NAMES = {NAMES!r}
redis_url, mongodb_url = sys.argv[1:]
# The embedded server brings all that is found at once, and the machine may have other work.
patience = {{"mongodb_timeout_ms": 60_000, "lease_ms": 90_000, "load_timeout_ms": 60_000}}
settings = load_settings(redis_url=redis_url, mongodb_url=mongodb_url, collections={{"users": {{}}}}, **patience)
pipeline = Pipeline(settings)
users = pipeline.collection("users")
"""
EPILOGUE = """
print("KiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
WARMING = """
pipeline.store.heat.add({f"users/s:{name}": 5 for name in NAMES}, most=100)
done = pipeline.warmer.warm()
assert done.looked_at == done.loaded == len(NAMES), done
assert done.warmed, done  # of the others the right to fill them has run out
"""
LISTENING = """
# Redis knows that there are none, so that it has to be seen whether what comes is newer.
users.read_many(NAMES)
listener = pipeline.listener()
threading.Thread(target=listener.listen, daemon=True).start()
while not (pipeline.status()["listener"] or {}).get("events") is not None:
    time.sleep(0.05)
print("listening", flush=True)
while pipeline.status()["listener"]["events"] < len(NAMES):
    time.sleep(0.05)
listener.stop()
"""
RECONCILING = """
for name in NAMES:
    one = DocumentId.of("users", name)
    pipeline.store._wire.call("SET", pipeline.store.cache.key(one.member), "0" * 15 + "1N", "PX", 600_000)
done = pipeline.reconciler.make_pass()
assert sum(done.found.values()) == len(NAMES), done
"""
READING = """
assert sum(one.exists for one, _ in users.read_each(NAMES)) == len(NAMES)
"""


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def mongo(tmp_path_factory) -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo(tmp_path_factory.mktemp("mongo")) as server:
        yield server


def write(mongo: EmbeddedMongo) -> None:
    with MongoClient(mongo.url) as client:
        for name in NAMES:
            document = sized(name, FOREIGN_LIMIT - VERSION_BYTES) | {"_v": Int64(7)}
            client.writebehind.users.replace_one({"_id": name}, document, upsert=True)


def mebibytes(process: subprocess.Popen[str]) -> float:
    """The most memory that a process says it has taken, in its last line."""
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    return int(said.split("KiB ")[1]) / 1024


def start(work: str, redis: EmbeddedRedis, mongo: EmbeddedMongo) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROLOGUE + work + EPILOGUE, redis.url, mongo.url]
    return subprocess.Popen(bound_to_parent(command), stdout=subprocess.PIPE, text=True)


@by_itself
def test_the_listener(redis, mongo):
    """Hearing of them, and looking at what MongoDB has, takes no more than a few of them."""
    process = start(LISTENING, redis, mongo)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"

    write(mongo)

    assert mebibytes(process) < MOST_MEBIBYTES


@by_itself
@pytest.mark.parametrize("work", [WARMING, RECONCILING, READING], ids=["warming", "reconciling", "reading"])
def test_who_reads_them(redis, mongo, work):
    """Each holds a few of them at a time."""
    write(mongo)
    taken = mebibytes(start(work, redis, mongo))
    assert taken < MOST_MEBIBYTES
