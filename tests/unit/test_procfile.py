"""The Procfile against what the code declares."""

from __future__ import annotations

import shlex

import pytest

from writebehind.celery import names
from writebehind.errors import ConfigurationError
from writebehind.local.procfile import default_procfile, read_procfile


@pytest.fixture(scope="module")
def commands():
    return {name: shlex.split(command) for name, command in read_procfile(default_procfile()).items()}


def test_there_is_a_process_for_each_part(commands):
    """API, flush worker, maintenance worker, beat, listener and Flower are processes of their own."""
    assert {"web", "worker", "maintenance", "beat", "listen", "exporter", "flower"} == set(commands)


def test_every_queue_has_one_kind_of_worker(commands):
    """Each declared queue is consumed, and by one process type, so that no queue delays another."""
    workers = [words for words in commands.values() if "worker" in words]
    consumed = [queue for words in workers for queue in words[words.index("-Q") + 1].split(",")]

    assert sorted(names.QUEUES) == sorted(consumed)


def test_no_long_task_delays_the_sweep(commands):
    """The maintenance worker has two threads more than tasks that may take long: for a sweep and the next."""
    [words] = [words for words in commands.values() if names.MAINTENANCE_QUEUE in words]

    assert int(words[words.index("--concurrency") + 1]) >= len(names.LONG_TASKS) + 2


def test_workers_record_that_they_live(commands):
    """Heartbeats stay on: the status of the workers is read from them."""
    for words in commands.values():
        assert "--without-heartbeat" not in words


def test_no_development_server_serves_the_api(commands):
    """The API runs under its production server."""
    assert ["exec", "writebehind", "run", "web"] == commands["web"]


def test_shells_make_way_for_their_process(commands):
    """Signals and process ids are those of the process, not of a shell around it."""
    for words in commands.values():
        assert words[0] == "exec"


def test_flower_is_reached_from_this_machine_only(commands):
    """Flower has no password, so it listens on loopback, behind our gate; its port can be chosen."""
    assert ["exec", "writebehind", "run", "flower"] == commands["flower"][:4]
    assert "--address=127.0.0.1" in commands["flower"]
    assert "--port=${WRITEBEHIND_FLOWER_PORT:-5555}" in commands["flower"]


@pytest.mark.parametrize("content", ["", "web: a\nweb: b\n"], ids=["empty", "a name twice"])
def test_a_broken_procfile_is_refused(tmp_path, content):
    """A Procfile that cannot be run is a configuration error."""
    (tmp_path / "Procfile").write_text(content)
    with pytest.raises(ConfigurationError):
        read_procfile(tmp_path / "Procfile")
