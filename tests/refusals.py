"""Servers that refuse writes, each in its own words: around pymongo's bulk write to a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pymongo import DeleteOne, ReplaceOne
from pymongo.errors import BulkWriteError, WriteError
from pymongo.results import BulkWriteResult
from pymongo.synchronous.collection import Collection
from pymongo.synchronous.database import Database

#: What each server says of a unique value that is there, and whether it says that it is the id: as recorded.
DUPLICATE_KEYS = json.loads((Path(__file__).parent / "duplicate_keys.json").read_text())

Operations = Sequence[ReplaceOne[Any] | DeleteOne]
#: Takes the id of a document: what a server says of it, or what is raised where the command has it, or `None`.
Refuses = Callable[[object], dict[str, Any] | Exception | None]


def left_to_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no batch go in one command: a test replaces the driver's `bulk_write`."""
    monkeypatch.setattr("writebehind.mongodb.update_command.MOST_DOCUMENTS", 0)


class RefusingServer:
    """Lets bulk writes through, except of what it `refuses`; how many it was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses: Refuses = lambda _id: None
        self.sent = 0
        original = Collection.bulk_write

        def bulk_write(target: Collection[Any], operations: Operations, **options: Any) -> BulkWriteResult:
            self.sent += 1
            refused, rest = {}, []
            for at, one in enumerate(operations):
                said = self.refuses(one._filter["_id"])
                if isinstance(said, Exception):
                    raise said
                if said is None:
                    rest.append(one)
                    continue
                refused[at] = said
                if options.get("ordered", True):
                    break
            done = original(target, rest, **options) if rest else None
            if not refused:
                assert done is not None
                return done
            errors = [{"index": at, "code": 0, "errmsg": "no", **said} for at, said in refused.items()]
            removed = done.deleted_count if done else 0
            raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": [], "nRemoved": removed})

        monkeypatch.setattr(Collection, "bulk_write", bulk_write)
        monkeypatch.setattr(Database, "command", self._at_once(Database.command))
        for name in ("replace_one", "delete_one"):  # of a document alone, after an answer that cannot be read
            monkeypatch.setattr(Collection, name, self._alone(getattr(Collection, name)))

    def _at_once(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def command(database: Database[Any], name: Any, *rest: Any, **options: Any) -> Any:
            if name != "update":
                return original(database, name, *rest, **options)
            self.sent += 1
            refused, taken = {}, []
            for at, one in enumerate(options["updates"]):
                said = self.refuses(one["q"]["_id"])
                if isinstance(said, Exception):
                    raise said
                if said is None:
                    taken.append(one)
                else:
                    refused[at] = said
            options["updates"] = taken
            answer = original(database, name, *rest, **options) if taken else {"ok": 1, "n": 0}
            errors = [{"index": at, "code": 0, "errmsg": "no", **said} for at, said in refused.items()]
            return {**answer, "writeErrors": errors} if errors else answer

        return command

    def _alone(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def write_one(target: Collection[Any], where: dict[str, Any], *rest: Any, **options: Any) -> Any:
            said = self.refuses(where["_id"])
            if isinstance(said, Exception):
                raise said
            if said is not None:
                raise WriteError(said.get("errmsg", "no"), said.get("code", 0), said)
            return original(target, where, *rest, **options)

        return write_one


def only(name: str, said: dict[str, Any] | Exception) -> Refuses:
    """One document is refused."""
    return lambda id_: said if id_ == name else None
