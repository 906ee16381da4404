"""Processes are kept running, and none is left behind: the supervisor, and `writebehind up` around it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import takewhile

import psutil
import pytest
from click.testing import CliRunner

from tests.waiting import slowness, wait_until
from writebehind import load_settings
from writebehind.cli import cli
from writebehind.cli.run import announcement
from writebehind.local import embedded
from writebehind.local import supervisor as supervision
from writebehind.local import up as running
from writebehind.local.output import MOST_WAITING, ConsoleOutput, FileOutput
from writebehind.local.stack import Stack
from writebehind.local.supervisor import CrashLoopError, Supervisor
from writebehind.local.up import Options, System
from writebehind.settings.running import DATA_DIR

STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"
#: Servers that do not answer, for tests that need none.
NOBODY = {"REDIS_URL": "redis://127.0.0.1:1/0", "MONGODB_URL": "mongodb://127.0.0.1:2/"}
#: Stands in for the API: answers 200 to everything on the port that `up` chose.
WEB = """
import http.server, os
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["WRITEBEHIND_PORT"])), Ok).serve_forever()
"""


@pytest.fixture
def supervise(tmp_path):
    with ExitStack() as undo:

        def start(essential=(), **commands):
            supervisor = Supervisor(commands, os.environ, FileOutput(tmp_path), essential=essential)
            undo.callback(supervisor.stop, grace_s=0)
            supervisor.check()
            return supervisor

        yield start


def test_a_killed_process_is_started_again(supervise, tmp_path):
    """A process that dies comes back as a new one, and a line says so; the others go on."""
    supervisor = supervise(one="exec sleep 60", other="exec sleep 60")
    before = supervisor.pids
    os.kill(before["one"], signal.SIGKILL)

    wait_until(lambda: _checked(supervisor).get("one", before["one"]) != before["one"], "the new process")

    assert before["other"] == supervisor.pids["other"]
    assert "one ended with -9, starting it again" in (tmp_path / "system.log").read_text()


def test_what_a_dead_process_started_is_ended_before_its_restart(supervise, tmp_path):
    """Children of a process that died would hold its port: they go before it comes back."""
    supervisor = supervise(one=f"sleep 60 & echo $! >> {tmp_path}/children; wait")
    child = int(wait_until((tmp_path / "children").read_text, "the child"))
    os.kill(supervisor.pids["one"], signal.SIGKILL)

    wait_until(lambda: _checked(supervisor) and _is_over(child), "the child's end")


def test_a_process_has_a_name_that_no_other_system_gives(supervise, tmp_path):
    """Two systems may work on the same servers from one host: their workers are told apart."""
    supervise(one='echo "as $HONCHO_PROCESS_NAME."; exec sleep 60')
    log = tmp_path / "one.log"

    assert f"as one.{os.getpid()}." in wait_until(lambda: log.is_file() and log.read_text(), "its name")


def test_stop_ends_grandchildren(supervise, tmp_path):
    """Nothing of a process group is left after a stop."""
    supervisor = supervise(one=f"(sleep 60 & echo $! > {tmp_path}/grandchild; wait) & wait")
    grandchild = int(wait_until((tmp_path / "grandchild").read_text, "the grandchild"))
    leader = supervisor.pids["one"]
    supervisor.stop()

    assert _is_over(grandchild)
    assert _is_over(leader)
    assert {} == supervisor.pids


@pytest.mark.parametrize("hurry", [False, True], ids=["after the grace", "at once in a hurry"])
def test_a_process_that_ignores_sigterm_is_killed(supervise, hurry):
    """A process that does not want to end is ended all the same."""
    supervisor = supervise(one=STUBBORN)
    pid = supervisor.pids["one"]
    wait_until(lambda: psutil.Process(pid).children(), "the trap")

    began = time.monotonic()
    supervisor.stop(grace_s=60 if hurry else 0.2, hurry=lambda: hurry)

    assert _is_over(pid)
    assert time.monotonic() - began < 10 * slowness()


def test_an_essential_process_that_never_starts_well_ends_everything(supervise, monkeypatch):
    """What nothing works without, and fails from its first start on, is configured wrongly: it says how."""
    monkeypatch.setattr(supervision, "LONGEST_FAILING_DELAY_S", 0.01)
    supervisor = supervise(essential={"one"}, one="echo wrong setting; exit 3")
    with pytest.raises(CrashLoopError, match="one does not start, it ended with 3: wrong setting"):
        raise wait_until(lambda: _refusal(supervisor), "the end of all tries")


def test_an_essential_process_that_fails_late_has_not_started_well(supervise, monkeypatch):
    """On a busy machine it may live for long before it fails: what counts is whether the whole was ready."""
    monkeypatch.setattr(supervision, "SETTLED_S", 0.0)
    monkeypatch.setattr(supervision, "LONGEST_FAILING_DELAY_S", 0.01)
    supervisor = supervise(essential={"one"}, one="echo wrong setting; exit 3")
    with pytest.raises(CrashLoopError, match="one does not start, it ended with 3: wrong setting"):
        raise wait_until(lambda: _refusal(supervisor), "the end of all tries")


def test_up_refuses_a_broker_that_celery_cannot_use(tmp_path, procfile):
    """Every process would end with this line, again and again: no process is started."""
    procfile.write_text("web: touch started; exec sleep 60")

    ended = _up(tmp_path, "--port", "0", "--procfile", str(procfile), **NOBODY, BROKER_URL="sqs://h")

    assert (2, 1, "") == (ended.returncode, len(ended.stderr.splitlines()), ended.stdout)
    assert "BROKER_URL: Celery cannot use it" in ended.stderr
    assert not (tmp_path / "started").exists()


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


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [("WRITEBEHIND_PARTITIONS", "32", "partitions"), ("MONGODB_DATABASE", "shop", "belongs to database")],
)
def test_up_refuses_what_does_not_fit_its_data(tmp_path, procfile, variable, value, said):
    """It says so in one line, before any process is started."""
    arguments = ("--port", "0", "--procfile", str(procfile))
    with Stack(tmp_path / ".writebehind", cwd=tmp_path, arguments=("--procfile", str(procfile))):
        pass
    procfile.write_text("web: touch started; exec sleep 60")

    ended = _up(tmp_path, *arguments, **{variable: value})

    assert (2, 1, "") == (ended.returncode, len(ended.stderr.splitlines()), ended.stdout)
    assert said in ended.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("essential", [(), ("one",)], ids=["not essential", "essential, and has started"])
def test_what_fails_does_not_end_the_rest(supervise, monkeypatch, tmp_path, essential):
    """A process that fails, however often, is started again, and a line says why; the rest goes on without it."""
    monkeypatch.setattr(supervision, "LONGEST_FAILING_DELAY_S", 0.01)
    supervisor = supervise(essential=essential, one="echo port is taken; exit 3", other="exec sleep 60")
    supervisor.has_started()
    other = supervisor.pids["other"]
    wait_until(lambda: _checked(supervisor) and supervisor.failing, "so many failures")
    told = "one fails whenever it is started, all else goes on: port is taken"
    wait_until(lambda: _checked(supervisor) and told in (tmp_path / "system.log").read_text(), "the line")

    assert {"one": "port is taken"} == supervisor.failing
    assert other == supervisor.pids["other"]


def test_a_process_that_cannot_be_started_is_tried_again(supervise, monkeypatch, tmp_path):
    """Where the machine has no room for another process, the supervisor goes on."""
    supervisor = supervise(one="exec sleep 60", other="exec sleep 60")
    real, before = supervision.Popen, supervisor.pids

    def no_room(*_, **__):
        monkeypatch.setattr(supervision, "Popen", real)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(supervision, "Popen", no_room)
    os.kill(before["one"], signal.SIGKILL)
    wait_until(lambda: _checked(supervisor).get("one") not in {before["one"], None}, "the new process")

    assert "one cannot be started: [Errno 11]" in (tmp_path / "system.log").read_text()
    assert before["other"] == supervisor.pids["other"]


def test_a_process_that_is_killed_often_is_not_given_up(supervise, monkeypatch):
    """Being killed, however often, is no wrong configuration."""
    monkeypatch.setattr(supervision, "LONGEST_DELAY_S", 0.01)
    supervisor = supervise(one="exec sleep 60")
    for _ in range(supervision.MOST_FAILED_STARTS + 2):
        pid = wait_until(lambda: _checked(supervisor).get("one"), "the process")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: _checked(supervisor).get("one") not in {pid, None}, "the next process")


@pytest.mark.parametrize(("status", "longest"), [(0, 5.0), (1, 30.0)])
def test_restarts_become_slower(monkeypatch, status, longest):
    """A process that keeps ending is started less and less often; least often if it fails."""
    monkeypatch.setattr(supervision.time, "monotonic", lambda: 0.0)
    process = supervision.Process("one", f"exit {status}", os.environ, lambda name, line: None)
    delays = []
    for _ in range(10):
        process.start()
        process.group.leader.wait()
        process.note_end()
        delays.append(process.due)

    assert sorted(delays) == delays
    assert (0.2, longest) == (delays[0], delays[-1])


@pytest.fixture
def procfile(tmp_path):
    (tmp_path / "stub.py").write_text(WEB)
    path = tmp_path / "Procfile"
    path.write_text("web: exec python stub.py\nother: exec sleep 60\n")
    return path


@pytest.fixture
def full_stack(tmp_path, procfile):
    with Stack(tmp_path / "data", cwd=tmp_path, arguments=("--procfile", str(procfile))) as stack:
        yield stack


@pytest.fixture
def stack(tmp_path, procfile):
    with Stack(tmp_path / "data", cwd=tmp_path, env=NOBODY, arguments=("--procfile", str(procfile))) as stack:
        yield stack


def test_up_starts_restarts_and_leaves_nothing(full_stack):
    """`up` runs servers and processes, starts those anew that die, and ends them all on SIGTERM with status 0."""
    stack = full_stack
    before = stack.pids()
    assert {"redis", "mongodb", "web", "other"} == set(before)
    for name in ("web", "redis"):
        os.kill(before[name], signal.SIGKILL)
    changed = wait_until(lambda: _all_new(stack.pids(), before, {"web", "redis"}), "new processes", timeout=20)
    everything = [psutil.Process(pid) for pid in changed.values()]
    everything += [child for process in everything for child in process.children(recursive=True)]

    assert stack.stop() == 0
    assert [] == [process for process in everything if process.is_running() and not _is_over(process.pid)]
    said = (stack.data_dir / "log" / "system.log").read_text().splitlines()
    assert {"Valkey ended with -9, starting it again", f"Valkey runs again, as process {changed['redis']}"} <= {
        *said
    }
    assert f"stopped; the data stays in {stack.data_dir}" == said[-1]


def test_a_server_whose_port_is_taken_does_not_end_the_system(monkeypatch, tmp_path):
    """An embedded server that cannot come back is tried again, and the processes stay; then it comes back."""
    monkeypatch.setattr(embedded, "PORT_WAIT_S", 0.1)
    monkeypatch.setattr(running, "LONGEST_DELAY_S", 0.1)
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


def test_up_refuses_a_data_directory_in_use(stack, tmp_path):
    """A second `up` on the same data directory fails with one clear line."""
    ended = _up(tmp_path, "--port", "0", "--data-dir", str(stack.data_dir))

    assert (1, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert "in use by another process" in ended.stderr
    assert f"`writebehind up` runs there as process {stack.pid}\n" in ended.stderr


def test_up_refuses_a_taken_port(tmp_path):
    """A port that somebody else listens on is told in one line, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        ended = _up(tmp_path, "--port", str(other.getsockname()[1]))

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert "is taken: choose another with --port" in ended.stderr


