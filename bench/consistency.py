"""What the observer costs, and how soon it finds one stale document in 100,000.

100,000 documents are in MongoDB and in Redis, and nobody else is at work. First the observer compares all of
them with MongoDB. Then, again and again, one of them becomes stale: its entry is replaced by an older version,
or somebody changes it in MongoDB while no listener runs.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import bson
import psutil
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from writebehind import Pipeline, load_settings
from writebehind.consistency.observer import Observer
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import append_version
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis

DOCUMENTS, AT_ONCE, BYTES = 100_000, 1_000, 400
TTL_MS = 86_400_000
#: Stale documents of each kind, one after the other.
TRIES = 5
#: Of an observer that has nothing to find, seconds.
QUIET_S = 60.0
VERSION = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of this thread and of the servers, seconds, in so many seconds."""

    seconds: float
    own_s: float
    servers_s: dict[str, float]

    def __str__(self) -> str:
        servers = ", ".join(f"{name} {used / self.seconds:.2%}" for name, used in self.servers_s.items())
        return f"{self.own_s / self.seconds:.2%} of a core; {servers}"


def main() -> None:
    """Measure the first walk, walks over what is known, and how soon what is stale is found."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis, mongo = stack.enter_context(EmbeddedRedis(directory)), stack.enter_context(EmbeddedMongo(directory))
        servers = {"Redis": redis.pid, "MongoDB": mongo.pid}
        settings = load_settings(
            redis_url=redis.url, mongodb_url=mongo.url, hot_samples=0, collections={"users": {"ttl": 86_400}}
        )
        pipeline = stack.enter_context(Pipeline(settings))
        pipeline.check()
        client = stack.enter_context(MongoClient(mongo.url))
        stored = client[settings.mongodb_database]["users"]
        for at in range(0, DOCUMENTS, AT_ONCE):
            _fill(pipeline, stored, range(at, at + AT_ONCE))
        observer = pipeline.observer()
        first = run(observer, servers, lambda: observer.walk.count > 0)
        print(f"first walk over {DOCUMENTS:,} documents: {first.seconds:.0f} s, {first}", flush=True)
        before = _looks(observer)
        quiet = run(observer, servers, _after(QUIET_S))
        looks = _looks(observer)
        walk_s = DOCUMENTS * quiet.seconds / (looks - before)
        print(f"then a walk takes {walk_s:.0f} s, {quiet}", flush=True)
        if observer.suspects.found:
            raise SystemExit("something is wrong that nobody has planted")
        for name, plant in (
            ("an older entry in Redis", lambda number: _plant_entry(pipeline, number)),
            ("a change in MongoDB without a listener", lambda number: _plant_change(stored, number)),
        ):
            took = [
                _found_after(pipeline, observer, plant, number)
                for number in random.sample(range(DOCUMENTS), TRIES)
            ]
            shown = ", ".join(f"{one:.1f}" for one in sorted(took))
            print(f"{name}: wrong for 1 s is known after {statistics.median(took):.1f} s in the median: {shown}")
        print(f"{looks:,} looks before, none of them wrong")


def run(observer: Observer, servers: dict[str, int], is_over: Callable[[], bool]) -> Cost:
    """Observe in a thread, as a process does, until something holds."""
    stop, used = threading.Event(), [0.0]

    def work() -> None:
        before = time.thread_time()
        while not stop.wait(observer.step()):
            pass
        used[0] = time.thread_time() - before

    before = {name: _cpu_s(pid) for name, pid in servers.items()}
    began = time.monotonic()
    thread = threading.Thread(target=work)
    thread.start()
    while not is_over():
        time.sleep(0.05)
    seconds = time.monotonic() - began
    after = {name: _cpu_s(pid) - before[name] for name, pid in servers.items()}
    stop.set()
    thread.join()
    return Cost(seconds, used[0], after)


def _looks(observer: Observer) -> int:
    return sum(count for name, count in observer.tally.total.items() if name.endswith(" 1 looks"))


def _after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _entry(number: int, version: int = VERSION, text: str = "x") -> tuple[DocumentId, Entry]:
    one = DocumentId.of("users", f"user-{number}")
    body = bson.encode({"_id": f"user-{number}", "n": number, "text": text * BYTES})
    return one, Entry.loaded(body, version + number)


def _fill(pipeline: Pipeline, stored, numbers: range) -> None:
    some = [_entry(number) for number in numbers]
    stored.insert_many([RawBSONDocument(append_version(entry.body, entry.version)) for _, entry in some])
    wire = pipeline.store._wire
    wire.calls([("SET", pipeline.store.cache.key(one.member), entry.value, "PX", TTL_MS) for one, entry in some])


def _plant_entry(pipeline: Pipeline, number: int) -> None:
    one, entry = _entry(number, VERSION - 1_000_000, "old")
    pipeline.store._wire.call("SET", pipeline.store.cache.key(one.member), entry.value, "PX", TTL_MS)


def _plant_change(stored, number: int) -> None:
    stored.update_one({"_id": f"user-{number}"}, {"$set": {"text": "theirs"}})


def _found_after(pipeline: Pipeline, observer: Observer, plant: Callable[[int], None], number: int) -> float:
    """Plant it at some moment of a walk; the seconds until Redis has it among what was wrong for a second."""
    run(observer, {}, _after(random.uniform(0, 10)))
    plant(number)
    name = b'"user-%d"' % number
    return run(observer, {}, lambda: any(name in told for told in pipeline.store.samples.wrong(100))).seconds


if __name__ == "__main__":
    main()
