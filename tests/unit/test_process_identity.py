"""Marks of processes: who sees one knows whether that very process lives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.waiting import wait_until
from writebehind.process_identity import has_ended, host_of, is_here, is_stopped, mark, pid_of, stopped_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of other processes")


def test_a_process_lives_until_it_ends():
    """Also one whose parent has not asked for its end; and not another one with its id."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        its = mark(child.pid)
        assert not has_ended(its)
        child.kill()
        wait_until(lambda: has_ended(its), "it to end", 10)
    finally:
        child.kill()
        child.wait()
    assert has_ended(its)
    assert "" == mark(child.pid)

    where, _, started = mark().rpartition(":")
    assert not has_ended(mark())
    assert has_ended(f"{where}:{int(started) + 1}")


def test_a_process_is_stopped_until_it_goes_on():
    """By a signal, and by no name: another one with its id is not."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        its = mark(child.pid)
        assert (child.pid, True, False) == (pid_of(its), is_here(its), is_stopped(its))
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(its), "it to stop", 10)
        assert not has_ended(its)
        assert not is_stopped(f"{its}1")
        assert [child.pid] == stopped_of(os.getpid()) == stopped_of(child.pid)
        child.send_signal(signal.SIGCONT)
        wait_until(lambda: not is_stopped(its), "it to go on", 10)
    finally:
        child.kill()
        child.wait()
    assert not is_stopped(its)


def test_of_others_nothing_is_known():
    """Those of another machine, container or boot, and what other hands have put there."""
    rest = mark().partition(":")[2]
    for one in (
        "",
        ":",
        f"elsewhere/4026531836:{rest}",
        *(mark().rpartition(":")[0] + f":{x}" for x in ("", "x")),
    ):
        assert not has_ended(one)
        assert not is_stopped(one)
    assert [None, None, 7] == [pid_of(one) for one in ("", "elsewhere/1:x:1", "elsewhere/1:7:1")]
    here = mark().partition(":")[0]
    assert not has_ended(f"{here}:0:1")
    assert not has_ended(f"{here}:{1 << 70}:1")
    assert not has_ended(f"{here}:-{os.getpid()}:1")


@pytest.mark.parametrize("name", ["web-2", "a b:c/d", "häuser"])
def test_a_process_of_another_host_is_judged_by_none_of_this_one(name, monkeypatch):
    """Not even where its kernel's boot is the same, as machines are copied; but one that lives here is of here."""
    ours, ended = mark(), f"{mark()}1"
    assert (socket.gethostname(), True, True) == (host_of(ours), is_here(ours), has_ended(ended))
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    theirs = f"{mark()}1"
    assert " " not in theirs
    assert (name, True) == (host_of(theirs), has_ended(theirs))
    assert not is_here(ended)
    assert not has_ended(ended)
    assert (True, False) == (is_here(ours), has_ended(ours))  # it lives here, which had another name before
    monkeypatch.undo()
    assert not is_here(theirs)
    assert not has_ended(theirs)
    assert [os.getpid(), None] == [pid_of(ours), host_of(ours.partition("/")[2])]  # as releases before noted it
