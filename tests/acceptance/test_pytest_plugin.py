"""The fixtures for tests of a team's own, in a pytest of their own, which finds them by the installed package."""

from __future__ import annotations

import os
import re
import subprocess
import sys

TESTS = """
import asyncio
import pytest
from pymongo import MongoClient
from writebehind import aconnect, connect
from writebehind.errors import UnknownCollectionError


def stored(settings):
    with MongoClient(settings.mongodb_url) as client:
        return list(client[settings.mongodb_database]["users"].find({}, {"_v": 0}))


@pytest.mark.parametrize("turn", range(2))
def test_documents_are_clean(writebehind_pipeline, writebehind_flush, turn):
    users = writebehind_pipeline.collection("users")
    assert users.get("ada") is None and stored(writebehind_pipeline.settings) == []
    users.put("ada", {"turn": turn})
    assert stored(writebehind_pipeline.settings) == []
    assert writebehind_flush().persisted == 1
    assert stored(writebehind_pipeline.settings) == [{"_id": "ada", "turn": turn}]
    assert writebehind_pipeline.status()["lost_data"] == []
    users.put("bob", {})  # left pending
    writebehind_pipeline.status()


def test_an_application_finds_the_servers(writebehind_settings, monkeypatch):
    monkeypatch.setenv("WRITEBEHIND_ALLOW_UNLISTED", "true")
    with connect() as pipeline:
        assert pipeline.collection("users").mget(["ada", "bob"]) == [None, None]
        pipeline.collection("users").put("ada", {})
    async def read():
        async with aconnect() as pipeline:
            return await pipeline.collection("users").get("ada")
    assert asyncio.run(read()) == {"_id": "ada"}


class TestStrict:
    @pytest.fixture
    def writebehind_overrides(self):
        return {"collections": {"pages": {"flush_delay_ms": 60_000}}}

    def test_overrides(self, writebehind_pipeline, writebehind_flush):
        with pytest.raises(UnknownCollectionError):
            writebehind_pipeline.collection("users")
        writebehind_pipeline.collection("pages").put("home", {})
        assert writebehind_flush().persisted == 1


def test_fails(writebehind_pipeline, writebehind_flush, monkeypatch):
    monkeypatch.setattr("writebehind.pytest_plugin.FLUSH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(writebehind_pipeline.sink, "write", lambda *_, **__: 1 / 0)
    writebehind_pipeline.collection("users").put("ada", {})
    writebehind_flush()
"""


def test_the_fixtures(tmp_path):
    """Tests find a pipeline on servers of their own, empty for each, and flush it when they want."""
    (tmp_path / "test_users.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:xdist",
        "-p",
        "no:cloudcoil",
        "-p",
        "no:cacheprovider",
        "-q",
        "--rootdir",
        tmp_path,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    (counts := tmp_path / "counts").mkdir()
    environment["WRITEBEHIND_METRICS_DIR"] = str(counts)  # where each test finds what the one before it knew
    done = subprocess.run(
        [*command, tmp_path], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )

    assert re.search(r"1 failed, 4 passed", done.stdout), done.stdout + done.stderr
    assert "1 document is still pending after 0.1 s" in done.stdout
