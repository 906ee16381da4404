"""A process of the service has one format on all its streams; a library user's logging is left alone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from typing import Any

import pytest

from writebehind import cli
from writebehind.logs.setup import SERVERS
from writebehind.settings.installation import load_settings

CONFIGURE = """
import logging, os, sys, threading, warnings
from writebehind.launcher import begin_log
begin_log("web")
log = logging.getLogger("writebehind.here")
"""


def run(code: str, *, form: str = "json", **env: str) -> subprocess.CompletedProcess[str]:
    """What a process of the service does that runs this code after it has set up its log."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    kept.pop("HONCHO_PROCESS_NAME", None)
    return subprocess.run(
        [sys.executable, "-c", CONFIGURE + code],
        env={**kept, "WRITEBEHIND_LOG_FORMAT": form, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The objects that it wrote, of which there are no others on either stream."""
    return [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]


#: What a process may write other than by a logger of ours: the code, and the fields that its line has then.
OTHERS = {
    "print": ("print('so', 'it is')", {"logger": "stdout", "message": "so it is", "level": "info"}),
    "stderr": ("print('so', file=sys.stderr)", {"logger": "stderr", "message": "so", "level": "error"}),
    "warning": ("warnings.warn('it is old')", {"logger": "py.warnings", "level": "warning"}),
    "others": ("logging.getLogger('kombu').error('lost')", {"logger": "kombu", "message": "lost"}),
    "root": ("logging.error('lost')", {"logger": "root", "message": "lost"}),
    "click": ("import click; click.echo('writebehind: no', err=True)", {"message": "writebehind: no"}),
    "thread": ("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", {"level": "critical"}),
    "destructor": ("type('A', (), {'__del__': lambda s: 1 / 0})()", {"level": "error"}),
    "logged": ("try: 1 / 0\nexcept ZeroDivisionError: log.exception('so')", {"message": "so", "level": "error"}),
    "unfinished": ("sys.stdout.write('so'); sys.stdout.close()", {"message": "so"}),
}


#: How a process ends: the same, and its last line.
ENDS = {
    "exit": ("sys.exit('writebehind: it is wrong')", {"level": "error", "message": "writebehind: it is wrong"}),
    "exception": ("1 / 0", {"level": "critical"}),
}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_is_written_is_json(end):
    """Each line of each stream is one object, whoever wrote it, and an error is a field."""
    said = [*OTHERS.values(), ENDS[end]]
    done = run("\n".join(code for code, _ in said))
    assert 1 == done.returncode
    for found, (code, wanted) in zip(records(done), said, strict=True):
        assert wanted.items() <= found.items()
        assert "web" == found["process"]
        assert ("1 / 0" in code) == ("exception" in found)
        assert found.get("exception", {}).get("type", "ZeroDivisionError") == "ZeroDivisionError"


def test_text_is_for_a_person():
    """An error that nobody foresaw is a line, and its trace is indented below it."""
    done = run("1 / 0", form="text")
    first, *trace = done.stderr.splitlines()
    assert " CRITICAL this process ends by an error that nobody foresaw" in first
    assert trace[-1] == "    ZeroDivisionError: division by zero"
    assert all(line.startswith("    ") for line in trace)


@pytest.mark.parametrize("level", ["debug", "info", "error"])
def test_the_level_is_a_setting(level):
    """Our own lines from that level on, those of others from warnings on, or later where that is later."""
    code = "for name in ('writebehind.a', 'web.a', 'tasks.a', 'kombu'):\n"
    code += "    for level in range(10, 60, 10): logging.getLogger(name).log(level, 'so')"
    found = records(run(code, WRITEBEHIND_LOG_LEVEL=level))
    levels = ["debug", "info", "warning", "error", "critical"]
    ours = levels[levels.index(level) :]
    for name in ("writebehind.a", "web.a", "tasks.a"):
        assert ours == [one["level"] for one in found if one["logger"] == name]
    others = [one for one in ours if one not in {"debug", "info"}]
    assert others == [one["level"] for one in found if one["logger"] == "kombu"]


@pytest.mark.parametrize(
    "wrong", [{"WRITEBEHIND_PORT": "none"}, {"WRITEBEHIND_CONFIG": "/nowhere"}, {"WRITEBEHIND_LOG_LEVEL": "loud"}]
)
def test_wrong_settings_are_told_in_the_format_all_the_same(wrong):
    """What ends a process at its start is an object of JSON as well."""
    done = run("from writebehind.cli import main; sys.argv[1:] = ['run', 'web']; main()", **wrong)
    assert done.returncode in {1, 2}
    [found] = records(done)
    assert found["message"].startswith("writebehind: ")
    assert "error" == found["level"]


def test_a_supervisor_names_the_process():
    """Several processes that do the same are told apart, without the number that is the supervisor's own."""
    [found] = records(run("log.warning('so')", HONCHO_PROCESS_NAME="maintenance.4711"))
    assert "maintenance" == found["process"]


def test_a_forked_child_logs_as_well():
    """Also where a thread of the parent is just writing, and with its own process id."""
    code = """
def chatter():
    while True: log.warning("parent")
threading.Thread(target=chatter, daemon=True).start()
for _ in range(20):
    pid = os.fork()
    if not pid:
        log.warning("child")
        os._exit(0)
    os.waitpid(pid, 0)
"""
    found = records(run(code))
    children = [one["pid"] for one in found if one["message"] == "child"]
    assert 20 == len(set(children))
    assert not {one["pid"] for one in found if one["message"] == "parent"} & set(children)


@pytest.mark.parametrize(
    "how", ["os.close(2)", "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)", "sys.stderr = None"]
)
def test_logging_is_no_reason_to_fail(how):
    """Where nothing can be written, the process goes on."""
    done = run(f"{how}\nlog.error('so'); log.error('%d', 'so'); os.write(1, b'on')")
    assert "on" == done.stdout.splitlines()[-1]
    assert 0 == done.returncode


def test_a_line_from_a_signal_handler_is_written():
    """It may interrupt the writing of another line, by the same thread."""
    code = """
import signal
signal.signal(signal.SIGALRM, lambda *_: log.warning("signal"))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for _ in range(3000): log.warning("main")
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    found = [one["message"] for one in records(run(code))]
    assert 3_000 == found.count("main")
    assert "signal" in found


def test_a_library_user_keeps_their_logging(tmp_path):
    """Neither the import, nor a pipeline, nor a Celery or Flask application with it, changes anything of it."""
    code = """
import logging, sys, threading, warnings
from celery import Celery
from flask import Flask
def state():
    names = ["", "writebehind", "celery", "py.warnings", "writebehind.access"]
    loggers = [logging.getLogger(name) for name in names]
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
    hooks += (sys.stdout, sys.stderr)
    return [(one.level, list(one.handlers), list(one.filters), one.propagate) for one in loggers], hooks
before = state()
import writebehind
from writebehind import connect, load_settings
with connect(load_settings()) as pipeline:
    from writebehind.celery import FlushPublisher, install
    from writebehind.flask import Writebehind
    shop = Celery("shop", broker=load_settings().broker, set_as_current=False)
    shop.conf.broker_transport_options = {"visibility_timeout": 7200}
    install(shop, load_settings())
    Flask("a")
    pipeline.listener()
assert state() == before, (state(), before)
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    env |= {"WRITEBEHIND_LOG_FORMAT": "json", "WRITEBEHIND_LOG_LEVEL": "debug"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("name", SERVERS)
def test_a_command_gives_the_level_back(monkeypatch, name):
    """Within a process that goes on, the loss of a server is told after it as it was before."""
    log, seen = logging.getLogger(name), []
    monkeypatch.setattr(cli, "cli", lambda: seen.append(log.level))
    before = log.level
    cli.main()
    assert [logging.ERROR] == seen
    assert before == log.level


def test_nobody_else_sets_up_a_log():
    """Loading settings, as commands do, changes nothing in this process either."""
    before = (list(logging.getLogger().handlers), sys.excepthook, warnings.showwarning)
    load_settings(log_format="json")
    assert before == (list(logging.getLogger().handlers), sys.excepthook, warnings.showwarning)


@pytest.mark.parametrize(("command", "ends_with"), [("status", 2), ("worker-alive", 1)])
def test_a_command_says_once_that_redis_is_away(command, ends_with, tmp_path):
    """In its own words: no line of a log beside them. A status ends with how bad that is."""
    away = {"REDIS_URL": "redis://127.0.0.1:1/0", "MONGODB_URL": "mongodb://127.0.0.1:2/"}
    env = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    done = subprocess.run(
        [sys.executable, "-m", "writebehind", *command.split()],
        env=env | away,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ends_with == done.returncode
    assert 1 == done.stderr.count("Redis does not answer"), done.stderr
