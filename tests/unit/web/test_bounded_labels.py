"""Labels have few values, whatever stands in Redis: what is not known is summed up, and nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.web.test_metrics import figures
from writebehind.redis import keys
from writebehind.redis.keys import partition_keys
from writebehind.redis.store import Store
from writebehind.tallies.apart import ToldApart
from writebehind.tallies.families import MOST_UNLISTED, OTHER
from writebehind.warming.warmer import WARM

#: Far more than may be told apart, in each of the four partitions others.
MANY = [f"c{number}" for number in range(2 * MOST_UNLISTED)]


@pytest.fixture
def store(installation) -> Store:
    return installation.pipeline.store


def series(client, name: str, label: str) -> dict[str, float]:
    """The values of a figure, by one of its labels."""
    found: dict[str, float] = {}
    for (one, labels), value in figures(client).items():
        if one == name:
            of = dict(labels)[label]
            found[of] = found.get(of, 0) + value
    return found


@pytest.fixture(autouse=True)
def apart(installation) -> Iterator[None]:
    """Tell apart those of the settings only, before and after: who is shown stays, and tests share it."""
    one, listed = installation.pipeline.tallies.apart, installation.pipeline.settings.collections
    before = vars(one).copy()
    vars(one).update(vars(ToldApart(listed)) | {"by": one.by})
    yield
    vars(one).update(before)


@pytest.fixture(autouse=True)
def figures_of_now(monkeypatch) -> None:
    """Have no figure that is kept for some seconds."""
    monkeypatch.setattr("writebehind.status.KEPT_S", 0.0)


def test_new_dead_letters(client, store):
    """Collections that came first and reasons that are known are told apart, and no sum falls as others come."""
    for partition in range(4):
        of = {f"letters:{partition}{name}:refused": 1 for name in MANY}
        of |= {f"letters:x{partition}-{name}:refused": 1 for name in MANY} | {"letters:users:refused": 3}
        of |= {f"letters:users:made-up-{name}": 1 for name in MANY} | {"letters:(other):lost": 1}
        store._wire.call("HSET", partition_keys(partition).counts, *(part for one in of.items() for part in one))

    by_collection = series(client, "writebehind_new_dead_letters_total", "collection")
    by_reason = series(client, "writebehind_new_dead_letters_total", "reason")

    assert MOST_UNLISTED + 2 == len(by_collection)
    assert 4 * (3 + len(MANY)) == by_collection["users"]
    assert {"refused", "lost", OTHER} == by_reason.keys()
    assert 4 * (3 * len(MANY) + 3 + 1) == sum(by_collection.values()) == sum(by_reason.values())
    store._wire.call("HSET", partition_keys(0).counts, "letters:a:refused", 5)  # the first one by its name
    later = series(client, "writebehind_new_dead_letters_total", "collection")
    assert by_collection | {OTHER: by_collection[OTHER] + 5} == later


def test_new_dead_letters_of_few_collections(client, store):
    """Each has its own series, whether the settings list it or not."""
    store._wire.call("HSET", partition_keys(0).counts, "letters:users:refused", 3, "letters:unlisted:refused", 2)

    assert {"users": 3, "unlisted": 2} == series(client, "writebehind_new_dead_letters_total", "collection")


def test_dead_letters(client, store):
    """As many as there are, of however many collections."""
    of, counts = partition_keys(0), dict.fromkeys(MANY, 2) | {"users": 5}
    store._wire.call("HSET", of.dead_counts, *(part for one in counts.items() for part in one))
    letters = {
        f"{name}/s:{number}": f"{number:016d}{{}}" for name, count in counts.items() for number in range(count)
    }
    store._wire.call("HSET", of.dead, *(part for one in letters.items() for part in one))

    found = series(client, "writebehind_dead_letters", "collection")

    assert (MOST_UNLISTED + 2, 5) == (len(found), found["users"])
    assert 2 * len(MANY) + 5 == sum(found.values())
    assert 2 * (len(MANY) - MOST_UNLISTED) == found[OTHER]


def test_periodic_tasks(client, store):
    """Those that there are: of others nobody could say what the age of their last run is."""
    with store.metrics.record_run(WARM):
        pass
    noted = store._wire.call("HGET", keys.RUNS, WARM)
    store._wire.call("HSET", keys.RUNS, *(part for name in MANY for part in (name, noted)))

    for name in ("age_seconds", "duration_seconds", "failed"):
        assert {WARM} == series(client, f"writebehind_task_last_run_{name}", "task").keys()


def test_consistency(client, store):
    """Looks of all collections are in the figures; those of the settings are told apart."""
    store.samples.add({f"{name} entries 1 looks": 1 for name in [*MANY, "users"]})

    found = series(client, "writebehind_collection_consistency_looks", "collection")

    assert (MOST_UNLISTED + 2, 1) == (len(found), found["users"])
    assert len(MANY) + 1 == sum(found.values())
    assert 1 == series(client, "writebehind_collection_consistency_ratio", "collection")[OTHER]
