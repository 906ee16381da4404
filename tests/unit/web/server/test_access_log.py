"""The access log: a line for each request that is over, where it is turned on."""

from __future__ import annotations

import asyncio
import logging
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.web.server.conftest import Client
from tests.waiting import wait_until
from web import server as server_module
from web.access_log import AccessLog
from web.server import create_server


def application(status: int = 200, *bodies: bytes, headers: tuple = (), fails: bool = False):
    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        answer.seen = dict(scope["headers"])
        if fails:
            raise RuntimeError("it broke")
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})

    return answer


def logged(caplog: pytest.LogCaptureFixture, app: Any, client: Client) -> logging.LogRecord:
    """The line of one request."""
    caplog.set_level(logging.INFO, "writebehind.access")
    access = AccessLog(app)
    try:
        asyncio.run(client.ask(access))
    finally:
        wait_until(lambda: caplog.records, "the line")
    [record] = caplog.records
    return record


def test_a_request_is_a_line_with_fields(caplog):
    """Method, path, status, time, size, id and client, each as a field and in the text."""
    client = Client(path="/v1/users/ada%0A", headers=((b"x-request-id", b"mine"),))
    record = logged(caplog, application(201, b"ab", b"c"), client)
    assert ("PUT", "/v1/users/ada%0A", 201, 3, "mine", "127.0.0.1") == (
        *(record.method, record.path, record.status),
        *(record.bytes, record.request_id, record.client),
    )
    assert 0 <= record.ms < 10_000
    assert f"PUT /v1/users/ada%0A 201 {record.ms:.2f} ms 3 bytes to 127.0.0.1 [mine]" == record.getMessage()


def test_a_request_without_an_id_is_given_one(caplog):
    """The application sees it, so that its own lines and its answer have the same; the answer's counts."""
    app = application(200)
    record = logged(caplog, app, Client())
    assert record.request_id == app.seen[b"x-request-id"].decode()
    caplog.clear()
    record = logged(caplog, application(200, headers=((b"x-request-id", b"new"),)), Client())
    assert "new" == record.request_id


def test_an_id_is_no_field_of_a_line(caplog):
    """Whatever a client calls its request: in the text it is quoted where it could be taken for more."""
    given = b"z]: 200 event=keys_lost foo"
    record = logged(caplog, application(200), Client(headers=((b"x-request-id", given),)))
    assert given.decode() == record.request_id
    assert record.getMessage().endswith(f'["{given.decode()}"]')


@pytest.mark.parametrize("fails", [True, False])
def test_a_request_without_an_answer_is_a_line(caplog, fails):
    """One that failed, and one whose client is gone."""
    client = Client()
    client.takes = False
    app = application(200, b"abc", fails=fails)

    async def ask() -> None:
        async with asyncio.timeout(0.1):
            await client.ask(access)

    caplog.set_level(logging.INFO, "writebehind.access")
    access = AccessLog(app)
    with pytest.raises(RuntimeError if fails else TimeoutError):
        asyncio.run(ask())
    wait_until(lambda: caplog.records, "the line")
    assert (None if fails else 200, 0) == (caplog.records[0].status, caplog.records[0].bytes)


def test_a_log_that_nobody_reads_holds_up_no_request(caplog, monkeypatch):
    """Lines that find no room are left out, and how many is told."""
    caplog.set_level(logging.INFO, "writebehind.access")
    monkeypatch.setattr("web.access_log.MOST_WAITING", 3)
    monkeypatch.setattr("web.access_log.Thread", lambda **_: SimpleNamespace(start=lambda: None))
    access = AccessLog(application(200))
    for _ in range(10):
        asyncio.run(Client().ask(access))
    monkeypatch.undo()
    Thread(target=access._write, daemon=True).start()
    wait_until(lambda: "left out" in caplog.text, "the count")
    assert "7 requests are left out, as nobody has read in time" == caplog.messages[-1]
    assert 4 == len(caplog.records)


@pytest.mark.parametrize("on", [True, False])
def test_it_costs_nothing_where_it_is_off(on, monkeypatch):
    """Then no part of it is between granian and the application."""
    monkeypatch.setenv("WRITEBEHIND_ACCESS_LOG", str(on))
    monkeypatch.setattr(server_module, "begin_log", lambda _: None)
    monkeypatch.setattr(server_module, "return_large_blocks", lambda: None)
    monkeypatch.setattr(server_module, "gc", SimpleNamespace(freeze=lambda: None, set_threshold=lambda _: None))
    assert on == isinstance(create_server(), AccessLog)
