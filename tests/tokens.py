"""An issuer of tokens: keys, tokens that it signs, and a server that publishes its key set."""

from __future__ import annotations

import json
import ssl
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ISSUER, AUDIENCE = "https://login.example.com/", "documents"
ALGORITHMS = ["RS256", "ES256", "EdDSA"]


def private_key(algorithm: str, name: str = "") -> Any:
    """A key for an algorithm; one for each name, and one for all algorithms of RSA."""
    return _made(algorithm if algorithm.startswith("E") else "RSA", name)


@cache
def _made(kind: str, name: str) -> Any:
    curves = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
    if kind in curves:
        return ec.generate_private_key(curves[kind]())
    return rsa.generate_private_key(65537, 2048) if kind == "RSA" else Ed25519PrivateKey.generate()


def jwk(algorithm: str, kid: str | None = None, name: str = "", **more: Any) -> dict[str, Any]:
    """The public part of a key, as it is published under an id."""
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(private_key(algorithm, name).public_key(), as_dict=True)
    return public | {"use": "sig"} | ({} if kid is None else {"kid": kid}) | more


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def claims(scope: Any = "users:read", **more: Any) -> dict[str, Any]:
    """Claims of a token that is valid now, and while tests run, but for those that are `None`."""
    now = int(time.time())
    given = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": now + 86_400,
        "nbf": now,
        "iat": now,
        "scope": scope,
    }
    return {name: value for name, value in (given | more).items() if value is not None}


def signed(
    given: dict[str, Any] | None = None,
    algorithm: str = "RS256",
    *,
    kid: str | None = "one",
    key: Any = None,
    **header: Any,
) -> str:
    """A token with claims, by default valid ones."""
    headers = {"kid": kid, **header} if kid is not None else header
    payload = json.dumps(given or claims()).encode()  # `jwt.encode` would not sign what is wrong
    return jwt.PyJWS().encode(payload, key or private_key(algorithm), algorithm, headers)


class KeyServer:
    """Publishes a key set over HTTP, or fails to.

    Attributes:
        data: of the set.
        mode: `answer`, `fail` with 500, `redirect` to elsewhere, `hang`, or `trickle` a byte now and then.
        asked: how often it was asked.
    """

    def __init__(self, data: bytes, mode: str = "answer", tls: ssl.SSLContext | None = None) -> None:
        self.data, self.mode, self.asked = data, mode, 0
        self.location = "/elsewhere"
        self._over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked += 1
                server._answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/jwks"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.mode == "hang":
            self._over.wait(60)
            return
        status = {"fail": 500, "redirect": 302}.get(self.mode, 200)
        handler.send_response(status)
        handler.send_header("Location", self.location)
        handler.send_header("Content-Length", str(len(self.data)))
        handler.end_headers()
        if self.mode != "trickle":
            handler.wfile.write(self.data)
            return
        try:
            for at in range(len(self.data)):
                handler.wfile.write(self.data[at : at + 1])
                if self._over.wait(0.05):
                    return
        except ConnectionError:
            """The client has given up."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
