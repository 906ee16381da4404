"""The demo's ledger: every acknowledged write, and the state that they come to.

Nothing here uses the pipeline's own code: `bson.json_util` says what the Extended JSON that was sent means, and
every acknowledged change is made a second time, in the order of the versions.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import localcontext
from typing import Any
from uuid import UUID

import bson
from bson import Binary, Decimal128, Int64, ObjectId, json_util
from bson.decimal128 import create_decimal128_context

from writebehind.demo.records import COLLECTIONS, JSON, STANDARD, Key, Tree


@dataclass(frozen=True, slots=True)
class Write:
    """An acknowledged write.

    Attributes:
        kind: put, merge, json, increment or delete.
        client: who sent it; one client's writes to one document follow each other.
        version: from the answer.
        sent: the body, Extended JSON.
        etag: from the answer.
        if_match: the ETag that was the condition, '' for none.
        values: what an increment answered, Extended JSON.
    """

    kind: str
    client: int
    version: int
    sent: str = "{}"
    etag: str = ""
    if_match: str = ""
    values: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """The state that MongoDB must have: without a document `None`, without a version 0."""

    document: Tree | None
    version: int
    faults: tuple[str, ...] = ()


_NOTHING = Expected(None, 0)


@dataclass(slots=True)
class Ledger:
    """Every acknowledged write, by document, and what others wrote before. Safe to share between threads."""

    outside: dict[Key, Expected] = field(default_factory=dict)
    writes: dict[Key, list[Write]] = field(default_factory=dict)
    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, key: Key, write: Write) -> None:
        """Note a write."""
        with self._lock:
            self.writes.setdefault(key, []).append(write)
            self.count += 1

    def last(self, key: Key) -> Write | None:
        """The write to a document that was acknowledged last, if it has only one writer; `None` if none was."""
        return self.writes[key][-1] if key in self.writes else None

    def expected(self, key: Key) -> Expected:
        """The state that the writes to a document come to.

        Versions are given out where writes are put into their order, so their order is that of the versions. In
        it every change can be made again, and every condition that was found to hold be checked again.
        """
        there = self.outside.get(key, _NOTHING)
        document = there.document
        before = Write("put", -1, there.version)
        faults: list[str] = []
        latest: dict[int, int] = {}
        for write in self.writes.get(key, ()):
            if write.version <= latest.get(write.client, 0):
                faults.append(f"version {write.version} after {latest[write.client]}")
            latest[write.client] = write.version
        for write in sorted(self.writes.get(key, ()), key=lambda one: one.version):
            if write.version == before.version:
                faults.append(f"version {write.version} twice")
            if write.if_match and write.if_match != before.etag:
                faults.append(
                    f"version {write.version} replaced ETag {before.etag or 'none'}, not {write.if_match}"
                )
            document, values = _applied(write, document)
            if write.values and relaxed(values) != relaxed(loads(write.values)):
                faults.append(f"version {write.version} answered {write.values}, not {json_util.dumps(values)}")
            before = write
        return Expected(document, before.version, tuple(faults))


def loads(text: str) -> Any:
    """Read Extended JSON."""
    return json_util.loads(text, json_options=JSON)


def relaxed(document: Any) -> bytes:
    """A document without what relaxed Extended JSON does not tell: the types of numbers that look the same."""
    return bson.encode(loads(json_util.dumps(document, json_options=JSON)), codec_options=STANDARD)


def stored(key: Key, document: Tree) -> Tree:
    """A document as MongoDB has it, without its version."""
    collection, text = key
    match COLLECTIONS[collection]["id"]:
        case "int":
            native: Any = Int64(text)
        case "uuid":
            native = Binary.from_uuid(UUID(text))
        case "string":
            native = text
        case _:
            native = ObjectId(text)
    return {"_id": native} | document | {"_id": native}


def _applied(write: Write, document: Tree | None) -> tuple[Tree | None, Tree]:
    """The document after a write; for an increment also the new values."""
    sent = loads(write.sent)
    match write.kind:
        case "put":
            return sent, {}
        case "delete":
            return None, {}
        case "merge":
            return _merged(document, sent), {}
        case "json":
            for operation in sent:
                _patch(document, **operation)
            return document, {}
    document = {} if document is None else document
    return document, {path: _incremented(document, path.split("."), delta) for path, delta in sent.items()}


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), change)
    return merged


def _patch(document: Any, op: str, path: str, value: Any = None) -> None:
    *way, last = path.split("/")[1:]
    holder = document
    for part in way:
        holder = holder[int(part) if isinstance(holder, list) else part]
    place: Any = last
    if isinstance(holder, list):
        place = len(holder) if last == "-" else int(last)
    if op == "remove":
        del holder[place]
    elif op == "add" and isinstance(holder, list):
        holder.insert(place, value)
    elif op != "test":
        holder[place] = value


def _incremented(document: Tree, path: Sequence[str], delta: Any) -> Any:
    *way, last = path
    for name in way:
        document = document.setdefault(name, {})
    document[last] = _sum(document.get(last, 0), delta)
    return document[last]


def _sum(old: Any, delta: Any) -> Any:
    kinds = {type(old), type(delta)}
    if Decimal128 in kinds:
        with localcontext(create_decimal128_context()) as context:
            return Decimal128(context.add(*(Decimal128(str(one)).to_decimal() for one in (old, delta))))
    total = old + delta
    wide = Int64 in kinds or not -(1 << 31) <= total < 1 << 31
    return Int64(total) if wide and float not in kinds else total
