"""Dead letters of a pipeline: what MongoDB refused, back-pressure, the command line."""

from __future__ import annotations

import json
import re

import bson
import pytest
from click.testing import CliRunner

from tests.integration.conftest import environment
from writebehind import Pipeline
from writebehind.cli import cli
from writebehind.documents import codec
from writebehind.documents.entry import Kind
from writebehind.errors import TooManyDeadLettersError, UnknownCollectionError
from writebehind.flushing.dead_letters import DeadLetter, Filter, Found, Reason


@pytest.fixture
def refused(pipeline: Pipeline) -> Pipeline:
    """A pipeline of whose 100 documents MongoDB has refused 3."""
    users = pipeline.collection("users")
    pipeline.sink._database["users"].create_index("mail", unique=True)
    users.put("first", {"mail": "same"})
    flush(pipeline)
    for n in range(99):
        users.put(f"u{n}", {"mail": "same" if n < 3 else n})
    flush(pipeline)
    return pipeline


def flush(pipeline: Pipeline) -> None:
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.flush(partition)


def test_neighbours_are_persisted(refused):
    """MongoDB has all but the three; readers see them all, and why."""
    assert 97 == refused.sink._database["users"].count_documents({})
    assert {"_id": "u2", "mail": "same"} == refused.collection("users").get("u2")
    found = list(refused.dead_letters.all(Filter()))
    assert {"u0", "u1", "u2"} == {one.letter.id.text for one in found}
    assert {(11000, 2, 0)} == {(one.letter.code, one.letter.attempts, one.letter.over) for one in found}


def test_too_many_are_back_pressure(refused, monkeypatch):
    """At the limit a new document of that collection is refused; one of another collection is not."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", 0.0)
    limited = refused.settings.collections["users"].model_copy(update={"max_dead_letters": 3})
    settings = refused.settings.model_copy(
        update={"collections": {**refused.settings.collections, "users": limited}}
    )
    pipeline = Pipeline(settings, wire=refused.store._wire, client=refused._client)
    users = pipeline.collection("users")

    with pytest.raises(TooManyDeadLettersError, match="refused 3 documents of users, and 3 may stand"):
        users.put("new", {"mail": "new"})
    pipeline.collection("slow").put("new", {})
    pipeline.dead_letters.discard(list(pipeline.dead_letters.all(Filter()))[:1])
    users.put("new", {"mail": "new"})


def test_a_misspelt_collection(refused, monkeypatch):
    """It is said that there is none; one that was taken out of the settings, and has letters, is one."""
    for name, value in environment(refused.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WRITEBEHIND_ALLOW_UNLISTED", "false")
    for command in (["list"], ["export"], ["replay"], ["discard", "--yes"]):
        with pytest.raises(UnknownCollectionError, match="'usres' is not configured"):
            CliRunner().invoke(cli, ["dead-letters", *command, "--collection", "usres"], catch_exceptions=False)
    told = CliRunner().invoke(cli, ["dead-letters", "list", "--collection", "users"], catch_exceptions=False)
    assert "3 of 3" in told.stdout


def test_on_the_command_line(refused, monkeypatch, tmp_path):
    """List, show, export, replay, and discard, from the command line to MongoDB."""
    monkeypatch.setenv("REDIS_URL", refused.settings.redis_url)
    monkeypatch.setenv("MONGODB_URL", refused.settings.mongodb_url)
    monkeypatch.setenv("MONGODB_DATABASE", refused.settings.mongodb_database)
    monkeypatch.setenv("WRITEBEHIND_PARTITIONS", str(refused.settings.partitions))
    monkeypatch.setenv("WRITEBEHIND_ALLOW_UNLISTED", "true")

    def run(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(cli, ["dead-letters", *arguments], catch_exceptions=False)
        assert (status, result.output) == (result.exit_code, result.output)
        return result.stdout

    told = run("list")
    assert "3 of 3 dead letters" in told
    for letter in map(json.loads, run("list", "--json").splitlines()):
        assert f"users/{letter['id']}\n    {letter['reason']}, version {letter['version']}, " in told
        assert " ".join(letter["message"].split()) in told
    assert {"u0", "u1", "u2"} == {json.loads(line)["id"] for line in run("list", "--json").splitlines()}
    assert "0 of 3" in run("list", "--code", "121")
    for failed in re.findall(r"version \d+, (\S+),", told):
        assert {failed} <= {json.loads(line)["failed"] for line in run("list", "--json").splitlines()}
        for same in (failed, failed.replace("T", " ").replace("Z", "+00:00"), failed[:10], failed[:19]):
            assert "0 of 3" not in run("list", "--after", same)
            assert "3 of 3" not in run("list", "--before", same)
    run("list", "--after", "yesterday", status=2)
    assert {"_id": "u1", "mail": "same"} == json.loads(run("show", "users", "u1"))["document"]
    run("export", "--output", str(tmp_path / "letters"))
    lines = (tmp_path / "letters").read_text().splitlines()
    assert {"u0", "u1", "u2"} == {json.loads(line)["document"]["_id"] for line in lines}
    run("replay", status=2)
    run("replay", "users", "u1", "--all", status=2)
    run("discard", "--all", status=2)
    run("replay", "--all", "--wait", status=1)
    assert 3 == refused.dead_letters.count()

    refused.sink._database["users"].drop_index("mail_1")
    assert "1 replayed" in run("replay", "users", "u1", "--wait")
    assert "1 discarded" in run("discard", "users", "u0", "--yes")
    assert refused.collection("users").get("u0") is None
    assert "1 replayed" in run("replay", "--collection", "users", "--wait")

    found = {one["_id"] for one in refused.sink._database["users"].find({"mail": "same"})}
    assert {"first", "u1", "u2"} == found
    assert 0 == refused.dead_letters.count()


def test_bodies_are_whole(pipeline):
    """The document of a letter is byte for byte what was acknowledged, for every type of BSON."""
    document = {"_id": "ada", "d": bson.Decimal128("1.50"), "b": b"\x00", "n": {"i": bson.Int64(1)}}
    written = pipeline.collection("users").put("ada", document)
    entry = pipeline.store.cache.get("users/s:ada")[0]
    letter = DeadLetter("users/s:ada", Reason.REFUSED, 1, "", written.version, Kind.DOCUMENT, 1, 0.0)
    pipeline.store.pending.bury("users/s:ada", entry.version_digits, letter.dump())

    found: Found = next(pipeline.dead_letters.all(Filter()))

    assert entry.body == found.letter.body
    assert document == codec.decode(found.letter.body)
