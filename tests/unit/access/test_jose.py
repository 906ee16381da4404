"""What a token has to be to give access, and what of one that is forged is noticed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from contextlib import suppress

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.tiers import examples
from tests.tokens import ALGORITHMS, AUDIENCE, ISSUER, claims, jwk, key_set, private_key, signed
from writebehind.access.algorithms import Algorithm
from writebehind.access.jose import (
    LEEWAY_S,
    MOST_CHARACTERS,
    MOST_KEYS,
    TokenRefusedError,
    UnknownSignerError,
    Verifier,
)
from writebehind.access.rights import Rights
from writebehind.errors import TokenKeysError


def verifier(*keys, algorithms=ALGORITHMS, scope_claim="scope") -> Verifier:
    return Verifier(
        key_set(*(keys or [jwk("RS256", "one")])),
        algorithms=algorithms,
        issuer=ISSUER,
        audience=AUDIENCE,
        scope_claim=scope_claim,
    )


def forged(header, payload, signature=b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts)


def with_header(**header) -> str:
    """A token that is signed, with a header that PyJWT would not write."""
    token = forged({"alg": "RS256", "kid": "one"} | header, claims()).rstrip(".")
    signature = private_key("RS256").sign(token.encode(), PKCS1v15(), SHA256())
    return f"{token}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def pem(algorithm: str) -> bytes:
    return private_key(algorithm).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", Algorithm.__args__)
def test_a_token_that_is_signed_by_a_published_key_is_taken(algorithm):
    given = claims("openid users:read,write admin *:read")

    found = verifier(jwk(algorithm, "one"), algorithms=[algorithm]).verify(signed(given, algorithm))

    assert ("jwt:ada", Rights.parse(["users:read,write", "admin", "*:read"])) == (found.id, found.rights)
    assert given["exp"] + LEEWAY_S == found.until


def test_keys_of_all_kinds_are_told_apart_by_their_ids():
    ours = verifier(*(jwk(one, f"kid-{one}") for one in ALGORITHMS))

    assert 3 == ours.usable
    for one in ALGORITHMS:
        assert "ada" == ours.verify(signed(algorithm=one, kid=f"kid-{one}")).name
        with pytest.raises(UnknownSignerError):
            ours.verify(signed(algorithm=one, kid="another"))


def test_a_token_without_a_key_id_is_taken_where_one_key_alone_can_have_signed_it():
    token = signed(kid=None)

    assert "ada" == verifier(jwk("RS256", "one"), jwk("ES256", "two")).verify(token).name
    assert "ada" == verifier(jwk("RS256")).verify(token).name
    with pytest.raises(UnknownSignerError):
        verifier(jwk("RS256", "one"), jwk("RS256", "two", "another")).verify(token)


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_types_of_tokens_that_give_access(typ):
    """RFC 9068 has `at+jwt`; most issuers say `JWT`, or nothing."""
    assert "ada" == verifier().verify(signed(typ=typ)).name


NOW = time.time()
WRONG = {
    "expired": (claims(exp=NOW - LEEWAY_S - 5), "it has expired"),
    "not yet": (claims(nbf=NOW + 3_600), "it is not valid yet"),
    "issued in the future": (claims(iat=NOW + 3_600), "it is not valid yet"),
    "another issuer": (claims(iss="https://login.example.com"), "it is of another issuer"),
    "issuers": (claims(iss=[ISSUER]), "it is"),
    "another audience": (claims(aud="others"), "it is for another audience"),
    "audiences of others": (claims(aud=["others", 7]), "it is"),
    **{f"without {one}": (claims(**{one: None}), "a claim is missing") for one in ("exp", "iss", "aud", "sub")},
    "exp no number": (claims(exp="soon"), "it is malformed"),
    "exp endless": (claims(exp=float("inf")), "it is malformed"),
    "exp nothing": (claims(exp=float("nan")), "it is malformed"),
    "sub no text": (claims(sub=7), "it is malformed"),
    "sub of lines": (claims(sub="a\nb"), "its subject"),
    "sub empty": (claims(sub=""), "its subject"),
    "sub too long": (claims(sub="a" * 256), "its subject"),
    "no scopes": (claims(scope=None), "no scope"),
    "scopes of others": (claims("openid email users:delete :read admin:x"), "no scope"),
    **{
        f"scopes parted by {one!r}": (claims(f"openid{one}admin"), "no scope")
        for one in "\u00a0\u2003\t\n\u3000\x1c"
    },
    "scopes of no kind": (claims({"users": "read"}), "no scope"),
    "scopes that are no texts": (claims([1, None, ["admin"]]), "no scope"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_signed_token_with_claims_that_are_wrong_is_refused(wrong):
    payload, why = WRONG[wrong]
    with pytest.raises(TokenRefusedError, match=why):
        verifier().verify(signed(payload))


def test_clocks_may_be_a_little_apart():
    now = time.time()
    for payload in (claims(exp=now - LEEWAY_S / 2), claims(nbf=now + LEEWAY_S / 2, iat=now + LEEWAY_S / 2)):
        assert "ada" == verifier().verify(signed(payload)).name


@pytest.mark.parametrize(
    ("claim", "value"),
    [("scp", "users:read"), ("permissions", ["users:read", "openid"]), ("https://x/y", "users:read")],
)
def test_the_scopes_may_be_in_another_claim(claim, value):
    found = verifier(scope_claim=claim).verify(signed(claims("admin", **{claim: value})))
    assert Rights.parse(["users:read"]) == found.rights


def unsigned(alg):
    return forged({"alg": alg, "typ": "JWT", "kid": "one"}, claims())


def with_public_key_as_secret():
    """The old trick: the public key, which all know, as the secret of an HMAC."""
    token = forged({"alg": "HS256", "kid": "one"}, claims()).rstrip(".")
    digest = hmac.digest(pem("RS256"), token.encode(), hashlib.sha256)
    return f"{token}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def by_stranger(**header):
    return signed(key=private_key("RS256", "stranger"), **header)


ATTACKS = {
    **{f"alg {one}": unsigned(one) for one in ("none", "None", "NONE", "nOnE", "", "HS256", None, 7, ["RS256"])},
    "alg absent": forged({"kid": "one"}, claims()),
    "HS256 by the public key": with_public_key_as_secret(),
    "another algorithm of the key": signed(algorithm="RS512", key=private_key("RS256")),
    "an algorithm of another key": signed(algorithm="ES256"),
    "a stranger's key": by_stranger(),
    "a stranger's key, embedded": by_stranger(jwk=jwk("RS256", "one", "stranger")),
    "a stranger's key, elsewhere": by_stranger(jku="http://127.0.0.1:1/", x5u="http://127.0.0.1:1/"),
    "a stranger's certificate": by_stranger(x5c=["MIIB"]),
    "kid a path": by_stranger(kid="../../../../dev/null"),
    "kid SQL": by_stranger(kid="' UNION SELECT 'secret' --"),
    "kid empty": by_stranger(kid=""),
    "kid no text": forged({"alg": "RS256", "kid": {"a": 1}}, claims(), b"x"),
    "crit": signed(crit=["exp"], exp=1),
    "crit of what is known": signed(crit=["alg"]),
    "b64": forged({"alg": "RS256", "kid": "one", "b64": False, "crit": ["b64"]}, claims(), b"x"),
    "b64 true": with_header(b64=True),
    "crit empty": with_header(crit=[]),
    "typ of a logout": signed(typ="logout+jwt"),
    "typ of an event": signed(typ="secevent+jwt"),
    "typ no text": forged({"alg": "RS256", "kid": "one", "typ": 7}, claims(), b"x"),
    "no signature": signed().rpartition(".")[0] + ".",
    "four parts": signed() + ".x",
    "five parts": "a.b.c.d.e",
    "empty": "",
    "dots": "..",
    "no base64": "€.€.€",
    "no JSON": "eA.eA.eA",
    "a header that is a list": forged([], claims(), b"x"),
    "nested too deep": base64.urlsafe_b64encode(b"[" * 5_001).decode() + ".e30.eA",
    "too long": signed(claims("users:read", padding="x" * MOST_CHARACTERS)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_token_that_is_forged_is_refused(attack):
    with pytest.raises(TokenRefusedError):
        verifier().verify(ATTACKS[attack])


def test_a_header_of_any_kind_may_stand_beside_what_counts():
    """So that those of the attacks are refused for what they are."""
    assert "ada" == verifier().verify(with_header(x="y", jku="http://127.0.0.1:1/")).name


def test_a_token_that_was_changed_is_refused():
    head, _, signature = signed().split(".")
    more = base64.urlsafe_b64encode(json.dumps(claims("admin")).encode()).rstrip(b"=").decode()
    with pytest.raises(TokenRefusedError, match="signature"):
        verifier().verify(f"{head}.{more}.{signature}")


@given(some.text(max_size=200) | some.lists(some.binary(max_size=60), min_size=1, max_size=4))
@settings(max_examples=examples(150), deadline=None)
def test_whatever_is_sent_is_refused(sent):
    token = (
        sent
        if isinstance(sent, str)
        else ".".join(base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in sent)
    )
    with pytest.raises(TokenRefusedError):
        verifier().verify(token)


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(some.dictionaries(some.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "scope", "jti"]), JSON))
@settings(deadline=None)
def test_claims_of_any_kind_are_refused_or_taken(given):
    """An issuer may err: nothing but a refusal comes of it."""
    with suppress(TokenRefusedError):
        verifier().verify(signed(claims() | given))


NOT_FOR_TOKENS = {
    "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"},
    "for encryption": jwk("RS256", "one", use="enc"),
    "for signing only": jwk("RS256", "one", key_ops=["sign"]),
    "for another algorithm": jwk("RS256", "one", alg="RS384"),
    "of another curve": jwk("ES384", "one"),
    "damaged": jwk("RS256", "one") | {"n": "!"},
    "without a part": {"kty": "RSA", "e": "AQAB", "kid": "one"},
    "of no kind": {"kid": "one"},
    "with an id that is no text": jwk("RS256") | {"kid": 7},
    "no object": "one",
}


@pytest.mark.parametrize("kind", NOT_FOR_TOKENS)
def test_a_key_that_is_not_for_tokens_is_left_out(kind):
    """The others of its set are used."""
    ours = verifier(NOT_FOR_TOKENS[kind], jwk("EdDSA", "two"))

    assert 1 == ours.usable
    assert "ada" == ours.verify(signed(algorithm="EdDSA", kid="two")).name
    with pytest.raises(UnknownSignerError):
        ours.verify(signed())


def test_an_rsa_key_that_is_too_short_is_left_out():
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    public = jwt.get_algorithm_by_name("RS256").to_jwk(short.public_key(), as_dict=True)
    assert 0 == verifier(public | {"kid": "one"}).usable


def test_an_algorithm_that_is_not_allowed_is_refused():
    with pytest.raises(UnknownSignerError):
        verifier(algorithms=["ES256"]).verify(signed())


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"keys": {}}', b"<html>", b"\xff", key_set(*[{}] * (MOST_KEYS + 1))]
)
def test_what_is_no_key_set_is_told(data):
    with pytest.raises(TokenKeysError, match="no JSON Web Key Set"):
        Verifier(data, algorithms=ALGORITHMS, issuer=ISSUER, audience=AUDIENCE, scope_claim="scope")
