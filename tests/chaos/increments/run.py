"""One run: clients repeat increments until they are answered; connections are cut, and web processes killed."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psutil
from pymongo import MongoClient

from tests.chaos.increments.cutting import CuttingProxy
from tests.waiting import wait_until
from writebehind.local.stack import Stack

COLLECTION = "users"
TIMEOUT_S = 10
#: How long an increment may take to be answered, and the system to be quiet again, seconds.
ANSWERED_WITHIN_S, PEACE_WITHIN_S = 120, 120
#: A client whose try has failed waits for up to so long, seconds.
LONGEST_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to the system.

    Attributes:
        increments: how many, of all clients together.
        clients: how many send them at the same time.
        documents: how many they are spread over.
        cut: part of the connections that are cut, from 0 to 1.
        kill_every_s: seconds from one kill of a web process to the next, where one was answered in between.
        has_key: whether the increments have a key, without which they come out wrong.
        seed: decides where connections are cut, and who is killed.
    """

    increments: int
    clients: int = 8
    documents: int = 8
    cut: float = 0.1
    kill_every_s: float = 5.0
    has_key: bool = True
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Account:
    """What one run has come to: `violations` is empty where each increment has counted once."""

    answered: int
    tries: int
    connections: dict[str, int]
    kills: int
    seconds: float
    violations: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For a report."""
        return asdict(self)


def run(stack: Stack, plan: Plan, tell: Callable[[], object] = lambda: None) -> Account:
    """Let clients count while connections are cut and web processes are killed, and compare what they were told.

    `tell` is called after each increment that is answered, from any thread.
    """
    began, prefix = time.monotonic(), f"exact-{plan.seed}"
    names = [f"{prefix}-{number}" for number in range(plan.documents)]
    shares = [
        # Each client meets the others at every document.
        [names[(n + at) % plan.documents] for at in range(len(range(n, plan.increments, plan.clients)))]
        for n in range(plan.clients)
    ]
    with CuttingProxy(urlsplit(stack.url).port or 80, plan.cut, plan.seed) as proxy:
        clients = [_Client(proxy.port, number, plan, tell) for number in range(plan.clients)]
        with kills(stack, plan, clients) as killed, ThreadPoolExecutor(plan.clients) as threads:
            list(threads.map(_Client.count, clients, shares))
    told: dict[str, list[int]] = {name: [] for name in names}
    for client in clients:
        for name, value in client.told:
            told[name].append(value)
    return Account(
        answered=sum(map(len, told.values())),
        tries=sum(client.tries for client in clients),
        connections=dict(proxy.counts),
        kills=len(killed),
        seconds=round(time.monotonic() - began, 1),
        violations=[*_wrong_answers(told), *_wrong_sums(stack, told)],
    )


@contextmanager
def kills(stack: Stack, plan: Plan, clients: list[_Client]) -> Iterator[list[int]]:
    """Kill a web process every so many seconds, the first of them or another; their ids so far.

    The next one dies after a client was answered: where the start of a server takes longer, none would be.
    """
    killed: list[int] = []
    over, dice = threading.Event(), random.Random(plan.seed)

    def kill() -> None:
        seen = 0
        while not over.wait(plan.kill_every_s):
            answered = sum(len(client.told) for client in clients)
            if answered > seen:
                killed.extend(kill_a_web_process(stack, dice))
                seen = answered

    killer = threading.Thread(target=kill, name="killer")
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def kill_a_web_process(stack: Stack, dice: random.Random) -> list[int]:
    """Kill one, the first of them or another; its id, or nothing while they are started anew."""
    try:
        leader = psutil.Process(stack.pids()["web"])
        victim = dice.choice([leader, *leader.children(recursive=True)])
        victim.kill()
    except (KeyError, psutil.NoSuchProcess):
        return []
    return [victim.pid]


class _Client:
    """One client, for one thread: `told` has the value that it was told of each increment."""

    def __init__(self, port: int, number: int, plan: Plan, tell: Callable[[], object]) -> None:
        self._port = port
        self._dice = random.Random(f"{plan.seed}/{number}")
        self._has_key = plan.has_key
        self._tell = tell
        self.told: list[tuple[str, int]] = []
        self.tries = 0

    def count(self, names: list[str]) -> None:
        """Increment these documents, one after the other."""
        for name in names:
            self.told.append((name, self._increment(name)))
            self._tell()

    def _increment(self, name: str) -> int:
        key = str(UUID(int=self._dice.getrandbits(128)))
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self._has_key:
            headers["Idempotency-Key"] = f'"{key}"'
        until = time.monotonic() + ANSWERED_WITHIN_S
        while time.monotonic() < until:
            self.tries += 1
            status, answer = self._sent(f"/v1/{COLLECTION}/{name}:increment", headers)
            if status in {200, 201}:
                return int(json.loads(answer)["values"]["n"])
            assert status == 0 or status >= 500, f"{status} {answer!r}"
            time.sleep(self._dice.uniform(0, LONGEST_PAUSE_S))
        raise TimeoutError(f"{name} was not incremented in {ANSWERED_WITHIN_S} s: {status} {answer!r}")

    def _sent(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body; 0 where no whole answer came."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", path, b'{"n": 1}', headers)
            answer = connection.getresponse()
            # http.client takes an answer that was cut in its head for a whole one, without what is missing.
            return (answer.status, answer.read()) if answer.length is not None else (0, b"cut in its head")
        except (OSError, HTTPException) as error:
            return 0, repr(error).encode()
        finally:
            connection.close()


def _wrong_answers(told: dict[str, list[int]]) -> Iterator[str]:
    """Each value from 1 on was told once."""
    for name, values in told.items():
        twice = [value for value, times in Counter(values).items() if times > 1]
        missing = sorted(set(range(1, len(values) + 1)) - set(values))
        if twice or missing:
            yield f"{name}: told more than once {twice[:5]}, never {missing[:5]}"


def _wrong_sums(stack: Stack, told: dict[str, list[int]]) -> Iterator[str]:
    """The API and, when nothing is pending, MongoDB have as many as were answered."""
    expected = {name: len(values) for name, values in told.items()}
    with httpx.Client(base_url=stack.url, timeout=TIMEOUT_S, trust_env=False) as http:
        wait_until(lambda: http.get("/readyz").status_code == 200, "the API to be ready", PEACE_WITHIN_S)
        read = {name: http.get(f"/v1/{COLLECTION}/{name}").raise_for_status().json()["n"] for name in expected}
        wait_until(
            lambda: http.get("/admin/status").json()["pending"] == 0, "everything in MongoDB", PEACE_WITHIN_S
        )
    with MongoClient(stack.mongodb_url) as mongo:
        found = mongo[stack.mongodb_database][COLLECTION].find({"_id": {"$in": [*expected]}})
        stored = {one["_id"]: one["n"] for one in found}
    for place, sums in (("the API", read), ("MongoDB", stored)):
        for name, answered in expected.items():
            if sums.get(name) != answered:
                yield f"{name}: {answered} were answered, and {place} has {sums.get(name)}"
