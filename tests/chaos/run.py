"""One run: clients and trouble, then peace, then the account."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from pymongo import MongoClient

from tests.chaos.clients import COUNTERS, REGISTERS, Window, Writer, document
from tests.chaos.faults import System, trouble
from tests.chaos.foreign import FOREIGN_COLLECTION, FOREIGN_DOCUMENTS, Onlooker, write_foreign
from tests.chaos.history import History, Violation
from tests.chaos.observing import observed
from tests.chaos.owners import ACCOUNTS, FIELD, Owner
from tests.counts import adds_up
from tests.waiting import wait_until
from writebehind.redis.connections import connection_pool
from writebehind.redis.keys import partition_keys
from writebehind.redis.wire import Wire

#: How many clients share registers and counters, and how many have documents with unique values of their own.
WRITERS, OWNERS = 6, 3
#: How many keys a run passes over, and how many of them are written at a time.
KEYS, KEYS_AT_A_TIME = 120, 16
#: How long the system has to be quiet again, seconds.
PEACE_WITHIN_S = 90


@dataclass(frozen=True, slots=True)
class Account:
    """What one run has come to."""

    seed: int
    faults: dict[str, int]
    answers: dict[str, int]
    drained_after_s: float
    violations: list[Violation]
    looks: int

    def count(self, *kinds: str) -> int:
        """How many violations there were of these kinds; of all where none is named."""
        return sum(not kinds or one.kind in kinds for one in self.violations)

    def as_dict(self) -> dict[str, Any]:
        """For a report."""
        return asdict(self)


def run(system: System, seed: int, seconds: float) -> Account:
    """Let clients work under faults that the seed decides, heal all, and compare MongoDB with what they know."""
    history, over = History(), threading.Event()
    keys = [f"s{seed}-{n}" for n in range(KEYS)]
    window = Window(keys, KEYS_AT_A_TIME, seconds)
    writers = [Writer(n, system.stack.url, seed, window, history, over) for n in range(WRITERS)]
    owners = [Owner(WRITERS + n, system.stack.url, seed, history, over) for n in range(OWNERS)]
    onlooker = Onlooker(WRITERS + OWNERS, system.stack.url, seed, history, over)
    clients = [*writers, *owners, onlooker]
    write_foreign(system)
    with observed(system) as seen:
        with trouble(system, random.Random(seed)) as made:
            for one in clients:
                one.start()
            made.make(seconds)
        peace = time.monotonic()
        over.wait(2)  # some more, now that everything answers
        over.set()
        for one in clients:
            one.join(PEACE_WITHIN_S)
    with httpx.Client(base_url=system.stack.url, timeout=60, trust_env=False) as http:
        wait_until(lambda: has_all(http), "MongoDB to have all", PEACE_WITHIN_S)
        drained_after_s = time.monotonic() - peace
        assert adds_up(counted := http.get("/admin/status").json()["totals"], pending=0), counted
        for one in owners:
            one.look_back(http)
        onlooker.look_back(http)
    wait_for_audit(system)
    with MongoClient(system.mongo.url) as client:
        database = client[system.stack.mongodb_database]
        documents = {one["_id"]: one for one in database[REGISTERS].find({"_id": {"$in": keys}})}
        counters = {one["_id"]: one["n"] for one in database[COUNTERS].find({"_id": {"$in": keys}})}
        assert list(FOREIGN_DOCUMENTS.values()) == list(database[FOREIGN_COLLECTION].find().sort("_id"))
        accounts = {one["_id"]: one for one in database[ACCOUNTS].find({"_id": {"$regex": f"^s{seed}-"}})}
    for key, one in (documents | accounts).items():
        unique = {FIELD: one[FIELD]} if FIELD in one else {}
        assert document(key, one["v"], **unique) == {name: field for name, field in one.items() if name != "_v"}
    violations = history.violations(documents | accounts, counters, time.monotonic())
    violations += [Violation("inconsistent", one["id"], str(one)) for one in seen["inconsistent"]]
    looks, wrong = (seen["windows"]["1"][name] for name in ("looks", "wrong"))
    if wrong:
        violations.append(Violation("inconsistent", "", f"{wrong} of {looks} looks"))
    return Account(seed, dict(made.counts), dict(history.answers), drained_after_s, violations, looks)


def has_all(http: httpx.Client) -> bool:
    """Whether nothing is pending, and no dead letter is left: one that waits for a free value is replayed."""
    status = http.get("/admin/status").json()
    assert not status["dead_letters"], http.get("/admin/dead-letters").json()
    return not status["pending"]


def wait_for_audit(system: System) -> None:
    """Until every deletion has been looked at once more, after which no late flusher can bring a document back."""
    wire = Wire(connection_pool(system.redis.url, 2_000))
    partitions = range(int(wire.call("GET", "wb:partitions")))
    try:
        wait_until(
            lambda: not any(wire.call("ZCARD", partition_keys(one).deleted) for one in partitions),
            "all deletions to be audited",
            PEACE_WITHIN_S,
        )
    finally:
        wire.close()


def totals(accounts: list[Account]) -> dict[str, Any]:
    """The figures of several runs together."""
    answers: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for one in accounts:
        answers.update(one.answers)
        faults.update(one.faults)
    return {
        "seeds": [one.seed for one in accounts],
        "faults": dict(sorted(faults.items())),
        "answers": dict(answers),
        "lost": sum(one.count("lost") for one in accounts),
        "stale": sum(one.count("stale") for one in accounts),
        "resurrected": sum(one.count("resurrected") for one in accounts),
        "miscounted": sum(one.count("miscounted") for one in accounts),
        "backwards": sum(one.count("backwards") for one in accounts),
        "misled": sum(one.count("misled") for one in accounts),
        "inconsistent": sum(one.count("inconsistent") for one in accounts),
        "looks": sum(one.looks for one in accounts),
        "not_linearizable": sum(one.count("not linearizable") for one in accounts),
        "longest_drain_s": max((one.drained_after_s for one in accounts), default=0.0),
    }
