"""Writes that are repeated with one key until they are answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

import httpx
import pytest

from writebehind import errors, retrying, until_answered


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """The pauses; they take no time, but the clock goes on by them."""
    pauses: list[float] = []
    began = time.monotonic()
    monkeypatch.setattr(retrying, "sleep", pauses.append)
    monkeypatch.setattr(retrying, "monotonic", lambda: began + sum(pauses))
    return pauses


def call_of(*outcomes: object) -> tuple[Callable[[str], object], list[str]]:
    """A call that raises or returns these one after the other, and the keys that it is called with."""
    left: Iterator[object] = iter(outcomes)
    keys: list[str] = []

    def call(key: str) -> object:
        keys.append(key)
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return call, keys


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


LATER = {
    "Redis is away": errors.RedisUnavailableError(),
    "MongoDB is away": errors.MongoUnavailableError(),
    "a full partition": errors.PartitionFullError(),
    "others were faster": errors.ConflictError(),
    "a cut connection": ConnectionResetError(),
    "a late answer": TimeoutError(),
    "a cut connection of httpx": httpx.RemoteProtocolError(""),
    "a late answer of httpx": httpx.ReadTimeout(""),
    "500": answer(500),
    "502": answer(502),
    "503": answer(503, Retry_After="1"),
    "504": answer(504),
    "429": answer(429, Retry_After="1"),
    "409 in flight": answer(409, Retry_After="1"),
}
STANDS = {str(status): answer(status) for status in (200, 201, 202, 204, 400, 404, 409, 412, 413, 422)}


@pytest.mark.parametrize("outcome", LATER.values(), ids=LATER)
def test_repeats(slept, outcome):
    """What passes, or does not say whether the write has happened, is repeated with the same key."""
    call, keys = call_of(outcome, outcome, "done")

    assert "done" == until_answered(call)
    assert 3 == len(keys)
    assert 1 == len(set(keys))
    assert 2 == len(slept)


@pytest.mark.parametrize("given", STANDS.values(), ids=STANDS)
def test_an_answer_stands(slept, given):
    """Whatever else is answered is the answer."""
    call, keys = call_of(given)

    assert given is until_answered(call)
    assert [1, 0] == [len(keys), len(slept)]


@pytest.mark.parametrize(
    "error",
    [
        errors.DocumentNotFoundError(),
        errors.KeyReusedError(),
        errors.ForeignRedisError(),
        errors.PipelineClosedError(),
        KeyError(),
    ],
    ids=lambda one: type(one).__name__,
)
def test_raises(slept, error):
    """What another call does not get past is raised at once."""
    call, keys = call_of(error)

    with pytest.raises(type(error)):
        until_answered(call)

    assert [1, 0] == [len(keys), len(slept)]


def test_keys():
    """Each write has a key of its own, unless one is given."""
    keys = [until_answered(lambda key: key) for _ in range(2)]

    assert 2 == len(set(keys))
    assert "mine" == until_answered(lambda key: key, key="mine")


def test_more_errors(slept):
    """The caller may name errors of another client."""
    call, keys = call_of(LookupError(), "done")

    assert "done" == until_answered(call, repeat_on=(LookupError,))
    assert 2 == len(keys)


def test_pauses_grow(slept):
    """Pauses double up to 5 s, and are up to twice as long, so that many clients do not come at once."""
    call, _ = call_of(*[TimeoutError()] * 12, "done")

    until_answered(call)

    least = [min(0.05 * 2**n, 5) for n in range(12)]
    assert all(low <= pause <= 2 * low for low, pause in zip(least, slept, strict=True))
    assert slept != least


@pytest.mark.parametrize(
    ("given", "least"),
    [("7", 7), ("date", 6), ("-1", 0), ("soon", 0), ("9" * 400, None)],
    ids=["seconds", "date", "negative", "neither", "too many"],
)
def test_no_sooner_than_the_server_asks(slept, given, least):
    """Retry-After is seconds or a date (RFC 9110, 10.2.3)."""
    value = formatdate(time.time() + 8, usegmt=True) if given == "date" else given
    call, keys = call_of(answer(503, Retry_After=value), "done")

    assert "done" == until_answered(call, within_s=100)
    assert 2 == len(keys)
    assert (least or 0) <= slept[0] <= (least or 0) + 3


def test_no_sooner_than_the_library_asks(slept):
    """Errors of the library have it as `retry_after_s`."""
    call, _ = call_of(errors.PartitionFullError(retry_after_s=3.5), "done")

    until_answered(call)

    assert 3.5 <= slept[0] <= 4


def test_the_time_is_over(slept):
    """No call begins after it: the last error is raised, and the last answer returned."""
    call, keys = call_of(*[TimeoutError(str(n)) for n in range(100)])
    with pytest.raises(TimeoutError) as raised:
        until_answered(call, within_s=10)
    assert str(len(keys) - 1) == str(raised.value)
    assert 1 < len(keys) < 20
    assert sum(slept) <= 10

    given = answer(503, Retry_After="60")
    call, keys = call_of(given)
    assert given is until_answered(call, within_s=10)
    assert 1 == len(keys)
