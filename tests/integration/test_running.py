"""Commands that nobody told of a server find the system that runs here, say so, and touch nobody else's."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import writebehind
from tests.integration.conftest import put
from writebehind.cli import COMMANDS as EVERY
from writebehind.cli import cli
from writebehind.cli.status import shown
from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.last_known import LastKnown
from writebehind.process_identity import mark
from writebehind.redis.wire import Wire
from writebehind.settings.installation import RUNS_IN
from writebehind.settings.names import FLUSH_QUEUE, QUEUES
from writebehind.settings.running import DATA_DIR, METRICS, STATE_FILE, find, process_of

#: Each command that acts on an installation, with what else it needs; not those that are processes of one.
COMMANDS = {
    "status": [],
    "doctor": [],
    "init": [],
    "drain": [],
    "repartition": ["4"],
    "adopt": [],
    "rebalance": [],
    "reconcile": ["--all"],
    "warm": [],
    "hot-keys": [],
    "consistency": [],
    "conflicts": [],
    "dead-letters": ["list"],
    "keys": ["list"],
    "pause": [],
    "resume": [],
}
PROCESSES = {"up", "run", "demo", "settings", "metrics", "plan", "listen", "worker-alive"}


def only_here(calls):
    """Fails where this thread asks Redis; others may be left of what ran before."""

    def asked(*given):
        if threading.current_thread() is threading.main_thread():
            pytest.fail("somebody's Redis")
        return calls(*given)

    return asked


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def running(here, settings, monkeypatch) -> dict[str, object]:
    """A system that runs in this directory, on the servers of this test."""
    monkeypatch.setenv("WRITEBEHIND_PARTITIONS", str(settings.partitions))
    state = {
        "redis_url": settings.redis_url,
        "mongodb_url": settings.mongodb_url,
        "mongodb_database": settings.mongodb_database,
        "pid": os.getpid(),
    }
    write(state)
    return state


def write(state: object) -> None:
    Path(DATA_DIR).mkdir(exist_ok=True)
    (Path(DATA_DIR) / STATE_FILE).write_text(json.dumps(state))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of other processes")
def test_a_system_that_ran_elsewhere_does_not_run_here(running):
    """Its directory may be another machine's too, or be of before a boot: its id is another process's here."""
    assert "running" == find().origin
    write(running | {"process": mark()})
    assert "running" == find().origin
    for one in (f"elsewhere/boot/1:{os.getpid()}:1", f"{mark()}1"):
        write(running | {"process": one})
        assert "defaults" == find().origin


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of other processes")
def test_a_system_that_runs_is_found_after_its_machine_got_another_name(running, monkeypatch):
    """As by DHCP; where it has ended nothing runs."""
    write(running | {"process": mark()})
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert "running" == find().origin
    write(running | {"process": f"{mark()}1"})
    assert "defaults" == find().origin


def call(command: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [command, *arguments])


def test_every_command_is_tried_here():
    assert set(EVERY) == {*COMMANDS, *PROCESSES}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_finds_the_system_that_runs_here(running, pipeline, command):
    """With no variable set it acts on the servers of `writebehind up`, and says which, on standard error."""
    if command != "repartition":
        pipeline.check()

    told = call(command, *COMMANDS[command])

    servers = f"{running['redis_url']} and {running['mongodb_url']}, database {running['mongodb_database']}"
    assert told.stderr.startswith(f"on {servers} (the system that runs in {Path(DATA_DIR).absolute()})\n")
    assert "the system that runs" not in told.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_touches_no_server_that_nobody_named(here, monkeypatch, command):
    """Where nothing runs and nothing is set, it says what to do: who listens on the usual port is not known."""
    monkeypatch.setattr(Wire, "calls", only_here(Wire.calls))

    told = call(command, *COMMANDS[command])

    assert isinstance(told.exception, ConfigurationError)
    assert str(told.exception).startswith("no server is named: set REDIS_URL and MONGODB_URL, or run this where")
    assert "" == told.stdout


def test_a_command_says_how_to_start_what_does_not_run(here):
    """Where a system ran, and runs no longer, that is what to do."""
    (here / DATA_DIR).mkdir()

    told = call("status")

    assert isinstance(told.exception, ConfigurationError)
    assert "does not run: start it with `make run` or `writebehind up`" in str(told.exception)
    assert "wait" not in str(told.exception)


def test_a_command_says_what_waits_where_nothing_runs(here):
    """It is in Redis's file, and nowhere else."""
    (metrics := here / DATA_DIR / METRICS).mkdir(parents=True)
    LastKnown(metrics).note(pending=5, pending_bytes=500, dead_letters=0)
    waiting = f". At least 5 documents wait in Redis's file in {DATA_DIR}/redis: do not delete it (at "
    assert waiting in str(call("status").exception)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("given", "missing"), [("REDIS_URL", "MONGODB_URL"), ("MONGODB_URL", "REDIS_URL")])