@pytest.mark.parametrize(("given", "missing"), [("REDIS_URL", "MONGODB_URL"), ("MONGODB_URL", "REDIS_URL")])
def test_up_refuses_one_server_without_the_other(tmp_path, given, missing):
    """Beside a Redis of others it would write into a MongoDB of its own what is theirs: it starts nothing."""
    ended = _up(tmp_path, "--port", "0", **{given: NOBODY[given]})

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert f"{given} is set and {missing} is not: set both, or neither for embedded servers" in ended.stderr
    assert [] == list(tmp_path.iterdir())


def test_up_refuses_a_wrong_setting(tmp_path):
    """A wrong setting is told in one line, before anything is started."""
    ended = _up(tmp_path, WRITEBEHIND_PARTITIONS="none")

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert ended.stderr.startswith("writebehind: partitions: ")


#: What is a file where a directory is needed, and the other way round.
FILES, DIRECTORIES = ("redis", "log"), ("lock", "redis/port", "redis/lock")


@pytest.mark.parametrize("place", [*FILES, *DIRECTORIES])
@pytest.mark.parametrize("quiet", [True, False])
def test_up_refuses_a_data_directory_that_cannot_be_used(tmp_path, place, quiet):
    """Whatever stands in the way there, as where nothing may be written: one line says so."""
    data = tmp_path / "data"
    if place in DIRECTORIES:
        (data / place).mkdir(parents=True)
    else:
        (data / place).parent.mkdir(exist_ok=True)
        (data / place).write_text("")

    ended = _up(tmp_path, "--port", "0", "--data-dir", str(data), *(["--quiet"] if quiet else []))

    assert (1, 1) == (ended.returncode, len(ended.stderr.splitlines())), ended.stderr
    assert "cannot be" in ended.stderr


