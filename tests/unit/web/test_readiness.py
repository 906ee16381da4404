"""Readiness, which everybody may ask for: how much work for the servers that is."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tests.waiting import wait_until
from web import readiness
from web.app import create_app
from writebehind.deadline import ends_at, left_s

CALLERS = 8


KEPT_S = readiness.KEPT_S


@pytest.fixture
def client(installation, monkeypatch):
    """A client of an application that has made no report."""
    monkeypatch.setattr(readiness, "KEPT_S", KEPT_S)
    return create_app(installation.pipeline).test_client()


@pytest.fixture
def looks(monkeypatch) -> list[float]:
    """When Redis was asked for a report."""
    begun: list[float] = []
    check_start = readiness.check_start

    def counted(*arguments):
        begun.append(time.monotonic())
        return check_start(*arguments)

    monkeypatch.setattr(readiness, "check_start", counted)
    return begun


def test_whoever_asks_often_gets_the_report_of_before(client, sink, looks, monkeypatch):
    """It is not made for each request."""
    pings = []
    ping = sink.ping
    monkeypatch.setattr(sink, "ping", lambda **given: pings.append(1) or ping(**given))
    monkeypatch.setattr(readiness, "KEPT_S", 3_600.0)
    assert {"ok"} == {client.get("/readyz").json["mongodb"] for _ in range(50)}
    assert 200 == client.head("/readyz").status_code
    assert (1, 1) == (len(looks), len(pings))


def test_a_report_is_kept_for_a_second(client, sink, looks):
    assert 1.0 == KEPT_S
    assert "ok" == client.get("/readyz").json["mongodb"]
    sink.down = True
    wait_until(lambda: client.get("/readyz").json["mongodb"] != "ok", "the next report", 5)
    assert (2, True) == (len(looks), looks[1] - looks[0] >= KEPT_S)


def test_one_thread_makes_the_report_for_all_who_wait_for_it(client, looks, monkeypatch):
    """While Redis hangs, requests do not add to what it has to do."""
    going_on, check_start = Event(), readiness.check_start

    def hanging(*arguments):
        found = check_start(*arguments)
        assert going_on.wait(30)
        return found

    monkeypatch.setattr(readiness, "check_start", hanging)
    app = client.application
    with ThreadPoolExecutor(CALLERS) as threads:
        asked = [threads.submit(lambda: app.test_client().get("/readyz").status_code) for _ in range(CALLERS)]
        wait_until(lambda: looks, "the first one", 10)
        going_on.set()
        assert {200} == {one.result() for one in asked}
    assert 1 == len(looks)


def test_nobodys_deadline_cuts_off_what_others_get_too(client, sink, monkeypatch):
    """A client that has come late is no sign that MongoDB is away."""
    given = []
    monkeypatch.setattr(sink, "ping", lambda *, timeout_s: given.append(left_s(timeout_s)))
    with ends_at(time.monotonic() - 1):
        assert 200 == client.get("/readyz").status_code
    assert [readiness.MONGODB_PATIENCE_S] == given
