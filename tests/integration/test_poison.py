"""Messages in the broker that other hands have changed: no worker ends for one, and the next ones are handled."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import environment
from tests.waiting import wait_until
from writebehind.celery.configuration import create_app
from writebehind.celery.names import FLUSH_QUEUE, QUEUES, REFRESH, REFRESH_QUEUE
from writebehind.celery.publisher import publish
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.redis.pending import Hint

NO_NUMBERS = [
    "abc",
    "",
    None,
    [],
    {},
    True,
    -1,
    0,
    1.5,
    float("nan"),
    float("inf"),
    10**9,
    10**18,
    10**400,
    -(10**400),
]
HEADERS: dict[str, list[Any]] = {
    "delay_ms": NO_NUMBERS,
    "retries": NO_NUMBERS,
    "timelimit": [*NO_NUMBERS, [1], [1, 2, 3], ["a", "b"]],
    "id": [5, [], {}, None],
    "eta": ["abc", 5, [], {}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
    **{one: [5, [5], {"a": 1}] for one in ("shadow", "argsrepr", "root_id", "group", "stamps", "stamped_headers")},
    "expires": ["abc", 5, [], {}, "0001-01-01T00:00:00+14:00"],
}
ARGUMENTS: list[Any] = [
    *([one, ""] for one in [*NO_NUMBERS, "0", 4096]),
    *([0, one] for one in [None, 5, [], {}, "\ud800"]),
    *([], [0], [0, "", 1], "abc", 5, None),
]
BODIES: list[Any] = [
    *([], [[0, ""]], {}, "abc", "ab", 5, None, [[0, ""], {"partition": 1}, {}], [[0, ""], "abc", {}]),
    *([[0, ""], {}, one] for one in ["abc", 5, None, [], {"callbacks": 5, "errbacks": 5, "chord": 5, "chain": 5}]),
]


@pytest.fixture
def message(settings, broker_wire) -> dict[str, Any]:
    """A flush task as it stands in the broker."""
    publish(create_app(settings), Hint(0, "", 0))
    return json.loads(broker_wire.call("RPOP", FLUSH_QUEUE))


def encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def poisoned(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What other hands may make of a message."""
    headers = message["headers"]
    yield message | {"headers": {name: value for name, value in headers.items() if name != "id"}}
    for name, values in HEADERS.items():
        for value in values:
            yield message | {"headers": headers | {name: value}}
    bodies = [*([arguments, {}, {}] for arguments in ARGUMENTS), *BODIES]
    yield from (message | {"body": encoded(body)} for body in bodies)
    yield message | {"body": base64.b64encode(b"\xff{").decode()}
    refresh = message | {"headers": headers | {"task": REFRESH}}
    for arguments in ([], [1, 2, 3], [None, "", ""], ["x", "y", "z"], ["users/s:a", [], {}], ["\ud800", "", ""]):
        yield refresh | {"body": encoded([arguments, {}, {}])}


#: No message at all, or one whose text says something else than kombu wants to hear.
NO_MESSAGES = [
    *(b"", b"garbage", b"\xff\xfe\0", b"null", b"5", b"[]", b'"x"', b"{}", b"NaN", b"[" * 100_000),
    *(b'{"__type__": "uuid", "__value__": 5}', b'{"__type__": "datetime", "__value__": "x"}'),
]
NO_TEXTS: list[Any] = [None, 5, [], {}]
#: Names of tasks that are none, and that cannot even be looked for.
NO_TASKS: list[Any] = ["", "nobody.knows", "x" * 100_000, "\ud800", "a\nb", None, 5, 1.5, True, [], ["a"], {}]
CONTENT_TYPES = [
    "application/x-python-serialize",
    "application/x-yaml",
    "application/unknown",
    "text/plain",
    "",
    5,
]


def spoiled(message: dict[str, Any]) -> Iterator[bytes]:
    """What no worker can take for a message of ours, whatever the queue: it is to be told of in one line."""
    yield from NO_MESSAGES
    headers, properties = message["headers"], message["properties"]
    made = [
        *(message | {"content-type": one} for one in CONTENT_TYPES),
        message | {"content-encoding": 5},
        *(message | {"headers": one} for one in [{}, 5, "x", [1]]),
        *(message | {"headers": headers | {"task": one}} for one in NO_TASKS),
        *(message | {"headers": headers | {"id": one}} for one in [*NO_TEXTS, 1.5, True, ["a"]]),
        *(message | {"headers": headers | {"compression": one}} for one in [5, "x", "gzip"]),
        *(message | {"properties": one} for one in [*NO_TEXTS, "x"]),
        *(message | {"properties": properties | {"delivery_tag": one}} for one in NO_TEXTS),
        *(message | {"properties": properties | {"delivery_info": one}} for one in [*NO_TEXTS, "x"]),
        *(message | {"properties": properties | {"body_encoding": one}} for one in [*NO_TEXTS, "x"]),
        *(message | {"body": one} for one in [*NO_TEXTS, "", "no base64!!", "x" * 100_000]),
        *({key: one for key, one in message.items() if key != left_out} for left_out in message),
    ]
    yield from (json.dumps(one).encode() for one in made if {"content-type", "content-encoding"} <= one.keys())


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_no_worker_ends_for_a_message(pipeline, settings, broker_wire, stored, message, tmp_path, pool):
    """A worker drops each with one line, or takes it for a hint, and flushes what comes after it."""
    for one in poisoned(message):
        queue = REFRESH_QUEUE if one["headers"]["task"] == REFRESH else FLUSH_QUEUE
        broker_wire.call("LPUSH", queue, json.dumps(one))
    dropped = list(spoiled(message))
    for queue in QUEUES:
        broker_wire.call("LPUSH", queue, *dropped)
    written = pipeline.collection("users").put("ada", {"n": 1})
    command = [sys.executable, "-m", "writebehind", "run", "worker", "-Q", ",".join(QUEUES)]
    options = ["--pool", pool, "--concurrency", "2", "--loglevel", "warning"]
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            bound_to_parent([*command, *options]),
            env=os.environ | environment(settings),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        publish(create_app(settings), Hint(pipeline.store.partition_of("users/s:ada"), "", 0))

        def is_over() -> bool:
            return worker.poll() is not None or not any(broker_wire.call("LLEN", one) for one in QUEUES)

        wait_until(is_over, "all to be fetched", 30)
        assert worker.poll() is None
        wait_until(lambda: stored.find_one({"_id": "ada", "_v": written.version}), "the document", 30)
        told = (tmp_path / "log").read_text()
        assert not [line for line in told.splitlines() if "Traceback" in line or "Unrecoverable" in line]
        assert len(QUEUES) * len(dropped) <= told.count("a message of other hands is dropped")
        wait_until(lambda: not broker_wire.call("HLEN", "unacked"), "nothing to come again", 30)
    finally:
        end([Group(worker)])
