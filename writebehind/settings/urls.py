"""URLs of servers: which are taken, and how they are shown.

A URL may hold a password, and a malformed one may hold it anywhere. No message repeats more of it than the name
of an option, and whatever shows a URL shows what `redacted` makes of it.
"""

from __future__ import annotations

import re
import ssl
import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from writebehind.access.keys import BEGINNING
from writebehind.redis.topology.addresses import (
    CLUSTER,
    SCHEMES,
    SENTINEL,
    SENTINEL_OPTIONS,
    ManyServers,
    first_server,
    is_list,
    many_servers,
    named_servers,
)
from writebehind.regular_files import fault_of_file

#: What else a URL of Redis may say. Its other options would change what the pipeline relies on: time limits,
#: retries, the protocol, how answers are decoded.
_REDIS_OPTIONS = {"db", "username", "password", "client_name"}
_REDIS_TLS_FILES = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_REDIS_TLS_CHOICES = {
    "ssl_cert_reqs": {"none", "optional", "required"},
    "ssl_check_hostname": {"true", "false", "True", "False"},
}
_REDIS_TLS_OPTIONS = {"ssl_ca_path", "ssl_password", "ssl_ciphers", *_REDIS_TLS_FILES, *_REDIS_TLS_CHOICES}
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
#: A socket as kombu calls it.
_KOMBU_SOCKET = ("redis+socket://",)
#: The ways to write that a broker speaks AMQP 0-9-1, as RabbitMQ does.
AMQP_SCHEMES = ("amqp://", "amqps://", "pyamqp://")
#: With TLS; and the options of its certificates, with what py-amqp calls them.
_AMQP_TLS_SCHEME = "amqps://"
_AMQP_TLS_FILES = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}
_MONGODB_TLS_FILES = {"tlscafile", "tlscertificatekeyfile", "tlscrlfile", "ssl_ca_certs", "ssl_certfile"}
_MONGODB, _MONGODB_SRV = "mongodb://", "mongodb+srv://"
#: Options of `mongodb+srv://` alone.
_SRV_OPTIONS = {"srvservicename", "srvmaxhosts", "srvallowedhostssuffix"}

#: Options whose values are no secrets: the others' are not shown.
_SHOWN = {
    *("db", "virtual_host", "client_name", "ssl_cert_reqs", "ssl_check_hostname"),
    *("appname", "authmechanism", "authsource", "directconnection", "journal", "loadbalanced", "readconcernlevel"),
    *("readpreference", "replicaset", "retryreads", "retrywrites", "tls", "ssl", "w"),
}

#: The text in the place of a secret.
MASK = "***"

_DATABASE = re.compile(r"[0-9]{1,9}", re.ASCII)
_HOST = re.compile(
    r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]", re.ASCII
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*", re.ASCII)
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
#: The token of an API key: its id may be shown.
_KEY_IN_TEXT = re.compile(rf"({BEGINNING}[0-9a-f]{{12}}_)[A-Za-z0-9_-]+", re.ASCII)
#: A longer scheme is found by its end, so that a text costs no more than its length.
_URL_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31}://)(\S*)")
#: Where the next server begins in a list of servers with names.
_NEXT_IN_LIST = re.compile(r"(;[A-Za-z0-9_-]{1,32}=[A-Za-z][A-Za-z0-9+.-]{0,31}://)")
_ENCODE = "with each of : / ? # [ ] @ % in its user and password percent-encoded, such as %2F for /"


def redacted(text: str) -> str:
    """A text fit to be shown: its URLs without passwords and values of options, its API keys without secrets."""
    if BEGINNING in text:
        text = _KEY_IN_TEXT.sub(rf"\1{MASK}", text)
    if "://" not in text:
        return text
    return _URL_IN_TEXT.sub(lambda found: found[1] + _redacted_list(found[2]), text)


def check_redis(name: str, url: str) -> None:
    """See that this is the URL of a Redis server.

    Args:
        name: of the setting, for the message.
        url: what it is set to.

    Raises:
        ValueError: it is not; the message says what to do, and repeats no secret.
    """
    if is_list(url):
        _check_list(name, url)
        return
    if url.startswith(SCHEMES):
        _check_many(name, url)
        return
    parts = _split(name, url, (*_REDIS_SCHEMES, *SCHEMES), "redis://user:password@host:6379/0")
    options = _options(name, parts)
    _check_options(name, parts.scheme == "rediss", options)
    database = [options["db"]] if "db" in options else []
    if parts.scheme == "unix":
        if not parts.path or parts.hostname:
            raise ValueError(f"{name} names no socket: write it as unix:///run/redis.sock?db=0")
    elif parts.path not in {"", "/"}:
        database.append(parts.path.removeprefix("/"))
    if len(database) > 1:
        raise ValueError(f"{name} names its database twice: as its path, and as the option db")
    if database and not _DATABASE.fullmatch(database[0]):
        raise ValueError(f"{name}: its database must be a number: write it as redis://host:6379/0")


