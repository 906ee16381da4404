"""Processes of an installation whose partitions become more while it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.topologies import EveryWire
from writebehind import Pipeline
from writebehind.operations import growth
from writebehind.operations.growth import grow
from writebehind.redis.keys import Named, View, partition_keys
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.topology.splitting import Splitting

BEFORE, AFTER = 4, 16


NEVER = float("inf")


DOCUMENTS = 100


@pytest.fixture
def process(settings, valkey_wire, mongo_client, hints, monkeypatch) -> Iterator[Callable[..., Pipeline]]:
    """Makes processes on one Redis, each with what it knows by itself.

    Nobody waits until all have looked again: they do so as soon as they do anything.
    """
    wires = []

    def forget(_pipeline, _going_on) -> None:
        for wire in wires:
            wire._lookout.due = min(wire._lookout.due, 0.0) if wire._lookout.due < NEVER else NEVER

    monkeypatch.setattr(growth, "_wait_for_all", forget)

    def make(**changed) -> Pipeline:
        wires.append(EveryWire(open_servers(changed.get("redis_url", settings.redis_url), 5_000)))
        changed = settings.model_copy(update={"partitions": BEFORE, **changed})
        return Pipeline(changed, hints=hints, wire=wires[-1], client=mongo_client)

    yield make
    for wire in wires:
        wire.close()


def sleep(pipeline: Pipeline) -> Pipeline:
    """Let a process know what it knows, and look no more, as one that is stopped between its look and its step."""
    pipeline.store.check()
    pipeline._sampler.look()
    pipeline._sampler._taken = pipeline.store._wire._lookout.due = NEVER
    return pipeline


@pytest.fixture
def one(process) -> Pipeline:
    """A process that has written documents."""
    pipeline = process()
    pipeline.store.check()
    write(pipeline, 1)
    return pipeline


def names() -> list[str]:
    return [f"d{at}" for at in range(DOCUMENTS)]


def write(pipeline: Pipeline, n: int, some: list[str] | None = None) -> None:
    slow = pipeline.collection("slow")
    for name in some or names():
        slow.put(name, {"n": n})


def read(pipeline: Pipeline) -> set[int]:
    slow = pipeline.collection("slow")
    return {slow.get(name)["n"] for name in names()}


def in_partitions(pipeline: Pipeline) -> dict[str, set[int]]:
    """The partitions in which members are pending."""
    found: dict[str, set[int]] = {}
    for at in range(AFTER):
        for member in pipeline.store._wire.call("ZRANGE", partition_keys(at).pending, 0, -1):
            found.setdefault(member.decode(), set()).add(at)
    return found


def leaving_first() -> str:
    """A document that leaves partition 0."""
    numbers = {
        name: (View(BEFORE).number(f"slow/s:{name}"), View(AFTER).number(f"slow/s:{name}")) for name in names()
    }
    return next(name for name, (before, after) in numbers.items() if before == 0 != after)


def out_of_place(pipeline: Pipeline) -> list[str]:
    """The keys with a name in them that stand in another partition than that of the name."""
    found = map(Named.parse, pipeline.store._wire.call("KEYS", "wb:{*}:*:*"))
    return [each.key for each in found if each and each.partition != pipeline.store.partition_of(each.name)]


@pytest.fixture
def halfway(one, process, monkeypatch) -> Pipeline:
    """A process from before, when half of the partitions are divided by one that died then."""
    run = Splitting.run

    def die(self) -> float:
        if self._partition == BEFORE // 2:
            raise KeyboardInterrupt
        return run(self)

    with monkeypatch.context() as patch:
        patch.setattr(Splitting, "run", die)
        with pytest.raises(KeyboardInterrupt):
            grow(process(), AFTER)
    return one


def long_idle(process) -> Pipeline:
    """A process that has done nothing since before the number grew: its next step has the first look."""
    idle = process()
    idle.store.check()
    idle._sampler.look()
    grow(process(), AFTER)
    idle._sampler._taken = NEVER
    assert BEFORE == idle.store.partitions
    return idle


def create(pipeline: Pipeline, some: list[str] | None = None) -> dict[str, object]:
    """The ids of documents that were created once, by the names of the requests."""
    slow = pipeline.collection("slow")
    return {name: slow.create({"n": 1}, key=name).id for name in some or names()}
