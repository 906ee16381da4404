"""Addresses of Redis that name more than one host: nodes of a cluster, Sentinels, or servers with names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

CLUSTER: Final = "cluster"
SENTINEL: Final = "sentinel"
#: Schemes of such addresses, with `rediss` over TLS.
SCHEMES = tuple(f"{scheme}+{kind}://" for kind in (CLUSTER, SENTINEL) for scheme in ("redis", "rediss"))
#: Options for the Sentinels themselves, which may take another login than the servers that they watch.
SENTINEL_OPTIONS = frozenset(("sentinel_username", "sentinel_password"))
#: Ports where none is named.
_PORTS = {CLUSTER: 6379, SENTINEL: 26379}
#: A server with a name, in a list of them.
_NAMED = re.compile(r"([A-Za-z0-9_-]{1,32})=([a-z+]+://.*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ManyServers:
    """A URL of Redis that names several hosts.

    Attributes:
        kind: `cluster` or `sentinel`.
        hosts: nodes of the cluster, or Sentinels, with their ports.
        url: of a server with the same login, database and TLS, whose host is a stand-in.
        service: the name by which Sentinels know the servers; '' for a cluster.
        sentinel: what Sentinels take as login: `username`, `password`.
    """

    kind: str
    hosts: Sequence[tuple[str, int]]
    url: str
    service: str
    sentinel: Mapping[str, str]


def many_servers(url: str) -> ManyServers | None:
    """The parts of a URL that is well-formed; `None` for one of a single server."""
    if not url.startswith(SCHEMES):
        return None
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    secret, at, hosts = parts.netloc.rpartition("@")
    places = [urlsplit(f"//{host}") for host in hosts.split(",")]
    service, _, database = parts.path.strip("/").partition("/") if kind == SENTINEL else ("", "", "")
    options = dict(parse_qsl(parts.query))
    sentinel = {one.removeprefix("sentinel_"): options.pop(one) for one in SENTINEL_OPTIONS if one in options}
    query = "&".join(f"{name}={quote(one, safe='')}" for name, one in options.items())
    return ManyServers(
        kind,
        [(place.hostname or "localhost", place.port or _PORTS[kind]) for place in places],
        f"{scheme}://{secret}{at}server/{database or '0'}{'?' * bool(query)}{query}",
        service,
        sentinel,
    )


def is_list(url: str) -> bool:
    """Whether a URL is meant as a list of servers with names, well-formed or not: `a=redis://host;b=...`."""
    return "=" in url.partition("://")[0]


def named_servers(url: str) -> dict[str, str] | None:
    """The URLs of a list of servers by their names, in its order; `None` for another URL.

    Raises:
        ValueError: a part of it is no URL with a name, or a name is there twice.
    """
    if not is_list(url):
        return None
    found = [_NAMED.fullmatch(one) for one in url.split(";")]
    servers = {one[1]: one[2] for one in found if one is not None}
    if len(servers) < len(found):
        raise ValueError("each part must be name=URL, with a name of its own")
    return servers


def fails_over(url: str) -> bool:
    """Whether a replica takes the place of a server by itself when that is lost. Raises as `named_servers`."""
    return any(many_servers(one) is not None for one in (named_servers(url) or {"": url}).values())


def is_cluster(url: str) -> bool:
    """Whether it names nodes of a Redis Cluster."""
    many = many_servers(url)
    return many is not None and many.kind == CLUSTER


def is_watched(url: str) -> bool:
    """Whether Sentinels choose the primary of a server. Raises as `named_servers`."""
    several = (many_servers(one) for one in (named_servers(url) or {"": url}).values())
    return any(one is not None and one.kind == SENTINEL for one in several)


def first_server(url: str) -> str:
    """The URL of the first server of a list; another URL as it is. Raises as `named_servers`."""
    servers = named_servers(url)
    return url if servers is None else next(iter(servers.values()))