def _check_list(name: str, url: str) -> None:
    """`check_redis` for a list of servers with names."""
    example = "a=redis://host:6379/0;b=redis://host:6380/0"
    try:
        servers = named_servers(url) or {}
    except ValueError as error:
        raise ValueError(f"{name}: {error}: write it as {example}, with ; in a password as %3B") from None
    for server, one in servers.items():
        if one.partition("://")[0].endswith(CLUSTER):
            raise ValueError(f"{name}: a Redis Cluster spreads its keys itself, so it is no server of a list")
        check_redis(f"{name}: server {server}", one)
    if len({one.partition("://")[2].rpartition("@")[2] for one in servers.values()}) < len(servers):
        raise ValueError(f"{name} names one server twice: each takes one name, as in {example}")


def _check_many(name: str, url: str) -> None:
    """`check_redis` for a URL that names several hosts."""
    scheme, _, rest = url.partition("://")
    kind = scheme.partition("+")[2]
    example = "redis+cluster://host,host" if kind == CLUSTER else "redis+sentinel://host,host/service/0"
    place, slash, path = rest.partition("/")
    secret, at, hosts = place.rpartition("@")
    if "@" in secret:
        raise ValueError(f"{name} is malformed: write it as {example}, {_ENCODE}")
    for host in hosts.split(","):
        if not host:
            raise ValueError(f"{name} names no host: write it as {example}")
        parts = _split(name, f"{scheme}://{secret}{at}{host}{slash}{path}", SCHEMES, example)
    options = _options(name, parts)
    logins = {one: value for one, value in options.items() if one in SENTINEL_OPTIONS and kind == SENTINEL}
    _check_options(name, parts.scheme.startswith("rediss"), {k: v for k, v in options.items() if k not in logins})
    service, _, database = parts.path.strip("/").partition("/")
    if kind == CLUSTER and (service not in {"", "0"} or database or options.get("db", "0") != "0"):
        raise ValueError(f"{name}: a Redis Cluster has no databases: write it as {example}")
    if kind == SENTINEL and not service:
        raise ValueError(f"{name} must name the service that the Sentinels watch: write it as {example}")
    if kind == SENTINEL and database and ("db" in options or not _DATABASE.fullmatch(database)):
        raise ValueError(f"{name}: its database must be a number, named once: write it as {example}")


def _check_options(name: str, tls: bool, options: Mapping[str, str]) -> None:
    for option, value in options.items():
        if option in _REDIS_TLS_OPTIONS and tls:
            _check_tls(name, option, value)
        elif option in _REDIS_TLS_OPTIONS:
            raise ValueError(f"{name}: its option {option} needs rediss://")
        elif option not in _REDIS_OPTIONS:
            known = ", ".join(sorted(_REDIS_OPTIONS | _REDIS_TLS_OPTIONS))
            raise ValueError(f"{name}: its option {option} is not supported; these are: {known}")


def check_mongodb(name: str, url: str) -> None:
    """See that this is the URL of a MongoDB deployment, without looking up hosts. As `check_redis`."""
    if not url.startswith((_MONGODB, _MONGODB_SRV)):
        raise ValueError(f"{name} must start with mongodb:// or mongodb+srv://")
    scheme, _, rest = url.partition("://")
    malformed = f"{name} is malformed: write it as mongodb://user:password@host:27017/, {_ENCODE}"
    place, *more = re.split("[/?]", rest, maxsplit=1)
    if _BLANK.search(url) or "#" in url or (more and "@" in more[0]):
        raise ValueError(malformed)
    if scheme == "mongodb+srv" and re.search("[,:]", place.rpartition("@")[2]):
        raise ValueError(f"{name}: mongodb+srv:// takes one host name, without a port")
    base, _, query = rest.partition("?")
    # An option alone, so that its name can be told: what the driver says may repeat its value.
    if _mongodb_refuses(_MONGODB + base):
        raise ValueError(malformed)
    pairs = [pair for pair in re.split("[&;]", query) if query and not _is_srv_option(scheme, pair)]
    for pair in pairs:
        option, equals, value = pair.partition("=")
        if not (option and equals and value):
            raise ValueError(f"{name}: its options must be name=value pairs, joined by &")
        if option.lower() in _MONGODB_TLS_FILES and (fault := fault_of_file(unquote(value))):
            raise ValueError(f"{name}: the file of its option {option} cannot be used: {fault}")
        if _mongodb_refuses(f"{_MONGODB}host/?{pair}"):
            raise ValueError(f"{name}: its option {option} does not exist, or does not take that value")
    if pairs and _mongodb_refuses(f"{_MONGODB}{base}?{'&'.join(pairs)}"):
        raise ValueError(f"{name}: its options contradict each other, or its hosts")


