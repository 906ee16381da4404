"""A pending write whose body was changed in Redis: it is not what was acknowledged, so it is not flushed."""

from __future__ import annotations

import pytest

from tests.damage import DAMAGES, damage
from tests.integration.conftest import flush_all
from writebehind import Settings
from writebehind.flushing.dead_letters import Filter, Reason


@pytest.fixture
def settings(settings) -> Settings:
    users = {"flush_delay_ms": 60_000, "lookup": {"name": "string"}}
    return Settings.model_validate(settings.model_dump() | {"collections": {"users": users}})


@pytest.mark.parametrize("changed", DAMAGES.values(), ids=DAMAGES)
def test_it_becomes_a_dead_letter_and_its_neighbours_are_flushed(pipeline, users, stored, changed):
    """MongoDB keeps what it has, readers see that, and the letter names the version that was acknowledged."""
    users.put("ada", {"name": "Ada"})
    flush_all(pipeline)
    version = users.put("ada", {"name": "Eve"}).version
    users.put("bob", {"name": "Bob"})
    damage(pipeline, "ada", changed)

    flush_all(pipeline)

    assert {"ada": "Ada", "bob": "Bob"} == {one["_id"]: one["name"] for one in stored.find()}
    [found] = pipeline.dead_letters.all(Filter(reason="damaged"))
    assert (version, Reason.DAMAGED) == (found.letter.version, found.letter.reason)
    assert "Ada" == users.get("ada")["name"]
    assert "ada" == users.look_up("name", "Ada")[0].value
    assert (None, None) == (users.look_up("name", "Eve")[0], users.look_up("name", "theirs")[0])
    users.put("ada", {"name": "Cyd"})
    flush_all(pipeline)
    assert "Cyd" == stored.find_one({"_id": "ada"})["name"]
    assert 1 == pipeline.dead_letters.count()


def test_a_refused_write_is_not_replayed_with_another_body(pipeline, users, stored):
    """A letter whose document was changed meanwhile leads to another letter, not into MongoDB."""
    stored.create_index("name", unique=True)
    stored.insert_one({"_id": "holder", "name": "x"})
    users.put("ada", {"name": "x"})
    flush_all(pipeline)
    damage(pipeline, "ada")

    pipeline.dead_letters.replay(pipeline.dead_letters.all(Filter()))
    flush_all(pipeline)

    assert [Reason.DAMAGED] == [one.letter.reason for one in pipeline.dead_letters.all(Filter())]
    assert ["holder"] == stored.distinct("_id")


def test_who_waits_for_mongodb_is_told(pipeline, users):
    """A write that is damaged before it is persisted is no success for its writer."""
    entry = users.put("ada", {"name": "Ada"})
    damage(pipeline, "ada")
    left = pipeline.flusher.persist({"users/s:ada": entry.version}, timeout_ms=5_000)
    assert b"damaged" in left["users/s:ada"]
