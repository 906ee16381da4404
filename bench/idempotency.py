"""CPU time of a PUT with an idempotency key and without one: of the application, and of Redis."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from bench.wsgi import ask
from web.app import create_app
from writebehind import Settings, connect
from writebehind.local.embedded import EmbeddedRedis

PUTS, ROUNDS = 500, 20
BODY = b'{"text": "' + b"x" * 500 + b'"}'
WHICH = ("key", "plain", "control")


def main() -> None:
    """Take turns: with a key, without, and without once more, which says how far apart equal ones are."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(Path(directory)) as server:
        settings = Settings(redis_url=server.url, allow_unlisted=True)
        with connect(settings) as pipeline, Redis.from_url(server.url) as client:
            print(_ratios(create_app(pipeline), client))


def _ratios(application: Any, client: Redis) -> str:
    numbers = count()
    took: dict[str, list[tuple[float, float]]] = {which: [] for which in WHICH}
    _puts(application, numbers, "key")
    for at in range(ROUNDS * len(WHICH)):
        which = WHICH[(at + at // len(WHICH)) % len(WHICH)]
        before = _cpu(client)
        _puts(application, numbers, which)
        took[which].append(tuple((new - old) / PUTS * 1e6 for old, new in zip(before, _cpu(client), strict=True)))
    of = {which: [median(part) for part in zip(*some, strict=True)] for which, some in took.items()}
    paired = {
        which: median(sum(one) / sum(other) for one, other in zip(took[which], took["plain"], strict=True))
        for which in ("key", "control")
    }
    shown = "; ".join(f"{which} {of[which][0]:.0f} and {of[which][1]:.0f}" for which in WHICH)
    return (
        f"A PUT of 500 bytes, µs of CPU of the application and of Redis, median of {ROUNDS} rounds: {shown}; "
        f"ratio of both together {paired['key']:.3f}, control {paired['control']:.3f}"
    )


def _puts(application: Any, numbers: Iterable[int], which: str) -> None:
    for number, _ in zip(numbers, range(PUTS), strict=False):
        key = {"HTTP_IDEMPOTENCY_KEY": f'"8e03978e-40d5-43e8-bc93-{number:012d}"'} if which == "key" else {}
        ask(application, "PUT", f"/v1/pages/{number % PUTS}", BODY, **key)


def _cpu(client: Redis) -> tuple[float, float]:
    """CPU time of this process and of Redis so far, seconds."""
    found = client.info("cpu")
    return time.process_time(), found["used_cpu_user"] + found["used_cpu_sys"]


if __name__ == "__main__":
    main()
