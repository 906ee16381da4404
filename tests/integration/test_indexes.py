"""`writebehind init`, and what the doctor says without it."""

from __future__ import annotations

import json

import pytest
from pymongo.errors import OperationFailure
from pymongo.synchronous.collection import Collection

from writebehind import Pipeline, Settings
from writebehind.errors import ConfigurationError
from writebehind.operations.doctor import Level, mongodb

PARTIAL = {"unique": True, "partialFilterExpression": {"n": {"$gt": 0}}}


@pytest.fixture
def configured(settings, monkeypatch) -> Settings:
    """Users can be looked up by two fields."""
    for field in ("username", "address.city"):
        monkeypatch.setenv(f"WRITEBEHIND_COLLECTIONS__users__lookup__{field}", "string")
    return settings.model_copy(
        update={
            "collections": {
                "users": settings.collections["users"].model_copy(
                    update={"lookup": {"username": "string", "address.city": "string"}}
                )
            }
        }
    )


@pytest.fixture
def users(mongo_client, settings):
    return mongo_client[settings.mongodb_database]["users"]


def test_init(run, configured, users, valkey_wire, mongo_client):
    """It creates the unique indexes that are missing, once; a dry run creates none."""
    users.insert_many([{"_id": n} for n in range(3)])  # without the field they are in nobody's way
    pipeline = Pipeline(configured, wire=valkey_wire, client=mongo_client)

    def level() -> Level:
        [one] = [one for one in mongodb.check(pipeline) if one.check == "mongodb indexes"]
        return one.level

    assert Level.WARNING is level()
    assert ["users.username: missing", "users.address.city: missing"] == run(
        "init", "--dry-run"
    ).stdout.splitlines()
    assert ["users.username: created", "users.address.city: created"] == run("init").stdout.splitlines()
    assert ["present", "present"] == [
        json.loads(one)["index"] for one in run("init", "--json").stdout.splitlines()
    ]
    assert Level.OK is level()


def test_documents_with_the_same_value(run, configured, users):
    """MongoDB refuses the index; the command says why, creates the others, and its exit status tells."""
    users.insert_many([{"_id": 1, "username": "ada"}, {"_id": 2, "username": "ada"}])
    done = run("init")
    assert (1, ["users.username: refused", "users.address.city: created"]) == (
        done.exit_code,
        done.stdout.splitlines(),
    )
    assert "no unique index on username of users" in done.stderr
    assert "ada" in done.stderr


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "is not unique"),
        (PARTIAL, "holds only for some values"),
    ],
)
def test_another_index_in_the_way(run, configured, users, valkey_wire, mongo_client, options, fault):
    """An index that is there and does not help is named, with what to do."""
    users.create_index("username", **options)
    users.create_index([("username", 1), ("n", 1)], unique=True)  # says nothing of the field alone
    pipeline = Pipeline(configured, wire=valkey_wire, client=mongo_client)

    said = [one for one in mongodb.check(pipeline) if one.check == "mongodb indexes"]

    assert [Level.WARNING] * 2 == [one.level for one in said]
    assert f"index username_1 on users.username {fault}" in said[0].found
    assert "db.users.dropIndex('username_1')" in said[0].advice
    assert "no unique index on users.address.city:" in said[1].found
    done = run("init")
    assert 1 == done.exit_code
    assert ["users.username: refused", "users.address.city: created"] == done.stdout.splitlines()
    assert "no unique index on username of users" in done.stderr
    assert "does not answer" not in done.stderr


@pytest.mark.parametrize("code", [85, 86, 67, 13, 424242])
def test_a_server_that_refuses_an_index(configured, valkey_wire, mongo_client, monkeypatch, code):
    """Whatever MongoDB has against an index is an answer."""

    def refuse(*_: object, **__: object) -> None:
        raise OperationFailure("An equivalent index already exists", code)

    monkeypatch.setattr(Collection, "create_index", refuse)
    pipeline = Pipeline(configured, wire=valkey_wire, client=mongo_client)
    with pytest.raises(ConfigurationError, match="An equivalent index already exists"):
        pipeline.sink.create_unique_index("users", "username")
