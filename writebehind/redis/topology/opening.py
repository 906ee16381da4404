"""Servers of Redis, as a URL names them."""

from __future__ import annotations

from typing import Any

from redis import ConnectionPool
from redis.connection import SSLConnection
from redis.sentinel import Sentinel, SentinelConnectionPool

from writebehind.redis.connections import Connections, connection_options, connection_pool
from writebehind.redis.topology.addresses import CLUSTER, ManyServers, many_servers, named_servers
from writebehind.redis.topology.cluster import Cluster
from writebehind.redis.topology.named import Named
from writebehind.redis.topology.routing import OneServer, Servers

#: A node of a cluster, or a Sentinel, that is asked where the servers are has this long to answer, seconds: there
#: are others, and the one that is asked first may be on the machine that was just lost.
ASKED_S = 0.5


def open_servers(url: str, timeout_ms: int) -> Servers:
    """The servers of a well-formed URL; nothing is opened before it is needed."""
    if listed := named_servers(url):
        pools = {name: _pool(one, timeout_ms) for name, one in listed.items()}
        return Named(pools, timeout_s=timeout_ms / 1000)
    many = many_servers(url)
    if many is not None and many.kind == CLUSTER:
        return _cluster(many, connection_options(many.url, timeout_ms), timeout_ms)
    return OneServer(Connections(_pool(url, timeout_ms)))


def _pool(url: str, timeout_ms: int) -> ConnectionPool:
    """A description of connections to one server, or to the one that Sentinels name."""
    many = many_servers(url)
    if many is None:
        return connection_pool(url, timeout_ms)
    return _watched(many, connection_options(many.url, timeout_ms))


def _cluster(many: ManyServers, options: dict[str, Any], timeout_ms: int) -> Cluster:
    asked = {name: one for name, one in options.items() if name in {"username", "password"} or _is_tls(name)}
    if options.get("connection_class") is SSLConnection:
        asked["ssl"] = True
    return Cluster(
        many.hosts,
        lambda place: ConnectionPool(**options | {"host": place[0], "port": place[1]}),
        timeout_s=timeout_ms / 1000,
        options={**asked, **_patience(timeout_ms)},
    )


def _watched(many: ManyServers, options: dict[str, Any]) -> ConnectionPool:
    """The primary that Sentinels name: each new connection asks them, and idle ones end with a failure."""
    timeout_ms = int(options["socket_timeout"] * 1000)
    tls = options.pop("connection_class", None) is SSLConnection
    asked = {**many.sentinel, **_patience(timeout_ms)}
    if tls:
        asked |= {"ssl": True} | {name: one for name, one in options.items() if _is_tls(name)}
    manager = Sentinel(many.hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    own = {name: one for name, one in options.items() if name not in {"host", "port"}}
    return SentinelConnectionPool(many.service, manager, ssl=tls, **own)  # type: ignore[no-untyped-call]


def _patience(timeout_ms: int) -> dict[str, Any]:
    limit = min(ASKED_S, timeout_ms / 1000)
    return {"socket_timeout": limit, "socket_connect_timeout": limit, "protocol": 2}


def _is_tls(name: str) -> bool:
    return name.startswith("ssl_")
