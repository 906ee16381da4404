"""Celery's broker where Sentinels say which server it is: one URL serves the pipeline and Celery."""

from __future__ import annotations

import subprocess

import pytest
import redis

from tests.waiting import wait_until
from writebehind import load_settings
from writebehind.celery.configuration import create_app
from writebehind.celery.publisher import publish
from writebehind.errors import ConfigurationError
from writebehind.local.embedded import free_port, valkey_binary
from writebehind.local.supervisor import bound_to_parent
from writebehind.redis.pending import Hint


@pytest.mark.parametrize("setting", ["redis_url", "broker_url"])
def test_hints_reach_the_server_that_a_sentinel_names(one_valkey, tmp_path, setting):
    """In the database of the URL; a Sentinel that is not there is passed over."""
    port, config = free_port(), tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {one_valkey.port} 1\n")
    command = bound_to_parent([str(valkey_binary()), str(config), "--sentinel"])
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis(port=port) as client:
                wait_until(lambda: client.sentinel_master("shop"), "the Sentinel")
            url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/shop/3"
            with (
                create_app(load_settings(**{setting: url})) as app,
                redis.Redis(port=one_valkey.port, db=3) as client,
            ):
                client.delete("flush")
                publish(app, Hint(0, "ticket", 0))
                assert 1 == client.llen("flush")
                client.delete("flush")
        finally:
            server.terminate()


def test_a_cluster_is_no_broker():
    """Who has a cluster is told to name a broker."""
    with pytest.raises(
        ConfigurationError, match="BROKER_URL: Celery cannot use a Redis Cluster as broker: set it to"
    ):
        create_app(load_settings(redis_url="redis+cluster://a,b"))


def test_sentinels_with_tls_are_refused():
    """Rather than spoken to without it."""
    with pytest.raises(ConfigurationError, match="BROKER_URL: Celery cannot use it"):
        create_app(load_settings(redis_url="rediss+sentinel://a,b/shop/0"))
