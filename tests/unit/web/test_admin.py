"""Conflicts, drift and hot keys over HTTP."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem
from tests.waiting import wait_until
from writebehind.history.points import Point
from writebehind.redis.keys import CONFLICTS, HISTORY_LEASE


def test_conflicts(client):
    """None, where nobody else writes."""
    assert {"conflicts": []} == client.get("/admin/conflicts").json


def test_many_conflicts(client, installation):
    """The last first, as many as are wanted, until there are as many bytes as an answer may have."""
    for n in range(120):
        installation.wire.call("LPUSH", CONFLICTS, b'{"n":%d}' % n)
    found = [one["n"] for one in client.get("/admin/conflicts?limit=110").json["conflicts"]]
    assert list(range(119, 9, -1)) == found
    assert 120 == len(client.get("/admin/conflicts?limit=1000").json["conflicts"])
    for _ in range(60):
        installation.wire.call("LPUSH", CONFLICTS, b'{"text":"%b"}' % (b"x" * 5_000))
    answer = client.get("/admin/conflicts?limit=1000")
    assert 100_000 < len(answer.data) < 110_000
    assert 20 == len(answer.json["conflicts"])


def test_history(client, installation):
    """Points of 15 s and then of one; what is not known is null, and `since` leaves out what a client has."""
    store, now = installation.pipeline.store, round(installation.pipeline.store.now_ms() / 1000)
    lease = store.lease(HISTORY_LEASE, 5_000)
    assert lease.take()
    coarse = Point(now - 100, {"pending": 7}).dump()
    for ago, one in ((3, coarse), (2, b""), (1, b"")):
        figures = {"pending": ago, "latency.hit.p50": 0.5, "broker.flush": 4, "breaker": "closed"}
        store.history.add(lease, Point(now - ago, figures).dump(), one, most=9, most_coarse=9)

    found = client.get("/admin/history").json
    assert [now - 100, now - 3, now - 2, now - 1] == found["time"]
    assert ([7, 3, 2, 1], [None] * 4) == (found["pending"], found["hit_ratio"])
    assert [None, "closed", "closed", "closed"] == found["breaker"]
    assert ([None, 0.5, 0.5, 0.5], [None, 4, 4, 4]) == (found["latency"]["hit"]["p50"], found["broker"]["flush"])
    assert [now - 1] == client.get(f"/admin/history?since={now - 2}").json["time"]
    assert [now - 1] == client.get(f"/admin/history?since={now - 1.7654321}").json["time"]
    assert 4 == len(client.get("/admin/history?since=1e-05").json["time"])
    assert [now - 2, now - 1] == client.get(f"/admin/history?since={now - 2.5}").json["time"]
    for wrong in ("x", "-1", "1e3", "", "1.", "99999999999"):
        problem(client.get(f"/admin/history?since={wrong}"), 400)


def test_explorer(client):
    """One document, in Redis and in MongoDB; ids are those of the other routes."""
    client.put("/v1/people/ada", json={"username": "ada"})
    found = client.get("/admin/explorer/people/ada").json
    assert ({"_id": "ada", "username": "ada"}, "absent") == (
        found["redis"]["entry"]["document"],
        found["mongodb"]["state"],
    )
    assert [("username", "ada")] == [(one["field"], one["value"]) for one in found["redis"]["claims"]]
    assert 1 == found["pending"]["place"]
    problem(client.get("/admin/explorer/nothing/ada"), 404)
    problem(client.get(f"/admin/explorer/people/{'x' * 600}"), 400)
    problem(client.get("/admin/explorer/people/ada?x=1"), 400)


def test_a_mongodb_that_does_not_answer(client, sink):
    """The status says so at once, when the breaker does not know it yet; and no time at which all is safe."""
    client.put("/v1/people/ada", json={"username": "ada"})
    assert client.get("/admin/status").json["mongodb_error"] is None
    sink.down = True
    found = client.get("/admin/status").json
    reason = "MongoDB does not answer: it is down on purpose"
    assert (reason, "closed") == (found["mongodb_error"], found["breaker"])
    assert (None, reason) == (found["seconds_until_safe"], found["not_safe_because"])


def test_drift(client, installation):
    """The pass under way, the last ones, and the fraction that is equal."""
    client.put("/v1/people/ada", json={"username": "ada"})
    found = client.get("/admin/drift?limit=5").json
    nothing = {"checked": 0, "equal": 0, "ratio": None, "vanished": 0}
    assert ([], nothing) == (found["passes"], found["consistency"])
    installation.pipeline.reconciler.make_pass()
    found = client.get("/admin/drift").json
    assert ({}, False) == (found["passes"][0]["found"], found["passes"][0]["dry_run"])


def test_hot_keys(client, installation):
    """The most read of all first, with reads per second; and the same in each partition."""
    for name, reads in (("ada", 3), ("bob", 1), ("ann", 2)):
        client.put(f"/v1/people/{name}", json={"username": name})
        for _ in range(reads):
            client.get(f"/v1/people/{name}")
    installation.pipeline.hot_keys.send()

    def hottest() -> dict:
        """Once all counts are there: the thread that sends them may have taken some of them just before."""
        found = client.get("/admin/hot-keys?limit=2").json
        assert ["ada", "ann"] == [one["id"] for one in found["hot_keys"]]
        return found

    found = wait_until(hottest, "the counts")
    assert found["hot_keys"][0]["reads_per_second"] > found["hot_keys"][1]["reads_per_second"] > 0
    everywhere = [one["id"] for some in found["by_partition"] for one in some["hot_keys"]]
    assert {"ada", "ann"} <= set(everywhere) <= {"ada", "ann", "bob"}


def test_hot_keys_of_very_many_partitions(client, installation, monkeypatch):
    """An answer does not grow with the partitions: of each, fewer documents are shown than were asked for."""
    monkeypatch.setattr("writebehind.flask.admin.hot_keys.MOST_SHOWN", 0)
    for n in range(120):
        client.put(f"/v1/users/u{n}", json={"n": n})
        client.get(f"/v1/users/u{n}")
    installation.pipeline.hot_keys.send()

    def are_shown() -> bool:
        """Once all counts are there: the thread that sends them may have taken some of them just before."""
        found = client.get("/admin/hot-keys?limit=1000").json
        assert [20] * 4 == [len(one["hot_keys"]) for one in found["by_partition"]]
        return len(found["hot_keys"]) == 80

    wait_until(are_shown, "the counts")


@pytest.mark.parametrize("path", ["/admin/conflicts", "/admin/drift", "/admin/hot-keys"])
@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=1001",
        "limit=-1",
        "limit=%D9%A3",
        "limit=1_0",
        "limit=01",
        "limit=+1",
        "limit=" + "9" * 30,
        "x=1",
    ],
)
def test_wrong_limits(client, path, query):
    """They are refused with what is right."""
    assert problem(client.get(f"{path}?{query}"), 400)["detail"]
