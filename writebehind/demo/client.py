"""One client of the demo: what it plans to do, and what it was told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import httpx

from writebehind.demo.comparison import Mismatch, first_difference
from writebehind.demo.errors import DemoError
from writebehind.demo.ledger import Ledger, Write, loads, relaxed, stored
from writebehind.demo.records import TALLIES, Key, Record, Tree, increments, json_patch, merge_patch, revised
from writebehind.demo.sender import NOT_WRITTEN, UNAVAILABLE, Sender

JSON, NDJSON = "application/json", "application/x-ndjson"
PATCHES = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}
#: Documents in a bulk write, and in a `:get`.
BULK = 40
#: What no document has.
NO_ETAG = "0" * 32
NOT_FOUND, CONFLICT, PRECONDITION_FAILED, TOO_LARGE = 404, 409, 412, 413


class Client:
    """One thread's share of the work: the documents that only it writes to, and those that all write to."""

    def __init__(self, number: int, sender: Sender, ledger: Ledger, records: Sequence[Record], seed: int) -> None:
        """Plan the work; it is the same for the same seed."""
        self.number, self.sender = number, sender
        self.done = self.reads = self.conflicts = 0
        self.stale: list[Mismatch] = []
        self._ledger = ledger
        self._dice = Random(f"{seed}/{number}")  # noqa: S311 - no secret
        self._plan = self._loads(records) + self._changes([record for record in records if record.id])

    def take_over(self, left: Record, deleted: Record, replaced: Record) -> None:
        """Plan to read documents of others, and to delete and replace some of them."""
        for record in (left, deleted, replaced):
            self._plan.append(partial(self._read, record))
        self._plan += [partial(self._remove, deleted), partial(self._put, replaced)]
        for record in (deleted, replaced):
            self._plan.append(partial(self._read, record))

    @property
    def steps(self) -> int:
        """The number of planned requests; there are more where others are in the way."""
        return len(self._plan)

    def run(self) -> None:
        """Do the work."""
        try:
            for step in self._plan:
                step()
                self.done += 1
        finally:
            self.sender.close()

    # The plan ---------------------------------------------------------------------------------------

    def _loads(self, records: Sequence[Record]) -> list[Callable[[], None]]:
        """Every document is created: about half of them in bulk."""
        by_collection: dict[str, list[Record]] = {}
        plan: list[Callable[[], None]] = []
        for record in records:
            if not record.id:
                plan.append(partial(self._create, record))
            elif self._dice.random() < 0.5:  # noqa: PLR2004 - half
                plan.append(partial(self._put, record))
            else:
                by_collection.setdefault(record.collection, []).append(record)
        for group in by_collection.values():
            plan += [partial(self._bulk, group[at : at + BULK], _as_put) for at in range(0, len(group), BULK)]
        self._dice.shuffle(plan)
        return plan

    def _changes(self, own: Sequence[Record]) -> list[Callable[[], None]]:
        """Some documents are never changed, some are worked on for a while: again and again within a moment."""
        singles = (self._overwrite, self._replace, self._patch, self._increment, self._delete, self._read)
        groups: dict[str, list[Record]] = {}
        bursts: list[list[Callable[[], None]]] = []
        for record in own:
            groups.setdefault(record.collection, []).append(record)
            steps = self._dice.choices(singles, (2, 1, 5, 2, 2, 2), k=self._dice.choice((0, 0, 1, 2, 6)))
            if record.full_size:
                steps = self._dice.choices((self._overwrite, self._overfill, self._delete, self._read), k=6)
            bursts.append([partial(step, record) for step in steps])
        for group in groups.values():
            for _ in range(len(group) // BULK + 1):
                bursts.append([partial(self._bulk, self._some(group), self._mixed)])
                bursts.append([partial(self._read_many, self._some(group))])
        shared = (self._tally, self._edit, self._annotate, self._bulk_shared)
        for _ in range(len(own) // 5 + 1):
            step = self._dice.choices(shared, (6, 3, 3, 1))[0]
            bursts.append([partial(step, self._dice.choice(TALLIES))])
        self._dice.shuffle(bursts)
        return [step for burst in bursts for step in burst]

    def _some(self, group: list[Record]) -> list[Record]:
        return self._dice.sample(group, min(BULK, len(group)))

    # Steps on documents of its own --------------------------------------------------------------------

    def _create(self, record: Record) -> None:
        answer = self._write("POST", f"/v1/{record.collection}{self._durability()}", record.document)
        self._acknowledge((record.collection, answer.json()["id"]), "put", answer, record.document)

    def _put(self, record: Record, document: Tree | None = None, etag: str = "") -> None:
        document = record.document if document is None else document
        headers = {"If-Match": f'"{etag}"'} if etag else {}
        answer = self._write("PUT", self._path(record.key), document, headers, repeatable=not etag)
        self._acknowledge(record.key, "put", answer, document, if_match=etag)

    def _overwrite(self, record: Record) -> None:
        self._put(record, revised(record, self._dice))

    def _replace(self, record: Record) -> None:
        """Replace what it saw last, after an attempt to replace what it did not see."""
        if not (etag := self._etag(record.key)):
            return self._put(record)
        document = revised(record, self._dice)
        headers = {"If-Match": f'"{NO_ETAG}"'}
        self._write("PUT", self._path(record.key), document, headers, expected=(PRECONDITION_FAILED,))
        return self._put(record, document, etag)

    def _patch(self, record: Record) -> None:
        if not self._etag(record.key):
            return self._put(record)
        kind = self._dice.choice(("merge", "json"))
        patch: Any = merge_patch(self._dice) if kind == "merge" else json_patch(self._dice)
        headers = {"Content-Type": PATCHES[kind]}
        answer = self._write("PATCH", self._path(record.key), patch, headers, repeatable=kind == "merge")
        return self._acknowledge(record.key, kind, answer, patch)

    def _increment(self, record: Record) -> None:
        self._add(record.key)

    def _delete(self, record: Record) -> None:
        """Delete it; now and then create it again at once. Later steps create it again in any case."""
        if not self._etag(record.key):
            return self._put(record)
        self._remove(record)
        if self._dice.random() < 0.3:  # noqa: PLR2004 - now and then
            self._put(record)
        return None

    def _remove(self, record: Record) -> None:
        answer = self.sender.send("DELETE", self._path(record.key), repeatable=True)
        self._acknowledge(record.key, "delete", answer)

    def _overfill(self, record: Record) -> None:
        """Try to make a document larger that is as large as it may be."""
        if not self._etag(record.key):
            return self._put(record)
        headers = {"Content-Type": PATCHES["merge"]}
        patch = {"what": "does not fit"}
        self._write("PATCH", self._path(record.key), patch, headers, expected=(TOO_LARGE,))
        return self._read(record)

    def _read(self, record: Record) -> None:
        answer = self.sender.send("GET", self._path(record.key), expected=(200, NOT_FOUND))
        self._check(record.key, loads(answer.text) if answer.is_success else None)

    def _read_many(self, records: Sequence[Record]) -> None:
        path = f"/v1/{records[0].collection}:get"
        ids = {"ids": [record.id for record in records]}
        documents = loads(self._write("POST", path, ids, repeatable=True).text)["documents"]
        for record in records:
            self._check(record.key, documents.get(record.id))

    # Steps on documents of all ------------------------------------------------------------------------

    def _tally(self, name: str) -> None:
        self._add(("tallies", name))

    def _edit(self, name: str) -> None:
        """Read, change, write back on the condition that nobody else did: until it holds."""
        key = "tallies", name
        while (answer := self.sender.send("GET", self._path(key), expected=(200, NOT_FOUND))).is_success:
            document = answer.json()
            document["edits"] = [*document.get("edits", [])[-5:], {"by": self.number, "after": self.done}]
            etag = answer.headers["ETag"].strip('"')
            headers = {"If-Match": f'"{etag}"'}
            expected = (200, 202, PRECONDITION_FAILED, CONFLICT)
            written = self._write("PUT", self._path(key), document, headers, expected=expected)
            if written.is_success:
                return self._acknowledge(key, "put", written, document, if_match=etag)
            self.conflicts += 1
        return None

    def _annotate(self, name: str) -> None:
        key = "tallies", name
        patch = merge_patch(self._dice) | {f"by{self.number}": self.done}
        headers = {"Content-Type": PATCHES["merge"]}
        expected = (200, 202, NOT_FOUND, CONFLICT)
        answer = self._write("PATCH", self._path(key), patch, headers, expected=expected)
        if answer.is_success:
            self._acknowledge(key, "merge", answer, patch)

    def _bulk_shared(self, name: str) -> None:
        """Overwrite one and delete another, in bulk, as that tells the version of a deletion too."""
        other = self._dice.choice([one for one in TALLIES if one != name])
        self._bulk(
            [Record("tallies", name, {"fresh": True}), Record("tallies", other, {})],
            lambda record: ("put", record.document) if record.id == name else ("delete", {}),
        )

    # Requests and answers -----------------------------------------------------------------------------

    def _bulk(self, records: Sequence[Record], operation: Callable[[Record], tuple[str, Any]]) -> None:
        """Several writes at once, as an array or as lines; what is refused for now is sent again."""
        left = {record.id: (record.key, *operation(record)) for record in records}
        while left:
            items = [_item(*one) for one in left.values()]
            lines = self._dice.random() < 0.5  # noqa: PLR2004 - half
            text = "\n".join(map(_dumps, items)) if lines else _dumps(items)
            headers = {"Content-Type": NDJSON if lines else JSON}
            path = f"/v1/{records[0].collection}:bulk{self._durability()}"
            answer = self.sender.send("POST", path, text=text, headers=headers, expected=(207,))
            for about in answer.json()["results"]:
                self._take(left, about)
            if left:
                self.sender.wait(1)

    def _take(self, left: dict[str, tuple[Key, str, Any]], about: Tree) -> None:
        """Note what one item of a bulk was answered."""
        if about["status"] == UNAVAILABLE and about["type"] in NOT_WRITTEN:
            return
        if about["status"] not in {200, 201, 204}:
            raise DemoError(f"an item of a bulk was answered {about}")
        key, kind, sent = left.pop(about["id"])
        self._ledger.add(key, Write(kind, self.number, about["version"], _dumps(sent), about.get("etag", "")))

    def _mixed(self, record: Record) -> tuple[str, Any]:
        """An operation for a bulk that fits the document as it is."""
        rewritten = bool(record.full_size) or self._dice.random() < 0.3  # noqa: PLR2004 - some
        if not self._etag(record.key) or rewritten:
            return "put", revised(record, self._dice)
        return self._dice.choice(
            (("merge", merge_patch(self._dice)), ("json", json_patch(self._dice)), ("delete", {}))
        )

    def _add(self, key: Key) -> None:
        deltas = increments(self._dice)
        collection, name = key
        path = f"/v1/{collection}/{name}:increment{self._durability()}"
        while (answer := self._write("POST", path, deltas, expected=(200, 201, 202, CONFLICT))).is_error:
            self.conflicts += 1
        self._acknowledge(key, "increment", answer, deltas, values=_dumps(answer.json()["values"]))

    def _write(
        self,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str] | None = None,
        *,
        expected: Sequence[int] = (200, 201, 202),
        repeatable: bool = False,
    ) -> httpx.Response:
        headers = {"Content-Type": JSON} | (headers or {})
        return self.sender.send(
            method, path, text=_dumps(body), headers=headers, expected=expected, repeatable=repeatable
        )

    def _acknowledge(
        self,
        key: Key,
        kind: str,
        answer: httpx.Response,
        sent: Any = None,
        *,
        if_match: str = "",
        values: str = "",
    ) -> None:
        if answer.status_code == 204:  # noqa: PLR2004 - a deletion, which does not tell its version
            # Its place is after all that this client, the only writer, wrote before, and before what comes next.
            last = self._ledger.last(key)
            version, etag = 1 + (last.version if last else 0), ""
        else:
            version, etag = answer.json()["version"], answer.headers.get("ETag", "").strip('"')
        self._ledger.add(key, Write(kind, self.number, version, _dumps(sent), etag, if_match, values))

    def _check(self, key: Key, found: Tree | None) -> None:
        """See that a read has what was acknowledged before."""
        self.reads += 1
        document = self._ledger.expected(key).document
        expected = None if document is None else stored(key, document)
        if (found is None) != (expected is None) or relaxed(found or {}) != relaxed(expected or {}):
            difference = first_difference(expected, found) or ("the same values", "other values")
            self.stale.append(Mismatch(*key, f"a read of what was written: {difference[0]}", difference[1]))

    def _etag(self, key: Key) -> str:
        """Of one of its own documents, as acknowledged last; '' where there is none."""
        last = self._ledger.last(key)
        return last.etag if last else ""

    def _durability(self) -> str:
        return "?durability=persisted" if self._dice.random() < 0.02 else ""  # noqa: PLR2004 - a few

    def _path(self, key: Key) -> str:
        return f"/v1/{key[0]}/{key[1]}"


def _as_put(record: Record) -> tuple[str, Tree]:
    return "put", record.document


def _item(key: Key, kind: str, sent: Any) -> Tree:
    if kind == "delete":
        return {"op": kind, "id": key[1]}
    return {"op": "patch" if kind in PATCHES else kind, "id": key[1], "doc": sent}


def _dumps(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False)