def test_a_command_with_one_server_asks_for_the_other(running, monkeypatch, command, given, missing):
    """Where one of the two is set, it takes for the other neither the usual port nor the system that runs here."""
    monkeypatch.setenv(given, running[given.lower()])
    monkeypatch.setattr(Wire, "calls", only_here(Wire.calls))

    told = call(command, *COMMANDS[command])

    assert isinstance(told.exception, ConfigurationError)
    assert str(told.exception).startswith(f"{given} is set and {missing} is not: set both")


def test_what_is_set_wins(running, monkeypatch):
    """A command with servers of its own does not ask for the system that runs here."""
    monkeypatch.setenv("REDIS_URL", "redis://other:6379/0")
    found = find()

    assert ("settings", "redis://other:6379/0") == (found.origin, found.settings.redis_url)
    assert "redis://other:6379/0 and mongodb://127.0.0.1:27017/, database writebehind" == str(found)


def test_a_database_that_is_set_is_meant(running, monkeypatch):
    """The system that runs here names the servers, and the database only where nothing else does."""
    monkeypatch.setenv("MONGODB_DATABASE", "new")
    found = find()

    assert ("running", running["redis_url"]) == (found.origin, found.settings.redis_url)
    assert "new" == found.settings.mongodb_database


def test_a_broker_beside_redis_is_found_too(running, monkeypatch):
    """What a command wants done is sent to where workers look for it; a broker that is set is meant."""
    write(running | {"broker_url": "amqp://broker:5672//"})
    assert "amqp://broker:5672//" == find().settings.broker

    monkeypatch.setenv("BROKER_URL", "amqp://other:5672//")
    assert "amqp://other:5672//" == find().settings.broker


def test_a_program_finds_the_system_as_well(running, pipeline):
    """`connect()` without settings works on it."""
    pipeline.collection("users").put("ada", {"name": "Ada"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WRITEBEHIND_ALLOW_UNLISTED", "true")
        with writebehind.connect() as found:
            assert {"_id": "ada", "name": "Ada"} == found.collection("users").get("ada")


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(lambda state: state | {"pid": 2**22 + 1}, id="killed"),
        pytest.param(lambda state: state | {"pid": -1}, id="no process"),
        pytest.param(lambda state: state | {"pid": 10**40}, id="no number of a process"),
        pytest.param(lambda state: state | {"pid": None}, id="null"),
        pytest.param(lambda _: {}, id="empty"),
        pytest.param(lambda _: [], id="a list"),
        pytest.param(lambda _: "redis", id="a text"),
        pytest.param(lambda state: {"pid": state["pid"]}, id="no servers"),
    ],
)
def test_what_a_system_left_behind_is_no_system(running, state):
    """A state file whose system was killed, or that is none, counts as nothing."""
    write(state(running))
    assert "defaults" == find().origin


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("redis_url", "redis://:***@cache:6379/0"),
        ("redis_url", "redis://cache:6379/0?password=***"),
        ("mongodb_url", "mongodb://app:***@db/"),
        ("broker_url", "amqp://app:***@broker:5672//"),
    ],
)
def test_a_password_that_is_not_told_has_to_be_set(running, name, url):
    """A system on servers with passwords does not write them: the error says which variable to set."""
    write(running | {name: url})
    with pytest.raises(ConfigurationError, match=name.upper()) as caught:
        find()

    assert url in str(caught.value)


def test_the_status_is_that_of_the_api(run, pipeline):
    """`--json` prints the figures of `/admin/status` in one line, and without it a person reads them."""
    put(pipeline, 3)
    figures = orjson.loads(run("status", "--json").stdout)
    told = run("status").stdout

    assert (3, 0) == (figures["pending"], figures["dead_letters"])
    assert figures.keys() == pipeline.status().keys()
    assert "3 documents, the oldest for" in told
    assert "none: nobody persists what is pending" in told


def test_a_status_ends_as_its_worst_condition(run, pipeline):
    """0 is well, 1 a warning, 2 critical; as the doctor does, also for a program that reads JSON."""
    assert 2 == run("status").exit_code  # nobody consumes `flush`
    pipeline.store.workers.record_proof("w@here", [FLUSH_QUEUE])
    assert 1 == run("status").exit_code
    pipeline.store.workers.record_proof("w@here", QUEUES)
    assert ([], 0) == ((told := run("status", "--json")) and orjson.loads(told.stdout)["to_do"], told.exit_code)


