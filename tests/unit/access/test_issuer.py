"""What a process knows of an issuer, while that answers, rotates its keys, fails and hangs."""

from __future__ import annotations

import sys
import time
from functools import partial

import pytest

from tests.tokens import ALGORITHMS, AUDIENCE, ISSUER, KeyServer, claims, jwk, key_set, signed
from tests.waiting import slowness, wait_until
from writebehind import allowance
from writebehind.access import issuer as issuers
from writebehind.access import published, read_ahead
from writebehind.access.issuer import Issuer, Tokens, Verified
from writebehind.access.jose import LEEWAY_S, Verifier
from writebehind.access.rights import Rights
from writebehind.access.subjects import Subject
from writebehind.errors import ConfigurationError, TokenKeysError

OLD, NEW = jwk("EdDSA", "old"), jwk("EdDSA", "new")


def by(kid: str, **more) -> str:
    return signed(claims(**more), "EdDSA", kid=kid)


def issuer(source: str) -> Issuer:
    return Issuer(Tokens(ISSUER, AUDIENCE, source, ALGORITHMS, "scope"))


@pytest.fixture
def server():
    with KeyServer(key_set(OLD)) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch):
    """Keys are read anew with each request that wants others."""
    monkeypatch.setattr(read_ahead, "AGAIN_S", 0.02)


@pytest.fixture
def verified(monkeypatch) -> list[str]:
    """Tokens whose signatures were verified."""
    seen, verify = [], Verifier.verify
    monkeypatch.setattr(Verifier, "verify", lambda one, text: seen.append(text) or verify(one, text))
    return seen


def test_the_first_request_waits_for_the_keys(server):
    assert "jwt:ada" == issuer(server.url).find(by("old")).id


def test_a_token_is_verified_once(server, verified):
    ours, token = issuer(server.url), by("old")
    for _ in range(5):
        assert ours.find(token)
        assert ours.recognise(token)
    assert [token] == verified
    assert 1 == server.asked


def test_a_remembered_token_ends_with_it(server, monkeypatch):
    ours, token = issuer(server.url), by("old", exp=int(time.time()) + 100)
    assert ours.find(token)
    now = time.time()
    monkeypatch.setattr(issuers.time, "time", lambda: now + 100 + LEEWAY_S + 1)
    assert ours.find(token) is None


def test_remembered_tokens_are_bounded():
    """Those that are sent again are kept."""
    verified, ada = Verified(10), Subject("ada", Rights(), 0)
    verified.keep("ours", ada)
    for number in range(1_000):
        verified.keep(str(number), ada)
        assert verified.find("ours")
        assert len(verified) <= 11
    assert verified.find("0") is None


def test_rotated_keys_are_read_when_a_token_has_a_new_one(server, impatient):
    ours = issuer(server.url)
    assert ours.find(by("old"))
    server.data = key_set(OLD, NEW)
    wait_until(lambda: ours.find(by("new")), "the new key")
    assert ours.find(by("old"))


def test_a_key_that_is_published_no_more_opens_nothing_more(server, monkeypatch):
    """Nor does a token that was verified by it before."""
    monkeypatch.setattr(read_ahead, "FRESH_S", 0)
    ours, token = issuer(server.url), by("old")
    assert ours.find(token)
    server.data = key_set(NEW)
    wait_until(lambda: ours.find(token) is None, "the end of the key")


def test_unknown_keys_make_nobody_ask_again_and_again(server):
    """Whoever invents tokens costs the issuer one request in `AGAIN_S`."""
    ours = issuer(server.url)
    assert ours.find(by("old"))
    for number in range(50):
        assert ours.find(by(f"invented-{number}")) is None
    assert 1 == server.asked


