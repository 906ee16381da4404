"""Rights that a user of Redis needs at least, for what this package sends: `commands`, `KEYS`, `CHANNELS`.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from writebehind.redis.scripts import steps

#: Patterns of keys: see `writebehind.redis.keys`.
KEYS = ("wb:*",)
#: Where a server tells what changes, while partitions move or become more: see `topology.invalidations`.
CHANNELS = ("__redis__:invalidate",)

#: What a connection begins with. `AUTH` is permitted to everybody.
CONNECTING = frozenset(("client|setinfo", "client|setname", "select"))
#: What is sent beside the steps, and how these are.
_PLAIN = frozenset(
    (
        *("eval", "evalsha", "script|load"),
        *(
            "client|id",
            "client|tracking",
            "command|info",
            "config|get",
            "dbsize",
            "info",
            "memory|usage",
            "scan",
            "subscribe",
            "time",
        ),
        *("wait", "waitaof"),
        *("del", "dump", "exists", "expire", "get", "getrange", "mget", "pttl", "set", "strlen", "unlink"),
        *("hdel", "hget", "hgetall", "hincrby", "hkeys", "hlen"),
        *("hmget", "hrandfield", "hscan", "hset", "hsetnx", "hstrlen"),
        *("lpush", "lrange", "ltrim"),
        *("sadd", "sismember", "smembers", "smismember", "srandmember", "srem"),
        *("zadd", "zcard", "zcount", "zmscore", "zrandmember", "zrange", "zrangebyscore", "zrank", "zrem"),
        *("zremrangebyrank", "zremrangebyscore", "zscan", "zscore"),
    )
)
#: What nodes of a cluster are asked: redis-py asks for the map; a slot on its way is asked for at both nodes.
_OF_NODES = frozenset(("asking", "cluster|slots", "command"))
#: What Sentinels are asked: who is the primary, and what they know of it.
OF_SENTINELS = frozenset(("client|setinfo", "sentinel|master", "sentinel|masters"))

#: Commands that Redis has since a version; older ones refuse a rule with their names.
SINCE = {"client|setinfo": (7, 2), "waitaof": (7, 2)}

_SENT = re.compile(r"redis\.p?call\('([A-Z]+)'")
#: The commands that a step sends whose names it chooses, or is given.
CHOSEN = {
    "move_times": frozenset(("zrangebyscore", "zrevrangebyscore")),
    "receive": frozenset(("del", "hdel", "hset", "restore", "sadd", "set", "srem", "zadd", "zrem")),
}


def commands(*, clustered: bool) -> frozenset[str]:
    """The names of commands to a server, or a node of a cluster; with `|` and a subcommand where that will do."""
    return CONNECTING | _PLAIN | frozenset(by_steps()) | (_OF_NODES if clustered else frozenset())


def by_steps() -> Iterator[str]:
    """The commands that atomic steps send, and looks before them, as their text says."""
    topology = resources.files("writebehind.redis.topology").iterdir()
    looks = [one.read_text("utf-8") for one in topology if one.name.endswith(".lua")]
    for text in (*(one.source for one in steps()), *looks):
        yield from (name.lower() for name in _SENT.findall(text))
    for chosen in CHOSEN.values():
        yield from chosen
