"""Tokens of an issuer, verified by its public keys: JWTs (RFC 7519), as RFC 8725 and RFC 9068 say.

The only module that knows PyJWT, and the extra `jwt`. Of a token's header it takes `alg`, `kid` and `typ`. A key
that stands there, or the address of one, is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from writebehind.access.rights import MOST, Rights
from writebehind.access.subjects import Subject
from writebehind.errors import InvalidArgumentError, TokenKeysError

#: Clocks may be apart by so much, seconds.
LEEWAY_S: Final = 30
#: Longer tokens are not looked at.
MOST_CHARACTERS: Final = 8_192
#: As many keys as an issuer may have.
MOST_KEYS: Final = 100
_LEAST_RSA_BITS: Final = 2_048
#: Types of keys by the beginnings of algorithms, and curves by algorithms that have one.
_KEY_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
#: What a public key consists of.
_PUBLIC: Final = ("kty", "n", "e", "crv", "x", "y")
#: Types of tokens that give access; of others with the same issuer and audience none does (RFC 8725, 3.11).
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_REQUIRED: Final = ["exp", "iss", "aud", "sub"]
#: A subject as OpenID Connect has it.
_SUBJECT: Final = re.compile(r"[ -~]{1,255}")
#: What PyJWT lets through from what reads a token: numbers that are none, and JSON that is nested too deep.
_MALFORMED: Final = (ValueError, TypeError, ArithmeticError, RecursionError)


class TokenRefusedError(Exception):
    """A token is refused; the message says why, to operators only, in one of a few ways."""


#: Messages for what PyJWT refuses, the first that fits.
_REASONS: Final = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidIssuerError, "it is of another issuer"),
    (jwt.InvalidAudienceError, "it is for another audience"),
    (jwt.MissingRequiredClaimError, "a claim is missing: exp, iss, aud or sub"),
    (jwt.InvalidSignatureError, "its signature is wrong"),
    (jwt.PyJWTError, "it is malformed"),
)


class UnknownSignerError(TokenRefusedError):
    """A token names a key that its issuer has not published."""


class Verifier:
    """Verifies tokens by the keys of one key set. Safe to share between threads."""

    def __init__(
        self, data: bytes, *, algorithms: Sequence[str], issuer: str, audience: str, scope_claim: str
    ) -> None:
        """Read a key set.

        Args:
            data: the set, JSON. Keys of it that these algorithms cannot use are left out.
            algorithms: that tokens may have.
            issuer: of the tokens.
            audience: for whom they are, at least.
            scope_claim: which claim has what they allow.

        Raises:
            TokenKeysError: it is no key set.
        """
        self._issuer, self._audience, self._scope_claim = issuer, audience, scope_claim
        #: Keys by algorithm and id; the id is '' for those that have none.
        self._keys: dict[tuple[str, str], Any] = {}
        usable = 0
        for jwk in _members(data):
            found = {one: key for one in _algorithms(jwk, algorithms) if (key := _public_key(jwk, one))}
            for algorithm, key in found.items():
                self._keys.setdefault((algorithm, jwk.get("kid", "")), key)
            usable += bool(found)
        #: The number of keys that tokens may be signed with.
        self.usable = usable
        self._algorithms = {algorithm for algorithm, _ in self._keys}

    def verify(self, text: str) -> Subject:
        """The subject of a token.

        Raises:
            UnknownSignerError: no key that is known has signed it.
            TokenRefusedError: it is refused for something else.
        """
        if len(text) > MOST_CHARACTERS:
            raise TokenRefusedError("it is too long")
        try:
            header = jwt.get_unverified_header(text)
            algorithm = header.get("alg")
            key = self._key(algorithm, header)
            claims = jwt.decode(
                text,
                key,
                algorithms=[str(algorithm)],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": _REQUIRED},
            )
            until = float(int(claims["exp"]) + LEEWAY_S)
        except jwt.PyJWTError as error:
            raise TokenRefusedError(next(said for kind, said in _REASONS if isinstance(error, kind))) from error
        except _MALFORMED as error:
            raise TokenRefusedError("it is malformed") from error
        return Subject(_subject(claims), self._rights(claims), until)

    def _key(self, algorithm: object, header: dict[str, Any]) -> Any:
        """The key that its header names. What has to be understood to read a token is not."""
        if "crit" in header or "b64" in header:
            raise TokenRefusedError("its header has crit or b64")
        kind = header.get("typ")
        if kind is not None and str(kind).lower().removeprefix("application/") not in _TYPES:
            raise TokenRefusedError("it is of another type than JWT and at+jwt")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise UnknownSignerError("its algorithm is not allowed, or no key is for it")
        if (kid := header.get("kid")) is not None:
            found = [self._keys.get((algorithm, kid))]
        else:
            found = [key for (of, _), key in self._keys.items() if of == algorithm]
        if len(found) != 1 or found[0] is None:
            raise UnknownSignerError("its key is unknown")
        return found[0]

    def _rights(self, claims: dict[str, Any]) -> Rights:
        """Rights that its scopes grant, parted by U+0020 alone (RFC 6749, 3.3); some are for others: `openid`."""
        given = claims.get(self._scope_claim)
        scopes = given.split(" ") if isinstance(given, str) else given if isinstance(given, list) else []
        granted = [one for one in scopes[:MOST] if isinstance(one, str) and _grants(one)]
        if not granted:
            raise TokenRefusedError("no scope of it grants anything")
        return Rights.parse(granted)


def _members(data: bytes) -> Iterator[dict[str, Any]]:
    try:
        found = orjson.loads(data)["keys"]
    except (ValueError, KeyError, TypeError, IndexError):
        found = None
    if not isinstance(found, list) or len(found) > MOST_KEYS:
        raise TokenKeysError(f"what the issuer has published is no JSON Web Key Set, or has more than {MOST_KEYS}")
    return (one for one in found if isinstance(one, dict) and isinstance(one.get("kid", ""), str))


def _algorithms(jwk: dict[str, Any], allowed: Sequence[str]) -> Iterator[str]:
    """The algorithms that a key is for."""
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return
    for one in allowed:
        curve = _CURVES.get(one)
        fits = jwk.get("kty") == _KEY_TYPES[one[:2]] and (curve is None or jwk.get("crv") == curve)
        if fits and jwk.get("alg", one) == one:
            yield one


def _public_key(jwk: dict[str, Any], algorithm: str) -> Any:
    """A key; `None` where it is damaged, or too weak."""
    public: dict[str, Any] = {name: jwk[name] for name in _PUBLIC if name in jwk}
    try:
        key = jwt.get_algorithm_by_name(algorithm).from_jwk(public)
    except (jwt.PyJWTError, UnsupportedAlgorithm, *_MALFORMED):
        return None
    return None if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS else key


def _subject(claims: dict[str, Any]) -> str:
    found = claims["sub"]
    if not isinstance(found, str) or not _SUBJECT.fullmatch(found):
        raise TokenRefusedError("its subject is none of up to 255 ASCII characters")
    return found


def _grants(scope: str) -> bool:
    try:
        Rights.parse([scope])
    except InvalidArgumentError:
        return False
    return True
