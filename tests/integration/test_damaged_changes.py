"""A change is never applied to a body that was changed in Redis: its result would be persisted as a write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.damage import DAMAGES, damage
from tests.integration.conftest import flush_all
from writebehind.collection import Collection
from writebehind.errors import UnreadableDocumentError
from writebehind.flushing.dead_letters import Filter, Reason

#: Around what the driver and Redis treat in another way, and large.
SIZES = [0, 4_000, 4_096, 70_000, 700_000]
CHANGES: dict[str, Callable[[Collection], Any]] = {
    "patch": lambda users: users.patch("ada", {"n": 2}),
    "json patch": lambda users: users.patch("ada", json_patch=[{"op": "replace", "path": "/n", "value": 2}]),
    "increment": lambda users: users.increment("ada", {"n": 1}),
}


def document(size: int, name: str) -> dict[str, Any]:
    return {"n": 1, "pad": "x" * size, "name": name}


@pytest.mark.parametrize("changed", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_mongodb_has_is_read_from_there(pipeline, users, stored, change, changed):
    """Whatever stands in Redis, of whatever size: the change applies to what was acknowledged and persisted."""
    for size in SIZES:
        users.put("ada", document(size, "Ada"))
        flush_all(pipeline)
        damage(pipeline, "ada", changed)

        change(users)
        flush_all(pipeline)

        expected = document(size, "Ada") | {"n": 2, "_id": "ada"}
        assert expected == users.get("ada")
        assert expected == {name: value for name, value in stored.find_one().items() if not name.startswith("_v")}
    assert 0 == pipeline.dead_letters.count()


@pytest.mark.parametrize("changed", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_pending_is_refused(pipeline, users, stored, change, changed):
    """Nobody knows what it was: it becomes a dead letter, and a later change applies to what MongoDB has."""
    for at, size in enumerate(SIZES):
        users.put("ada", document(size, "Ada"))
        flush_all(pipeline)
        users.put("ada", document(size, "Eve"))
        damage(pipeline, "ada", changed)

        with pytest.raises(UnreadableDocumentError, match="dead letter"):
            change(users)
        flush_all(pipeline)
        assert at + 1 == len([*pipeline.dead_letters.all(Filter(reason="damaged"))])
        assert ("Ada", 1) == (stored.find_one()["name"], stored.find_one()["n"])

        change(users)
        flush_all(pipeline)
        assert ("Ada", 2) == (stored.find_one()["name"], stored.find_one()["n"])
    assert {Reason.DAMAGED} == {one.letter.reason for one in pipeline.dead_letters.all(Filter())}
