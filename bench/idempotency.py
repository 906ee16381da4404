"""CPU time of a PUT with an idempotency key and without one: of the server with the application, and of Redis."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from statistics import median

from redis import Redis

from bench.http import OURS, as_web_does, serving
from bench.wsgi import ask
from web.app import create_app
from writebehind import Settings, connect
from writebehind.local.embedded import LOOPBACK, EmbeddedRedis, free_port

PUTS, ROUNDS = 500, 20
BODY = b'{"text": "' + b"x" * 500 + b'"}'
WHICH = ("key", "plain", "control")

#: Sends a PUT to a path, with the idempotency key if it is not ''.
Put = Callable[[str, str], None]
#: CPU time of what answers so far, seconds.
Clock = Callable[[], float]


def main() -> None:
    """Take turns: with a key, without, and without once more, which says how far apart equal ones are."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(Path(directory)) as server:
        settings = Settings(redis_url=server.url, allow_unlisted=True)
        with Redis.from_url(server.url) as client:
            with connect(settings) as pipeline:
                application = create_app(pipeline)

                def called(path: str, key: str) -> None:
                    given = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
                    ask(application, "PUT", path, BODY, **given)

                print(_ratios("application called", called, time.process_time, client))
            target = OURS[-1]
            port, environment = free_port(), {"REDIS_URL": server.url, "WRITEBEHIND_ALLOW_UNLISTED": "true"}
            with (
                serving("writebehind", as_web_does(target, port), port, environment) as web,
                closing(HTTPConnection(LOOPBACK, port)) as connection,
            ):

                def sent(path: str, key: str) -> None:
                    given = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
                    connection.request("PUT", path, BODY, given)
                    answer = connection.getresponse()
                    text = answer.read()
                    if answer.status >= 300:
                        raise SystemExit(f"PUT {path}: {answer.status}: {text.decode()}")

                print(_ratios("server", sent, web.cpu_seconds, client))


def _ratios(name: str, put: Put, clock: Clock, client: Redis) -> str:
    numbers = count()
    took: dict[str, list[tuple[float, float]]] = {which: [] for which in WHICH}
    _puts(put, numbers, "key")
    for at in range(ROUNDS * len(WHICH)):
        which = WHICH[(at + at // len(WHICH)) % len(WHICH)]
        before = clock(), _of_redis(client)
        _puts(put, numbers, which)
        after = clock(), _of_redis(client)
        took[which].append(tuple((new - old) / PUTS * 1e6 for old, new in zip(before, after, strict=True)))
    of = {which: [median(part) for part in zip(*some, strict=True)] for which, some in took.items()}
    paired = {
        which: median(sum(one) / sum(other) for one, other in zip(took[which], took["plain"], strict=True))
        for which in ("key", "control")
    }
    shown = "; ".join(f"{which} {of[which][0]:.0f} and {of[which][1]:.0f}" for which in WHICH)
    return (
        f"A PUT of 500 bytes, µs of CPU of the {name} and of Redis, median of {ROUNDS} rounds: {shown}; "
        f"ratio of both together {paired['key']:.3f}, control {paired['control']:.3f}"
    )


def _puts(put: Put, numbers: Iterable[int], which: str) -> None:
    for number, _ in zip(numbers, range(PUTS), strict=False):
        put(f"/v1/pages/{number % PUTS}", f'"8e03978e-40d5-43e8-bc93-{number:012d}"' if which == "key" else "")


def _of_redis(client: Redis) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


if __name__ == "__main__":
    main()