def check_broker(name: str, url: str) -> None:
    """See that this may be the URL of a broker, or of several nodes of one, joined by `;`. As `check_redis`."""
    urls = url.split(";")
    for one in urls:
        if one.startswith((*_REDIS_SCHEMES, *SCHEMES)):
            check_redis(name, one)
            if one.partition("://")[0].endswith(CLUSTER):
                raise ValueError(f"{name}: Celery cannot use a Redis Cluster as broker: name another Redis")
        else:
            _check_amqp_tls(name, _split(name, one, (), "amqp://user:password@host:5672/"))
    _check_alike(name, urls)
    if are_apart(urls):
        raise ValueError(
            f"{name} names several Redis servers, which do not share their messages: who consumes could be at "
            "one, and who publishes at another: name one, redis+sentinel://host,host/service/0, or RabbitMQ"
        )


def are_apart(brokers: Sequence[str]) -> bool:
    """Whether URLs of a broker, which are well-formed, name several Redis servers that have nothing in common.

    Sentinels of one service lead to one server; nodes of RabbitMQ are taken for those of one.
    """
    if not brokers[0].startswith((*_REDIS_SCHEMES, *_KOMBU_SOCKET, *SCHEMES)):
        return False
    watched = {(one.service, one.url) for one in map(many_servers, brokers) if one is not None}
    return len(brokers) > 1 and len(watched) != 1


def _check_alike(name: str, urls: Sequence[str]) -> None:
    """See that what holds for the first of several brokers holds for all: Celery is told it once."""
    if len({one.partition("://")[0].removeprefix("py") for one in urls}) > 1:
        raise ValueError(
            f"{name}: all its brokers must have the scheme of the first: Celery is set up for that one"
        )
    if len({frozenset(_tls_options(one).items()) for one in urls}) > 1:
        raise ValueError(
            f"{name}: all its brokers must have the ssl_ options of the first: Celery takes no others"
        )


def _tls_options(url: str) -> dict[str, str]:
    """Certificates that a URL names, which is not malformed. Those of several hosts urllib does not split."""
    options = parse_qsl(url.partition("?")[2])
    return {option: value for option, value in options if option.startswith("ssl_")}


def _check_amqp_tls(name: str, parts: SplitResult) -> None:
    named = _tls_options(parts.geturl())
    if named and not parts.geturl().startswith(_AMQP_TLS_SCHEME):
        raise ValueError(f"{name}: certificates are for {_AMQP_TLS_SCHEME}")
    for option, value in named.items():
        if option not in _AMQP_TLS_FILES:
            raise ValueError(f"{name}: of {_AMQP_TLS_SCHEME} the options are {', '.join(_AMQP_TLS_FILES)}")
        _check_tls(name, option, value)


def celery_brokers(url: str) -> str:
    """URLs of brokers, joined by `;`, as Celery takes them."""
    return ";".join(
        celery_redis(one) if one.startswith((*_REDIS_SCHEMES, *SCHEMES)) else _celery_amqp(one)
        for one in url.split(";")
    )


def _celery_amqp(url: str) -> str:
    """Without the names of certificates, by which py-amqp does not take them."""
    if not url.startswith(_AMQP_TLS_SCHEME):
        return url
    parts = urlsplit(url)
    kept = [(option, value) for option, value in parse_qsl(parts.query) if option not in _AMQP_TLS_FILES]
    return parts._replace(query=urlencode(kept)).geturl()


def amqp_tls(url: str) -> dict[str, Any] | None:
    """Options for TLS to brokers that speak AMQP, as py-amqp takes them; `None` where none speaks it.

    Certificates are checked, and that they are the host's: unless kombu is told to, any certificate would do.
    """
    first = url.split(";", maxsplit=1)[0]
    if not first.startswith(_AMQP_TLS_SCHEME):
        return None
    options = dict(parse_qsl(urlsplit(first).query))
    files = {theirs: options[ours] for ours, theirs in _AMQP_TLS_FILES.items() if ours in options}
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, **files}