@pytest.mark.parametrize("host", ["a" * 70, "no such host", "256.1.1.1"])
def test_up_refuses_a_host_that_is_none(tmp_path, host):
    """It is told in one line, before anything is started."""
    ended = _up(tmp_path, WRITEBEHIND_HOST=host)

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert ended.stderr.startswith(f"writebehind: host {host}: ")


def test_up_refuses_a_procfile_that_is_none(tmp_path):
    """What is no text is told in one line."""
    (tmp_path / "Procfile").write_bytes(b"web: \xff\n")

    ended = _up(tmp_path, "--procfile", "Procfile")

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert ended.stderr.startswith("writebehind: Procfile: ")


SECRET = "pwSecr1"  # noqa: S105 - this is what must not be shown
WRONG_URLS = [
    f'redis_url = "redis://:{SECRET}/x@h"',
    f'redis_url = ["redis://:{SECRET}@h"]',
    f'mongodb_url = "mongodb://u:{SECRET}/x@h"',
    f'broker_url = "amqp://u:{SECRET}/x@h"',
    f'broker_url = "redis://u:{SECRET}/x@h"',
    f'redis_url = "redis://:{SECRET}@h',
    f'[redis_url]\nurl = "redis://:{SECRET}@h"',
    f'redis_uri = "redis://:{SECRET}@h"',
]


