"""A partition with much that waits for MongoDB moves to another server while it is written to."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

import pytest

from tests.integration.topology.test_servers import NAMES, opened, servers
from tests.waiting import slowness
from writebehind.errors import UnavailableError
from writebehind.operations.rebalance import rebalance
from writebehind.redis.topology.record import fair

__all__ = ["opened", "servers"]  # fixtures

#: Bytes of a document, and how many wait in the partition that moves, of which some are written again and again.
SIZE, COUNT, AGAIN = 100_000, 2_000, 50
#: What no write is refused for longer than, seconds.
MOST_S = 2.0


@dataclass
class Writer:
    """Writes some documents again and again, and notes what it was told."""

    pipeline: object
    names: list[str]
    last: dict[str, int] = field(default_factory=dict)
    longest_s: float = 0.0
    refused: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        collection, since = self.pipeline.collection("slow"), time.monotonic()
        for n, name in zip(itertools.count(1), itertools.cycle(self.names)):
            if self.stopping.is_set():
                return
            try:
                collection.put(name, {"n": n, "text": "y" * SIZE})
            except UnavailableError as error:
                self.refused.append(str(error))
            else:
                self.last[name] = n
                now = time.monotonic()
                self.longest_s, since = max(self.longest_s, now - since), now


@pytest.mark.long
@pytest.mark.timeout(600)
def test_200_mb_move_while_they_are_written_and_no_write_waits_for_long(opened, servers):
    """What is frozen is the last of it: the rest is copied before."""
    opened(servers.url_of("a", "b")).store.check()
    pipeline, other = opened(servers.url), opened(servers.url)
    partition = next(one for one in itertools.count() if fair(str(one), NAMES) == "c")
    of_it = (
        name for n in itertools.count() if pipeline.store.partition_of(f"slow/s:{(name := f'd{n}')}") == partition
    )
    names = list(itertools.islice(of_it, COUNT))
    slow = pipeline.collection("slow")
    for name in names:
        slow.put(name, {"n": 0, "text": "x" * SIZE})
    writer = Writer(other, names[:AGAIN])
    thread = threading.Thread(target=writer.run)
    times = slowness()
    thread.start()
    try:
        moved = rebalance(pipeline).moved
    finally:
        writer.stopping.set()
        thread.join()

    assert "c" == {one.place: one.target for one in moved}[str(partition)]
    assert writer.longest_s < MOST_S * times, writer.refused[:3]
    assert [0] * (COUNT - AGAIN) == [one["n"] for one in slow.mget(names[AGAIN:])]
    assert writer.last == {name: slow.get(name)["n"] for name in writer.last}