@pytest.mark.parametrize("mode", ["fail", "redirect", "hang"])
def test_keys_stay_while_the_issuer_does_not_answer(server, mode, impatient, monkeypatch, caplog):
    """No request waits for it, one line says so, and one that it is over."""
    monkeypatch.setattr(published, "WITHIN_S", 0.2)
    monkeypatch.setattr(read_ahead, "FRESH_S", 0)
    ours = issuer(server.url)
    assert ours.find(by("old"))
    server.mode = mode

    def asked_again():
        assert ours.find(by("old", jti=str(time.time())))
        return server.asked > 3

    wait_until(asked_again, "some questions")
    wait_until(lambda: ours.find(by("old")) and ours._keys._away.lasts, "the line")
    server.mode, server.data = "answer", key_set(OLD, NEW)
    wait_until(lambda: ours.find(by("new")), "the answer")
    wait_until(lambda: not ours._keys._away.lasts, "the end")
    found = [one.event for one in caplog.records if "token_keys" in getattr(one, "event", "")]
    assert ["token_keys_away", "token_keys_back"] == found


def test_what_is_no_set_leaves_the_keys_as_they_were(server, impatient, monkeypatch):
    monkeypatch.setattr(read_ahead, "FRESH_S", 0)
    ours = issuer(server.url)
    assert ours.find(by("old"))
    server.data = b"<html>"
    wait_until(lambda: ours.find(by("old")) and ours._keys._away.lasts, "the line")
    assert ours.find(by("old"))


def test_who_never_knew_a_key_says_so_and_waits_once(server, monkeypatch):
    monkeypatch.setattr(published, "WITHIN_S", 0.3)
    server.mode = "hang"
    ours = issuer(server.url)
    with pytest.raises(TokenKeysError):
        ours.find(by("old"))
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(TokenKeysError):
            ours.find(by("old"))
    assert time.monotonic() - began < 3 * slowness()
    assert ours.recognise(by("old")) is None


@pytest.mark.parametrize("find", [Issuer.recognise, partial(Issuer.find, told=False)])
def test_where_nobody_is_told_few_tokens_are_verified(server, verified, monkeypatch, caplog, find):
    """To verify one takes half a millisecond of the event loop. Known ones need none, nor do the routes."""
    now = [100.0]
    monkeypatch.setattr(allowance, "monotonic", lambda: now[0])
    ours, known = issuer(server.url), by("old")
    assert ours.find(known)
    wrong = f"{known[:-8]}AAAAAAAA"

    for _ in range(2):
        verified.clear()
        assert not [one for _ in range(200) if (one := find(ours, wrong))]
        assert find(ours, known)
        assert issuers.MOST_RECOGNISED == len(verified)
        assert ours.find(by("old", sub="bob"))
        now[0] += 1
    assert "refused" not in caplog.text
    assert ours.find(wrong) is None
    assert "a token is refused" in caplog.text


def test_a_file_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(read_ahead, "FRESH_S", 0)
    file = tmp_path / "jwks.json"
    file.write_bytes(key_set(OLD))
    ours = issuer(str(file))
    ours.check()
    assert ours.find(by("old"))
    file.write_bytes(key_set(NEW))
    wait_until(lambda: ours.find(by("new")), "the new key")


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_file_without_a_set_is_told_at_the_start(tmp_path, content):
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^WRITEBEHIND_JWT_JWKS: .*"):
        issuer(str(file)).check()


def test_a_server_that_does_not_answer_lets_us_start(server):
    server.mode = "fail"
    issuer(server.url).check()


def test_the_extra_that_is_missing_is_named(server, monkeypatch):
    monkeypatch.delitem(sys.modules, "writebehind.access.jose")
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'writebehind\[jwt\]'"):
        issuer(server.url).check()


def test_refusals_are_few_lines_that_say_why(server, caplog):
    """To operators: whoever sends such a token is told nothing of it."""
    ours = issuer(server.url)
    for _ in range(20):
        assert ours.find(by("old", aud="others")) is None
        assert ours.find("x.y.z") is None
    found = [one.reason for one in caplog.records if getattr(one, "event", "") == "token_refused"]
    assert ["it is for another audience", "it is malformed"] == found
