"""CPU time of a cached GET and of a PUT in the web process with an API key, and with a token, against one without.

A control without one says how far apart equal ones are.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.load import DOCUMENT
from bench.wsgi import ask
from web.app import create_app
from writebehind import Settings, connect
from writebehind.access.keys import Token, new_id
from writebehind.local.embedded import EmbeddedRedis

ROUNDS, CALLS = 60, 150


def main() -> None:
    """Take turns, and print the ratios."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedRedis(Path(directory)) as server:
        given = {"redis_url": server.url, "mongodb_url": "mongodb://127.0.0.1:9/", "allow_unlisted": True}
        token = Token.new(new_id()).text
        issued, tokens = _issued(Path(directory))
        with (
            connect(Settings(**given)) as without,
            connect(Settings(**given, root_key=token)) as kept,
            connect(Settings(**given, **tokens)) as issuing,
        ):
            open_app, closed_app, issuing_app = (create_app(one) for one in (without, kept, issuing))
            ways: dict[str, tuple[Callable[..., object], dict[str, str]]] = {
                "no key": (open_app, {}),
                "with a key": (closed_app, {"HTTP_AUTHORIZATION": f"Bearer {token}"}),
                "with a token": (issuing_app, {"HTTP_AUTHORIZATION": f"Bearer {issued}"}),
                "control": (open_app, {}),
            }
            for method in ("GET", "PUT"):
                print(_compared(method, ways))


def _issued(directory: Path) -> tuple[str, dict[str, object]]:
    """A token, and the settings by which it is taken."""
    key = Ed25519PrivateKey.generate()
    public = jwt.get_algorithm_by_name("EdDSA").to_jwk(key.public_key(), as_dict=True)
    (file := directory / "jwks.json").write_text(json.dumps({"keys": [public | {"kid": "one"}]}))
    issuer, audience, ends = "https://login.example.com/", "documents", int(time.time()) + 3_600
    claims = {"iss": issuer, "aud": audience, "sub": "ada", "exp": ends, "scope": "openid users:read,write"}
    token = jwt.encode(claims, key, "EdDSA", {"kid": "one"})
    return token, {"jwt_issuer": issuer, "jwt_audience": audience, "jwt_jwks": str(file)}


def _compared(method: str, ways: dict[str, tuple[Callable[..., object], dict[str, str]]]) -> str:
    took: dict[str, list[float]] = {name: [] for name in ways}
    for app, headers in ways.values():
        _ask(app, "PUT", headers)
        _ask(app, method, headers)
    for turn in range(ROUNDS):
        first = turn % len(ways)
        names = [*ways][first:] + [*ways][:first]
        for name in names:
            app, headers = ways[name]
            began = time.process_time()
            for _ in range(CALLS):
                _ask(app, method, headers)
            took[name].append((time.process_time() - began) / CALLS * 1e6)
    ratios = {
        name: median(one / other for one, other in zip(took[name], took["no key"], strict=True)) for name in ways
    }
    told = ", ".join(f"{name} {median(some):.1f} µs, ratio {ratios[name]:.3f}" for name, some in took.items())
    return f"{method}, CPU of the web process: {told}"


def _ask(app: Callable[..., object], method: str, headers: dict[str, str]) -> None:
    ask(app, method, "/v1/users/ada", DOCUMENT if method == "PUT" else b"", **headers)


if __name__ == "__main__":
    main()
