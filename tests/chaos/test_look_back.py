"""What is read after all faults: a slow machine may put it off, and nothing may be wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.chaos import clients, foreign
from tests.chaos.clients import Client
from tests.chaos.foreign import Onlooker
from tests.chaos.history import History
from tests.chaos.owners import Owner

FOUND = {"_id": "one", "v": "a1", "name": "ours"}


def answer(status: int, body: object, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(body), headers=headers)


def not_now(problem: str = "mongodb-unavailable", **headers: str) -> httpx.Response:
    body = {"type": f"urn:problem-type:writebehind:{problem}", "status": 503}
    return answer(503, body, **(headers or {"Retry-After": "1"}))


RIGHT = answer(200, FOUND)
NOTHING = answer(404, {"type": "urn:problem-type:writebehind:not-found"})
OTHER = answer(200, FOUND | {"v": "a2"})


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture(params=["owner", "onlooker"])
def look_back(request, history, monkeypatch) -> Callable[..., None]:
    """Looks back at one document, for which an API has these answers, one after the other."""
    owner, onlooker = (kind(0, "http://api", 7, history, threading.Event()) for kind in (Owner, Onlooker))
    owner._now, owner._perhaps = {"one": FOUND}, {"one": set()}
    monkeypatch.setattr(foreign, "FOREIGN_DOCUMENTS", {"one": FOUND})
    one: Client = owner if request.param == "owner" else onlooker

    def look(*answers: httpx.Response) -> None:
        given: Iterator[httpx.Response] = iter(answers)
        api = httpx.MockTransport(lambda _: next(given))
        with httpx.Client(base_url="http://api", transport=api) as http:
            one.look_back(http)
        assert [] == list(given)

    return look


def misled(history: History) -> int:
    return sum(one.kind == "misled" for one in history.violations({}, {}, 100.0))


def test_what_comes_later_is_waited_for(history, look_back):
    """A 503 that says why and when to come again breaks no promise when the answer comes, and is counted."""
    look_back(not_now(), not_now("service-unavailable"), not_now("redis-unavailable"), RIGHT)

    assert 0 == misled(history)
    assert 1 == history.answers["service-unavailable in peace"]


@pytest.mark.parametrize("wrong", [NOTHING, OTHER], ids=["nothing", "another state"])
def test_what_comes_later_may_be_wrong(history, look_back, wrong):
    """What is answered in the end is compared, as is what is answered at once."""
    look_back(wrong)
    look_back(not_now(), wrong)

    assert 2 == misled(history)


@pytest.mark.parametrize(
    "wrong", [not_now("wrong-installation"), not_now(Allow="GET")], ids=["another cause", "without a time"]
)
def test_a_cause_that_there_is_none_of(history, look_back, wrong):
    """A 503 of another cause than slowness, or that does not say when to come again, is a breach."""
    look_back(wrong)

    assert 1 == misled(history)


def test_what_never_comes(look_back, monkeypatch):
    """A read that is refused for good after all faults fails the run."""
    monkeypatch.setattr(clients, "ANSWERED_WITHIN_S", 0.05)
    with pytest.raises(pytest.fail.Exception, match="to be answered"):
        look_back(*[not_now()] * 1_000)
