"""Whose requests the API and Flower serve: those that mean this host, and none of somebody else's page.

Everything that listens where a browser runs can be reached by the pages in it. A page of another origin can send
requests without asking first; a page whose own host name leads here (DNS rebinding) can read the answers too.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from http import HTTPStatus
from ipaddress import ip_address
from typing import NamedTuple

from writebehind.access.hosts import is_address

#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Values of `Sec-Fetch-Site` in requests of our own pages, and in those that a person has asked for.
OUR_SITE = frozenset({"same-origin", "none"})

_AUTHORITY = re.compile(r"(?P<name>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/@?#\s]+)", re.ASCII)
#: The part of a page's address behind its origin.
_WITHIN = re.compile(r"(?<=[^:/])[/?#].*", re.ASCII | re.DOTALL)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
#: Different Host headers that are remembered as ours.
_MOST_KNOWN = 100


class Refusal(NamedTuple):
    """Reason for which a request is not served."""

    status: HTTPStatus
    reason: str


class Gate:
    """Decides by the headers of a request whether it is looked at."""

    def __init__(self, address: str, allowed: Sequence[str], origins: Sequence[str] = ()) -> None:
        """Know the names of this host: loopback, the address that it listens on, and what the settings allow.

        Pages of these origins may change something as well as its own.
        """
        self._origins = frozenset(origins)
        names = [name.lower() for name in allowed]
        self._addresses = {ip_address(name) for name in [address, *names] if is_address(name)}
        self._any_address = any(one.is_unspecified for one in self._addresses)
        self._any_name = "*" in names
        self._names = {"localhost", *names}
        self._domains = tuple(name[1:] for name in names if name.startswith("*."))
        self._known: set[str] = set()

    def refusal(
        self, method: str, host: str | None, origin: str | None, site: str | None, referer: str | None
    ) -> Refusal | None:
        """The reason for which a request is refused, if it is: for its host, or as `page_refusal` says.

        Args:
            method: of the request.
            host: the header `Host`, empty without one; `None` where a request needs none.
            origin: the header `Origin`.
            site: the header `Sec-Fetch-Site`.
            referer: the header `Referer`.
        """
        if host is not None and host not in self._known and (refused := self._host_refused(host)):
            return refused
        return page_refusal(method, host, origin, site, referer, allowed=self._origins)

    def _host_refused(self, host: str) -> Refusal | None:
        authority = _AUTHORITY.fullmatch(host)
        if authority is None:
            return Refusal(HTTPStatus.BAD_REQUEST, "Host: send the name or the address of this server, once")
        name = authority["name"]
        if not self._is_ours(name.lower().removesuffix(".")):
            reason = f"{name[:100]!r} is not this server: allowed_hosts in its settings lists its names"
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, reason)
        if len(self._known) < _MOST_KNOWN:
            self._known.add(host)
        return None

    def _is_ours(self, name: str) -> bool:
        if self._any_name or name in self._names or name.endswith(self._domains):
            return True
        literal = name.strip("[]")
        if not is_address(literal):
            return False
        address = ip_address(literal)
        address = getattr(address, "ipv4_mapped", None) or address
        # Only a name can be made to lead here, so that every address is ours where we listen on all.
        return self._any_address or address.is_loopback or address in self._addresses


def page_refusal(
    method: str,
    host: str | None,
    origin: str | None,
    site: str | None,
    referer: str | None,
    *,
    allowed: Container[str] = (),
) -> Refusal | None:
    """The reason for which a request is refused: it is to change something, and a page of another origin sent it.

    Args:
        method: of the request.
        host: the header `Host`, if there is one.
        origin: the header `Origin`.
        site: the header `Sec-Fetch-Site`.
        referer: the header `Referer`, which is looked at where the last two are missing, as in old browsers.
        allowed: other origins whose pages may change something as well.
    """
    if method in SAFE or origin in allowed:
        return None
    if site is not None and site not in OUR_SITE:
        reason = f"a page of another site may change nothing here (Sec-Fetch-Site: {site[:40]})"
        return Refusal(HTTPStatus.FORBIDDEN, reason)
    if origin is None and site is None and referer:
        origin = _WITHIN.sub("", referer)
    if origin is not None and origin not in allowed and not is_same(origin, host or ""):
        reason = f"a page of another origin may change nothing here (Origin: {origin[:100]})"
        return Refusal(HTTPStatus.FORBIDDEN, reason)
    return None


def is_same(origin: str, host: str) -> bool:
    """Whether an origin is this host, be it reached directly or through a proxy that speaks TLS."""
    parts = _ORIGIN.fullmatch(origin)
    if parts is None:  # "null" too: a page that hides where it is from
        return False
    port = _DEFAULT_PORTS[parts["scheme"]]
    return parts["authority"].lower().removesuffix(port) == host.lower().removesuffix(port)
