"""A stand-in for mongos before one server: it demands the shard key, and counts what would go to all shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bson import Int64
from pymongo import MongoClient

from tests.rewriting import RewritingProxy

_STATEMENTS = {"update": "updates", "delete": "deletes"}
#: What a router says of a write whose shard it does not find.
NOT_TARGETED = {
    "code": 61,
    "codeName": "ShardKeyNotFound",
    "errmsg": "Failed to target upsert by query :: could not extract exact shard key",
}
#: Of one that would change the shard key of a document.
IMMUTABLE = {"code": 66, "codeName": "ImmutableField", "errmsg": "Performing an update would alter the shard key"}


class Router(RewritingProxy):
    """Refuses each write whose filter does not have the full shard key by equality, and each that changes it."""

    def __init__(self, target: int, client: MongoClient[Any], database: str) -> None:
        super().__init__(target)
        self._database = client[database]
        self._name = database
        #: The fields of the shard keys, by collection.
        self.keys: dict[str, list[str]] = {}
        #: Writes that were refused, writes that found their shard, and reads that went to all shards.
        self.counts: Counter[str] = Counter()
        #: Whether its user may read `config.collections`.
        self.tells = True
        self.answer = self._answer
        self.rewrite = self._rewrite

    def _answer(self, command: dict[str, Any]) -> dict[str, Any] | None:
        if command.get("$db") == "config":
            return self._config()
        if command.get("$db") != self._name:
            return None
        name, collection = next(iter(command.items()))
        key = self.keys.get(collection) if isinstance(collection, str) else None
        if key is None:
            return None
        if name == "find":
            self.counts["scattered reads"] += not all(_is_targeted(command["filter"].get(one)) for one in key)
        if name == "findAndModify":
            return {"ok": 0.0, **fault} if (fault := self._fault(key, command["query"], None)) else None
        if name == "insert":
            self.counts["targeted writes"] += len(command["documents"])
        return self._write(name, command, key) if name in _STATEMENTS else None

    def _write(self, name: str, command: dict[str, Any], key: list[str]) -> dict[str, Any] | None:
        statements = command[_STATEMENTS[name]]
        faults = {at: self._fault(key, one["q"], one.get("u")) for at, one in enumerate(statements)}
        errors = [{"index": at, **fault} for at, fault in faults.items() if fault]
        if not errors:
            return None
        passed = [at for at, fault in faults.items() if not fault]
        reply: dict[str, Any] = {"n": 0, "nModified": 0, "ok": 1.0}
        if passed:
            rest = {_STATEMENTS[name]: [statements[at] for at in passed], "ordered": False}
            reply = dict(self._database.command({name: command[name], **rest}))
            for kind in ("upserted", "writeErrors"):
                if kind in reply:
                    reply[kind] = [{**one, "index": passed[one["index"]]} for one in reply[kind]]
        return {**reply, "writeErrors": [*reply.get("writeErrors", ()), *errors]}

    def _fault(self, key: list[str], where: Mapping[str, Any], becomes: Any) -> dict[str, Any] | None:
        fault = None
        if not all(_is_equality(where.get(one)) for one in key):
            fault = NOT_TARGETED
        elif becomes and not any(name.startswith("$") for name in becomes):
            changed = [one for one in key if one != "_id" and _value(becomes, one) != where[one]]
            fault = IMMUTABLE if changed else None
        self.counts["refused writes" if fault else "targeted writes"] += 1
        return fault

    def _rewrite(self, command: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any] | None:
        if "hello" in command:
            return as_router(reply)
        if any("keyPattern" in one for one in reply.get("writeErrors", ())):  # as a shard's error is passed on
            return reply | {"writeErrors": [_passed_on(one) for one in reply["writeErrors"]]}
        return None

    def _config(self) -> dict[str, Any]:
        if not self.tells:
            return {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized on config"}
        found = [{"_id": f"{self._name}.{one}", "key": dict.fromkeys(key, 1)} for one, key in self.keys.items()]
        return {"ok": 1.0, "cursor": {"id": Int64(0), "ns": "config.collections", "firstBatch": found}}


def as_router(hello: Mapping[str, Any]) -> dict[str, Any]:
    """What a router says of itself."""
    member = {"setName", "hosts", "primary", "me", "topologyVersion", "electionId", "setVersion"}
    return {one: value for one, value in hello.items() if one not in member} | {"msg": "isdbgrid"}


def _passed_on(error: dict[str, Any]) -> dict[str, Any]:
    left = {one: value for one, value in error.items() if one not in {"keyPattern", "keyValue"}}
    return left | {"errmsg": f"Write failed on shard rs0 :: caused by :: {error['errmsg']}"}


def _is_equality(value: object) -> bool:
    return value is not None and not (isinstance(value, Mapping) and any(one.startswith("$") for one in value))


def _is_targeted(value: object) -> bool:
    return _is_equality(value) or (isinstance(value, Mapping) and list(value) == ["$in"])


def _value(document: Mapping[str, Any], path: str) -> object:
    found: Any = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
