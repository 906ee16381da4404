"""The record of the MongoDB database that a Redis belongs to: who makes it, and what counts as one."""

from __future__ import annotations

import pytest

from tests.integration.conftest import flush_all, put, stored
from tests.integration.owner.conftest import recorded
from writebehind import Pipeline
from writebehind.errors import (
    ForeignDatabaseError,
    RedisFullError,
)
from writebehind.redis.keys import DATABASE, PARTITIONS
from writebehind.redis.scripts import script
from writebehind.redis.shared.owner import Owner


def test_the_first_process_records_its_database(pipeline, foreign):
    """A process of another database is told whose Redis it is, what it names itself, and what to do."""
    pipeline.check()
    pipeline.check()

    with pytest.raises(ForeignDatabaseError) as told:
        foreign.check()

    names = pipeline.settings.mongodb_database, foreign.settings.mongodb_database
    assert (
        f"MONGODB_DATABASE: this Redis belongs to database {names[0]!r}, not to {names[1]!r}: set REDIS_URL"
        in str(told.value)
    )
    assert "writebehind adopt" in str(told.value)
    assert f"database/{names[0]}".encode() == recorded(pipeline)


def test_whose_it_is_is_told_before_how_it_is_divided(pipeline, foreign):
    """A second installation is not told to take the first one's number of partitions."""
    pipeline.check()
    settings = foreign.settings.model_copy(update={"partitions": 7})
    with pytest.raises(ForeignDatabaseError):
        Pipeline(settings, wire=pipeline.store._wire, client=pipeline._client).check()


def test_the_first_write_of_a_library_records_it(pipeline, foreign):
    """Where no process has started that checks, the first use does, so that nobody else's worker takes it over."""
    pipeline.collection("users").put("ada", {"name": "Ada"})

    assert f"database/{pipeline.settings.mongodb_database}".encode() == recorded(pipeline)
    assert b"4" == pipeline.store._wire.call("GET", PARTITIONS)
    with pytest.raises(ForeignDatabaseError):
        foreign.check()


def test_an_installation_from_before_the_record(pipeline):
    """Where there is data and no record, the first process records its own database, and goes on."""
    put(pipeline, 3)
    pipeline.store._wire.call("DEL", DATABASE)

    pipeline.check()
    flush_all(pipeline)

    assert {"u0": 0, "u1": 1, "u2": 2} == stored(pipeline)
    assert f"database/{pipeline.settings.mongodb_database}".encode() == recorded(pipeline)


def test_a_full_redis_says_whose_it_is(pipeline, foreign):
    """A worker of another installation does not start on it, and one that is the first records its database."""
    wire = pipeline.store._wire
    wire.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(RedisFullError):
            wire.call("SET", "more", "data")
        pipeline.check()
        with pytest.raises(ForeignDatabaseError):
            foreign.check()
    finally:
        wire.call("CONFIG", "SET", "maxmemory", "0")


def test_what_is_no_record(pipeline, foreign, caplog):
    """Other hands put something in its place: it is told, and the first start records its own again."""
    pipeline.store._wire.call("SET", DATABASE, "shop")

    pipeline.check()

    assert "other hands put b'shop' in the place of wb:database" in caplog.text
    with pytest.raises(ForeignDatabaseError):
        foreign.check()


@pytest.mark.parametrize(
    "owner", [Owner("shop"), Owner("shop", "store"), Owner("Läden-2"), Owner("moving", "database")]
)
def test_a_record_is_read_as_it_was_written(owner):
    assert owner == Owner.parse(owner.record)


@pytest.mark.parametrize(
    "record",
    [
        None,
        b"",
        b"shop",
        b"database/",
        b"database/a/b",
        b"moving/a",
        b"moving//b",
        b"database/" + b"x" * 64,
        b"database/\xff",
    ],
)
def test_what_nobody_has_written_is_no_record(record):
    assert Owner.parse(record) is None


def test_who_comes_first_is_recorded(wire):
    """Whoever comes later is told, and changes nothing."""
    first = script("record_first")
    assert [b"database/a", b"database/a"] == [
        wire.run(first, (DATABASE,), (f"database/{name}",)) for name in ("a", "b")
    ]
    assert b"database/a" == wire.call("GET", DATABASE)