def celery_redis(url: str) -> str:
    """The URL of a Redis server as Celery takes it: without `unix://`, and with nothing in its options but TLS.

    Of a list of servers it is the first.
    """
    url = first_server(url)
    servers = many_servers(url)
    if servers is not None:
        is_plain = servers.kind == SENTINEL and servers.url.startswith("redis://")
        return _celery_sentinels(servers) if is_plain else url  # which Celery refuses
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    user = options.get("username") or unquote(parts.username or "")
    password = options.get("password") or unquote(parts.password or "")
    secret = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    if parts.scheme == "unix":
        return f"redis+socket://{secret}{parts.path}?virtual_host={options.get('db', 0)}"
    database = options.get("db") or parts.path.removeprefix("/") or "0"
    tls = "&".join(f"{name}={quote(one)}" for name, one in options.items() if name in _REDIS_TLS_OPTIONS)
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{secret}{place}/{database}{'?' * bool(tls)}{tls}"


def _celery_sentinels(servers: ManyServers) -> str:
    """URLs of Sentinels as kombu takes them: each with the login and the database of what they watch."""
    place, _, database = celery_redis(servers.url).partition("://")[2].partition("/")
    secret, at, _ = place.rpartition("@")
    return ";".join(f"sentinel://{secret}{at}{host}:{port}/{database}" for host, port in servers.hosts)


def _redacted_list(rest: str) -> str:
    """The parts of a URL after `://`, or of a list of servers with names, without secrets."""
    first, *others = _NEXT_IN_LIST.split(rest)
    if not others:
        return _redacted(first)
    return "".join(one if at % 2 else _redacted_one(one) for at, one in enumerate((first, *others)))


def _redacted_one(rest: str) -> str:
    """A part of a list. What has no host after it would be taken for a port, and may be a password."""
    host, colon, port = rest.partition(":")
    if "@" not in rest and colon and not re.match(r"\d{1,5}([/?;]|$)|[0-9A-Fa-f:]*\]", port):
        return f"{host}:{MASK}"
    return _redacted(rest)


def _redacted(rest: str) -> str:
    """The part of a URL after `://`, without secrets."""
    secret, at, shown = rest.rpartition("@")
    user = re.match(r"[^:/?#@]*:", secret)
    masked = f"{user[0] if user else ''}{MASK}@" if at else ""
    place, question, query = shown.partition("?")
    return masked + place + question + re.sub(r"([^=&;]*)(=?)[^&;]*", _masked_option, query)


def _masked_option(found: re.Match[str]) -> str:
    if found[1].lower() in _SHOWN:
        return found[0]
    return f"{found[1]}={MASK}" if found[2] else MASK * bool(found[0])


def _split(name: str, url: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """The parts of a URL that has no secret in a wrong place."""
    if (schemes and not url.startswith(schemes)) or not _SCHEME.fullmatch(url.partition("://")[0]):
        allowed = f"{', '.join(schemes[:-1])} or {schemes[-1]}" if schemes else "a scheme, as in amqp://host"
        raise ValueError(f"{name} must start with {allowed}")
    malformed = f"{name} is malformed: write it as {example}, {_ENCODE}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # whose text repeats what is no port
        raise ValueError(malformed) from None
    host = parts.netloc.rpartition("@")[2]
    host = host if port is None else host.rpartition(":")[0]
    wrong_host = bool(host) and not _HOST.fullmatch(host)
    if wrong_host or port == 0 or "://" not in url or _BLANK.search(url) or "#" in url:
        raise ValueError(malformed)
    if "@" in parts.path or "@" in parts.query:
        raise ValueError(malformed)
    return parts


def _options(name: str, parts: SplitResult) -> dict[str, str]:
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise ValueError(f"{name}: its options must be name=value pairs, joined by &") from None
    options = dict(pairs)
    if len(options) < len(pairs) or "" in options.values():
        raise ValueError(f"{name}: each of its options must have one value")
    if (parts.username and "username" in options) or (parts.password and "password" in options):
        raise ValueError(f"{name} names its user or password twice: before its host, and as an option")
    return options


def _check_tls(name: str, option: str, value: str) -> None:
    choices = _REDIS_TLS_CHOICES.get(option)
    if choices is not None and value not in choices:
        raise ValueError(f"{name}: its option {option} must be one of {', '.join(sorted(choices))}")
    if option in _REDIS_TLS_FILES and (fault := fault_of_file(value)):
        raise ValueError(f"{name}: the file of its option {option} cannot be used: {fault}")


def _mongodb_refuses(url: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("error", UserWarning)  # an option that is there twice
        try:
            parse_uri(url)
        except (PyMongoError, UserWarning, ValueError, TypeError, LookupError, OSError):
            return True
    return False


def _is_srv_option(scheme: str, pair: str) -> bool:
    return scheme == "mongodb+srv" and pair.partition("=")[0].lower() in _SRV_OPTIONS