@pytest.mark.parametrize("line", WRONG_URLS)
def test_up_refuses_a_malformed_url_in_the_settings_file(tmp_path, line):
    """In one line, which does not repeat its password."""
    (tmp_path / "wrong.toml").write_text(line + "\n")

    ended = _up(tmp_path, WRITEBEHIND_CONFIG=str(tmp_path / "wrong.toml"))

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert SECRET not in ended.stderr + ended.stdout


def test_up_goes_on_where_nobody_reads_what_it_prints(tmp_path, procfile):
    """A full pipe holds up neither the processes nor the end of all."""
    counts = "i=0; while :; do i=$((i+1)); [ $((i % 1000)) -gt 0 ] || echo $i > count; echo line $i; done"
    procfile.write_text(f"web: exec python stub.py\nchatty: {counts}\n")
    env = os.environ | NOBODY
    command = [sys.executable, "-m", "writebehind", "up", "--port", "0", "--procfile", str(procfile)]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE) as process:
        count = tmp_path / "count"
        wait_until(lambda: int(count.read_text()) > 3 * MOST_WAITING, "all to go on", 60)
        process.send_signal(signal.SIGTERM)

        assert 0 == process.wait(20 * slowness())


def test_up_says_at_once_that_it_stops(tmp_path, procfile):
    """Ctrl-C is answered before anything has ended; a second one kills what is left; and the end is said."""
    procfile.write_text(f"web: exec python stub.py\nother: {STUBBORN}\n")
    env = os.environ | NOBODY
    command = [sys.executable, "-m", "writebehind", "up", "--port", "0", "--procfile", str(procfile)]
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


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("[2026-11-26 17:55:11,123: WARNING/MainProcess] it is late", "[WARNING/MainProcess] it is late"),
        ("2026-11-26 17:55:11,123 WARNING it is late", "WARNING it is late"),
        ("[2026-11-26 17:55:11 +0000] [1] [INFO] it is late", "[1] [INFO] it is late"),
        ("[W 261126 18:17:50 state:109] it is late", "[W state:109] it is late"),
        ("it is late since 2026-11-26 17:55:11", "it is late since 2026-11-26 17:55:11"),
    ],
)
def test_a_line_has_one_time(written, printed):
    """The supervisor says when a line was written: what the process says of that is left out, and blank lines."""
    source, sink = os.pipe()
    with os.fdopen(source, encoding="utf-8") as reader, os.fdopen(sink, "w", encoding="utf-8") as stream:
        console = ConsoleOutput(["web"], stream)
        console("web", b" \n")
        console("web", f"{written}\n".encode())
        line = reader.readline()

    assert printed == line.partition("| ")[2].strip()


