"""Reads by a field and by a query count by the source of the answer: each lookup once, whoever has answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.conftest import flush_all
from writebehind import Pipeline, Settings
from writebehind.local.embedded import free_port
from writebehind.tallies.families import NEGATIVE_HITS, OTHER, READ_TIMES, READS


@pytest.fixture
def config(settings) -> Settings:
    asked = {"filter": {"city": "London"}, "sort": {"_id": 1}, "limit": 10}
    users = {"lookup": {"username": "string"}, "queries": {"here": asked}, "negative_ttl": 60}
    return Settings.model_validate(settings.model_dump() | {"collections": {"users": users}})


@pytest.fixture
def pipeline(config, valkey_wire, mongo_client) -> Pipeline:
    return Pipeline(config, wire=valkey_wire, client=mongo_client)


@pytest.fixture
def apart(config) -> Iterator[Pipeline]:
    """A pipeline whose Redis is away."""
    given = config.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    with closing(Pipeline(given)) as one:
        yield one


def counted(pipeline: Pipeline) -> Counter[str]:
    """Reads by source."""
    return Counter({labels[1]: int(numbers[0]) for labels, numbers in _series(pipeline, READS.name)})


def timed(pipeline: Pipeline) -> Counter[str]:
    """Reads by source, of which the time is known."""
    return Counter({labels[1]: int(sum(counts)) for labels, (_, *counts) in _series(pipeline, READ_TIMES.name)})


def negative(pipeline: Pipeline) -> int:
    return sum(int(numbers[0]) for _, numbers in _series(pipeline, NEGATIVE_HITS.name))


def _series(pipeline: Pipeline, name: str) -> list[tuple[tuple[str, ...], list[float]]]:
    return [(labels, numbers) for (family, labels), numbers in pipeline.tallies.read().items() if family == name]


def test_a_value_that_nobody_has(pipeline, users):
    """MongoDB is asked once; then Redis says so, which is a hit, and a negative one."""
    for source in ("miss", "hit", "hit"):
        document_id, read = users.look_up("username", "nobody")
        assert (None, source) == (document_id, read.source)

    assert Counter(miss=1, hit=2) == counted(pipeline) == timed(pipeline)
    assert 2 == negative(pipeline)


def test_collections_that_clients_name(config, valkey_wire, mongo_client):
    """One has counts of its own from when a document of it is loaded on; a name that is nobody's has none."""
    unlisted = config.model_copy(update={"allow_unlisted": True})
    one = Pipeline(unlisted, wire=valkey_wire, client=mongo_client)
    mongo_client[config.mongodb_database].pages.insert_one({"_id": "home"})
    for name, key in (("pagse", "home"), ("pages", "gone"), ("pages", "home"), ("pages", "home")):
        one.collection(name).get(key)

    assert {(OTHER, "miss"): [2], ("pages", "miss"): [1], ("pages", "hit"): [1]} == dict(_series(one, READS.name))
    assert ["pages"] == one.store.labels.told_apart([])


def test_a_document_that_has_the_value(pipeline, users, stored):
    """It is one read, by the source that the caller is told, though an alias and the document are looked at."""
    stored.insert_one({"_id": "ada", "username": "ada"})
    told = Counter(str(users.look_up("username", "ada")[1].source) for _ in range(4))

    assert Counter(miss=1, hit=3) == told == counted(pipeline) == timed(pipeline)
    assert 0 == negative(pipeline)


def test_a_value_that_a_document_has_no_more(pipeline, users):
    """The document is looked at in vain, and is no read of a client besides."""
    users.put("ada", {"username": "ada"})
    flush_all(pipeline)
    users.put("ada", {"username": "countess"})
    told = Counter(str(users.look_up("username", "ada")[1].source) for _ in range(3))

    assert told == counted(pipeline) == timed(pipeline)
    assert 3 == told.total()


def test_round_a_redis_that_is_away(pipeline, apart):
    """What MongoDB alone answers counts as bypass: one for each lookup, and for each document of a query."""
    pipeline.collection("users").put("ada", {"username": "ada", "city": "London"})
    pipeline.collection("users").put("bob", {"username": "bob", "city": "London"})
    flush_all(pipeline)
    users = apart.collection("users")

    assert "ada" == users.look_up("username", "ada")[0].text
    assert users.look_up("username", "nobody")[0] is None
    assert Counter(bypass=2) == counted(apart) == timed(apart)
    assert 2 == len(users.query("here"))
    assert Counter(bypass=4) == counted(apart)
    assert 0 == negative(apart)
