"""Flushing is paused and resumed over HTTP."""

from __future__ import annotations

from tests.unit.web.conftest import problem


def test_pause_and_resume(client, installation):
    """Answers say what is paused then, and the status does; to pause twice, or resume nothing, is no error."""
    assert {"resumed": [], "paused": []} == client.post("/admin/resume").json
    (one,) = client.post("/admin/pause").json["paused"]
    assert (None, None) == (one["collection"], one["seconds_left"])
    client.put("/v1/users/ada", json={"n": 1})
    status = client.get("/admin/status").json
    assert [one] == status["paused"]
    assert status["not_safe_because"].startswith("paused: flushing of all collections is paused until")
    again, other = client.post("/admin/pause?for_s=60").json["paused"] + [None]
    assert (one["since"], None) == (again["since"], other)
    assert 50 < again["seconds_left"] <= 60
    both = client.post("/admin/pause?collection=users").json["paused"]
    assert [None, "users"] == [each["collection"] for each in both]
    left = client.post("/admin/resume?collection=users").json
    assert (["users"], [None]) == tuple([each["collection"] for each in left[it]] for it in ("resumed", "paused"))
    assert [] == client.post("/admin/resume").json["paused"]
    assert [] == client.get("/admin/status").json["paused"]


def test_what_is_refused(client, installation):
    """A collection that there is not, a time that is none, a parameter that nobody knows."""
    for path in ("/admin/pause?collection=nobodys", "/admin/resume?collection=nobodys"):
        problem(client.post(path), 404)
    for query in ("for_s=0", "for_s=1h", "for_s=2592001", "for=3", "collection=users&collection=pages"):
        problem(client.post(f"/admin/pause?{query}"), 400)
    problem(client.get("/admin/pause"), 405)
    assert [] == client.get("/admin/status").json["paused"]
