"""What goes from pending to dead, or back, between any two commands of a look is seen all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import flush_all
from writebehind import Pipeline, Settings
from writebehind.flushing.dead_letters import Filter

NEW = "users/s:new"
#: Whether it is seen, by the pipeline and the version that was acknowledged.
LOOKS: dict[str, Callable[[Pipeline, int], object]] = {
    "a query": lambda pipeline, _: "new" in [one["_id"] for one in pipeline.collection("users").query("all")],
    "a write that waits": lambda pipeline, version: pipeline.store.unsettled.unreached({NEW: version}),
    "reconciling": lambda pipeline, _: pipeline.store.unsettled.among([NEW]),
    "the status": lambda pipeline, _: 1 == sum(one.pending + one.dead for one in pipeline.store.metrics.backlog()),
    "contention": lambda pipeline, _: any(pipeline.store.unsettled.standing(NEW)[1:]),
}
CHANGES: dict[str, Callable[[Pipeline], object]] = {
    "dead to pending": lambda pipeline: pipeline.dead_letters.replay(pipeline.dead_letters.all(Filter())),
    "pending to dead": flush_all,
}


@pytest.fixture
def settings(settings) -> Settings:
    users = {"flush_delay_ms": 60_000, "queries": {"all": {}}}
    return Settings.model_validate(settings.model_dump() | {"collections": {"users": users}, "partitions": 2})


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("look", LOOKS)
def test_a_change_between_two_commands(pipeline, users, stored, monkeypatch, look, change):
    """At no place in between does a look take it for one that MongoDB has."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 600.0)
    stored.create_index("n", unique=True)
    stored.insert_one({"_id": "old", "n": 1})
    version = users.put("new", {"n": 1}).version
    [back] = CHANGES.keys() - {change}
    if change == "dead to pending":
        CHANGES[back](pipeline)
    pipeline._sampler._taken = 0
    load_anew(pipeline)
    place = 0
    while changed_before(pipeline, place, CHANGES[change], lambda: LOOKS[look](pipeline, version), monkeypatch):
        CHANGES[back](pipeline)
        load_anew(pipeline)
        place += 1
    assert place >= 1


def changed_before(pipeline: Pipeline, place: int, change: Callable, look: Callable, monkeypatch) -> bool:
    """Look, with a change before one of the commands that are sent first; whether there are so many."""
    wire, changed = pipeline.store._wire, []

    with monkeypatch.context() as patch:

        def one_by_one(commands: list[Any]) -> list[Any]:
            patch.undo()
            answers = []
            for at, command in enumerate(commands):
                if at == place:
                    changed.append(change(pipeline))
                answers += wire.exchange([command])
            return answers

        patch.setattr(wire, "exchange", one_by_one)
        assert look(), place
    return bool(changed)


def load_anew(pipeline: Pipeline) -> None:
    """Let the result of the query be as of now, so that nothing has changed in MongoDB since."""
    pipeline.queries.forget("users")
    pipeline.collection("users").query("all")
