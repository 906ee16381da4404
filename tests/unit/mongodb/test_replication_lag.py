"""How far MongoDB's secondaries are behind, as far as the server tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pymongo import MongoClient

from writebehind.errors import MongoRefusesError, MongoUnavailableError
from writebehind.mongodb.deployment import Deployment

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def member(state: str, behind_s: float = 0, **others: object) -> dict[str, object]:
    return {"stateStr": state, "optimeDate": NOW - timedelta(seconds=behind_s), **others}


@pytest.mark.parametrize(
    ("members", "lag"),
    [
        ([member("PRIMARY"), member("SECONDARY", 2), member("SECONDARY", 0.5)], 2),
        ([member("PRIMARY", 1), member("SECONDARY", 0)], 0),
        ([member("PRIMARY"), member("ARBITER", 9), {"stateStr": "SECONDARY"}, member("SECONDARY", 3)], 3),
        ([member("PRIMARY")], None),
        ([member("SECONDARY", 2), member("SECONDARY", 4)], None),
        ([], None),
    ],
)
def test_the_last_secondary_counts(monkeypatch, members, lag):
    """Against the primary; nothing is known without one, and arbiters have no data."""
    monkeypatch.setattr(Deployment, "command", lambda *_, **__: {"members": members})
    with MongoClient(connect=False) as client:
        assert lag == Deployment(client, "any", timeout_ms=1_000).replication_lag_s(timeout_s=1)


@pytest.mark.parametrize("error", [MongoRefusesError("no"), MongoUnavailableError("away")])
def test_a_server_that_does_not_tell(monkeypatch, error):
    """It is no replica set, the user may not ask, or it is away: then it is not known."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Deployment, "command", refuse)
    with MongoClient(connect=False) as client:
        assert Deployment(client, "any", timeout_ms=1_000).replication_lag_s(timeout_s=1) is None
