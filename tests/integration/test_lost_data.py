"""A Redis that has lost its data is told until an operator has seen it; a Redis that has it all is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.integration.conftest import put
from writebehind import Pipeline, connect, last_known
from writebehind.errors import UnavailableError
from writebehind.last_known import FILES
from writebehind.monitoring.page import Page
from writebehind.operations.adopt import adopt
from writebehind.operations.drain import drain
from writebehind.operations.growth import grow
from writebehind.redis import keys

pytestmark = pytest.mark.one_server(
    "all is lost at once: topology/test_lost_data.py has one of several servers lose what it has"
)

METRIC = "writebehind_data_lost_documents"


@pytest.fixture
def here(settings, valkey_wire, tmp_path, monkeypatch) -> Any:
    """The settings of processes of this host, which count in a directory, and a fresh Redis."""
    del valkey_wire
    monkeypatch.setenv("WRITEBEHIND_METRICS_DIR", str(tmp_path))
    return settings.model_copy(update={"metrics_dir": tmp_path})


@pytest.fixture
def pipeline(here) -> Iterator[Pipeline]:
    with connect(here) as pipeline:
        pipeline.check()
        yield pipeline


def losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "data_lost"]


def gauge(pipeline: Pipeline) -> float:
    families = parse_text(Page(pipeline).render("")[0].decode())
    return next(sample.value for one in families for sample in one.samples if sample.name == METRIC)


def lost(pipeline: Pipeline) -> list[int]:
    """The documents of each loss, as a status tells them."""
    told = pipeline.status()
    assert bool(told["lost_data"]) == any(one["about"] == "lost_data" for one in told["to_do"])
    return [one["pending"] + one["dead_letters"] for one in told["lost_data"]]


def test_an_emptied_redis(pipeline, here, valkey_wire, caplog, run):
    """All tell it: the log once, and the others, on all hosts, until an operator has seen it. Figures go on."""
    put(pipeline, 4)
    assert [] == lost(pipeline)
    valkey_wire.call("FLUSHALL")
    put(pipeline, 1)

    assert [4] == lost(pipeline)
    assert 1 == pipeline.last_known.latest().pending
    with connect(here) as another, connect(here.model_copy(update={"metrics_dir": None})) as elsewhere:
        assert [4] == lost(pipeline) == lost(another) == lost(elsewhere)
    (line,) = losses(caplog)
    assert "4 documents were only in Redis" in line
    assert 4 == gauge(pipeline)
    told = pipeline.status()
    assert (False, None) == (told["safe"], told["seconds_until_safe"])
    assert "4 documents were lost" in told["not_safe_because"]
    shown = run("status").output
    assert "data lost" in shown
    assert "4 documents that were only in Redis at" in shown
    assert json.loads(run("status", "--json").stdout)["to_do"][0]["about"] == "lost_data"
    doctor = run("doctor", "--json")
    assert 2 == doctor.exit_code
    assert ["failure"] == [
        one["level"] for one in map(json.loads, doctor.stdout.splitlines()) if one["check"] == "lost data"
    ]

    assert {"seen": 1} == json.loads(run("doctor", "--loss-seen", "--json").stdout)
    assert [] == lost(pipeline)
    assert 0 == gauge(pipeline)
    assert "lost data" not in run("doctor", "--json").stdout


def test_it_was_emptied_while_nothing_ran(pipeline, here, valkey_wire, run):
    """The file of the host knows it, and so does a command that looks before any process does."""
    put(pipeline, 3)
    pipeline.note_at_stake()
    pipeline.close()
    valkey_wire.call("FLUSHALL")
    assert 2 == (found := run("doctor")).exit_code
    assert "3 documents were only in Redis" in found.output
    with connect(here) as fresh:
        fresh.check()
        assert [3] == lost(fresh)


@pytest.mark.parametrize(
    ("moved", "found"), [(("redis_url",), [3]), (("mongodb_url",), [3]), (("redis_url", "mongodb_url"), [])]
)
def test_another_installation_of_that_name(here, valkey_wire, caplog, moved, found):
    """It is one with neither server: a directory and the name of the database are shared by some. One may move."""
    with connect(here) as one:
        one.check()
        put(one, 3)
        one.note_at_stake()
    valkey_wire.call("FLUSHALL")  # as empty as another's
    elsewhere = {name: getattr(here, name).replace("127.0.0.1", "localhost") for name in moved}
    assert all(getattr(here, name) != url for name, url in elsewhere.items())

    with connect(here.model_copy(update=elsewhere)) as other:
        other.check()
        assert found == lost(other)
        put(other, 1)
        assert found == lost(other)
    assert len(found) == len(losses(caplog))


def test_the_host_has_rebooted(here, valkey_wire, tmp_path, monkeypatch, run):
    """With Redis, whose files are gone: of the counts nothing is left, and what is kept apart tells it."""
    (kept := tmp_path / "kept").mkdir()
    monkeypatch.setenv("WRITEBEHIND_STATE_DIR", str(kept))
    with connect(here.model_copy(update={"state_dir": kept})) as before:
        before.check()
        put(before, 3)
        before.note_at_stake()
    assert not [*tmp_path.glob(FILES)]
    valkey_wire.call("FLUSHALL")
    assert 2 == (found := run("doctor")).exit_code
    assert "3 documents were only in Redis" in found.output


def test_a_second_loss_forgets_no_first_one(pipeline, valkey_wire, caplog):
    """What was told in the Redis that is lost too is told in the next one."""
    put(pipeline, 2)
    pipeline.status()
    for documents in ([2], [2], [2]):
        valkey_wire.call("FLUSHALL")
        assert documents == lost(pipeline)
    put(pipeline, 5)
    pipeline.status()
    valkey_wire.call("FLUSHALL")
    assert [2, 5] == lost(pipeline)
    assert 2 == len(losses(caplog))


def test_nothing_is_lost_where_nothing_waited(pipeline, valkey_wire, caplog):
    """MongoDB has it all."""
    put(pipeline, 2)
    pipeline.status()
    drain(pipeline, timeout_s=30)
    pipeline.status()
    valkey_wire.call("FLUSHALL")
    assert [] == lost(pipeline)
    assert not losses(caplog)


def test_what_is_asked_for(pipeline, here, monkeypatch):
    """Of what there is none no partition is asked for."""
    asked: list[str] = []
    ask = pipeline.store._wire.calls_answered
    put(pipeline, 1)
    drain(pipeline, timeout_s=30)
    monkeypatch.setattr(
        pipeline.store.lost_data._wire,
        "calls_answered",
        lambda commands: asked.extend(one[0] for one in commands) or ask(commands),
    )
    for documents in (0, 1):
        put(pipeline, documents)
        asked.clear()
        pipeline.last_known.note(pending=documents, pending_bytes=0, dead_letters=0)
        pending = sum(one.pending for one in pipeline.last_known.latest().data.parts.values())
        assert (documents, here.partitions) == (pending, asked.count("HMGET"))
        assert (documents * here.partitions, 0) == (asked.count("ZCARD"), asked.count("HLEN"))


def test_a_recorder_sees_it(pipeline, valkey_wire, caplog):
    """Without anybody who asks for a status."""
    recorder = pipeline.recorder()
    put(pipeline, 2)
    recorder.step()
    valkey_wire.call("FLUSHALL")
    recorder.step()
    assert 1 == len(losses(caplog))


def test_figures_of_before_this_was_told(pipeline, here, valkey_wire):
    """A file of an older release does not say which data it is of."""
    put(pipeline, 2)
    pipeline.status()
    pipeline.close()
    (path,) = Path(here.metrics_dir).glob(FILES)
    told = json.loads(path.read_bytes())
    assert told.pop("data")["parts"]
    path.write_text(json.dumps(told))
    valkey_wire.call("FLUSHALL")
    with connect(here) as fresh:
        assert [] == lost(fresh)


def test_another_division_is_no_loss(pipeline, here, caplog, monkeypatch):
    """All documents go along."""
    monkeypatch.setattr(
        "writebehind.operations.growth._wait_for_all", lambda *_: None
    )  # there is no other process
    put(pipeline, 3)
    pipeline.status()
    grow(pipeline, 2 * here.partitions)
    assert 3 == pipeline.status()["pending"]
    assert [] == lost(pipeline)
    assert not losses(caplog)


def test_another_installations_redis_is_not_judged(pipeline, here, valkey_wire, caplog):
    """A process whose address is wrong leaves it alone, and what it knows of its own."""
    put(pipeline, 3)
    pipeline.status()
    valkey_wire.call("FLUSHALL")
    valkey_wire.call("SET", keys.DATABASE, "database/theirs")
    pipeline.note_at_stake()
    assert [keys.DATABASE.encode()] == valkey_wire.call("KEYS", "wb:*")
    assert 3 == pipeline.last_known.latest().pending
    assert not losses(caplog)


def test_who_only_looks_leaves_a_new_redis_as_it_is(here, valkey_wire):
    """A status makes no key there."""
    with connect(here) as fresh:
        assert [] == lost(fresh)
    assert [] == valkey_wire.call("KEYS", "wb:*")


def test_a_host_that_was_away_tells_nothing_old(pipeline, here, valkey_wire, tmp_path, caplog):
    """Others saw later that nothing waited any more when the data went."""
    put(pipeline, 3)
    with connect(here.model_copy(update={"metrics_dir": None})) as another:
        another.last_known.keep_in(away := tmp_path / "away")
        away.mkdir()
        assert [] == minutes_ago(another)
        drain(pipeline, timeout_s=30)
        pipeline.status()
        valkey_wire.call("FLUSHALL")
        pipeline.check()
        assert [] == lost(pipeline)
        assert [] == lost(another)
    assert not losses(caplog)


@pytest.fixture
def away(here, tmp_path) -> Iterator[Pipeline]:
    """A process of another host, which is seldom asked."""
    with connect(here.model_copy(update={"metrics_dir": None})) as another:
        (directory := tmp_path / "away").mkdir()
        another.last_known.keep_in(directory)
        yield another


def minutes_ago(pipeline: Pipeline) -> list[int]:
    """What a process tells that looks then: of looks milliseconds apart either may seem later."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(last_known.time, "time", lambda: time() - 120)
        return lost(pipeline)


