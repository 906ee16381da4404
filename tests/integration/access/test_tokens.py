"""Tokens of an issuer at the routes, beside API keys."""

from __future__ import annotations

import pytest

from tests.integration.access.conftest import GRANTS, ROUTES, ask, is_allowed
from tests.tokens import AUDIENCE, ISSUER, KeyServer, claims, jwk, key_set, private_key, signed
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline
from writebehind.access import keyring as keyrings
from writebehind.access import published, read_ahead
from writebehind.access.operators import Operators
from writebehind.errors import ConfigurationError
from writebehind.operations.doctor import Level, access

BEYOND = "192.0.2.1"


def token(scope="users:read", kid="one", **more) -> str:
    return signed(claims(scope, **more), "EdDSA", kid=kid)


@pytest.fixture
def server():
    with KeyServer(key_set(jwk("EdDSA", "one"))) as server:
        yield server


@pytest.fixture
def jwt_settings(settings, server):
    return settings.model_copy(
        update={"host": BEYOND, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": server.url}
    )


@pytest.fixture
def closed(pipeline, jwt_settings, monkeypatch):
    """A client of an API that takes tokens; `pipeline` is another process of the same installation."""
    monkeypatch.setattr(keyrings, "FRESH_S", 0)
    with Pipeline(jwt_settings) as ours:
        yield create_app(ours).test_client()


@pytest.mark.parametrize("grant", GRANTS)
def test_a_token_allows_what_its_scopes_grant_and_no_more(closed, grant):
    """Each route of documents and for operators; the issuer alone lets nobody else in, as a key does."""
    sent = token(["openid", grant])
    collection, _, rights = grant.partition(":")
    for method, path, body, wanted in ROUTES:
        of, _, right = wanted.partition(":")
        is_granted = wanted == grant or (collection in {of, "*"} and right in rights.split(","))
        answer = ask(closed, method, path, body, sent)
        assert is_allowed(answer) == is_granted, (method, path)
        if not is_granted and method != "HEAD":
            assert answer.status_code == 403
            assert answer.json["detail"] == f"the token of ada does not grant {wanted}"


WRONG = {
    "expired": token(exp=1),
    "not yet": token(nbf=2**40),
    "another issuer": token(iss="https://evil.example/"),
    "another audience": token(aud="others"),
    "unknown key": token(kid="two"),
    "a stranger's": signed(claims(), "EdDSA", key=private_key("EdDSA", "stranger")),
    "no scopes": token(None),
    "huge": token(padding="x" * 20_000),
    "malformed": "x.y.z",
    "no token": "x",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_token_that_is_not_valid_opens_nothing_and_learns_nothing(closed, wrong):
    """Whatever is wrong with it, the answer is the same."""
    for method, path, body, _ in ROUTES:
        answer = ask(closed, method, path, body, WRONG[wrong])
        assert answer.status_code == 401, (method, path)
        assert 'Bearer realm="writebehind API", error="invalid_token"' == answer.headers["WWW-Authenticate"]
        if method != "HEAD":
            assert (
                "there is no such key, or it is revoked or has expired; or the token is not valid here"
                == answer.json["detail"]
            )
    assert ask(closed, "GET", "/v1/users/ada", None).status_code == 401


def test_keys_are_taken_beside_tokens(closed, office):
    key = office.create("one", ["users:read"]).token.text
    for sent in (key, token()):
        assert ask(closed, "GET", "/v1/users/ada", None, sent).status_code == 404
    office.revoke("one")
    assert ask(closed, "GET", "/v1/users/ada", None, key).status_code == 401
    assert ask(closed, "GET", "/v1/users/ada", None, token()).status_code == 404


def test_a_404_tells_a_token_nothing_that_may_only_write(closed):
    for scope, status in (("users:write", 403), ("users:read,write", 404)):
        assert ask(closed, "PATCH", "/v1/users/nobody", {"n": 1}, token(scope)).status_code == status


def test_a_token_is_taken_after_the_issuer_has_rotated_its_keys(closed, server, monkeypatch):
    monkeypatch.setattr(read_ahead, "AGAIN_S", 0.02)
    assert ask(closed, "GET", "/v1/users/ada", None, token()).status_code == 404
    server.data = key_set(jwk("EdDSA", "one"), jwk("EdDSA", "two"))
    wait_until(lambda: is_allowed(ask(closed, "GET", "/v1/users/ada", None, token(kid="two"))), "the new key")


def test_without_keys_of_the_issuer_tokens_are_503_and_keys_are_taken(jwt_settings, server, office, monkeypatch):
    monkeypatch.setattr(published, "WITHIN_S", 0.3)
    server.mode = "fail"
    key = office.create("one", ["users:read"]).token.text
    with Pipeline(jwt_settings) as ours:
        client = create_app(ours).test_client()
        answer = ask(client, "GET", "/v1/users/ada", None, token())
        assert (503, "urn:problem-type:writebehind:token-keys-unavailable") == (
            answer.status_code,
            answer.json["type"],
        )
        assert int(answer.headers["Retry-After"]) > 0
        assert ask(client, "GET", "/v1/users/ada", None, key).status_code == 404


def test_a_file_that_has_no_key_set_is_told_at_the_start(jwt_settings, pipeline, tmp_path):
    settings = jwt_settings.model_copy(update={"jwt_jwks": str(tmp_path / "jwks.json")})
    with Pipeline(settings) as ours, pytest.raises(ConfigurationError, match="WRITEBEHIND_JWT_JWKS"):
        create_app(ours)


def test_doctor_tells_whether_tokens_can_be_verified(jwt_settings, pipeline, server):
    def told():
        with Pipeline(jwt_settings) as ours:
            return {one.check: (one.level, one.found) for one in access.check(ours)}

    level, found = told()["tokens"]
    assert Level.OK is level
    assert f"1 usable key of {ISSUER} for RS256, ES256, EdDSA: tokens for {AUDIENCE} are taken" == found
    server.data = key_set()
    assert Level.FAILURE is told()["tokens"][0]
    server.mode = "fail"
    assert Level.FAILURE is told()["tokens"][0]
    assert "answers 500" in told()["tokens"][1]


def test_flower_takes_tokens_of_operators(jwt_settings, pipeline, server, monkeypatch):
    """Those without one are asked for it, whether or not the issuer answers."""
    monkeypatch.setattr(published, "WITHIN_S", 0.3)

    def refusal(sent):
        with Pipeline(jwt_settings) as ours:
            operators = Operators(ours.keyring, is_open=False, page="Flower", instead="…")
            operators.check()
            return operators.refusal(f"Bearer {sent}" if sent else "")

    assert [None, 403, 401, 401] == [refusal(one) for one in (token("admin"), token(), token(exp=1), "")]
    server.mode = "fail"
    assert [503, 401] == [refusal(one) for one in (token("admin"), "")]


def test_the_description_says_whose_tokens_are_taken(closed):
    scheme = closed.get("/openapi.json").json["components"]["securitySchemes"]["key"]
    assert ("bearer", "JWT") == (scheme["scheme"], scheme["bearerFormat"])
    assert ISSUER in scheme["description"]
