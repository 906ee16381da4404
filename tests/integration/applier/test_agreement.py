"""Redis and MongoDB agree in the end, while others write too."""

from __future__ import annotations

import random
import threading
from contextlib import suppress

import pytest

from tests.integration.applier.conftest import flusher_of, with_slow
from tests.integration.conftest import flush_all
from tests.listening import running, wait_to_listen
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.collection import Collection
from writebehind.errors import MongoUnavailableError

NAMES = [f"u{n}" for n in range(100)]


def write_often(users: Collection, seed: int, over: threading.Event) -> None:
    chance, n = random.Random(seed), 0
    while not over.wait(0.001):
        n += 1
        name = chance.choice(NAMES)
        if chance.random() < 0.2:
            users.delete(name)
        else:
            users.put(name, {"n": f"{seed} {n}"})
        users.get(chance.choice(NAMES))


def change_often(stored, seed: int, over: threading.Event) -> None:
    chance, n = random.Random(seed), 0
    while not over.wait(0.001):
        n += 1
        name, theirs, how = chance.choice(NAMES), f"their {n}", chance.random()
        if how < 0.5:
            stored.update_one({"_id": name}, {"$set": {"n": theirs}}, upsert=how < 0.1)
        elif how < 0.8:
            stored.replace_one({"_id": name}, {"n": theirs})
        else:
            stored.delete_one({"_id": name})


def flush_often(pipeline: Pipeline, over: threading.Event) -> None:
    flusher = flusher_of(pipeline, lambda: over.wait(0.1))  # long enough for the listener to come in between
    while not over.wait(0.001):
        for partition in range(pipeline.settings.partitions):
            with suppress(MongoUnavailableError):  # a document changed while it was being written
                flusher.flush(partition)


def agree(pipeline: Pipeline, stored) -> bool:
    """Whether readers see what MongoDB has, once nothing is pending."""
    flush_all(pipeline)
    cached = {name: pipeline.collection("slow").get(name) for name in NAMES}
    return {name: one["n"] for name, one in cached.items() if one} == {
        one["_id"]: one["n"] for one in stored.find()
    }


@pytest.mark.parametrize("policy", ["ours", "theirs"])
def test_they_agree_in_the_end(pipeline, stored, policy):
    """However writes, flushes and changes of others meet, Redis and MongoDB are alike when all is at rest."""
    pipeline, over = with_slow(pipeline, on_conflict=policy, flush_delay_ms=20), threading.Event()
    users = pipeline.collection("slow")
    threads = [
        threading.Thread(target=work, args=(*arguments, over))
        for work, *arguments in (
            (write_often, users, 1),
            (write_often, users, 2),
            (change_often, stored, 3),
            (flush_often, pipeline),
            (flush_often, pipeline),
        )
    ]
    with running(pipeline.listener()):
        wait_to_listen(pipeline)
        for one in threads:
            one.start()
        over.wait(3)
        over.set()
        for one in threads:
            one.join()
        wait_until(lambda: agree(pipeline, stored), "Redis and MongoDB to agree", 15)
