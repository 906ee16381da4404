"""One run: clients, failovers, then peace, then the account."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from os import environ
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from tests.chaos.failovers.keepers import COUNTER, REGISTERS, Account, Keeper, Promise, look_back
from tests.chaos.failovers.told import Reports
from tests.chaos.failovers.topologies import AWAY, FAULTS, TOPOLOGIES, UNREACHED, Pause, Topology
from tests.rabbitmq import SCRIPT, RabbitMQ
from tests.waiting import wait_until
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis
from writebehind.local.stack import Stack

BROKERS = {"valkey": EmbeddedRedis, "rabbitmq": RabbitMQ}
#: RabbitMQ where `make rabbitmq` has fetched it.
BROKER = "rabbitmq" if SCRIPT else "valkey"
CLIENTS = 6
#: How many answers clients get between two faults, and after the last one.
CALM, REST = (30, 200), 300
#: How long that may take, seconds.
ANSWERED_WITHIN_S = 60
#: How often a fault is one that is no failover.
OTHERS = 0.25
#: How long the system has to be quiet again, seconds.
PEACE_WITHIN_S = 120
ROOT = Path(__file__).parents[3]
SETTINGS = {
    "WRITEBEHIND_LOG_FORMAT": "json",
    "WRITEBEHIND_REDIS_TIMEOUT_MS": "1000",
    "WRITEBEHIND_CONFIRM_TIMEOUT_MS": "500",
    "WRITEBEHIND_SWEEP_INTERVAL": "1",
    "WRITEBEHIND_OVERDUE_MS": "1000",
    "WRITEBEHIND_TOMBSTONE_TTL": "2",
    "WRITEBEHIND_WEB_WORKERS": "2",
    "WRITEBEHIND_COLLECTIONS__registers__flush_delay_ms": "300",
    "WRITEBEHIND_COLLECTIONS__registers__ttl": "2",
    "WRITEBEHIND_COLLECTIONS__registers__negative_ttl": "1",
    "WRITEBEHIND_COLLECTIONS__counters__flush_delay_ms": "300",
    "WRITEBEHIND_COLLECTIONS__counters__ttl": "2",
}


@dataclass(slots=True)
class Report:
    """What a run has come to. A buffered write may be lost by a failover, and is `told` then; no other may be."""

    topology: str
    seed: int
    failovers: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    buffered_lost: int = 0
    told: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    longest_failover_s: float = 0.0
    seconds: float = 0.0
    #: Whether all was compared in the end; what is counted before that is what was seen so far.
    is_over: bool = False

    def __str__(self) -> str:
        """One line."""
        answers = ", ".join(f"{name} {number}" for name, number in self.answers.most_common(5))
        return (
            f"{self.topology}, seed {self.seed}: {self.failovers} failovers in {self.seconds:.0f} s"
            f"{', all compared' if self.is_over else ''}; {answers}; {len(self.violations)} violations"
        )

    def as_dict(self) -> dict[str, Any]:
        """For a report."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: dict(one) if isinstance(one, Counter) else one for name, one in found.items()}


@dataclass(frozen=True, slots=True)
class System:
    """All of it."""

    topology: Topology
    broker: EmbeddedRedis | RabbitMQ
    mongo: EmbeddedMongo
    stack: Stack

    def logs(self) -> list[Path]:
        """The logs of its processes."""
        return sorted((self.stack.data_dir / "log").glob("*.log"))

    def lose_the_broker(self, dice: random.Random, pause: Pause) -> str:
        """Let the broker be away for a while, and begin anew."""
        self.broker.kill()
        pause(dice.randint(*AWAY))
        self.broker.start()
        return f"lose {self.broker.title}"


