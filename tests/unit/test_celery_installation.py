"""Into somebody's Celery application: what it has stays, what is missing comes, and what clashes is said."""

from __future__ import annotations

import pytest
from celery import Celery, Task
from kombu.entity import Exchange, Queue

from writebehind import Settings, load_settings
from writebehind.celery import install
from writebehind.celery.names import QUEUES, TASKS
from writebehind.errors import ConfigurationError
from writebehind.settings.running import Found

BROKER = "redis://127.0.0.1:6379/0"
PERIODIC = {"writebehind.sweep", "writebehind.reconcile", "writebehind.decay", "writebehind.warm"}


@pytest.fixture
def settings() -> Settings:
    return load_settings(redis_url=BROKER)


def shop(**configuration: object) -> Celery:
    """An application of somebody's."""
    app = Celery("shop", broker=BROKER, set_as_current=False)
    app.conf.update(configuration)
    return app


def queue_of(app: Celery, task: str) -> str:
    return app.amqp.router.route({}, task)["queue"].name


def test_what_is_missing_comes(settings):
    """Tasks, queues, routes and periodic tasks are added."""
    app = shop()
    install(app, settings)

    assert set(TASKS) <= app.tasks.keys()
    assert app.conf.beat_schedule.keys() == PERIODIC
    for name in QUEUES:
        queue = app.amqp.queues[name]
        assert (name, name, name) == (queue.name, queue.exchange.name, queue.routing_key)
    assert ["flush", "refresh", "maintenance"] == [
        queue_of(app, f"writebehind.{task}") for task in ("flush", "refresh", "sweep")
    ]


@pytest.mark.parametrize("routes", [None, {"shop.*": {"queue": "mail"}}, [{"shop.*": {"queue": "mail"}}]])
@pytest.mark.parametrize("listed", [False, True], ids=["queues as needed", "queues listed"])
def test_what_is_its_own_stays(settings, routes, listed):
    """Queues, default queue, routes, schedule and options of the application are as they were."""
    queues = [Queue("orders", Exchange("orders"), "orders"), Queue("mail", Exchange("mail"), "mail")]
    named = {"task_queues": queues, "task_default_queue": "orders"} if listed else {}
    schedule = {"count": {"task": "shop.count", "schedule": 60.0}}
    options = {"visibility_timeout": 7200, "socket_timeout": 30}
    app = shop(task_routes=routes, beat_schedule=schedule, broker_transport_options=options, **named)

    install(app, settings)

    default = "orders" if listed else "celery"
    assert default == queue_of(app, "other.task")
    assert ("mail" if routes else default) == queue_of(app, "shop.count")
    assert ({"orders", "mail"} if listed else {"celery"}) <= app.amqp.queues.keys()
    assert schedule["count"] == app.conf.beat_schedule["count"]
    assert options.items() <= app.conf.broker_transport_options.items()
    assert BROKER == app.conf.broker_url
    assert "max_retries" not in app.conf.broker_transport_options


def test_an_application_may_go_on_being_made(settings):
    """Tasks, and handlers that wait for the application to be complete, may come after the installation."""
    app, called = shop(), []
    install(app, settings)

    @app.on_after_finalize.connect
    def set_up(sender: Celery, **_: object) -> None:
        called.append(sender)

    @app.task(name="shop.order")
    def order() -> None:
        """Take an order."""

    assert "shop.order" in app.tasks
    assert [app] == called


def test_its_defaults_are_not_those_of_our_tasks(settings):
    """A message is a hint whatever other tasks are like: acknowledged late, no result, as JSON, at any rate."""

    class Slow(Task):
        """Somebody's base of tasks."""

        abstract = True

    app = shop(
        task_acks_late=False,
        task_ignore_result=False,
        task_serializer="pickle",
        accept_content=["pickle", "json"],
        task_default_rate_limit="1/m",
        task_reject_on_worker_lost=True,
    )
    app.Task = Slow
    install(app, settings)

    for name in TASKS:
        task = app.tasks[name]
        assert (True, True, "json", 0, False) == (
            *(task.acks_late, task.ignore_result, task.serializer, task.rate_limit),
            task.reject_on_worker_lost,
        )
        assert not isinstance(task, Slow)