def looked(pipeline: Pipeline, away: Pipeline, before: int) -> None:
    """Let a process look while so many documents wait, before there are 7."""
    put(pipeline, 7)
    drain(pipeline, timeout_s=30)
    put(pipeline, before)
    assert [] == minutes_ago(away)
    put(pipeline, 7)


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("ahead_s", [0.0, -300.0])
def test_who_looked_last_knows_best(pipeline, away, valkey_wire, caplog, monkeypatch, before, ahead_s):
    """It is believed though another has noted the loss before it, and whatever the clock of its host says."""
    looked(pipeline, away, before)

    def here() -> list[int]:
        with monkeypatch.context() as patched:
            patched.setattr(last_known.time, "time", lambda: time() + ahead_s)
            return lost(pipeline)

    assert [] == here()
    valkey_wire.call("FLUSHALL")
    pipeline.check()
    assert [before] * bool(before) == lost(away)
    assert [7] == here() == lost(away)
    assert 1 + bool(before) == len(losses(caplog))
    assert "7 documents were only in Redis" in losses(caplog)[-1]


def test_who_looked_last_was_the_first_to_note(pipeline, away, valkey_wire, caplog):
    """What another saw before changes nothing."""
    looked(pipeline, away, 2)
    assert [] == lost(pipeline)
    valkey_wire.call("FLUSHALL")
    assert [7] == lost(pipeline) == lost(away)
    assert 1 == len(losses(caplog))


