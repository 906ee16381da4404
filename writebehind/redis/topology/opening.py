"""Servers of Redis, as a URL names them."""

from __future__ import annotations

from typing import Any

from redis import ConnectionPool
from redis.connection import SSLConnection
from redis.sentinel import SentinelConnectionPool

from writebehind.redis.connections import Connections, connection_options, connection_pool
from writebehind.redis.topology.addresses import CLUSTER, ManyServers, many_servers, named_servers
from writebehind.redis.topology.cluster import Cluster
from writebehind.redis.topology.named import Named
from writebehind.redis.topology.routing import OneServer, Servers
from writebehind.redis.topology.sentinels import Sentinels, patience


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
        options={**asked, **patience(timeout_ms / 1000)},
    )


def _watched(many: ManyServers, options: dict[str, Any]) -> ConnectionPool:
    """The primary that Sentinels name: each new connection asks them, and idle ones end with a failure."""
    tls = options.pop("connection_class", None) is SSLConnection
    asked: dict[str, Any] = dict(many.sentinel)
    if tls:
        asked |= {"ssl": True} | {name: one for name, one in options.items() if _is_tls(name)}
    manager = Sentinels(many.hosts, asked, timeout_s=options["socket_timeout"])
    own = {name: one for name, one in options.items() if name not in {"host", "port"}}
    return SentinelConnectionPool(many.service, manager, ssl=tls, **own)  # type: ignore[no-untyped-call]


def _is_tls(name: str) -> bool:
    return name.startswith("ssl_")
