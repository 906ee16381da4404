"""A login of people at the issuer of tokens, an OpenID Connect provider: what a page needs to know for it.

The page is a public client of the provider, and asks it for a token by itself (authorization code with PKCE, RFC
7636). Here is only read where the provider wants to be asked (OpenID Connect Discovery 1.0). A thread does that,
for which no request waits but those of the first moment.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from writebehind import forks
from writebehind.access import published
from writebehind.errors import TokenKeysError
from writebehind.logs.quoting import quoted
from writebehind.logs.states import StateLog

log = logging.getLogger(__name__)

#: For so long what was read last holds, seconds; and so long after the begin of a failure it is read again.
FRESH_S, AGAIN_S = 300.0, 10.0
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_AUTHORITY: Final = re.compile(r"[A-Za-z0-9.\[\]:-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, as a page needs to know it.

    Attributes:
        issuer: its name.
        authorization_endpoint: URL where people log in.
        token_endpoint: URL where the page has a token for the code that it got.
        client_id: of the page, as the provider knows it.
        scope: what is asked for.
        audience: for whom the token is to be.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    client_id: str
    scope: str
    audience: str

    @property
    def origin(self) -> str:
        """The origin of its token endpoint, which the page has to be allowed to ask."""
        parts = urlsplit(self.token_endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    def as_dict(self) -> dict[str, Any]:
        """The provider for the page."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Client:
    """The page as a client of an issuer: its id, the scope that it asks for, and the audience of its tokens."""

    issuer: str
    client_id: str
    scope: str
    audience: str

    def read(self) -> Provider:
        """Ask the issuer where people log in.

        Raises:
            TokenKeysError: it does not answer, or with something else.
        """
        source = self.issuer.rstrip("/") + _WELL_KNOWN
        if fault := published.fault_of_url(source):
            raise TokenKeysError(f"{source} {fault}")
        try:
            told = orjson.loads(published.read(source))
            issuer, where, token = (
                str(told[one]) for one in ("issuer", "authorization_endpoint", "token_endpoint")
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TokenKeysError(f"{source} is no configuration of a provider") from error
        if issuer != self.issuer:
            raise TokenKeysError(f"{source} is of another issuer: {quoted(issuer[:200])}")
        for place in (where, token):
            fault = published.fault_of_url(place)
            if fault or not _AUTHORITY.fullmatch(urlsplit(place).netloc):
                raise TokenKeysError(f"{source} has an endpoint that {fault or 'is no URL'}")
        return Provider(issuer, where, token, self.client_id, self.scope, self.audience)


class Login:
    """A login at a provider, as a process knows it. Safe to share between threads."""

    def __init__(self, client: Client) -> None:
        """Let people log in there. Nothing is read before it is needed, or watched."""
        self.client = client
        self._lock = forks.lock()
        self._away = StateLog(log, "login_away", "login_back")
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Know nothing that the parent process has read."""
        self._provider: Provider | None = None
        self._due = float("-inf")
        #: Whether it was asked for once, whatever came of it.
        self._tried = threading.Event()

    def provider(self) -> Provider | None:
        """The provider as it was read last; `None` where it never was.

        Callers wait until it was asked for once, and no longer than `WITHIN_S` of `published` and a second.
        """
        self._begin()
        if self._provider is None:
            self._tried.wait(published.WITHIN_S + 1)
        return self._provider

    def watch(self, stop: threading.Event) -> None:
        """Have it read now, and again as soon as it is old: in a thread of its own."""
        while not stop.is_set():
            self._begin()
            stop.wait(max(0.0, self._due - time.monotonic()))

    def _begin(self) -> None:
        """Have a thread read it, if it is time."""
        now = time.monotonic()
        with self._lock:
            if now < self._due:
                return
            self._due = now + AGAIN_S
        threading.Thread(target=self._read, name="login", daemon=True).start()

    def _read(self) -> None:
        try:
            self._provider = self.client.read()
        except TokenKeysError as error:
            kept = "it is used as it was" if self._provider else "nobody can log in"
            self._away.begin(f"the issuer does not say where people log in, and {kept}: {error}", error=str(error))
        else:
            self._due = time.monotonic() + FRESH_S
            if self._away.lasts:
                self._away.end("the issuer says again where people log in")
        finally:
            self._tried.set()
