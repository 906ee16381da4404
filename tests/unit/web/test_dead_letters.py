"""The routes of dead letters."""

from __future__ import annotations

import json
import time

import pytest

from tests.unit.web.conftest import problem
from writebehind import errors
from writebehind.documents.entry import Kind
from writebehind.flushing.dead_letters import DeadLetter, Reason
from writebehind.redis.letters import MOST_KEPT

PATH = "/admin/dead-letters"


@pytest.fixture
def dead(installation, client):
    """Two users and a page that MongoDB refuses."""
    store = installation.pipeline.store
    for collection, name, code in (("users", "ada", 11000), ("users", "bob", 121), ("free", "a b", 121)):
        written = client.put(f"/v1/{collection}/{name}", json={"n": 1}).json
        member = f"{collection}/s:{name}"
        letter = DeadLetter(member, Reason.REFUSED, code, "no", written["version"], Kind.DOCUMENT, 2, time.time())
        store.pending.bury(member, f"{written['version']:016d}", letter.dump())


def listed(client, query: str = "") -> set[str]:
    return {one["id"] for one in client.get(PATH + query).json["dead_letters"]}


@pytest.fixture
def history(installation, client, dead) -> list[int]:
    """The versions of three letters of `ada`, the newest last: of two conflicts, and one that is refused."""
    store, versions = installation.pipeline.store, []
    [refused] = client.get(f"{PATH}?collection=users&code=11000").json["dead_letters"]
    assert 1 == client.delete(f"{PATH}/users/ada").json["discarded"]
    for n, reason in enumerate((Reason.CONFLICT, Reason.CONFLICT, Reason.REFUSED)):
        version = client.put("/v1/users/ada", json={"n": n}).json["version"]
        letter = DeadLetter("users/s:ada", reason, 0, refused["message"], version, Kind.DOCUMENT, 2, time.time())
        conflicts = reason is Reason.CONFLICT
        assert store.pending.bury("users/s:ada", f"{version:016d}", letter.dump(), drop_entry=conflicts)
        versions.append(version)
    return versions


def test_one_of_several(client, history):
    """Each letter of a document is shown by its version, and the newest without; the others are named with it."""
    old, _, new = history
    shown = client.get(f"{PATH}/users/ada").json
    assert (new, {"_id": "ada", "n": 2}) == (shown["version"], shown["document"])
    assert set(history) == {new, *shown["other_versions"]}
    assert {"_id": "ada", "n": 0} == client.get(f"{PATH}/users/ada?version={old}").json["document"]
    listed_versions = [one["version"] for one in client.get(f"{PATH}?collection=users").json["dead_letters"]]
    assert set(history) <= set(listed_versions)
    exported = [json.loads(line) for line in client.get(f"{PATH}:export?reason=conflict").text.splitlines()]
    assert {0, 1} == {one["document"]["n"] for one in exported}
    assert {"users": 4, "free": 1} == client.get("/admin/status").json["dead_letters_by_collection"]


@pytest.mark.parametrize(("method", "action"), [("POST", ":replay"), ("DELETE", "")])
def test_which_of_several(client, history, method, action):
    """A change says which letter it means; the answer to one that does not names them, and nothing is changed."""
    answer = problem(client.open(f"{PATH}/users/ada{action}", method=method), 400, "bad-request")
    assert all(str(version) in answer["detail"] for version in history)
    problem(client.open(f"{PATH}/users/ada{action}?version=7", method=method), 404, "not-found")
    for wrong in ("x", "-1", "1e5", "9" * 17):
        problem(client.open(f"{PATH}/users/ada{action}?version={wrong}", method=method), 400, "bad-request")
    assert 5 == client.get(PATH).json["total"]


def test_discard_and_replay_one_of_several(client, history):
    """The others stay; and what is kept goes over no write that MongoDB refuses."""
    old, middle, new = history
    answer = client.post(f"{PATH}/users/ada:replay?version={middle}").json
    assert {"replayed": 0, "left": 1, "because": {"newer": 1}} == answer
    assert 1 == client.delete(f"{PATH}/users/ada?version={new}").json["discarded"]
    assert {"replayed": 1, "left": 1, "because": {"newer": 1}} == client.post(
        f"{PATH}:replay?collection=users&reason=conflict"
    ).json
    assert {"_id": "ada", "n": 1} == client.get("/v1/users/ada").json
    assert {"_id": "ada", "n": 0} == client.get(f"{PATH}/users/ada?version={old}").json["document"]
    assert {"replayed": 1, "left": 1, "because": {"conflict": 1}} == client.post(
        f"{PATH}:replay?collection=users"
    ).json


