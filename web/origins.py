"""Whose requests are served: those that mean this host, and none that a page of somebody else has sent.

Everything that listens where a browser runs can be reached by the pages in it. A page of another origin can send
requests without asking first; a page whose own host name leads here (DNS rebinding) can read the answers too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException

from writebehind import Settings
from writebehind.hosts import is_address

#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: What `Sec-Fetch-Site` says of requests of our own pages, and of those that a person has asked for.
OUR_SITE = frozenset({"same-origin", "none"})

_AUTHORITY = re.compile(r"(?P<name>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/@?#\s]+)", re.ASCII)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
#: Different Host headers that are remembered as ours.
_MOST_KNOWN = 100


class MisdirectedRequest(HTTPException):
    """The request is for another host (RFC 9110, section 15.5.20)."""

    code = 421


class Gate:
    """Decides by the headers of a request whether it is looked at."""

    def __init__(self, settings: Settings) -> None:
        """Know the names of this host."""
        address = ip_address(settings.host)
        self._any_address = address.is_unspecified
        self._addresses = {address}
        allowed = [name.lower() for name in settings.allowed_hosts]
        self._addresses |= {ip_address(name) for name in allowed if is_address(name)}
        self._any_name = "*" in allowed
        self._names = {"localhost", *allowed}
        self._domains = tuple(name[1:] for name in allowed if name.startswith("*."))
        self._known: set[str] = set()

    def check(self, environ: Mapping[str, Any]) -> None:
        """See that a request is for us, and of nobody else's page.

        Raises:
            BadRequest: it does not say properly whom it is for.
            MisdirectedRequest: it is for another host.
            Forbidden: it is to change something, and a page of another origin has sent it.
        """
        host = environ.get("HTTP_HOST", "")
        if host not in self._known:
            self._check_host(host, environ)
        if environ["REQUEST_METHOD"] not in SAFE:
            _check_page(host, environ)

    def _check_host(self, host: str, environ: Mapping[str, Any]) -> None:
        if not host and environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
            return  # no browser, and no other way to say it
        authority = _AUTHORITY.fullmatch(host)
        if authority is None:
            raise BadRequest("Host: send the name or the address of this server, once")
        if not self._is_ours(authority["name"].lower().removesuffix(".")):
            raise MisdirectedRequest(
                f"{authority['name'][:100]!r} is not this server: allowed_hosts in its settings lists its names"
            )
        if len(self._known) < _MOST_KNOWN:
            self._known.add(host)

    def _is_ours(self, name: str) -> bool:
        if self._any_name or name in self._names or name.endswith(self._domains):
            return True
        try:
            address = ip_address(name.strip("[]"))
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        # Nobody can let an address lead here, other than a name.
        return self._any_address or address.is_loopback or address in self._addresses


def is_of_a_page(environ: Mapping[str, Any]) -> bool:
    """Whether a page in a browser has sent a request, as far as the browser tells."""
    return "HTTP_ORIGIN" in environ or any(name.startswith("HTTP_SEC_FETCH_") for name in environ)


def _check_page(host: str, environ: Mapping[str, Any]) -> None:
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None and site not in OUR_SITE:
        raise Forbidden(f"a page of another site may change nothing here (Sec-Fetch-Site: {site[:40]})")
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not _is_same(origin, host):
        raise Forbidden(f"a page of another origin may change nothing here (Origin: {origin[:100]})")


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin is this host, be it reached directly or through a proxy that speaks TLS."""
    parts = _ORIGIN.fullmatch(origin)
    if parts is None:  # "null" too: a page that hides where it is from
        return False
    port = _DEFAULT_PORTS[parts["scheme"]]
    return parts["authority"].lower().removesuffix(port) == host.lower().removesuffix(port)
