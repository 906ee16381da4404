"""The whole demo: the system, the clients and the comparison."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from rich.console import Console

from writebehind.demo import outside
from writebehind.demo.client import Client
from writebehind.demo.comparison import compare
from writebehind.demo.errors import InterruptedDemoError
from writebehind.demo.ledger import Ledger
from writebehind.demo.records import COLLECTIONS, Record, records
from writebehind.demo.report import Report, Result
from writebehind.demo.sender import PATIENCE_S, Sender
from writebehind.errors import ConfigurationError
from writebehind.local.stack import Stack
from writebehind.local.supervisor import Interruptions
from writebehind.plurals import counted

SAMPLE_S = 0.2
#: `totals` counts a flush when it ends, which is after its last document has left the backlog.
SETTLED_SAMPLES = 5
MOST_SHOWN = 10
#: How long a demo takes whatever its size, to start and stop the system, and for each document, seconds.
FIXED_S, EACH_S = 15.0, 0.008


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a run of the demo."""

    documents: int
    clients: int
    seed: int
    port: int
    keep: Path | None
    console: TextIO


def demo(options: Options) -> Result:
    """Run the system, the clients and the comparison. Call it in the main thread.

    Raises:
        InterruptedDemoError: SIGINT, SIGTERM or SIGHUP came.
        DemoError: an answer was lost or is not what it should be.
        ConfigurationError: the directory to keep is not empty, or the embedded servers are not installed.
        NotReadyError: the system does not start.
    """
    began = time.monotonic()
    with Interruptions() as interruptions, _directory(options.keep) as directory:
        report = Report(Console(file=options.console, highlight=False))
        size = f"{counted(options.documents, 'document')}, {counted(options.clients, 'client')}"
        report.say(f"seed {options.seed}, {size}, {directory}")
        report.say(f"this takes about {_duration(options.documents)}; first the servers and processes start")
        with Stack(directory, options.port, env=_environment(directory)) as stack:
            report.say(f"the system is ready: {stack.url}, {stack.mongodb_url}")
            with closing(Run(stack, options, report, lambda: bool(interruptions.count))) as run:
                run.send()
                run.drain()
                result = run.result(began)
                report.say("stopping the system")
                return result


# One run ----------------------------------------------------------------------------------------------------


class Run:
    """The clients of one demo, what they had acknowledged, and what the status said meanwhile."""

    def __init__(self, stack: Stack, options: Options, report: Report, interrupted: Callable[[], bool]) -> None:
        """Plan the work; nothing is sent yet."""
        self._stack, self._options, self._report, self._interrupted = stack, options, report, interrupted
        self._status_of = Sender(stack.url, interrupted)
        self._stop = threading.Event()
        self._ledger = Ledger(outside.outside())
        self._clients = self._new_clients(records(options.documents, options.seed))
        self._status: dict[str, Any] = {}
        self._oldest = self._sending_s = 0.0

    def send(self) -> None:
        """Write what others have in MongoDB, and let all clients do their work."""
        mongodb: MongoClient[Any]
        with MongoClient(self._stack.mongodb_url) as mongodb:
            outside.write(mongodb, self._stack.mongodb_database, self._ledger.outside)
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
            found = list(stored_documents(client, self._stack.mongodb_database))
        self._sample()
        mismatches = compare(self._ledger, found, self._raised)
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
        clients = [
            Client(number, Sender(self._stack.url, stopped), self._ledger, records[number::count], seed)
            for number in range(count)
        ]
        clients[0].take_over(outside.LEFT, outside.DELETED, outside.REPLACED)
        return clients

    def close(self) -> None:
        """Close the connection; the clients close theirs."""
        self._status_of.close()

    @property
    def _pending(self) -> int:
        return int(self._status["pending"])

    @property
    def _operations(self) -> int:
        return int(self._status["totals"].get("operations", 0))

    @property
    def _raised(self) -> int:
        """The number of pending writes that were given the next version, as changes came from MongoDB."""
        return int((self._status["listener"] or {}).get("overtaken", 0))

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
            yield name, bytes(document.raw)


def _duration(documents: int) -> str:
    """The time that a demo of so many documents takes, for people, on two cores with little else to do."""
    seconds = FIXED_S + documents * EACH_S
    return f"{max(1, round(seconds / 60))} min" if seconds >= 50 else f"{round(seconds, -1):.0f} s"  # noqa: PLR2004


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="writebehind-demo-", ignore_cleanup_errors=True) as scratch:
            yield Path(scratch)
        return
    try:
        if keep.is_dir() and any(keep.iterdir()):
            raise ConfigurationError(f"--keep: {keep} is not empty")
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--keep: {error}") from error
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
    # What MongoDB has while Redis does not answer may be older than what was acknowledged.
    collections = {name: settings | {"bypass": False} for name, settings in COLLECTIONS.items()}
    return {"WRITEBEHIND_CONFIG": str(config), "WRITEBEHIND_COLLECTIONS": json.dumps(collections)}