def test_lines_that_nobody_reads_are_left_out():
    """Who writes them does not wait; once they are read, they come in order, and how many do not is told."""
    source, sink = os.pipe()
    count = 3 * MOST_WAITING
    with os.fdopen(source, encoding="utf-8") as reader, os.fdopen(sink, "w", encoding="utf-8") as stream:
        console = ConsoleOutput(["web"], stream)
        for number in range(count):
            console("web", b"line %d" % number)
        lines = []
        while not (lines and "are left out" in lines[-1]):
            lines.append(reader.readline().partition("| ")[2].strip())

    *lines, last = lines
    numbers = [int(line.removeprefix("line ")) for line in lines]
    assert sorted(set(numbers)) == numbers
    assert len(numbers) >= MOST_WAITING
    assert f"{count - len(lines)} lines are left out, as nobody has read in time" == last


def test_up_uses_the_servers_that_are_configured(tmp_path, procfile):
    """Where a server is configured, none is started, and its password is not shown to people."""
    env = os.environ | {"REDIS_URL": "redis://:secret@127.0.0.1:1/0", "MONGODB_URL": "mongodb://127.0.0.1:2/"}
    command = [sys.executable, "-m", "writebehind", "up", "--port", "0", "--quiet", "--procfile", str(procfile)]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        lines = "".join(takewhile(lambda line: line != "Ctrl-C stops everything.\n", process.stdout))
        running = json.loads((tmp_path / ".writebehind" / "up.json").read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    assert {"web", "other"} == set(running["pids"])
    assert "redis://:***@127.0.0.1:1/0" in lines
    assert "secret" not in lines


def _up(cwd, *arguments, **variables):
    command = [sys.executable, "-m", "writebehind", "up", *arguments]
    env = os.environ | variables
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=30, check=False)


def _checked(supervisor):
    supervisor.check()
    return supervisor.pids


def _refusal(supervisor):
    try:
        supervisor.check()
    except CrashLoopError as error:
        return error
    return None


def _all_new(now, before, names):
    return now if set(now) == set(before) and all(now[name] != before[name] for name in names) else None


def _is_over(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
