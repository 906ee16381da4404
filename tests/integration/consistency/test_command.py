"""`writebehind consistency`, and the figures in the status."""

from __future__ import annotations

import orjson
import pytest

from tests.integration.conftest import flush_all
from tests.integration.consistency.conftest import counted, found, observing, settle, step_until
from writebehind.errors import MongoUnavailableError
from writebehind.monitoring.page import Page
from writebehind.redis import keys


def test_the_command_observes_for_a_while_and_says_what_was_seen(pipeline, users, stored, run, monkeypatch):
    """All right is exit status 0, and what is wrong 1, with the document; the last hour and the status agree."""
    monkeypatch.setenv("WRITEBEHIND_CONSISTENCY_CPU_PERCENT", "100")
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    told = run("consistency", "--for", "2s", "--json")
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


def test_the_command_speaks_of_its_own_time(pipeline, users, stored, run, monkeypatch):
    """What was wrong before it was started, and is right by now, is neither counted nor named."""
    monkeypatch.setenv("WRITEBEHIND_CONSISTENCY_CPU_PERCENT", "100")
    for name in ("ada", "bob"):
        users.put(name, {"n": 1})
    flush_all(pipeline)
    observer = pipeline.observer()
    settle(observer)
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    step_until(observer, lambda: found(pipeline), "it to be found")
    observer.close()
    pipeline.reconciler.make_pass()
    assert 2 == users.get("ada")["n"]

    told = run("consistency", "--for", "2s", "--json")
    figures = orjson.loads(told.stdout)
    assert (0, [], "right", None) == (told.exit_code, figures["inconsistent"], figures["outcome"], figures["why"])
    assert "ada" not in run("consistency", "--for", "2s").stdout

    stored.update_one({"_id": "bob"}, {"$set": {"n": 2}})
    told = run("consistency", "--for", "3s", "--json")
    figures = orjson.loads(told.stdout)
    assert (1, ["bob"], "wrong") == (
        told.exit_code,
        [one["id"] for one in figures["inconsistent"]],
        figures["outcome"],
    )
    assert "ada" in run("consistency", "--json").stdout  # of the last hour


def test_what_another_process_saw_meanwhile(pipeline, users, stored, run, monkeypatch):
    """Where another one observes, the command tells what that one counted in the time, in whatever slot."""
    monkeypatch.setenv("WRITEBEHIND_CONSISTENCY_CPU_PERCENT", "100")
    monkeypatch.setattr("writebehind.redis.shared.samples.SLOT_S", 1)
    for name in ("ada", "bob"):
        users.put(name, {"n": 1})
    flush_all(pipeline)
    observer = pipeline.observer()
    settle(observer)
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    step_until(observer, lambda: found(pipeline), "it to be found")
    pipeline.reconciler.make_pass()
    step_until(observer, lambda: not len(observer.suspects), "it to be right")
    with observing(observer):
        told = run("consistency", "--for", "4s", "--json")
    figures = orjson.loads(told.stdout)
    assert not figures["observed_here"]
    assert (0, []) == (told.exit_code, figures["inconsistent"])
    # Of four slots at least two are over: a walk takes a hundredth of a second here.
    assert figures["windows"]["1"]["looks"] > 2 * 2


def test_what_a_short_time_cannot_show(pipeline, users, run, monkeypatch):
    """Within a window that is no shorter than the time nobody can know; within none, that is no success."""
    monkeypatch.setenv("WRITEBEHIND_CONSISTENCY_CPU_PERCENT", "100")
    users.put("ada", {"n": 1})
    flush_all(pipeline)

    told, as_json, short = (run("consistency", "--for", *of) for of in (["2s"], ["2s", "--json"], ["1s"]))

    assert (0, 0, 3) == (told.exit_code, as_json.exit_code, short.exit_code)
    figures = orjson.loads(as_json.stdout)
    for of in (figures["windows"], figures["collections"]["users"]):
        assert of["1"]["ratio"] == 1.0
        assert of["1"]["nines_from"] > 0
        for window in ("10", "60"):
            known = ("ratio", "nines", "nines_from", "ratio_from", "ratio_to", "wrong")
            assert (None, None, 0.0, 0.0, 1.0, 0) == tuple(of[window][one] for one in known)
    assert "over 0.0" not in told.stdout
    assert "not known within 10 s and 60 s: observe for longer than that" in told.stdout
    assert "nothing can be seen to be wrong in so short a time" in short.stderr


