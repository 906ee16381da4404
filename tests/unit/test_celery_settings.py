"""Settings that an installation passes to Celery."""

from __future__ import annotations

import pytest
from celery.app.defaults import NAMESPACES, flatten

from tasks.app import create_celery
from tasks.passed import passed
from writebehind import load_settings
from writebehind.celery.configuration import create_app
from writebehind.errors import ConfigurationError

REDIS = "redis://127.0.0.1:1/0"


def test_workers_have_what_is_given(monkeypatch):
    """Over what is ours, also from the environment; options of the transport are taken one by one."""
    monkeypatch.setenv(
        "WRITEBEHIND_CELERY",
        '{"worker_prefetch_multiplier": 2, "worker_max_tasks_per_child": 100, "timezone": "Europe/Vienna",'
        ' "broker_transport_options": {"socket_timeout": 60, "health_check_interval": 5}}',
    )
    conf = create_celery(load_settings(redis_url=REDIS))[0].conf
    assert (2, 100, "Europe/Vienna") == (
        conf.worker_prefetch_multiplier,
        conf.worker_max_tasks_per_child,
        conf.timezone,
    )
    monkeypatch.delenv("WRITEBEHIND_CELERY")
    ours = create_app(load_settings(redis_url=REDIS)).conf.broker_transport_options
    assert ours | {"socket_timeout": 60, "health_check_interval": 5} == conf.broker_transport_options
    assert 4 == create_celery(load_settings(redis_url=REDIS))[0].conf.worker_prefetch_multiplier


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("worker_prefetch_multiplyer", 2, r"no such setting: do you mean worker_prefetch_multiplier\?"),
        ("WORKER_PREFETCH_MULTIPLIER", 2, r"no such setting: do you mean worker_prefetch_multiplier\?"),
        ("zzz", 2, r"no such setting, see its documentation"),
        ("worker_prefetch_multiplier", "2", r"needs a int, and not str"),
        ("worker_prefetch_multiplier", True, r"needs a int, and not bool"),
        ("worker_prefetch_multiplier", None, r"needs a int, and not NoneType"),
        ("worker_prefetch_multiplier", -1, r"must not be below 0"),
        ("broker_connection_timeout", float("nan"), r"must not be below 0"),
        ("worker_disable_rate_limits", 1, r"needs a bool, and not int"),
        ("timezone", 1, r"needs a string, and not int"),
        ("broker_transport_options", [], r"needs a dict, and not list"),
        ("broker_transport_options", {"visibility_timeout": 1}, r"visibility_timeout 1 is too short"),
        ("broker_transport_options", {"global_keyprefix": "a"}, r"global_keyprefix 'a' names queues"),
        ("task_acks_late", False, r"flush tasks depend on it"),
        ("task_always_eager", True, r"flush tasks depend on it"),
        ("task_serializer", "pickle", r"flush tasks depend on it"),
        ("accept_content", ["pickle"], r"flush tasks depend on it"),
        ("broker_url", "redis://127.0.0.1:2/0", r"flush tasks depend on it"),
        ("beat_schedule", {}, r"flush tasks depend on it"),
    ],
)
def test_what_cannot_be_set(name, value, said):
    """One line names the setting and says why."""
    with pytest.raises(ConfigurationError, match=rf"^(celery\.)?{name}: .*{said}|{said}"):
        create_celery(load_settings(redis_url=REDIS, celery={name: value}))


@pytest.mark.parametrize("name", sorted(name for name, _ in flatten(NAMESPACES)))
def test_each_setting_of_celery(name):
    """It is taken with its default, or refused in words."""
    option = dict(flatten(NAMESPACES))[name]
    told = ""
    try:
        assert passed({name: option.default}, {}) == {name: option.default}
    except ConfigurationError as error:
        told = str(error)
    assert told == "" or told.startswith(f"celery.{name}: ")
