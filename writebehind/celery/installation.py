"""Into an application that is there already: adds what it lacks, keeps what is its own, or says what clashes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from celery import Celery
from celery.local import maybe_evaluate
from kombu.serialization import prepare_accept_content
from kombu.utils.url import url_to_parts

from writebehind.celery.configuration import (
    ROUTES,
    VISIBILITY_TIMEOUT_S,
    create_app,
    queues,
    schedule,
    tls,
    transport_options,
)
from writebehind.celery.names import TASKS
from writebehind.celery.runtime import Runtime
from writebehind.celery.sieve import Sieve
from writebehind.celery.tasks import register
from writebehind.errors import ConfigurationError
from writebehind.settings.installation import Settings
from writebehind.settings.running import Found, find
from writebehind.settings.urls import are_apart, redacted

#: The version of Celery's messages whose headers tasks read.
PROTOCOL = 2
JSON = "application/json"
_LOOPBACK = {"localhost": "127.0.0.1", "": "127.0.0.1", None: "127.0.0.1"}
_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
_SAME_TRANSPORTS = {"pyamqp": "amqp"}


def install(app: Celery, settings: Settings | None = None) -> Runtime:
    """Add the tasks, queues, routes, schedule, transport options and worker hooks to an application.

    Its own queues, default queue, routes, schedule and options stay as they are. Call it when the application has
    its configuration: this reads it, as every use of `app.conf` does.

    Args:
        app: the application. Without a broker of its own it gets that of the settings.
        settings: by default what the environment and `writebehind.toml` say; where they name no server, those
            of `writebehind up`, if it runs in this directory.

    Returns:
        What a worker process of the application holds, such as its `pipeline`, for tasks of your own.

    Raises:
        ConfigurationError: a setting is wrong, or the application does not fit; nothing was changed.
    """
    found = find() if settings is None else Found(settings, "settings")
    settings = found.settings
    publishing = create_app(settings)
    _check_names(app, settings)
    _check_messages(app)
    _check_broker(app, found, publishing)
    _check_transport_options(app)
    runtime = Runtime(app, settings, publishing=publishing)
    if app.conf.broker_url is None:
        app.conf.update(broker_url=settings.broker, broker_use_ssl=tls(settings))
    options = app.conf.broker_transport_options
    app.conf.broker_transport_options = transport_options(settings) | options
    for queue in queues(settings):
        # Not `add`, which would give it the application's arguments: who publishes declares it without.
        app.amqp.queues[queue.name] = queue
    app.conf.task_routes = (ROUTES, *_routes(app.conf.task_routes))
    app.conf.beat_schedule = app.conf.beat_schedule | schedule(app, settings)
    app.steps["consumer"].add(Sieve)
    register(app, runtime)
    return runtime


def _check_names(app: Celery, settings: Settings) -> None:
    """Tasks, queues and periodic tasks of the application have other names than ours."""
    for promise in tuple(app._pending):  # noqa: SLF001 - `app.tasks` would end what may be added to the application
        maybe_evaluate(promise)
    for name in TASKS:
        if name in app._tasks:  # noqa: SLF001 - as above
            raise ConfigurationError(f"the application has a task {name} already: rename it, and install once")
        if name in app.conf.beat_schedule:
            raise ConfigurationError(f"beat_schedule has an entry {name} already: rename it")
    for queue in queues(settings):
        taken = app.amqp.queues.get(queue.name)
        if taken and (queue.exchange.name, queue.routing_key) != (taken.exchange.name, taken.routing_key):
            raise ConfigurationError(
                f"the application has a queue {queue.name} already, with exchange {taken.exchange.name!r} and "
                f"routing key {taken.routing_key!r}: give it another name"
            )


def _check_messages(app: Celery) -> None:
    """Workers of the application take our messages, and understand them."""
    if JSON not in prepare_accept_content(app.conf.accept_content or ()):  # type: ignore[no-untyped-call]
        raise ConfigurationError("accept_content: add 'json', or workers refuse every flush task")
    if app.conf.task_protocol != PROTOCOL:
        raise ConfigurationError(f"task_protocol: {PROTOCOL} is needed, {app.conf.task_protocol} has no delays")


def _check_broker(app: Celery, found: Found, publishing: Celery) -> None:
    """Workers of the application consume from where web processes publish."""
    if app.conf.broker_url is None:
        return
    consumed, published = _urls(app.conf.broker_read_url), _urls(publishing.conf.broker_write_url)
    if are_apart(consumed):
        raise ConfigurationError(
            "the application's broker is several Redis servers, which do not share their messages: a worker that "
            "has gone on to another one misses what web processes publish: name one of them"
        )
    if {*map(_address, consumed)}.isdisjoint(map(_address, published)):
        told = "BROKER_URL is" if found.settings.broker_url else "without BROKER_URL, writebehind publishes to"
        raise ConfigurationError(
            f"the application's broker is {redacted(consumed[0])}, and {told} "
            f"{redacted(found.settings.broker)}: {_same_broker(found)}"
        )


def _same_broker(found: Found) -> str:
    """Advice for an application that consumes from elsewhere: it depends on who named the servers."""
    if found.settings.broker_url or found.origin == "settings":
        return "set BROKER_URL to the application's"
    servers = "set REDIS_URL and MONGODB_URL to the servers that are meant"
    if found.origin == "running":
        return (
            f"that is the system that runs in {found.data_dir}; {servers}, or let the application have no broker"
        )
    return f"nobody named that server; {servers}, and BROKER_URL where the broker is not that Redis"


def _check_transport_options(app: Celery) -> None:
    """Queues are where web processes publish to; no message comes again while its task is at work, or waits."""
    options: dict[str, Any] = app.conf.broker_transport_options
    for prefix in ("global_keyprefix", "queue_name_prefix"):
        if options.get(prefix):
            raise ConfigurationError(
                f"broker_transport_options: {prefix} {options[prefix]!r} names queues that web processes do not "
                "publish to: leave it out, or give writebehind an application and a broker of its own"
            )
    timeout = options.get("visibility_timeout")
    if timeout is not None and timeout < VISIBILITY_TIMEOUT_S:
        raise ConfigurationError(
            f"broker_transport_options: visibility_timeout {timeout} is too short, flush tasks would be delivered "
            f"twice: make it {VISIBILITY_TIMEOUT_S} or more"
        )


def _routes(routes: Any) -> Iterable[Any]:
    """The routers of the application, as Celery takes them."""
    if not routes:
        return ()
    return routes if isinstance(routes, list | tuple) else (routes,)


def _urls(given: str | Sequence[str]) -> Sequence[str]:
    """The brokers of a setting, of which the first that answers is used."""
    return given.split(";") if isinstance(given, str) else given


def _address(url: str) -> tuple[Any, ...]:
    """The address of a broker, whatever the way to write it: without credentials."""
    parts = url_to_parts(url)
    transport = _SAME_TRANSPORTS.get(parts.scheme, parts.scheme)
    host = _LOOPBACK.get(parts.hostname, parts.hostname)
    path = (parts.path or "").strip("/") or ("0" if transport.startswith("redis") else "")
    return transport, host, parts.port or _PORTS.get(transport), path, parts.query.get("virtual_host", "0")
