"""Processes that are started again, given up, and ended with all that they have started."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from types import SimpleNamespace

import psutil
import pytest

from tests.integration.supervisor.conftest import STUBBORN, _is_over
from tests.waiting import slowness, wait_until
from writebehind.local import supervisor as supervision
from writebehind.local.output import FileOutput
from writebehind.local.supervisor import CrashLoopError, Supervisor


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
    assert "one was ended by SIGKILL, starting it again" in (tmp_path / "system.log").read_text()


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
    monkeypatch.setattr(supervision, "time", SimpleNamespace(monotonic=lambda: 0.0))
    process = supervision.Process("one", f"exit {status}", os.environ, lambda *_, **__: None)
    delays = []
    for _ in range(10):
        process.start()
        process.group.leader.wait()
        process.note_end()
        delays.append(process.due)

    assert sorted(delays) == delays
    assert (0.2, longest) == (delays[0], delays[-1])


def _checked(supervisor):
    supervisor.check()
    return supervisor.pids


def _refusal(supervisor):
    try:
        supervisor.check()
    except CrashLoopError as error:
        return error
    return None
