"""Caps are told by the processes that apply them: a status is not made of the settings of whoever asks."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.operations.doctor import Level, processes
from writebehind.redis import keys
from writebehind.redis.shared.caps import LIVE_MS, REMEMBERED_MS, Applied, Caps

#: Caps of whoever asks.
OWN = Caps(50_000, 0.9)


def told(pipeline: Pipeline) -> tuple[int, float, bool]:
    caps = pipeline.status()["caps"]
    return caps["max_pending_per_partition"], caps["max_memory_percent"], caps["differ"]


def shown(run) -> str:
    """What the command says of them."""
    (line,) = [line for line in run("status").stdout.splitlines() if line.startswith("caps ")]
    return line.removeprefix("caps").strip()


@pytest.fixture
def process(settings, valkey_wire, mongo_client):
    """Makes another process, which has settings of its own."""

    def make(**own) -> Pipeline:
        return Pipeline(settings.model_copy(update=own), wire=valkey_wire, client=mongo_client)

    return make


def test_the_caps_are_those_of_the_processes_that_take_writes(pipeline, process, run):
    """Where these differ, each is the lowest, and status, doctor and command say so."""
    assert (50_000, 90, False) == told(pipeline)
    assert pipeline.status()["caps"]["told_seconds_ago"] is None
    assert shown(run) == "50000 a partition, 90 % of memory, as set here: no process tells"

    process(max_pending_per_partition=3, max_memory_percent=87.5).collection("slow").put("a", {})
    assert (3, 87.5, False) == told(pipeline)
    assert [] == list(processes.caps(pipeline.status()["caps"]))
    assert shown(run) == "3 a partition, 87.5 % of memory"

    process(max_pending_per_partition=7, max_memory_percent=80).collection("slow").put("b", {})
    assert (3, 80, True) == told(pipeline)
    assert shown(run) == "3 a partition, 80 % of memory: the lowest, as processes differ"
    (found,) = processes.caps(pipeline.status()["caps"])
    assert (Level.WARNING, True) == (found.level, "80 % of Redis's memory" in found.found)


def test_refusals_are_foretold_by_them(pipeline, process):
    """Writes are refused now, though this process would take many more."""
    writes = process(partitions=pipeline.settings.partitions, max_pending_per_partition=1).collection("slow")
    writes.put("a", {})

    status = pipeline.status()
    assert (0.0, "pending") == (status["seconds_until_cap"], status["cap"])


def test_a_process_tells_its_caps_though_nobody_writes(pipeline, process):
    """The service's web processes do: an idle system answers with its own caps."""
    idle, stop = process(max_pending_per_partition=11), Event()
    thread = Thread(target=idle.watch_admission, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: (11, 90, False) == told(pipeline), "them to be told", 20)
    finally:
        stop.set()
        thread.join(20)


def test_only_what_is_told_now_counts_as_long_as_any_is(pipeline, valkey_wire):
    """Of processes that are gone the last told ones do; nothing of other hands, of later, or of long ago."""
    store, wire = pipeline.store, valkey_wire
    now = store.now_ms()

    def applied(**told_ms: int) -> Applied:
        wire.call("DEL", keys.CAPS)
        for caps, ago_ms in told_ms.items():
            wire.call("ZADD", keys.CAPS, now - ago_ms, caps)
        return store.caps.applied(OWN, now)

    lately, older, ahead = LIVE_MS - 1_000, LIVE_MS + 60_000, -LIVE_MS - 1_000
    five, nine = Caps(5, 0.5), Caps(9, 0.5)
    assert Applied(OWN) == applied()
    assert Applied(five, told_s=older / 1000) == applied(**{"5 50": older, "9 50": older + 1})
    assert Applied(nine, told_s=lately / 1000) == applied(**{"5 50": older, "9 50": lately})
    assert Applied(Caps(5, 0.25), differ=True, told_s=0.0) == applied(**{"5 50": 0, "9 25": lately})
    assert Applied(OWN) == applied(**{"5 50": ahead, "9 50": REMEMBERED_MS})
    assert Applied(nine, told_s=0.0) == applied(**{"0 50": 0, "5 0": 0, "5 101": 0, "5": 0, "-5 50": 0, "9 50": 0})


@pytest.mark.parametrize("caps", [OWN, Caps(1, 1.0), Caps(10**9, 0.00001), Caps(7, 0.333333)])
def test_what_is_told_is_read_as_it_was_meant(caps):
    """Whatever settings allow."""
    assert caps == Caps.parse(caps.told.encode())
