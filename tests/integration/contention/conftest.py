"""Documents with unique values that MongoDB has unique indexes for, and short ways to them."""

from __future__ import annotations

import pytest

from writebehind import Pipeline
from writebehind.flushing.flush_summary import FlushSummary


@pytest.fixture
def settings(settings):
    collections = {
        "users": {"lookup": {"username": "string", "number": "int"}},
        "theirs": {"lookup": {"username": "string"}, "on_conflict": "theirs"},
        "plain": {},
    }
    return settings.model_copy(
        update={
            "collections": {
                name: type(settings.collections["users"]).model_validate({"flush_delay_ms": 0, **one})
                for name, one in collections.items()
            }
        }
    )


@pytest.fixture(autouse=True)
def indexes(pipeline):
    for field in ("username", "number"):
        pipeline.sink.create_unique_index("users", field)


def flush(pipeline: Pipeline, name: str) -> FlushSummary:
    """Flush the partition of one document."""
    return pipeline.flusher.drain(pipeline.store.partition_of(f"users/s:{name}"), budget_s=10)


def spread(pipeline: Pipeline, count: int) -> list[str]:
    """Ids whose partitions take turns."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        if pipeline.store.partition_of(f"users/s:{number}") == len(found) % pipeline.settings.partitions:
            found.append(str(number))
        number += 1
    return found


def usernames(stored) -> dict[str, str]:
    return {one["_id"]: one.get("username") for one in stored.find()}


def letters(pipeline: Pipeline) -> int:
    return pipeline.dead_letters.count()


def replays_of(pipeline, monkeypatch) -> list:
    """What is replayed from now on; after a hundred the test fails."""
    replays: list = []
    replay = pipeline.dead_letters.replay

    def counting(found, **options):
        replays.extend(found)
        if len(replays) > 100:
            pytest.fail("a letter is replayed without end")
        return replay(found, **options)

    monkeypatch.setattr(pipeline.dead_letters, "replay", counting)
    return replays
