"""`examples/celery_app`: an application that is there already persists through a worker of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from tests.acceptance.conftest import ROOT
from tests.integration.conftest import environment
from tests.tiers import long
from tests.waiting import wait_until
from writebehind import Pipeline, Settings
from writebehind.celery.configuration import create_app
from writebehind.errors import RedisUnavailableError
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.operations.doctor import Level
from writebehind.operations.doctor.processes import check
from writebehind.redis.keys import DATABASE

EXAMPLE = ROOT / "examples" / "celery_app"


@contextmanager
def celery(pipeline: Pipeline, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the example's, by Celery's own command, as its users start it."""
    env = {
        **os.environ,
        **environment(pipeline.settings),
        "WRITEBEHIND_CONFIG": str(EXAMPLE / "writebehind.toml"),
        "WRITEBEHIND_DEFAULTS__flush_delay_ms": "100",
        "WRITEBEHIND_SWEEP_INTERVAL": "1",
    }
    command = [sys.executable, "-m", "celery", "-A", "shop", *arguments, "--loglevel", "warning"]
    with log.open("wb") as output:
        leader = subprocess.Popen(
            bound_to_parent(command), cwd=EXAMPLE, env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield leader
    finally:
        end([Group(leader)])


def client(settings: Settings) -> Celery:
    """Who sends tasks of the shop by our broker, to a queue that only the shop knows."""
    app = create_app(settings)
    app.conf.task_create_missing_queues = True
    return app


def unconsumed(pipeline: Pipeline) -> set[str]:
    failures = {one.check for one in check(pipeline) if one.level is not Level.OK and "queue" in one.check}
    assert failures == {f"queue {queue}" for queue in pipeline.status()["unconsumed"]}
    return {one.removeprefix("queue ") for one in failures}


@pytest.mark.parametrize("pool", [pytest.param("threads", marks=long), "prefork"])
def test_it_persists_through_its_own_worker(pipeline, mongo_client, tmp_path, pool):
    """Its task writes a document, which its worker brings to MongoDB; its own queue and schedule go on."""
    database = mongo_client[pipeline.settings.mongodb_database]
    app = client(pipeline.settings)
    app.send_task("shop.order", ["A1", ["tea"]], queue="celery")
    beat = ["-B", "-s", str(tmp_path / "schedule")]
    queues = ["-Q", "celery,mail,flush,refresh,maintenance", "-n", "shop@test"]

    with celery(pipeline, tmp_path / "log", "worker", *queues, "--pool", pool, "-c", "2", *beat) as worker:
        wait_until(lambda: database.orders.find_one({"_id": "A1", "confirmed": True}), "the order in MongoDB", 30)
        wait_until(lambda: database.counters.find_one({"_id": "schedule"}), "the shop's schedule", 30)
        wait_until(lambda: "sweep" in pipeline.status()["periodic"], "the sweep", 30)
        wait_until(lambda: not unconsumed(pipeline), "each queue to be consumed", 30)
        assert {"shop@test"} == {name for names in pipeline.status()["consumers"].values() for name in names}
        worker.terminate()
        wait_until(lambda: worker.poll() is not None, "its end", 30)
    assert 0 == worker.returncode
    assert {"flush", "refresh", "maintenance"} == unconsumed(pipeline)


def test_a_worker_that_leaves_our_queues_out(pipeline, mongo_client, tmp_path):
    """Where no worker consumes our queues, nothing is persisted, and the status and the doctor name the queues."""
    database = mongo_client[pipeline.settings.mongodb_database]
    app = client(pipeline.settings)

    with celery(pipeline, tmp_path / "log", "worker", "-Q", "celery,mail", "--pool", "threads", "-c", "2"):
        app.send_task("shop.order", ["A2", ["milk"]], queue="celery")
        wait_until(lambda: pipeline.status()["workers"], "the worker", 30)
        wait_until(lambda: pipeline.status()["pending"], "the order", 30)
        assert {"flush", "refresh", "maintenance"} == unconsumed(pipeline)
        assert database.orders.find_one({"_id": "A2"}) is None


def test_a_second_installation_on_the_same_redis(pipeline, mongo_client, tmp_path):
    """Its worker and its writes are refused; the first one's documents reach their own database, and no other.

    A worker at work that finds its Redis in other hands, as after somebody has emptied it, ends too.
    """
    unlisted = pipeline.settings.model_copy(update={"allow_unlisted": True})
    first = Pipeline(unlisted, wire=pipeline.store._wire, client=mongo_client)
    names = pipeline.settings.mongodb_database, f"{pipeline.settings.mongodb_database}_b"
    settings = first.settings.model_copy(update={"mongodb_database": names[1]})
    second = Pipeline(settings, wire=first.store._wire, client=mongo_client)
    worker = ["worker", "-Q", "celery,mail,flush,refresh,maintenance", "--pool", "threads", "-c", "2"]
    app = client(first.settings)
    first.collection("orders").put("A3", {"items": []})
    app.send_task("shop.order", ["A4", ["tea"]], queue="celery")

    with celery(second, tmp_path / "second", *worker) as refused:
        wait_until(lambda: refused.poll() is not None, "the second one's worker to end", 30)
    assert 1 == refused.returncode
    assert (
        f"writebehind: MONGODB_DATABASE: this Redis belongs to database {names[0]!r}"
        in (tmp_path / "second").read_text()
    )
    with pytest.raises(RedisUnavailableError, match="belongs to database"):
        second.collection("orders").put("A3", {"items": ["of the second"]})
    assert 1 == first.status()["pending"]

    with celery(first, tmp_path / "first", *worker) as ours:
        wait_until(lambda: mongo_client[names[0]].orders.find_one({"confirmed": True}), "the order in MongoDB", 30)
        assert names[1] not in mongo_client.list_database_names()
        first.store._wire.call("SET", DATABASE, f"database/{names[1]}")
        wait_until(lambda: ours.poll() is not None, "the worker that has noticed to end", 30)
    assert 1 == ours.returncode
    assert names[1] not in mongo_client.list_database_names()
