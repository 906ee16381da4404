"""What the doctor says of MongoDB."""

from __future__ import annotations

import pytest
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.synchronous.database import Database

from tests.integration.doctor.conftest import found
from writebehind import Pipeline
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb.deployment import CollectionInfo
from writebehind.operations.doctor import Level, mongodb


def test_a_majority_that_does_not_answer(patient, monkeypatch):
    """Writes that no majority acknowledges would never be persisted."""

    def refuse() -> None:
        raise MongoUnavailableError("no majority")

    monkeypatch.setattr(patient.sink, "try_write_concern", refuse)
    assert (Level.FAILURE, "no majority") == (
        (one := found(patient, "mongodb write concern")).level,
        one.found,
    )


@pytest.mark.parametrize(
    ("hello", "level", "text"),
    [
        ({"msg": "isdbgrid"}, Level.OK, "sharded"),
        ({"setName": "rs0", "hosts": ["a", "b", "c"], "isWritablePrimary": True}, Level.OK, "replica set of 3"),
        ({"setName": "rs0", "hosts": ["a"], "isWritablePrimary": False}, Level.FAILURE, "not its primary"),
        ({}, Level.WARNING, "no change streams"),
    ],
)
def test_topology(hello, level, text):
    """A standalone server works, but is worth a warning; one that is no primary takes no writes."""
    one = mongodb.topology(hello)
    assert (level, True) == (one.level, text in one.found)


@pytest.mark.parametrize(("version", "level"), [("4.4.1", Level.WARNING), ("8.0.3", Level.OK)])
def test_the_version_of_mongodb(version, level):
    """What is older than what is tested is worth a warning."""
    assert level is mongodb.version(version).level


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        ({"properties": {"name": {}}}, True),
        ({"additionalProperties": False, "properties": {"name": {}, "_v": {}}}, True),
        ({"additionalProperties": False, "properties": {"name": {}}, "patternProperties": {"^_": {}}}, True),
        ({"additionalProperties": {"bsonType": "long"}, "properties": {"name": {}}}, True),
        ({"additionalProperties": False, "properties": {"name": {}}}, False),
        ({"additionalProperties": False}, False),
    ],
)
def test_schemas_that_allow_the_version(schema, allowed):
    """A schema that lists every field has to list `_v`, by name or by pattern."""
    assert allowed is mongodb.allows_version(schema)


@pytest.mark.parametrize(
    "error",
    [OperationFailure("not supported", 115), OperationFailure("not authorized", 13), AutoReconnect("gone")],
)
def test_a_change_stream_that_does_not_open(patient, monkeypatch, error):
    """A server that says it is a replica set may have no change streams, or not for this user: one is opened."""
    assert (Level.OK, "opens") == ((one := found(patient, "mongodb change stream")).level, one.found)

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Database, "watch", refuse)
    one = found(patient, "mongodb change stream")
    assert (Level.WARNING, True) == (one.level, str(error) in one.found)
    assert "none opens" in one.found
    assert "mongodb write concern" in {one.check for one in mongodb.check(patient)}


def test_collections_that_do_not_keep_documents(patient, mongo_client):
    """Views, capped collections and default collations are named, where they are ours."""
    database = mongo_client[patient.settings.mongodb_database]
    for name in ("users", "of-somebody-else"):
        database.create_collection(name, viewOn="other", pipeline=[])
    database.create_collection("slow", capped=True, size=4_096)
    database.create_collection("through", collation={"locale": "en", "strength": 2})

    said = [one.found for one in mongodb.check(patient) if one.check == "mongodb collection"]

    assert ["slow is capped", "through has the default collation en", "users is a view"] == [
        one.split(":")[0] for one in said
    ]
    anybody = Pipeline(
        patient.settings.model_copy(update={"allow_unlisted": True}), wire=patient.store._wire, client=mongo_client
    )
    assert len(said) + 1 == sum(one.check == "mongodb collection" for one in mongodb.check(anybody))


@pytest.mark.parametrize(
    ("info", "faults"),
    [
        (CollectionInfo("collection", {}), 0),
        (CollectionInfo("", {"collation": {"locale": "simple"}, "capped": False}), 0),
        (CollectionInfo("view", {"viewOn": "x", "collation": {"locale": "de"}}), 2),
        (CollectionInfo("timeseries", {"timeseries": {"timeField": "t"}}), 1),
        (CollectionInfo("collection", {"clusteredIndex": {"unique": True, "key": {"_id": 1}}}), 0),
    ],
)
def test_what_servers_list(info, faults):
    """An ordinary collection is nothing to speak of; several faults are said one by one."""
    assert faults == len(list(mongodb.collection("users", info)))


def test_a_server_that_lists_nothing(patient, monkeypatch):
    """What MongoDB refuses to tell is said, and everything else is looked at all the same."""

    def refuse() -> None:
        raise MongoUnavailableError("MongoDB refuses: not authorized")

    monkeypatch.setattr(patient.sink, "collections", refuse)
    one = found(patient, "mongodb")
    assert (Level.FAILURE, "MongoDB refuses: not authorized") == (one.level, one.found)
    assert "let its user read" in one.advice
    assert {"mongodb version", "mongodb write concern"} <= {one.check for one in mongodb.check(patient)}


def test_a_validator_that_knows_no_version(patient, mongo_client):
    """A validator that refuses every document is found, if it refuses at all and the collection is ours."""
    database = mongo_client[patient.settings.mongodb_database]
    closed = {"$jsonSchema": {"additionalProperties": False, "properties": {"_id": {}, "name": {}}}}
    database.create_collection("users", validator=closed)
    database.create_collection("slow", validator=closed, validationAction="warn")
    database.create_collection("through", validator=closed, validationLevel="off")
    database.create_collection("of-somebody-else", validator=closed)

    [one] = [one for one in mongodb.check(patient) if one.check == "mongodb validator"]

    assert (Level.FAILURE, True, True) == (one.level, "validator of users" in one.found, '"_v"' in one.advice)
