"""Names of collections and databases."""

from __future__ import annotations

import pytest
from pymongo import MongoClient
from pymongo.errors import InvalidName

from writebehind import Pipeline, load_settings
from writebehind.errors import ConfigurationError, UnknownCollectionError
from writebehind.settings.names import COLLECTION_NAME, MOST_DATABASE_BYTES, fault_of_database

NEVER = [
    "",
    ".",
    "..",
    "a..b",
    "logs.",
    ".logs",
    "a.b.",
    "a...b",
    "$cmd",
    "a$b",
    "oplog.$main",
    "system.x",
    "system.buckets.t",
    "a\0b",
    "users\n",
    "ü",
    "a b",
    "x" * 121,
]


@pytest.mark.parametrize("name", NEVER)
def test_collections_that_cannot_be(name):
    """A name that MongoDB, its driver or a URL would refuse is no collection, whatever is allowed."""
    with (
        Pipeline(load_settings(allow_unlisted=True)) as pipeline,
        pytest.raises(UnknownCollectionError, match="no collection can be called"),
    ):
        pipeline.collection(name)


@pytest.mark.parametrize(
    "name", ["users", "fs.files", "a.b.c", "_x", "a-b", "System.x", "systems.x", "a.1", "x" * 120]
)
def test_collections_that_can_be(name):
    """What MongoDB takes is a collection, and its driver agrees."""
    assert COLLECTION_NAME.fullmatch(name)
    with MongoClient(connect=False) as client:
        assert name == client["database"][name].name


@pytest.mark.parametrize("name", ["a..b", "logs."])
def test_listed_collections_that_cannot_be(name):
    """A listed collection that MongoDB refuses keeps the process from starting."""
    with pytest.raises(ConfigurationError, match="not a usable collection name"):
        load_settings(collections={name: {}})


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("a.b", "must not contain '.'"),
        ("a b", "must not contain ' '"),
        ("a$b", r"must not contain '\$'"),
        ("a/b", "must not contain '/'"),
        ("a\0b", "must not contain"),
        ("ü" * 32, "is longer than 63 bytes"),
        ("local", "is MongoDB's own"),
        ("Admin", "is MongoDB's own"),
    ],
)
def test_databases_that_cannot_be(name, fault):
    """A database that MongoDB refuses, or that is its own, is a wrong setting and no failing write."""
    with pytest.raises(ConfigurationError, match=f"MONGODB_DATABASE {fault}"):
        load_settings(mongodb_database=name)


def test_the_driver_knows_no_database_that_is_not_known_here():
    """Each character that the driver refuses in a database's name is refused here too."""
    refused = []
    with MongoClient(connect=False) as client:
        for name in (f"a{chr(one)}b" for one in range(128)):
            try:
                client[name]
            except InvalidName:
                refused.append(name)
    assert refused
    assert all(map(fault_of_database, refused))
    assert "" == fault_of_database("x" * MOST_DATABASE_BYTES)