@contextmanager
def system(directory: Path, topology: str, broker: str = "valkey") -> Iterator[System]:
    """The whole system on this topology, with a broker of its own, one of `BROKERS`."""
    with (
        TOPOLOGIES[topology](directory / "servers") as servers,
        BROKERS[broker](directory / "broker") as its_broker,
        EmbeddedMongo(directory) as mongo,
    ):
        config = directory / "writebehind.toml"
        config.touch()
        env = {
            **SETTINGS,
            **servers.settings,
            "WRITEBEHIND_CONFIG": str(config),
            "REDIS_URL": servers.url,
            "BROKER_URL": its_broker.url,
            "MONGODB_URL": mongo.url,
        }
        init = [sys.executable, "-m", "writebehind", "init"]
        subprocess.run(init, env={**environ, **env}, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        with Stack(directory / "stack", env=env, cwd=ROOT) as stack:
            yield System(servers, its_broker, mongo, stack)


def run(
    on: System,
    topology: str,
    seed: int,
    failovers: int,
    tell: Callable[[Report], object],
    faults: Sequence[str] = FAULTS,
    until: float = math.inf,
) -> Report:
    """Let clients work while primaries are replaced, and compare MongoDB with what they were promised.

    Each of the `faults` comes as often as the others, in an order of the dice. None comes after `until`, by
    `time.monotonic`. What is waited for in vain is a violation: what was counted before is not lost with it.
    """
    report, account, over = Report(topology, seed), Account(), threading.Event()
    report.violations, report.answers = account.violations, account.answers
    began = time.monotonic()
    keepers = [Keeper(f"{seed}-{at}", on.stack.url, seed, account, over) for at in range(CLIENTS)]

    def told() -> None:
        report.seconds = time.monotonic() - began
        tell(report)

    for one in keepers:
        one.start()
    try:
        with _waits_count(account):
            _replace_primaries(on, report, account, failovers, told, faults, until)
    finally:
        over.set()
    for one in keepers:
        one.join()
    with _waits_count(account):
        _account(on, report, account, keepers)
        report.is_over = True
    told()
    return report


@contextmanager
def _waits_count(account: Account) -> Iterator[None]:
    """Note what is waited for in vain."""
    try:
        yield
    except pytest.fail.Exception as error:
        account.broken(str(error))


def _replace_primaries(
    on: System,
    report: Report,
    account: Account,
    failovers: int,
    tell: Callable[[], object],
    faults: Sequence[str],
    until: float,
) -> None:
    dice, deck = random.Random(report.seed), list[str]()
    others = (*on.topology.others, on.lose_the_broker)

    def pause(answers: int) -> None:
        enough = account.answers.total() + answers
        wait_until(lambda: account.answers.total() >= enough, f"{answers} more answers", ANSWERED_WITHIN_S)

    while report.failovers < failovers and time.monotonic() < until:
        pause(dice.randint(*CALM))
        if dice.random() < OTHERS:
            report.faults[dice.choice(others)(dice, pause)] += 1
            continue
        began = time.monotonic()
        if not deck:
            deck = dice.sample(faults, len(faults))
        fault = deck.pop()
        account.is_parted = on.topology.is_read_alone and fault in UNREACHED
        on.topology.fail_over(fault, dice, pause)
        account.is_parted = False
        report.faults[fault] += 1
        report.longest_failover_s = max(report.longest_failover_s, time.monotonic() - began)
        report.failovers += 1
        tell()
    pause(REST)  # now that everything answers


def _account(on: System, report: Report, account: Account, keepers: list[Keeper]) -> None:
    with httpx.Client(base_url=on.stack.url, timeout=60, trust_env=False) as http:
        wait_until(lambda: _is_drained(http), "MongoDB to have all", PEACE_WITHIN_S)
        report.dead_letters = http.get("/admin/status").json()["dead_letters"]
        with MongoClient[dict[str, Any]](on.mongo.url) as client:
            database = client[on.stack.mongodb_database]
            stored = {
                one["_id"]: one["n"] for one in database[REGISTERS].find({"_id": {"$regex": f"^{report.seed}-"}})
            }
            counter = (database["counters"].find_one({"_id": COUNTER}) or {"n": 0})["n"]
        lost = [found for one in keepers for found in one.compare(stored)]
        look_back(keepers, http, stored, account)
    told = Reports.read(on.logs())
    for one in told.unreported(lost) + told.wrong(keepers, stored):
        account.broken(one)
    report.buffered_lost, report.told = len(lost), told.fates
    kept = account.counted[Promise.KEPT]
    if report.dead_letters and on.topology.is_fenced:
        account.broken(f"there are {report.dead_letters} dead letters")
    if not kept <= counter <= account.counted.total():
        account.broken(f"the counter is {counter}, and must be from {kept} to {account.counted.total()}")


def _is_drained(http: httpx.Client) -> bool:
    answer = http.get("/admin/status")
    return answer.is_success and not answer.json()["pending"]