def test_without_a_broker_it_gets_ours():
    """An application that names no broker uses that of the settings."""
    app = Celery("shop", set_as_current=False)
    install(app, load_settings(redis_url="rediss://:secret@redis.internal/3"))

    assert "rediss://:secret@redis.internal/3" == app.conf.broker_url
    assert {"ssl_cert_reqs": "required"} == app.conf.broker_use_ssl


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("redis://localhost:6379/0", {}),
        ("redis://localhost", {}),
        ("redis://", {}),
        ("redis://user:password@127.0.0.1", {}),
        ("amqp://shop@rabbit:5672/shop", {"broker_url": "amqp://writebehind:secret@rabbit/shop"}),
        ("pyamqp://rabbit//", {"broker_url": "amqp://rabbit//"}),
        ("amqp://a;amqp://b", {"broker_url": "amqp://b;amqp://a"}),
        ("sentinel://a:26379/0;sentinel://b:26379/0", {"broker_url": "redis+sentinel://b,a/main/0"}),
        ("redis+socket:///run/redis.sock?virtual_host=2", {"redis_url": "unix:///run/redis.sock?db=2"}),
    ],
)
def test_the_same_broker_written_in_another_way(theirs, ours):
    """Only where the broker is counts, not who speaks to it."""
    app = Celery("shop", broker=theirs, set_as_current=False)
    install(app, load_settings(**({"redis_url": BROKER} | ours)))
    assert (True, theirs) == (set(TASKS) <= app.tasks.keys(), app.conf.broker_url)


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("settings", "6379/0: set BROKER_URL to the application's"),
        ("running", "the system that runs in /here; set REDIS_URL and MONGODB_URL to"),
        ("defaults", "nobody named that server; set REDIS_URL and MONGODB_URL to"),
    ],
)
def test_what_to_do_about_another_broker(settings, monkeypatch, origin, said):
    """It depends on who named the servers: the settings, the system that runs here, or nobody."""
    found = Found(settings, origin, "/here" if origin == "running" else "")
    monkeypatch.setattr("writebehind.celery.installation.find", lambda: found)
    with pytest.raises(ConfigurationError, match=said):
        install(shop(broker_url="redis://127.0.0.1:6379/1"))


def task_of_that_name(app: Celery) -> None:
    @app.task(name="writebehind.sweep", shared=False)  # with other applications of this process
    def sweep() -> None:
        """Somebody's own."""


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"broker_url": "redis://127.0.0.1:6379/1"}, r"broker is redis://127.0.0.1:6379/1, .*set BROKER_URL to"),
        ({"broker_url": "redis://:hidden@h/0"}, r"broker is redis://:\*\*\*@h.*/0, .*set BROKER_URL to"),
        ({"broker_url": "redis://127.0.0.1;redis://h"}, r"broker is several Redis servers, .*: name one of them"),
        ({"accept_content": ["pickle"]}, r"accept_content: add 'json'"),
        ({"task_protocol": 1}, r"task_protocol: 2 is needed"),
        (
            {"broker_transport_options": {"visibility_timeout": 60}},
            r"visibility_timeout 60 is too short.*120",
        ),
        ({"broker_transport_options": {"global_keyprefix": "shop:"}}, r"global_keyprefix 'shop:' names queues"),
        ({"task_queues": [Queue("flush")]}, r"has a queue flush already, with exchange 'celery'"),
        (
            {"beat_schedule": {"writebehind.sweep": {"task": "shop.sweep", "schedule": 1}}},
            r"beat_schedule has an entry writebehind.sweep",
        ),
        (task_of_that_name, r"has a task writebehind.sweep already"),
        (install, r"has a task writebehind.flush already: .*install once"),
    ],
)
def test_what_does_not_fit(settings, configuration, said):
    """One line says what clashes and what to do, without secrets; nothing of the application was changed."""
    app = shop(**(configuration if isinstance(configuration, dict) else {}))
    if not isinstance(configuration, dict):
        configuration(app, settings) if configuration is install else configuration(app)
    before = dict(app.conf), dict(app.amqp.queues)

    with pytest.raises(ConfigurationError, match=said) as refusal:
        install(app, settings)

    assert 1 == len(str(refusal.value).splitlines())
    assert "hidden" not in str(refusal.value)
    assert before == (dict(app.conf), dict(app.amqp.queues))
