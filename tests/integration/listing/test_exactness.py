"""Lists are exact, whatever happens in whatever order, and while it happens."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from bson import ObjectId
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.integration.listing.conftest import KINDS, listed, pages
from writebehind import Pipeline
from writebehind.documents.ids import MAX_ID_BYTES, DocumentId
from writebehind.mql.order import key_of, key_of_tagged
from writebehind.writing.bulk import BulkOperation

#: Of each kind of ids those that are made up; of texts also such as have special characters in URLs and in JSON.
IDS = {
    "users": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
    | st.sampled_from(["a", "a/b", "..", "%2F", '"', "\0", "\U0010ffff", "x" * MAX_ID_BYTES]),
    "numbers": st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-3, 12),
    "orders": st.binary(min_size=12, max_size=12).map(ObjectId),
    "keys": st.uuids() | st.sampled_from([UUID(int=0), UUID(int=(1 << 128) - 1)]),
    "mixed": st.text("ab0", min_size=1, max_size=3) | st.binary(min_size=12, max_size=12).map(ObjectId),
}
ANY_ID = st.sampled_from(sorted(KINDS)).flatmap(lambda name: st.tuples(st.just(name), IDS[name]))


class Model(RuleBasedStateMachine):
    """Whatever is written, flushed or changed by others: a list is all that was acknowledged, in order."""

    parts: tuple[Pipeline, object]

    @initialize()
    def empty(self) -> None:
        self.pipeline, self.database = self.parts
        self.pipeline.store._wire.call("FLUSHALL")
        for name in KINDS:
            self.database[name].delete_many({})
        self.expected: dict[DocumentId, int] = {}

    @rule(named=ANY_ID, n=st.integers(0, 9))
    def put(self, named: tuple[str, object], n: int) -> None:
        name, one = named
        self.pipeline.collection(name).put(one, {"n": n})
        self.expected[self.pipeline.collection(name).id(one)] = n

    @rule(data=st.data(), n=st.integers(10, 19))
    def change(self, data: st.DataObject, n: int) -> None:
        if self.expected:
            one = data.draw(st.sampled_from(sorted(self.expected, key=lambda one: one.member)))
            self.pipeline.collection(one.collection).put(one.text, {"n": n})
            self.expected[one] = n

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.expected:
            one = data.draw(st.sampled_from(sorted(self.expected, key=lambda one: one.member)))
            self.pipeline.collection(one.collection).delete(one.text)
            del self.expected[one]

    @rule(n=st.integers(1, 4))
    def flush(self, n: int) -> None:
        """What is pending in some partitions, due or not."""
        for partition in range(n):
            for member in self.pipeline.store._wire.call("ZRANGE", f"wb:{{{partition}}}:pending", 0, -1):
                self.pipeline.store._wire.call("ZADD", f"wb:{{{partition}}}:pending", 0, member)
            self.pipeline.flusher.drain(partition, budget_s=5)

    @rule(named=ANY_ID, n=st.integers(20, 29))
    def outside(self, named: tuple[str, object], n: int) -> None:
        """Somebody else writes a document that Redis does not know."""
        one = self.pipeline.collection(named[0]).id(named[1])
        if not self.pipeline.store._wire.call(
            "EXISTS", self.pipeline.store._layout.of(one.member).entry(one.member)
        ):
            self.database[one.collection].replace_one({"_id": one.value}, {"n": n}, upsert=True)
            self.expected[one] = n

    @rule(name=st.sampled_from(sorted(KINDS)), limit=st.integers(1, 5))
    def ask(self, name: str, limit: int) -> None:
        """Not after each step."""
        collection = self.pipeline.collection(name)
        ours = sorted((one for one in self.expected if one.collection == name), key=lambda one: key_of(one.value))
        found = [
            (one, document["n"])
            for page in pages(collection, limit)
            for one, document in zip(page.ids, page.documents(), strict=True)
        ]
        assert [(one, self.expected[one]) for one in ours] == found


def test_whatever_happens(pipeline, mongo_client):
    """In the words of a model that knows every write."""
    Model.parts = (pipeline, mongo_client[pipeline.settings.mongodb_database])
    run_state_machine_as_test(
        Model,
        settings=hypothesis_settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def goes_on(step: Callable[[int], None]) -> Iterator[list[int]]:
    """Within it, something is done again and again in a thread; how often."""
    done, ends, failures = [0], threading.Event(), []

    def run() -> None:
        try:
            while not ends.wait(0.01):
                step(done[0])
                done[0] += 1
        except Exception as error:  # noqa: BLE001 - the test tells it
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        ends.set()
        thread.join()
    assert not failures
    assert done[0]


def test_while_writes_and_flushes_go_on(pipeline, other, users, stored):
    """Of 3,000 documents 500 are pending and 200 deleted: pages have exactly what was acknowledged, each once.

    Others are written all over the collection meanwhile, and what is pending becomes persisted.
    """
    chance = random.Random(7)
    names = [f"u{n:05}" for n in range(3_500)]
    chance.shuffle(names)
    new, stays = names[:250], names[250:3_250]
    stored.insert_many([{"_id": one, "n": 0} for one in stays])
    expected = dict.fromkeys(stays, 0) | dict.fromkeys(new, 1) | dict.fromkeys(stays[:250], 2)
    writes = [BulkOperation("put", one, {"n": expected[one]}) for one in (*new, *stays[:250])]
    gone = stays[250:450]
    writes += [BulkOperation("delete", one) for one in gone]
    users.bulk(writes)
    for one in gone:
        del expected[one]
    assert 700 == pipeline.status()["pending"]

    def write(turn: int) -> None:
        """Documents between the others, which come, change and go."""
        name = f"u{chance.randrange(3_500):05}x"
        if turn % 3:
            other.collection("users").put(name, {"n": 3})
        else:
            other.collection("users").delete(name)

    flushed = [0]

    def flush(_turn: int) -> None:
        """Some of what is pending, so that all of it would be persisted before the last page."""
        partition = flushed[0] % pipeline.settings.partitions
        pending = f"wb:{{{partition}}}:pending"
        for member in other.store._wire.call("ZRANGE", pending, 0, 20):
            other.store._wire.call("ZADD", pending, "XX", 0, member)
        flushed[0] += other.flusher.flush(partition).persisted or 1

    with goes_on(write) as written, goes_on(flush):
        before = written[0]
        found = listed(users, limit=150)
        assert written[0] > before

    names = [one["_id"] for one in found]
    assert sorted(set(names)) == names
    assert expected == {one["_id"]: one["n"] for one in found if not one["_id"].endswith("x")}


@given(st.one_of(*IDS.values()))
def test_places_of_ids(value):
    """The place of an id, as a member has it, is that of its value in BSON, whatever its type."""
    one = DocumentId.of("users", value)
    assert key_of(one.value) == key_of_tagged(one.member.partition("/")[2])
