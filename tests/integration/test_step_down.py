"""A primary steps down or ends while it is written to: writes wait for the next one, and none becomes a letter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from pymongo import MongoClient

from tests.rewriting import RewritingProxy
from writebehind import Pipeline
from writebehind.flushing.dead_letters import Filter
from writebehind.flushing.flusher import FlushInterruptedError
from writebehind.mongodb.breaker import BreakerState
from writebehind.redis.keys import partition_keys

#: What a server says that is no primary any longer, as MongoDB 8.0 has it.
SAYS = {
    "NotWritablePrimary": {"code": 10107, "errmsg": "not primary"},
    "PrimarySteppedDown": {"code": 189, "errmsg": "Not primary while processing writes"},
    "InterruptedDueToReplStateChange": {"code": 11602, "errmsg": "operation was interrupted"},
    "ShutdownInProgress": {"code": 91, "errmsg": "The server is in quiesce mode and will shut down"},
    "InterruptedAtShutdown": {"code": 11600, "errmsg": "interrupted at shutdown"},
}
#: It labels an error where the driver may try the write again; routers and older servers do not always.
LABELS: dict[str, dict[str, Any]] = {"labelled": {"errorLabels": ["RetryableWriteError"]}, "without label": {}}
#: Each error at each moment, and one with the label.
CASES = [
    pytest.param(name, LABELS[label], where, id=f"{name} {where} {label}")
    for name in SAYS
    for label in LABELS
    for where in ("before", "after", "write concern")
    if label == "without label" or name == "NotWritablePrimary"
]
IDS = {f"u{n}" for n in range(4)}


class Primary(RewritingProxy):
    """Steps down for the next writes of documents, before or after they are done."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        #: How many writes are still to meet it.
        self.left = 0

    def steps_down(self, name: str, more: dict[str, Any], *, where: str, times: int) -> None:
        """Say this to so many writes: in the place of doing them, after it, or of their durability."""
        said = {**SAYS[name], "codeName": name}
        self.left = times
        if where == "before":
            self.answer = lambda command: {"ok": 0.0, **said, **more} if self._meets(command) else None
        elif where == "after":
            self.rewrite = lambda command, _: {"ok": 0.0, **said, **more} if self._meets(command) else None
        else:
            self.rewrite = lambda command, reply: (
                {**reply, "writeConcernError": said, **more} if self._meets(command) else None
            )

    def _meets(self, command: dict[str, Any]) -> bool:
        meets = self.left > 0 and not command.keys().isdisjoint({"update", "delete"})
        self.left -= meets
        return meets


@pytest.fixture
def primary(mongo) -> Iterator[Primary]:
    with Primary(mongo.port) as proxy:
        yield proxy


@pytest.fixture
def behind(primary, settings, valkey_wire) -> Iterator[Pipeline]:
    """A pipeline with one partition, whose primary it is; some documents and a deletion are pending."""
    # The proxy passes on one answer for each question, and no stream of them.
    url = f"mongodb://127.0.0.1:{primary.port}/?directConnection=true&serverMonitoringMode=poll"
    with MongoClient(url) as client:
        changed = settings.model_copy(update={"partitions": 1, "mongodb_url": url})
        pipeline = Pipeline(changed, wire=valkey_wire, client=client)
        users = pipeline.collection("users")
        users.put("gone", {})
        pipeline.flusher.flush(0)
        for name in IDS:
            users.put(name, {})
        users.delete("gone")
        yield pipeline


def attempt(pipeline: Pipeline) -> None:
    """Flush once all delays are over."""
    of = partition_keys(0)
    for member in pipeline.store._wire.call("ZRANGE", of.pending, 0, -1):
        pipeline.store._wire.call("ZADD", of.pending, 1, member)
    with suppress(FlushInterruptedError):
        pipeline.flusher.flush(0)


def there(pipeline: Pipeline) -> set[str]:
    """What MongoDB has."""
    return {one["_id"] for one in pipeline.sink._database["users"].find()}


def letters(pipeline: Pipeline) -> list[str]:
    return [one.letter.id.text for one in pipeline.dead_letters.all(Filter())]


@pytest.mark.parametrize(("name", "more", "where"), CASES)
def test_a_primary_that_steps_down_for_long(behind, primary, monkeypatch, name, more, where):
    """While it lasts everything is pending and the breaker opens; afterwards all is persisted, and no letter."""
    monkeypatch.setattr(behind.sink, "_timeout_s", 0.3)  # for so long the driver tries again what is labelled
    primary.steps_down(name, more, where=where, times=1_000_000)
    for _ in range(4):
        attempt(behind)

    assert (len(IDS) + 1, []) == (behind.status()["pending"], letters(behind))
    assert "open" == behind.breaker.state().state
    primary.left = 0
    monkeypatch.undo()
    behind.breaker._close()
    attempt(behind)
    assert (0, [], IDS) == (behind.status()["pending"], letters(behind), there(behind))


@pytest.mark.parametrize(("name", "more", "where"), CASES)
def test_a_primary_that_steps_down_for_a_moment(behind, primary, name, more, where):
    """The driver or the next flush finds the new one: all is persisted, the breaker stays closed."""
    primary.steps_down(name, more, where=where, times=1)
    for _ in range(2):
        attempt(behind)

    assert 0 == primary.left
    assert (0, [], IDS) == (behind.status()["pending"], letters(behind), there(behind))
    assert BreakerState() == behind.breaker.state()
