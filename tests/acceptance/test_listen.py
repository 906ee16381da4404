"""Living beside others who write to MongoDB."""

from __future__ import annotations

import json
import os
import signal
import time

import bson
import pytest

from tests.waiting import slowness, wait_until
from writebehind.redis import keys

pytestmark = pytest.mark.acceptance

#: What others do is to be seen within this time, seconds.
SEEN_WITHIN_S = 1.0
OWN_WRITES = int(os.environ.get("OWN_WRITES", "2000"))


def listener(system) -> dict:
    return system.status()["listener"] or {}


@pytest.fixture
def listening(system) -> None:
    wait_until(lambda: listener(system)["seconds_ago"] < 2 and not listener(system)["error"], "the listener", 30)


def seen_after(system, path: str, expected: dict | None) -> float:
    """How long it takes until the API answers so, seconds."""
    began = time.monotonic()

    def look() -> bool:
        answer = system.http.get(path)
        return (answer.json() if answer.status_code == 200 else None) == expected

    wait_until(look, f"{path} to be {expected}", 5)
    return time.monotonic() - began


def test_changes_by_others_are_seen_within_a_second(system, listening):
    """Whatever is done with pymongo shows: of documents that are cached, known to be absent, or looked up."""
    people = system.database.people
    by_id, by_name = "/v1/people/ada", "/v1/people?name=Ada"
    seconds = []
    for path in (by_id, by_name, "/v1/people?name=Countess"):
        assert 404 == system.http.get(path).status_code

    ada = {"_id": "ada", "name": "Ada", **system.fill}
    people.insert_one(ada)
    seconds += [seen_after(system, path, ada) for path in (by_id, by_name)]
    people.update_one({"_id": "ada"}, {"$set": {"name": "Countess"}})
    countess = ada | {"name": "Countess"}
    seconds += [seen_after(system, path, countess) for path in (by_id, "/v1/people?name=Countess")]
    assert 404 == system.http.get(by_name).status_code
    people.replace_one({"_id": "ada"}, ada | {"n": 2})
    seconds += [seen_after(system, path, ada | {"n": 2}) for path in (by_id, by_name)]
    people.delete_one({"_id": "ada"})
    seconds += [seen_after(system, path, None) for path in (by_id, by_name)]

    assert max(seconds) < SEEN_WITHIN_S * slowness()


def test_queries_have_what_is_pending_and_what_others_write(system, listening):
    """A query has each write at once and ever after, and what others do within a second."""
    people, path = system.database.people, "/v1/people/queries/in_city?city=Turin"

    def names() -> list[str]:
        return [one["_id"] for one in system.http.get(path).raise_for_status().json()["documents"]]

    def wait_for(expected: list[str]) -> float:
        began = time.monotonic()
        wait_until(lambda: names() == expected, f"the query to answer {expected}", 5)
        return time.monotonic() - began

    assert [] == names()
    system.http.put("/v1/people/rita", json={"city": "Turin", "rank": 1, **system.fill}).raise_for_status()
    assert ["rita"] == names()
    seconds = []
    people.insert_one({"_id": "primo", "city": "Turin", "rank": 0, **system.fill})
    seconds.append(wait_for(["primo", "rita"]))
    while system.status()["pending"]:
        assert ["primo", "rita"] == names()
    assert ["primo", "rita"] == names()
    people.update_one({"_id": "rita"}, {"$set": {"rank": -1}})
    seconds.append(wait_for(["rita", "primo"]))
    people.delete_one({"_id": "primo"})
    seconds.append(wait_for(["rita"]))
    system.http.delete("/v1/people/rita").raise_for_status()
    assert [] == names()

    assert max(seconds) < SEEN_WITHIN_S * slowness()


def test_own_writes_invalidate_nothing(system, listening):
    """What the pipeline itself brings to MongoDB leaves the cache as it is."""
    system.wait_until_drained()
    wait_until(lambda: listener(system)["lag_s"] == 0, "a quiet stream", 10)
    before = listener(system)
    for first in range(0, OWN_WRITES, 1000):
        system.put_all(f"own-{first}-", min(1000, OWN_WRITES - first))
    system.wait_until_drained(60)
    wait_until(lambda: listener(system)["events"] - before["events"] >= OWN_WRITES, "the events", 60)

    after = listener(system)
    assert 0 == after["invalidated"] - before["invalidated"]
    assert 0 == after["conflicts"] - before["conflicts"]


def test_nothing_is_missed_while_the_listener_is_dead(system, listening):
    """It is killed while others write; whoever leads next goes on where it was."""
    people = system.database.people
    names = [f"person-{n}" for n in range(200)]
    people.insert_many([{"_id": name, "n": 0, **system.fill} for name in names])
    for name in names:
        assert 200 == system.http.get(f"/v1/people/{name}").status_code
    reopened = listener(system)["reopened"]

    for n, name in enumerate(names):
        people.update_one({"_id": name}, {"$set": {"n": 1}})
        if n == len(names) // 2:
            os.kill(system.stack.pids()["listen"], signal.SIGKILL)

    def all_seen() -> bool:
        answer = system.http.post("/v1/people:get", json={"ids": names}).json()
        return {1} == {one["n"] for one in answer["documents"].values()}

    wait_until(all_seen, "all changes to be seen", 20)
    assert reopened == listener(system)["reopened"]


@pytest.mark.parametrize(
    ("kind", "token"), [("foreign", bson.encode({"_data": "nobody's"}).hex()), ("unreadable", "00")]
)
def test_what_was_missed_with_an_invalid_token(system, listening, kind, token):
    """A listener whose token MongoDB does not take begins anew, and nothing that it missed stays hidden."""
    people, names = system.database.people, [f"missed-{kind}-{n}" for n in range(100)]
    people.insert_many([{"_id": name, "n": 0, **system.fill} for name in names])
    for name in names:
        assert 200 == system.http.get(f"/v1/people/{name}").status_code
    wait_until(lambda: listener(system)["lag_s"] == 0, "a quiet stream", 10)
    reopened = listener(system)["reopened"]

    with system.redis() as redis:
        pid = system.stack.pids()["listen"]
        os.kill(pid, signal.SIGSTOP)  # so that it notes no token after this
        try:
            people.update_many({"_id": {"$in": names}}, {"$set": {"n": 1}})
            noted = json.loads(redis.call("GET", keys.LISTENER))
            redis.call("SET", keys.LISTENER, json.dumps(noted | {"token": token}))
            redis.call("DEL", keys.LISTENER_LEASE)
        finally:
            os.kill(pid, signal.SIGKILL)

    def all_seen() -> bool:
        answer = system.http.post("/v1/people:get", json={"ids": names}).json()
        return {1} == {one["n"] for one in answer["documents"].values()}

    wait_until(all_seen, "all changes to be seen", 20)
    assert reopened < listener(system)["reopened"]
