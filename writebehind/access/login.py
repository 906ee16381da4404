"""A login of people at the issuer of tokens, an OpenID Connect provider: what a page needs to know for it.

The page is a public client of the provider, and asks it for a token by itself (authorization code with PKCE, RFC
7636). Here is only read where the provider wants to be asked (OpenID Connect Discovery 1.0).
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from writebehind.access import published
from writebehind.access.read_ahead import ReadAhead, Wording
from writebehind.errors import TokenKeysError
from writebehind.logs.quoting import quoted
from writebehind.logs.states import StateLog

log = logging.getLogger(__name__)

_WORDING: Final = Wording(
    away="the issuer does not say where people log in",
    kept="it is used as it was",
    nothing="nobody can log in",
    back="the issuer says again where people log in",
)
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
        away = StateLog(log, "login_away", "login_back")
        self._provider = ReadAhead(lambda _: client.read(), away, _WORDING, thread="login")

    def provider(self) -> Provider | None:
        """The provider as it was read last; `None` where it never was. Callers wait as for `ReadAhead.get`."""
        return self._provider.get()

    def watch(self, stop: threading.Event) -> None:
        """Have it read now, and again as soon as it is old: in a thread of its own."""
        self._provider.watch(stop)