def test_who_looked_last_saw_less(pipeline, away, valkey_wire, caplog):
    """MongoDB has got the others: the log has said enough."""
    put(pipeline, 7)
    assert [] == minutes_ago(away)
    drain(pipeline, timeout_s=30)
    put(pipeline, 2)
    assert [] == lost(pipeline)
    valkey_wire.call("FLUSHALL")
    assert [7] == lost(away)
    assert [2] == lost(pipeline) == lost(away)
    assert 1 == len(losses(caplog))


@pytest.mark.parametrize(("before", "told"), [(2, [7]), (7, [])])
def test_what_an_operator_has_seen(pipeline, away, valkey_wire, caplog, before, told):
    """It is told no more, also by who looked later; but nobody has seen documents that only that one knows of."""
    looked(pipeline, away, before)
    assert [] == lost(pipeline)
    valkey_wire.call("FLUSHALL")
    assert [before] == lost(away)
    assert 1 == away.store.lost_data.see()
    assert [] == lost(away)
    assert told == lost(pipeline) == lost(away)
    assert 1 + len(told) == len(losses(caplog))


def test_other_hands_in_the_place_of_what_is_noted(pipeline, valkey_wire):
    """It counts as nothing."""
    put(pipeline, 2)
    assert [] == lost(pipeline)
    [*names] = (f"{at}:{one.born}" for at, one in pipeline.last_known.latest().data.parts.items())
    valkey_wire.call("FLUSHALL")
    for name, text in zip(names, (b"{", b"[1]"), strict=False):
        valkey_wire.call("HSET", keys.LOST_DATA, name, text)
    assert [2] == lost(pipeline)


