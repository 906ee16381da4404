"""What MongoDB refuses for good, from HTTP to MongoDB and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from pymongo.errors import OperationFailure

from tests.acceptance.conftest import System
from tests.waiting import slowness, wait_until

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}

pytestmark = pytest.mark.acceptance


def test_five_of_a_hundred_are_refused(system: System):
    """95 are in MongoDB and 5 dead with code and reason; readers see all 100; replay persists them once it can."""
    events = system.database["events"]
    events.insert_one({"_id": "taken", "mail": "taken@x"})
    events.create_index("mail", unique=True, partialFilterExpression={"mail": {"$exists": True}})
    schema = {"properties": {"age": {"bsonType": ["int", "long"]}}}
    system.database.command("collMod", "events", validator={"$jsonSchema": schema})
    with pytest.raises(OperationFailure) as refused:
        events.insert_one({"_id": "probe", "age": "old"})
    assert refused.value.code == 121
    documents = {f"r{n:02}": {"mail": f"{n}@x"} for n in range(100)}
    documents |= {f"r{n:02}": {"mail": "taken@x"} for n in (7, 40, 93)}
    documents |= {f"r{n:02}": {"age": "old"} for n in (8, 60)}
    documents = {one: {**fields, **system.fill} for one, fields in documents.items()}

    items = [{"op": "put", "id": one, "doc": document} for one, document in documents.items()]
    system.http.post("/v1/events:bulk", json=items).raise_for_status()
    system.wait_until_drained()

    stored = {one["_id"] for one in events.find({"_id": {"$regex": "^r"}})}
    assert documents.keys() - {"r07", "r40", "r93", "r08", "r60"} == stored
    letters = system.http.get("/admin/dead-letters?collection=events").json()["dead_letters"]
    expected = {"r07": 11000, "r40": 11000, "r93": 11000, "r08": 121, "r60": 121}
    assert expected == {one["id"]: one["code"] for one in letters}
    assert all(one["reason"] == "refused" and one["message"] for one in letters)
    read = system.http.post("/v1/events:get", json={"ids": list(documents)}).json()
    assert ({one: {"_id": one} | fields for one, fields in documents.items()}, []) == (
        read["documents"],
        read["missing"],
    )
    exported = system.http.get("/admin/dead-letters:export?collection=events").text.splitlines()
    assert {one: {"_id": one} | documents[one] for one in expected} == {
        (letter := json.loads(line))["id"]: letter["document"] for line in exported
    }

    events.drop_index("mail_1")
    system.database.command("collMod", "events", validator={})
    answer = system.http.post("/admin/dead-letters:replay?collection=events").json()

    assert {"replayed": 5, "left": 0} == answer
    wait_until(lambda: 100 == events.count_documents({"_id": {"$regex": "^r"}}), "all in MongoDB")
    assert 0 == system.http.get("/admin/dead-letters").json()["total"]


def test_replayed_by_the_command_line(system: System):
    """A letter that the command line replays is in MongoDB long before a sweep would find it."""
    events, path = system.database["events"], "/v1/events/by-command"
    system.database.command("collMod", "events", validator={"n": {"$gt": 1}})
    assert 422 == system.http.put(path, json={"n": 1}, params={"durability": "persisted"}).status_code
    system.database.command("collMod", "events", validator={})
    env = {**system.servers, "MONGODB_DATABASE": system.stack.mongodb_database}
    replay = [sys.executable, "-m", "writebehind", "dead-letters", "replay", "--collection", "events"]

    told = subprocess.run(replay, env=os.environ | env, capture_output=True, check=True, text=True)

    began = time.monotonic()
    assert "1 replayed; workers try that now, and --wait says what comes of it\n" == told.stdout, told.stderr
    wait_until(lambda: events.find_one({"_id": "by-command", "n": 1}), "MongoDB")
    assert time.monotonic() - began < 3 * slowness()  # an unsent hint keeps the sweep away for 10 s


def test_what_yielded_stays(system: System):
    """With `theirs`, each write that yields to somebody's change keeps a letter, whatever is written after it."""
    path, letters = "/v1/yielding/ada", "/admin/dead-letters/yielding/ada"
    persisted, yielding = {"durability": "persisted"}, system.database["yielding"]
    system.http.put(path, json={"n": 0}, params=persisted).raise_for_status()
    wait_until(lambda: (system.status()["listener"] or {}).get("lag_s") == 0, "the listener", 30)
    versions = []
    for n in (1, 2):
        versions.append(system.http.put(path, json={"n": n}).raise_for_status().json()["version"])
        yielding.update_one({"_id": "ada"}, {"$set": {"theirs": n}})
        wait_until(lambda n=n: letters_of_yielding(system) == n, "the write to yield", 10)
        system.http.patch(path, json={"m": n}, params=persisted, headers=MERGE_PATCH).raise_for_status()
        assert n == letters_of_yielding(system)

    assert {"n": 0, "theirs": 2, "m": 2}.items() <= system.http.get(path).json().items()
    documents = [system.http.get(letters, params={"version": one}).json()["document"] for one in versions]
    assert [1, 2] == [one["n"] for one in documents]
    assert 400 == system.http.delete(letters).status_code  # which of the two?
    assert 1 == system.http.delete(letters, params={"version": versions[1]}).json()["discarded"]

    assert {"replayed": 1, "left": 0} == system.http.post(f"{letters}:replay").json()

    wait_until(lambda: yielding.find_one({"_id": "ada"}, {"_v": 0}) == {"_id": "ada", "n": 1}, "MongoDB", 10)
    assert 0 == letters_of_yielding(system)


def letters_of_yielding(system: System) -> int:
    return system.status()["dead_letters_by_collection"].get("yielding", 0)