def test_list(client, dead):
    """The list shows what was refused and why, and how many there are, but no documents."""
    found = client.get(PATH).json
    assert (3, None, 3) == (found["total"], found["cursor"], len(found["dead_letters"]))
    ada = next(one for one in found["dead_letters"] if one["id"] == "ada")
    assert {
        "collection": "users",
        "reason": "refused",
        "code": 11000,
        "code_name": "DuplicateKey",
    }.items() <= ada.items()
    assert "document" not in ada
    status = client.get("/admin/status").json
    assert (3, {"users": 2, "free": 1}) == (status["dead_letters"], status["dead_letters_by_collection"])


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?collection=users", {"ada", "bob"}),
        ("?code=121", {"bob", "a b"}),
        ("?collection=users&code=121", {"bob"}),
        ("?reason=conflict", set()),
        ("?after=2020-01-01T00:00:00Z", {"ada", "bob", "a b"}),
        ("?before=2020-01-01T00:00:00%2B01:00", set()),
    ],
)
def test_filters(client, dead, query, names):
    """Filters choose letters by what they have in common."""
    assert names == listed(client, query)


def test_cursor(client, dead):
    """A cursor leads from page to page, each of the size that was asked for."""
    names, query = [], "?limit=1"
    while True:
        page = client.get(PATH + query).json
        names += [one["id"] for one in page["dead_letters"]]
        assert len(page["dead_letters"]) <= 1
        if page["cursor"] is None:
            break
        query = f"?limit=1&cursor={page['cursor']}"
    assert ["a b", "ada", "bob"] == sorted(names)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "?nonsense=1"),
        ("GET", "?limit=0"),
        ("GET", "?limit=1001"),
        ("GET", "?limit=-1"),
        ("GET", "?cursor=x"),
        ("GET", "?cursor=Wy0xMDAwMDAwMDAwMDAwLCIwIiwiIl0="),
        ("POST", ":replay?all=true&cursor=x"),
        ("DELETE", "?all=true&cursor=x"),
        ("GET", "?code=abc"),
        ("GET", "?code=99999999999"),
        ("GET", "?reason=bored"),
        ("GET", "?after=yesterday"),
        ("GET", "?after=2020-01-01T00:00:00"),
        ("GET", "/users/ada?x=1"),
        ("GET", ":export?limit=1"),
        ("DELETE", ""),
        ("DELETE", "?all=false"),
        ("DELETE", "?al=true"),
        ("POST", ":replay"),
        ("POST", ":replay?all=1"),
        ("POST", ":replay?all=yes&collection=users"),
        ("POST", "/users/ada:replay?all=true"),
    ],
)
def test_bad_requests(client, dead, method, path):
    """What is misspelt or forgotten is refused, and changes nothing."""
    problem(client.open(PATH + path, method=method), 400, "bad-request")
    assert {"ada", "bob", "a b"} == listed(client)


def test_show(client, dead):
    """One letter comes with its document; what is not dead is not found."""
    assert {"_id": "a b", "n": 1} == client.get(f"{PATH}/free/a b").json["document"]
    problem(client.get(f"{PATH}/users/eve"), 404, "not-found")
    problem(client.get(f"{PATH}/nope/eve"), 404, "unknown-collection")
    problem(client.get(f"{PATH}/numbers/eve"), 400, "invalid-id")


def test_export(client, dead):
    """The export has every letter with its document, one a line; a filter chooses."""
    response = client.get(PATH + ":export")
    documents = [json.loads(line)["document"] for line in response.text.splitlines()]
    assert "application/x-ndjson" == response.content_type
    assert [{"_id": "a b", "n": 1}, {"_id": "ada", "n": 1}, {"_id": "bob", "n": 1}] == sorted(
        documents, key=lambda one: one["_id"]
    )
    assert 1 == len(client.get(PATH + ":export?code=11000").text.splitlines())


