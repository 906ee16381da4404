"""Increments with a key count once, although connections are cut at any byte and the web server is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from tests.acceptance.conftest import System
from tests.waiting import wait_until

CLIENTS, EACH, DOCUMENTS = 4, 60, 3
#: Of the tries, so many are cut.
CUT = 0.4
TIMEOUT_S = 10


def increment(port: int, name: str, key: str) -> bytes:
    """A request, as it is sent."""
    body = b'{"n": 1}'
    head = (
        f"POST /v1/users/{name}:increment HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f'Idempotency-Key: "{key}"\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n'
    )
    return head.encode() + body


def sent(port: int, request: bytes, dice: random.Random) -> bytes:
    """The answer, or what came of it before the connection was cut, at any byte of the request or the answer."""
    is_cut, of_request = dice.random() < CUT, dice.random() < 0.5
    most = dice.randrange(400) if is_cut and not of_request else 1 << 20
    answer = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(request[: dice.randrange(len(request))] if is_cut and of_request else request)
        if is_cut and of_request:
            return b""
        while len(answer) < most and (some := connection.recv(most - len(answer))):
            answer += some
    return b"" if is_cut else answer


def values_of(port: int, name: str, key: str, dice: random.Random) -> dict[str, int]:
    """The values that an increment is answered with in the end, however often it has to be repeated."""
    found: dict[str, int] = {}

    def is_answered() -> bool:
        try:
            head, _, body = sent(port, increment(port, name, key), dice).partition(b"\r\n\r\n")
        except OSError:  # no web server is there
            return False
        if head.split(b" ")[1:2] not in ([b"200"], [b"201"]):
            return False
        found.update(json.loads(body)["values"])
        return True

    wait_until(is_answered, "an answer", 60)
    return found


def test_increments_come_out_exact(system: System):
    """Each client repeats each increment until it is answered: the sums are exact, in the API and in MongoDB."""
    port = system.http.base_url.port
    victim = system.stack.pids()["web"]
    told: dict[str, list[int]] = {f"exact-{number}": [] for number in range(DOCUMENTS)}

    def count(client: int) -> None:
        dice = random.Random(client)
        for number in range(EACH):
            name = f"exact-{(client + number) % DOCUMENTS}"
            key = str(UUID(int=dice.getrandbits(128)))
            told[name].append(values_of(port, name, key, dice)["n"])
            if (client, number) == (0, EACH // 2):
                os.kill(victim, signal.SIGKILL)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(count, range(CLIENTS)))

    every = CLIENTS * EACH // DOCUMENTS
    assert {name: list(range(1, every + 1)) for name in told} == {
        name: sorted(some) for name, some in told.items()
    }
    assert [every] * DOCUMENTS == [system.http.get(f"/v1/users/{name}").json()["n"] for name in told]
    system.wait_until_drained()
    assert [every] * DOCUMENTS == [one["n"] for one in system.database.users.find({"_id": {"$in": [*told]}})]