@pytest.mark.parametrize("mode", ["empty", "undecided", "another", "hour"])
def test_where_nothing_was_seen_the_command_says_why(pipeline, users, stored, run, monkeypatch, mode):
    """No look is no success: a line on stderr, exit status 3, and the reason in the JSON; no figure is -0."""
    monkeypatch.setenv("WRITEBEHIND_CONSISTENCY_CPU_PERCENT", "100")
    why = {"empty": "no entry", "undecided": "1 document seems", "another": "another process", "hour": "nobody"}
    if mode == "undecided":
        users.put("ada", {"n": 1})
        flush_all(pipeline)
        stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    if mode == "another":
        assert pipeline.store.lease(keys.CONSISTENCY_LEASE, 60_000).take()
    arguments = ("consistency",) if mode == "hour" else ("consistency", "--for", "1s")

    told, plain = run(*arguments, "--json"), run(*arguments)

    figures = orjson.loads(told.stdout)
    assert (3, 3, "unseen") == (told.exit_code, plain.exit_code, figures["outcome"])
    assert why[mode] in figures["why"]
    assert f"nothing is known: {figures['why']}" in plain.stderr
    assert "-0" not in told.stdout.replace("1e-0", "")
    assert (0, 0.0, None) == tuple(figures["windows"]["1"][one] for one in ("looks", "nines_from", "ratio"))


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


def test_prometheus_sees_the_same_as_the_status(pipeline, users, stored):
    """Of each window and collection the page has looks, wrong ones, the part that was right, and its least."""
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    page = Page(pipeline)
    assert b"writebehind_consistency_ratio{" not in page.render("")[0]
    observer = pipeline.observer()
    settle(observer)
    stored.update_one({"_id": "ada"}, {"$set": {"n": 2}})
    step_until(observer, lambda: found(pipeline), "it to be found")
    observer.close()

    text, one = page.render("")[0].decode(), pipeline.status()["consistency"]["windows"]["1"]
    shown = {line.split(" ")[0]: float(line.split(" ")[1]) for line in text.splitlines() if line[0] != "#"}
    for name, key in (
        ("looks", "looks"),
        ("wrong_looks", "wrong"),
        ("ratio", "ratio"),
        ("ratio_low", "ratio_from"),
    ):
        assert one[key] == shown[f'writebehind_consistency_{name}{{window="1"}}']
        of_users = f'writebehind_collection_consistency_{name}{{collection="users",window="1"}}'
        assert one[key] == shown[of_users]
    assert one["wrong"] > 0


def test_what_was_right_before_says_nothing_of_now(pipeline, users, stored, run):
    """While nobody looks, a status and the page say for how long; also where MongoDB cannot be asked."""
    users.put("ada", {"n": 1})
    flush_all(pipeline)
    observer = pipeline.observer()
    step_until(observer, lambda: counted(pipeline)[0], "a look")
    step_until(observer, lambda: observed_s(pipeline) is not None, "it to be told")
    pipeline.store.samples.note_observed()
    assert "not observed" not in run("status").stdout
    for _ in range(10):
        pipeline.breaker._failed("it is down", probing=False)
    assert "not observed for" in run("status").stdout
    pipeline.breaker._close()

    def fail() -> None:
        raise MongoUnavailableError

    def step() -> None:
        observer._flush_at = 0.0
        observer.step()

    observer._work = fail
    step()  # which tells of the step before
    pipeline.store._wire.call("ZADD", keys.OBSERVED, pipeline.store.now_ms() - 90_000, "consistency")
    step()
    step()
    assert observed_s(pipeline) >= 90
    assert "not observed for 9" in run("status").stdout
    page = Page(pipeline).render("")[0].decode()
    assert "\nwritebehind_consistency_observed_age_seconds 9" in page
    observer.close()


def observed_s(pipeline) -> float | None:
    return pipeline.status()["consistency"]["observed_seconds_ago"]
