"""Addresses of Redis that name more than one host: nodes of a cluster, or Sentinels that watch servers."""

from __future__ import annotations

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