def test_whoever_persists_without_a_worker_is_told(run, pipeline):
    """As `writebehind drain` does: it is not nobody, and when all is safe is known."""
    put(pipeline, 1)
    [partition] = [one.partition for one in pipeline.store.metrics.backlog() if one.pending]
    stopped = pipeline.status()
    pipeline.store.pending.claim(partition, "drain", lease_ms=600_000, limit=0, early=True)
    found, told = pipeline.status(), run("status").stdout

    assert (0, None) == (stopped["partitions_at_work"], stopped["seconds_until_safe"])
    assert (1, 0, ["flush"]) == (found["partitions_at_work"], found["workers"], found["unconsumed"][:1])
    assert found["seconds_until_safe"] > 0
    assert "none, but a drain, or a library, flushes 1 partition" in told


def test_watching_outlives_a_redis_that_does_not_answer(pipeline, monkeypatch):
    """With `--watch` an outage is a line among the others, and Ctrl-C ends it well."""
    looks = [pipeline.status(), RedisUnavailableError("gone"), pipeline.status(), KeyboardInterrupt()]

    def look(_: object) -> object:
        one = looks.pop(0)
        if isinstance(one, BaseException):
            raise one
        return one

    for name, value in {"REDIS_URL": pipeline.settings.redis_url, "MONGODB_URL": "mongodb://h/"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("writebehind.pipeline.Pipeline.status", look)
    told = call("status", "--watch", "--json", "--interval", "0.1")

    assert 0 == told.exit_code
    lines = [orjson.loads(line) for line in told.stdout.splitlines()]
    assert [False, True, False] == ["error" in line for line in lines]


#: Looks at what readers see, of which one in a thousand was wrong.
WINDOWS = {
    "1": {"looks": 1_000, "wrong": 1, "ratio": 0.999, "nines": 3.0, "nines_from": 2.3},
    "10": {"looks": 900, "wrong": 0, "ratio": 1.0, "nines": None, "nines_from": 2.4},
}


def test_processes_of_a_system_elsewhere_know_its_servers(tmp_path, monkeypatch):
    """Its data directory is another than the default: what to do about a server names that one's process."""
    redis, mongodb = "redis://:x@127.0.0.1:1/0", "mongodb://127.0.0.1:2/"
    about = {"redis_url": redis, "mongodb_url": mongodb, "mongodb_database": "writebehind"}
    pids = {"redis": os.getppid(), "mongodb": os.getpid()}
    (tmp_path / STATE_FILE).write_text(json.dumps(about | {"pid": os.getpid(), "pids": pids}))
    assert process_of("redis", redis) is None
    monkeypatch.setenv(RUNS_IN, str(tmp_path))
    assert writebehind.load_settings()
    assert pids == {"redis": process_of("redis", redis), "mongodb": process_of("mongodb", mongodb)}


def test_what_is_wrong_is_red(pipeline):
    """A person sees at once what is late, refused, dead, or not there at all."""
    listener = {"lag_s": 0.2, "events": 5, "alive_seconds_ago": 0.1, "heard_seconds_ago": 0.1, "error": None}
    listener |= {"pid": 7, "is_stopped": False, "is_silent": False}
    good = pipeline.status() | {"workers": 2, "unconsumed": [], "listener": listener}
    bad = good | {
        "oldest_pending_seconds": 4000.0,
        "dead_letters": 2,
        "safe": False,
        "seconds_until_safe": None,
        "not_safe_because": "2 dead letters",
        "dead_letters_by_collection": {"users": 2},
        "breaker": "open",
        "breaker_reason": "no answer",
        "mongodb_error": "no answer",
        "workers": 0,
        "unconsumed": ["flush"],
        "listener": None,
        "consistency": good["consistency"] | {"checked": 10, "equal": 9, "ratio": 0.9, "windows": WINDOWS},
        "periodic": {
            "sweep": {"seconds_ago": 300.0, "seconds": 0.1, "is_late": False, "outcome": {}, "error": "[broken]"}
        },
    }
    red = {"pending", "dead letters", "MongoDB", "workers", "queues", "listener", "reconciled", "sweep"}
    red |= {"readers see", "safe"}

    assert set() == red_of(good)
    assert red == red_of(bad)
    assert {"MongoDB"} == red_of(good | {"mongodb_error": "no answer"})
    silent = {"silent_workers": [{"worker": "w@h", "queues": ["flush"], "seconds_ago": 40.0}]}
    silent["silent_workers"][0] |= {"pid": 7, "is_stopped": True}
    assert {"workers"} == red_of(good | silent)
    assert "w@h (process 7) has done nothing for 40.0 s, and is stopped" in " ".join(
        text_of(good | silent).split()
    )
    known = {"condition": "worker", "severity": "warning"}
    to_do = {
        "to_do": [{"about": "worker w@h", "found": "it stopped", "advice": "go on", "runbook": "its page"} | known]
    }
    assert "worker w@h: go on; more at its page" in text_of(good | to_do)
    ended = {"ended_workers": [{"worker": "w@h", "queues": ["flush"], "seconds_ago": 40.0}]}
    assert set() == red_of(good | ended)
    busy = {"busy_workers": [{"worker": "w@h", "queues": ["flush"], "seconds": 40.0}]}
    assert set() == red_of(good | busy)
    unsafe = {"safe": False, "seconds_until_safe": None, "seconds_until_drained": None, "pending": 9}
    unsafe |= {"not_safe_because": "nobody is at work", "pending_bytes": 5_000}
    assert {"safe"} == red_of(good | unsafe)
    assert {"refused"} == red_of(good | {"seconds_until_cap": 90.0, "cap": "memory"})
    assert {"refused"} == red_of(good | {"seconds_until_cap": 0.0, "cap": "pending"})
    some = {"seconds_until_cap": 0.0, "cap": "pending", "full_partitions": [*range(60)], "partitions": 64}
    assert "new documents in 60 of 64 partitions now: too much is pending" in text_of(good | some)
    assert {"caps"} == red_of(good | {"caps": good["caps"] | {"differ": True}})
    never = unsafe | {"seconds_until_drained": 2.0, "not_safe_because": "2 dead letters"}
    assert {"safe"} == red_of(good | never)
    soon = {"safe": False, "seconds_until_safe": 3.0, "seconds_until_drained": 3.0}
    assert set() == red_of(good | soon | {"broker": {"queues": {"flush": 3}, "seconds_ago": 1}})
    outrun = soon | {"grows_per_second": 360.0, "flushed_per_second": 40.0}
    assert {"safe", ""} == red_of(good | outrun)  # on two lines
    more = "more comes than goes: 400 documents in a second, of which 40 are persisted"
    assert more in " ".join(text_of(good | outrun).split())
    for wrong in (
        {"error": "no answer"},
        {"alive_seconds_ago": 60.0, "is_silent": True},
        {"heard_seconds_ago": 12.0},
        {"heard_seconds_ago": None},
        {"is_stopped": True, "is_silent": True},
    ):
        assert {"listener"} == red_of(good | {"listener": listener | wrong})
    assert {"no status"} == red_of(ConfigurationError("another one's"))
    early = {
        "warm": {
            "seconds_ago": 1.0,
            "seconds": 0.1,
            "is_late": False,
            "outcome": {"stopped": "no MongoDB"},
            "error": None,
        }
    }
    assert {"warm"} == red_of(good | {"periodic": early})


def test_a_status_says_how_much_would_be_lost(pipeline):
    """What a loss of Redis takes now is one figure, and the time of a run is told once."""
    warm = {
        "seconds_ago": 1.0,
        "seconds": 0.1,
        "is_late": False,
        "outcome": {"looked_at": 3, "seconds": 0.123},
        "error": None,
    }
    figures = pipeline.status() | {"pending": 3, "dead_letters": 2, "periodic": {"warm": warm}}
    with (console := Console(width=200)).capture() as printed:
        console.print(shown(figures))

    assert re.search(r"only in Redis +5 documents", printed.get())
    assert "looked at 3" in printed.get()
    assert "0.123" not in printed.get()


def test_a_worker_is_alive_by_the_queues_that_it_consumes(running, pipeline):
    """Another one of the same host is no reason: a queue is asked for by its name."""
    name = f"worker@{socket.gethostname()}"
    assert 1 == call("worker-alive").exit_code
    pipeline.store.workers.record_proof(name, ["maintenance"])
    pipeline.store.workers.record_proof("worker@elsewhere", ["flush"])

    assert 0 == call("worker-alive").exit_code
    assert 0 == call("worker-alive", "--queue", "maintenance").exit_code
    assert 1 == call("worker-alive", "--queue", "maintenance", "--queue", "flush").exit_code


def test_totals_are_shown(pipeline):
    """What became of the writes, and what waits in the broker."""
    pipeline.collection("users").put("ada", {})
    pipeline.collection("users").put("ada", {})
    console = Console(width=120)
    with console.capture() as captured:
        console.print(
            shown(pipeline.status() | {"broker": {"queues": {"flush": 3, "refresh": 0}, "seconds_ago": 1}})
        )
    assert "2 acknowledged: 1 coalesced" in captured.get()
    assert "messages wait: flush 3" in captured.get()


def red_of(figures: object) -> set[str]:
    """How the lines begin that are shown in red."""
    console = Console(force_terminal=True, color_system="standard", width=120)
    with console.capture() as captured:
        console.print(shown(figures))
    lines = [line for line in captured.get().splitlines() if "\x1b[31m" in line or "\x1b[1;31m" in line]
    return {re.split(r"  |:", strip(line))[0] for line in lines}


def text_of(figures: object) -> str:
    """The status as it is shown, without colours."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(shown(figures))
    return captured.get()


def strip(line: str) -> str:
    """A line without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
