"""`up` on real servers: what it starts, uses and leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from itertools import takewhile
from types import SimpleNamespace

import httpx
import psutil
import pytest
from click.testing import CliRunner
from pymongo import MongoClient
from redis import Redis

from tests.integration.supervisor.conftest import NOBODY, STUBBORN, _is_over, _up
from tests.waiting import slowness, wait_until
from writebehind import Pipeline, load_settings
from writebehind.cli import cli
from writebehind.cli.run import announcement
from writebehind.local import embedded, own_servers, up
from writebehind.local.output import MOST_WAITING
from writebehind.local.procfile import default_procfile
from writebehind.local.stack import Stack
from writebehind.local.supervisor import bound_to_parent
from writebehind.local.up import Options, System
from writebehind.operations.doctor import Level, api
from writebehind.operations.running_here import remedies_here
from writebehind.settings.running import DATA_DIR, find, state_of

UP = [sys.executable, "-m", "writebehind", "up", "--port", "0"]


def test_up_runs_without_an_api(tmp_path, procfile):
    """It is ready when its processes run, and names no address of what does not run."""
    procfile.write_text("other: exec sleep 60\n")
    with Stack(tmp_path / "data", cwd=tmp_path, env=NOBODY, arguments=("--procfile", str(procfile))) as stack:
        about = json.loads((stack.data_dir / "up.json").read_text())

    assert {"other"} == set(about["pids"])
    assert not {"API", "API docs", "Status", "Flower"} & set(announcement(about).split("  "))
    assert "curl" not in announcement(about)


def test_a_local_system_gets_another_database_and_partitions(tmp_path, procfile, monkeypatch):
    """Its servers run without the processes while its data is drained, divided anew and adopted."""
    data = tmp_path / DATA_DIR
    with Stack(data, cwd=tmp_path, arguments=("--procfile", str(procfile))):
        pass
    monkeypatch.chdir(tmp_path)
    with Stack(data, cwd=tmp_path, arguments=("--servers-only",)) as servers:
        assert {"redis", "mongodb"} == set(servers.pids())
        done = [CliRunner().invoke(cli, one) for one in (["drain"], ["repartition", "32"])]
        monkeypatch.setenv("MONGODB_DATABASE", "new")
        monkeypatch.setenv("WRITEBEHIND_PARTITIONS", "32")
        done.append(CliRunner().invoke(cli, ["adopt"]))
    with Stack(data, cwd=tmp_path, arguments=("--procfile", str(procfile))) as stack:
        assert "new" == stack.mongodb_database

    assert [0, 0, 0] == [one.exit_code for one in done], [one.output for one in done]
    assert "belonged to database 'writebehind', and belongs to 'new' now" in done[-1].output


@pytest.mark.parametrize(("arguments", "env"), [(("--procfile", "Procfile"), {}), ((), NOBODY)])
def test_only_embedded_servers_can_run_alone(tmp_path, procfile, arguments, env):
    """Where there would be none, or processes are named as well, one line says so."""
    ended = _up(tmp_path, "--servers-only", *arguments, **env)

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))


@pytest.fixture
def full_stack(tmp_path, procfile):
    with Stack(tmp_path / "data", cwd=tmp_path, arguments=("--procfile", str(procfile))) as stack:
        yield stack


def test_up_starts_restarts_and_leaves_nothing(full_stack):
    """`up` runs servers and processes, starts those anew that die, and ends them all on SIGTERM with status 0."""
    stack = full_stack
    before = stack.pids()
    assert {"redis", "mongodb", "web", "other"} == set(before)
    for name in ("web", "redis"):
        os.kill(before[name], signal.SIGKILL)
    changed = wait_until(lambda: _all_new(stack.pids(), before, {"web", "redis"}), "new processes", timeout=20)
    _see_that_passwords_are_known_beside_it_alone(stack)
    everything = [psutil.Process(pid) for pid in changed.values()]
    everything += [child for process in everything for child in process.children(recursive=True)]

    assert stack.stop() == 0
    assert [] == [process for process in everything if process.is_running() and not _is_over(process.pid)]
    said = (stack.data_dir / "log" / "system.log").read_text().splitlines()
    assert f"Valkey runs again, as process {changed['redis']}" in said
    [ended] = [one for one in said if one.startswith("Valkey was ended by SIGKILL, starting it again")]
    # They say what was only there then, where a process has looked by then.
    last = f"stopped; the data stays in {stack.data_dir}"
    assert said[-1].startswith(last)
    later = "; what was written after that is not counted"
    for told, more in ((ended.partition("again")[2], later), (said[-1].removeprefix(last), "")):
        form = rf"; at [\d:]+ \([\d.]+ s ago\) no documents were only in Redis{more}"
        assert not told or re.fullmatch(form, told), told


def test_workers_are_seen_once_it_is_ready(tmp_path, procfile):
    """Whoever looks at once, as a newcomer does, is told of no queue that nobody consumes."""
    lines = default_procfile().read_text("utf-8").splitlines()
    procfile.write_text("\n".join(one for one in lines if one.startswith(("web:", "worker:", "maintenance:"))))
    with Stack(tmp_path / "data", cwd=tmp_path, arguments=("--procfile", str(procfile))) as stack:
        status = httpx.get(f"{stack.url}/admin/status").json()
    assert (2, []) == (status["workers"], status["unconsumed"])


@pytest.mark.parametrize(
    ("seen", "failing", "waits"),
    [(0, {}, True), (1, {}, True), (2, {}, False), (None, {}, False), (1, {"worker": "no broker"}, False)],
)
def test_workers_that_fail_are_not_waited_for(monkeypatch, tmp_path, seen, failing, waits):
    """Nor are any where nobody can know of them."""
    commands = {
        "web": "exec writebehind run web",
        "worker": "exec writebehind run worker",
        "own": "celery -A me worker",
    }
    system = System(load_settings(), Options(data_dir=tmp_path, port=0), tmp_path, commands)
    system._supervisor = SimpleNamespace(failing=failing)
    monkeypatch.setattr(up, "ask_api", lambda *_, **__: (200, json.dumps({"workers": seen})))
    assert waits is system.awaits_workers()


def test_a_data_directory_that_is_deleted_under_it_is_told(full_stack):
    """Commands find it all the same, and the first Ctrl-C, which would lose what it has, does not end it."""
    stack, data, log = full_stack, full_stack.data_dir, full_stack.data_dir / "log" / "system.log"
    shutil.rmtree(data)
    state = wait_until(lambda: state_of(data), "a new description", 30)
    settings = load_settings(redis_url=stack.redis_url, mongodb_url=stack.mongodb_url)
    assert (stack.redis_url, stack.mongodb_url) == (state["redis_url"], state["mongodb_url"])
    (told, *_) = remedies_here(settings, state, timeout_s=5)
    assert ("data-directory", "critical") == (told.condition, told.severity), told
    with Pipeline(settings) as pipeline:
        (found, *_) = api.check(pipeline, data)
    assert (Level.FAILURE, "data directory") == (found.level, found.check), found
    os.kill(stack.pid, signal.SIGINT)
    wait_until(lambda: "not stopped: " in log.read_text(), "a line", 30)
    assert f"{data}, {data / 'redis'}, {data / 'mongodb'} is not there any more" in log.read_text()

    assert stack.stop() == 0

    last = log.read_text().splitlines()[-1]
    assert f"stopped; the data was in {data}: what was deleted there is lost, what was moved is not" in last


def _see_that_passwords_are_known_beside_it_alone(stack):
    """Commands find them in a file that nobody else may read, and in no log."""
    found = find(stack.data_dir).settings
    passwords = [(stack.data_dir / name / "password").read_text().strip() for name in ("redis", "mongodb")]
    assert (found.redis_url, found.mongodb_url) == (stack.redis_url, stack.mongodb_url)
    for password, url in zip(passwords, (found.redis_url, found.mongodb_url), strict=True):
        assert f":{password}@127.0.0.1:" in url
    with Redis.from_url(found.redis_url) as let_in, MongoClient(found.mongodb_url) as also:
        assert let_in.ping()
        assert also.admin.command("serverStatus")["ok"]
    wrote = "".join(one.read_text() for one in (stack.data_dir / "log").iterdir())
    modes = {one: (stack.data_dir / one).stat().st_mode & 0o777 for one in ("up.json", "redis/password")}
    assert {0o600} == {*modes.values()}
    assert [] == [one for one in passwords if one in wrote]


def test_a_server_whose_port_is_taken_does_not_end_the_system(monkeypatch, tmp_path):
    """An embedded server that cannot come back is tried again, and the processes stay; then it comes back."""
    monkeypatch.setattr(embedded, "PORT_WAIT_S", 0.1)
    monkeypatch.setattr(own_servers, "LONGEST_DELAY_S", 0.1)
    options = Options(port=0, quiet=True)
    system = System(load_settings(), options, tmp_path, {"web": "exec sleep 60"})
    log, pids = tmp_path / "log" / "system.log", lambda: system.check() or system.description()["pids"]
    with ExitStack() as undo:
        undo.callback(system.stop, hurry=lambda: True)
        system.start()
        before = pids()
        os.kill(before["redis"], signal.SIGKILL)
        port = int(system.description()["redis_url"].removesuffix("/0").rpartition(":")[2])
        with wait_until(lambda: socket.create_server(("127.0.0.1", port)), "the port"):
            wait_until(lambda: pids() and "it is taken. All else goes on" in log.read_text(), "the refusal")
        after = wait_until(lambda: _all_new(pids(), before, {"redis"}), "its return")

    assert before["web"] == after["web"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
def test_up_takes_all_along_when_it_is_killed(stack):
    """Servers and processes end also when `up` itself is killed, and the next start works."""
    pids = stack.pids()
    os.kill(stack.pid, signal.SIGKILL)
    wait_until(lambda: all(_is_over(pid) for pid in pids.values()), "the end of all", timeout=20)

    stack.stop()
    stack.start()
    assert set(pids) == set(stack.pids())


def test_up_goes_on_where_nobody_reads_what_it_prints(tmp_path, procfile):
    """A full pipe holds up neither the processes nor the end of all."""
    counts = "i=0; while :; do i=$((i+1)); [ $((i % 1000)) -gt 0 ] || echo $i > count; echo line $i; done"
    procfile.write_text(f"web: exec python stub.py\nchatty: {counts}\n")
    env = os.environ | NOBODY
    command = bound_to_parent([*UP, "--procfile", str(procfile)])
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE) as process:
        count = tmp_path / "count"
        wait_until(lambda: int(count.read_text()) > 3 * MOST_WAITING, "all to go on", 60)
        process.send_signal(signal.SIGTERM)

        assert 0 == process.wait(20 * slowness())


def test_up_says_at_once_that_it_stops(tmp_path, procfile):
    """Ctrl-C is answered before anything has ended; a second one kills what is left; and the end is said."""
    procfile.write_text(f"web: exec python stub.py\nother: {STUBBORN}\n")
    env = os.environ | NOBODY
    command = bound_to_parent([*UP, "--procfile", str(procfile)])
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        for line in takewhile(lambda line: line != "Ctrl-C stops everything.\n", process.stdout):
            assert "stopping" not in line
        other = json.loads((tmp_path / ".writebehind" / "up.json").read_text())["pids"]["other"]
        process.send_signal(signal.SIGINT)
        first = next(line for line in process.stdout if "system" in line)
        assert ("stopping" in first, True) == (True, psutil.pid_exists(other))
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()

    assert 0 == process.returncode
    assert _is_over(other)
    assert ["killing the processes", "stopped; the servers that were given go on"] == [
        wanted
        for wanted in ("killing the processes", "stopped; the servers that were given go on")
        if rest.count(wanted) == 1
    ]


def test_up_uses_the_servers_that_are_configured(tmp_path, procfile):
    """Where a server is configured, none is started, and its password is not shown to people."""
    env = os.environ | {"REDIS_URL": "redis://:secret@127.0.0.1:1/0", "MONGODB_URL": "mongodb://127.0.0.1:2/"}
    command = bound_to_parent([*UP, "--quiet", "--procfile", str(procfile)])
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        lines = "".join(takewhile(lambda line: line != "Ctrl-C stops everything.\n", process.stdout))
        running = json.loads((tmp_path / ".writebehind" / "up.json").read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    assert {"web", "other"} == set(running["pids"])
    assert "redis://:***@127.0.0.1:1/0" in lines
    assert "secret" not in lines


def _all_new(now, before, names):
    return now if set(now) == set(before) and all(now[name] != before[name] for name in names) else None


def test_all_that_up_prints_is_json_where_lines_are(tmp_path, procfile):
    """What is printed, what the supervisor says and that all is ready are objects, on both streams, to the end."""
    procfile.write_text("web: exec python stub.py\nother: echo so; exec sleep 60\n")
    command = bound_to_parent([*UP, "--procfile", str(procfile)])
    env = {**os.environ, **NOBODY, "WRITEBEHIND_LOG_FORMAT": "json"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        try:
            while not any('"ready"' in line for line in lines):
                lines.append(process.stdout.readline())
                assert lines[-1], "it has ended"
        finally:
            process.terminate()
            lines += process.stdout.read().splitlines()
    found = [json.loads(line) for line in lines]
    [ready] = [one for one in found if one.get("event") == "ready"]
    assert ready["url"].startswith("http://127.0.0.1:")
    assert ("system", "info") == (ready["process"], ready["level"])
    assert {"other": "so"}.items() <= {one["process"]: one["message"] for one in found}.items()
    assert any(one["message"].startswith("stopped") for one in found if one["process"] == "system")
    assert all({"time", "level", "process", "message"} <= one.keys() for one in found)