def test_an_export_that_breaks_off(installation, client, dead, monkeypatch):
    """When Redis goes away in the middle, the last line is a problem, so that a part is not taken for all."""
    found = installation.pipeline.dead_letters.all

    def breaks(wanted):
        yield next(found(wanted))
        raise errors.RedisUnavailableError

    monkeypatch.setattr(installation.pipeline.dead_letters, "all", breaks)
    lines = [json.loads(line) for line in client.get(PATH + ":export").text.splitlines()]
    assert (2, True) == (len(lines), lines[-1]["type"].endswith("redis-unavailable"))


def test_replay(installation, client, sink, dead):
    """One letter, those of a filter, or all are tried again."""
    assert {"replayed": 1, "left": 0} == client.post(f"{PATH}/users/ada:replay").json
    assert {"bob", "a b"} == listed(client)
    problem(client.post(f"{PATH}/users/ada:replay"), 404, "not-found")
    assert {"replayed": 1, "left": 0} == client.post(PATH + ":replay?collection=free").json
    assert {"replayed": 1, "left": 0} == client.post(PATH + ":replay?all=true").json
    for partition in range(installation.pipeline.settings.partitions):
        installation.pipeline.flusher.flush(partition)
    assert {"ada", "bob", "a b"} == {one.id.text for one in sink.written}


def test_discard(client, sink, dead):
    """Readers see what MongoDB has once a letter is discarded, and the answer says so."""
    sink.has("users", "ada", {"n": 0})
    answer = client.delete(f"{PATH}/users/ada").json
    assert 1 == answer["discarded"]
    assert "readers see what MongoDB has" in answer["from_now_on"]
    assert {"_id": "ada", "n": 0} == client.get("/v1/users/ada").json
    assert 1 == client.delete(PATH + "?code=121&collection=users").json["discarded"]
    assert 404 == client.get("/v1/users/bob").status_code
    assert 1 == client.delete(PATH + "?all=true").json["discarded"]
    assert 0 == client.get(PATH).json["total"]


@pytest.mark.parametrize(("method", "action"), [("POST", ":replay"), ("DELETE", "")])
def test_many_in_several_requests(client, dead, monkeypatch, method, action):
    """A request changes a bounded number of letters, and its cursor leads to the others."""
    monkeypatch.setattr("writebehind.flask.admin.dead_letters.MOST_AT_ONCE", 1)
    changed, cursor = [], ""
    while True:
        answer = client.open(f"{PATH}{action}?all=true&cursor={cursor}", method=method).json
        changed.append(answer.get("replayed", answer.get("discarded")))
        if not (cursor := answer.get("cursor")):
            break
    assert (3, True) == (sum(changed), len(changed) > 1)


def test_a_document_with_too_many(installation, client, monkeypatch):
    """At 100 letters that alone have what was acknowledged of it, writes to a document are 503, by any route."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    store = installation.pipeline.store
    for n in range(MOST_KEPT):
        version = client.put("/v1/users/ada", json={"n": n}).json["version"]
        letter = DeadLetter("users/s:ada", Reason.CONFLICT, 0, "no", version, Kind.DOCUMENT, 0, time.time())
        assert store.pending.bury("users/s:ada", f"{version:016d}", letter.dump(), drop_entry=True)

    refused = client.put("/v1/users/ada", json={"n": -1})
    detail = problem(refused, 503, "dead-letters")["detail"]
    assert (f"this document of users has {MOST_KEPT} dead letters" in detail, "30") == (
        True,
        refused.headers["Retry-After"],
    )
    problem(client.delete("/v1/users/ada"), 503, "dead-letters")
    items = [{"op": "put", "id": one, "doc": {}} for one in ("ada", "bob")]
    results = client.post("/v1/users:bulk", json=items).json["results"]
    assert [503, 200] == [one["status"] if one["status"] == 503 else 200 for one in results]
    assert MOST_KEPT == client.get(PATH).json["total"]
    oldest = min(one["version"] for one in client.get(PATH).json["dead_letters"])
    assert 1 == client.delete(f"{PATH}/users/ada?version={oldest}").json["discarded"]
    assert 201 >= client.put("/v1/users/ada", json={"n": -1}).status_code
