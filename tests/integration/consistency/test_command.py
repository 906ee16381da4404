"""`writebehind consistency`, and the figures in the status."""

from __future__ import annotations

import orjson

from tests.integration.conftest import flush_all


def test_the_command_observes_for_a_while_and_says_what_was_seen(pipeline, users, stored, run, monkeypatch):
    """All right is exit status 0, and what is wrong 1, with the document; the last hour and the status agree."""
    monkeypatch.setenv("WRITEBEHIND_CONSISTENCY_CPU_PERCENT", "100")
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    told = run("consistency", "--for", "1s", "--json")
    figures = orjson.loads(told.stdout)
    assert 0 == told.exit_code
    assert figures["windows"]["1"]["looks"] > 0 == figures["windows"]["1"]["wrong"]
    assert figures["observed_here"]

    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    told = run("consistency", "--for", "3")
    assert 1 == told.exit_code
    assert "users/ada: different for " in told.stdout
    told = run("consistency", "--json")
    assert 1 == told.exit_code
    hour, status = orjson.loads(told.stdout), pipeline.status()["consistency"]
    assert hour["windows"] == status["windows"]
    assert [("users", "ada")] == [(one["collection"], one["id"]) for one in status["inconsistent"]]
    assert {"checked", "equal", "ratio"} <= status.keys()
    assert "right" in run("status").stdout.partition("readers see")[2].splitlines()[0]


def test_wrong_times_are_refused(run):
    """A time is a number above 0, with s, m or h."""
    for wrong in ("0", "1d", "-1", "٣s", "x"):
        assert 2 == run("consistency", "--for", wrong).exit_code


def test_without_cpu_time_nobody_observes(pipeline, run, monkeypatch):
    """With 0 percent of a core the command says so."""
    monkeypatch.setenv("WRITEBEHIND_CONSISTENCY_CPU_PERCENT", "0")
    assert "consistency_cpu_percent is 0" in str(run_error(run))


def run_error(run) -> Exception | None:
    try:
        run("consistency", "--for", "1s")
    except Exception as error:  # noqa: BLE001 - what `main` would print
        return error
    return None
