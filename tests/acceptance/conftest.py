"""The whole system as real processes, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.waiting import wait_until
from writebehind.up import Stack

ROOT = Path(__file__).parents[2]


class System:
    """A running stack, a client of its API and one of its MongoDB."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx.Client(base_url=stack.url, timeout=30, trust_env=False)
        self.mongo: MongoClient = MongoClient(stack.mongodb_url, serverSelectionTimeoutMS=30_000)

    @property
    def database(self) -> Database:
        return self.mongo[self.stack.mongodb_database]

    def client(self) -> httpx.Client:
        """A connection of its own, for one thread."""
        return httpx.Client(base_url=self.stack.url, timeout=30, trust_env=False)

    def status(self) -> dict:
        return self.http.get("/admin/status").raise_for_status().json()

    def wait_until_drained(self, within: float = 30) -> None:
        wait_until(lambda: self.status()["pending"] == 0, "everything to be in MongoDB", within)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.mongo.close()


def start(directory: Path, **env: str) -> Stack:
    return Stack(directory, env={"WRITEBEHIND_CONFIG": str(ROOT / "writebehind.toml"), **env}, cwd=ROOT)


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("system")
    with start(directory, WRITEBEHIND_WEB_WORKERS="2") as stack, System(stack) as system:
        wait_until(lambda: system.status()["workers"] == 2, "both workers", 60)
        yield system