def test_an_older_release_writes_first(pipeline, valkey_wire, caplog):
    """During an upgrade of processes one by one: it leaves no name with its writes."""
    put(pipeline, 3)
    assert [] == lost(pipeline)
    valkey_wire.call("FLUSHALL")
    pipeline.check()
    put(pipeline, 3)
    for key in valkey_wire.call("KEYS", "wb:*:counts"):
        valkey_wire.call("HDEL", key, "born")
    assert [3] == lost(pipeline)
    assert [3] == lost(pipeline)
    valkey_wire.call("FLUSHALL")
    assert [3, 3] == lost(pipeline)


def test_an_older_exporter_looks(pipeline, here, valkey_wire):
    """What it notes each second does not say in which data that was: others look as well."""
    put(pipeline, 3)
    older = {"at": time(), "pending": 0, "pending_bytes": 0, "dead_letters": 0}
    for path in Path(here.metrics_dir).glob(FILES):
        path.unlink()
    Path(here.metrics_dir, FILES.replace("*", "")).write_text(json.dumps(older))
    with connect(here) as fresh:
        assert fresh.last_known.is_due()
        fresh._note_at_stake(fresh.store.load())
        assert not fresh.last_known.is_due()
        valkey_wire.call("FLUSHALL")
        assert [3] == lost(fresh)


def test_data_of_an_older_release(pipeline, here, valkey_wire, caplog):
    """Its first look names it. A replica that was promoted before it got the name has lost nothing."""

    def older() -> None:
        for key in valkey_wire.call("KEYS", "wb:*:counts"):
            valkey_wire.call("HDEL", key, "born")

    put(pipeline, 3)
    older()
    assert [] == lost(pipeline)
    older()
    assert [] == lost(pipeline)
    assert not losses(caplog)
    valkey_wire.call("FLUSHALL")
    assert [3] == lost(pipeline)


def test_keys_that_may_go(pipeline, valkey_wire, caplog):
    """Copies of what MongoDB has are evicted, and other hands delete them, also of what waits."""
    put(pipeline, 3)
    drain(pipeline, timeout_s=30)
    put(pipeline, 2)
    pipeline.status()
    valkey_wire.call("DEL", *valkey_wire.call("KEYS", "wb:*:entry:*"))
    assert [] == lost(pipeline)
    assert not losses(caplog)


def test_another_database(pipeline, here, caplog, monkeypatch):
    """Redis is given to it, with what waits."""
    monkeypatch.setattr("writebehind.operations.adopt.wait_for_forgotten", lambda _: None)
    put(pipeline, 3)
    pipeline.status()
    another = here.model_copy(update={"mongodb_database": f"{here.mongodb_database}_new"})
    with connect(another) as taken:
        adopt(taken, force=True)
        assert [] == lost(taken)
    assert not losses(caplog)


@pytest.mark.parametrize("spoil", [("SET", "nothing"), ("DEL",)])
def test_counts_that_other_hands_spoil_are_no_loss(pipeline, here, valkey_wire, spoil):
    """All documents that waited are there: the data has its name again, and what is lost later is told."""
    put(pipeline, 5)
    assert [] == lost(pipeline)
    places = [keys.partition_keys(at).counts for at in range(here.partitions)]
    command, *value = spoil
    for place in places:
        valkey_wire.call("DEL", place)
        valkey_wire.call(command, place, *value)
    for _ in range(2 * len(places)):  # each look takes out one of another type at least
        with suppress(UnavailableError):
            assert [] == lost(pipeline)
    assert [] == lost(pipeline)
    valkey_wire.call("FLUSHALL")
    assert [5] == lost(pipeline)
