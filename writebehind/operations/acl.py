"""Users that Redis and the broker should have: `users`, of which each may do what is needed, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from writebehind.errors import RedisUnavailableError
from writebehind.pipeline import Pipeline
from writebehind.redis import acl
from writebehind.redis.topology.addresses import CLUSTER, SENTINEL, first_server, many_servers, named_servers
from writebehind.settings.installation import Settings
from writebehind.settings.names import QUEUES
from writebehind.settings.urls import celery_redis, redacted

#: The user's name where a URL has none.
USER = "writebehind"
#: What kombu, Celery's workers and Flower send to a broker on Redis.
BROKER_COMMANDS = acl.CONNECTING | frozenset(
    (
        *("brpop", "llen", "lpush", "rpop", "rpush"),
        *("del", "exists", "get", "pttl", "set", "time", "type"),
        *("hdel", "hget", "hmget", "hset"),
        *("sadd", "smembers", "srem"),
        *("zadd", "zrange", "zrangebyscore", "zrem", "zrevrangebyscore"),
        *("evalsha", "script|exists", "script|load"),
        *("exec", "multi", "unwatch", "watch"),
        *("ping", "psubscribe", "publish", "punsubscribe"),
        "info",
    )
)
#: Its queues, each with three more for the priorities; those of workers for themselves, for commands and for
#: events; which queues are bound; and messages that a worker holds.
BROKER_KEYS = (
    *(pattern for one in QUEUES for pattern in (one, f"{one}??[369]")),
    *("writebehind.ping*", "*.celery.pidbox*", "celeryev.*", "_kombu.binding*"),
    *("unacked", "unacked_index", "unacked_mutex"),
)


#: The number of the database in a URL as Celery takes it.
_DATABASE = re.compile(r"(?:[^/:]/|virtual_host=)([0-9]+)(?:\?|$)")

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class User:
    """A user of some servers.

    Attributes:
        servers: what they are, and where, without passwords.
        name: its name.
        keys: patterns of keys that it may read and write.
        channels: patterns of channels that it may publish to and subscribe to.
        commands: names, with `|` and a subcommand where that is permitted alone.
    """

    servers: str
    name: str
    keys: tuple[str, ...]
    channels: tuple[str, ...]
    commands: tuple[str, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """Words that `ACL SETUSER` takes after the name. Passwords stay as they are."""
        return (
            *("on", "resetkeys", *(f"~{one}" for one in self.keys)),
            *("resetchannels", *(f"&{one}" for one in self.channels)),
            *("-@all", *(f"+{one}" for one in self.commands)),
        )


def users(settings: Settings, version: Version | None = None) -> Iterator[User]:
    """The users of Redis, of its Sentinels, and of a broker that is another Redis.

    Args:
        settings: name the servers.
        version: of the oldest server of Redis; `None` for the newest.
    """
    many = many_servers(settings.redis_url)
    commands = acl.commands(clustered=many is not None and many.kind == CLUSTER)
    is_shared = not settings.broker_url or settings.broker == celery_redis(settings.redis_url)
    for name, url in (named_servers(settings.redis_url) or {"": settings.redis_url}).items():
        has_messages = is_shared and url == first_server(settings.redis_url)
        yield User(
            f"Redis{f' {name}' if name else ''}{', and the broker' if has_messages else ''}: {redacted(url)}",
            _name(url),
            (*acl.KEYS, *(BROKER_KEYS if has_messages else ())),
            (*acl.CHANNELS, *(_channels(settings) if has_messages else ())),
            _known(commands | (BROKER_COMMANDS if has_messages else frozenset()), version),
        )
        yield from _of_sentinels(url, version)
    if not is_shared and not settings.is_broker_rabbitmq:
        url, *_ = settings.broker_url.split(";")
        yield User(
            f"the broker: {redacted(url)}",
            _name(url),
            BROKER_KEYS,
            _channels(settings),
            _known(BROKER_COMMANDS, None),
        )
        yield from _of_sentinels(url, None)


def oldest(pipeline: Pipeline) -> Version | None:
    """The version of the oldest server of Redis; `None` where none tells it, as before there is such a user."""
    try:
        said = [facts.get("redis_version", "") for facts in pipeline.store.facts().values()]
    except RedisUnavailableError:
        return None
    return min((tuple(map(int, one.split(".")[:2])) for one in said if one), default=None)


def _of_sentinels(url: str, version: Version | None) -> Iterator[User]:
    many = many_servers(url)
    if many is not None and many.kind == SENTINEL:
        places = ", ".join(f"{host}:{port}" for host, port in many.hosts)
        name = many.sentinel.get("username", USER)
        yield User(f"Sentinels: {places}", name, (), (), _known(acl.OF_SENTINELS, version))


def _known(commands: Iterable[str], version: Version | None) -> tuple[str, ...]:
    """Those of the commands that a server of the version has, in the order of their names."""
    return tuple(sorted(one for one in commands if version is None or version >= acl.SINCE.get(one, version)))


def _name(url: str) -> str:
    """The name in the login of a URL."""
    many = many_servers(url)
    parts = urlsplit(many.url if many else url)
    return dict(parse_qsl(parts.query)).get("username") or unquote(parts.username or "") or USER


def _channels(settings: Settings) -> tuple[str, ...]:
    """Of commands to workers and of what these tell, in the broker's database."""
    database = _DATABASE.search(settings.broker.partition(";")[0])
    prefix = f"/{database[1] if database else 0}."
    return f"{prefix}celery.pidbox", f"{prefix}celeryev/*"
