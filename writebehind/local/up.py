"""Everything on one machine: the servers that nothing else is configured for, and the Procfile's processes."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from writebehind.errors import ConfigurationError, MongoUnavailableError, UnavailableError, WritebehindError
from writebehind.last_known import LastKnown
from writebehind.local.addresses import Addresses
from writebehind.local.embedded import EmbeddedError, lock_directory
from writebehind.local.example import accepts_any_collection, example_path
from writebehind.local.output import (
    SUPERVISOR,
    ConsoleOutput,
    FileOutput,
    JsonOutput,
    private_directory,
    private_file,
)
from writebehind.local.own_servers import OwnServers
from writebehind.local.procfile import default_procfile, read_procfile
from writebehind.local.supervisor import Interruptions, Supervisor
from writebehind.local.watching import ApiWatch, Places, StoppedWatch
from writebehind.operations.doctor import check_start
from writebehind.operations.indexes import create_lookup_indexes
from writebehind.operations.probing import ask_api, silences_of_api, wants_certificate
from writebehind.operations.running_here import SAVE
from writebehind.pipeline import Pipeline
from writebehind.process_identity import mark, stopped_of
from writebehind.settings.installation import RUNS_IN, Settings, load_settings
from writebehind.settings.running import DATA_DIR, METRICS, STATE_FILE, check_both_named, servers_of, state_of
from writebehind.settings.urls import redacted

READY_WITHIN_S = 60.0
POLL_S = 0.1
#: How long workers are waited for once the API is ready, seconds: whoever looks then is to see them.
WORKERS_WITHIN_S = 15.0
#: How long an answer of the API is waited for, seconds.
API_PATIENCE_S = 3.0
#: Between two looks whether the data directory is there, and whether processes are stopped, seconds.
LOOK_EVERY_S = 2.0
#: The names in a Procfile of the processes that have an address.
API, FLOWER, EXPORTER = "web", "flower", "exporter"
#: A line of a Procfile that starts a worker.
_WORKER = re.compile(r"\b(run|celery\b.*)\s+worker\b")
#: Without them nothing is served: one that fails before the system is ready ends it.
ESSENTIAL = {API}


class NotReadyError(WritebehindError):
    """The system does not become ready."""


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a run of the system."""

    data_dir: Path = Path(DATA_DIR)
    port: int | None = None
    procfile: Path | None = None
    servers_only: bool = False
    appendfsync: str = "everysec"
    quiet: bool = False
    console: TextIO = field(default_factory=lambda: sys.stdout)


def up(options: Options, announce: Callable[[dict[str, Any]], None]) -> None:
    """Run the system until SIGINT, SIGTERM or SIGHUP. Call it in the main thread.

    Args:
        options: how to run it.
        announce: takes a description of where everything is, once the API is ready, or, without one, all runs.

    Raises:
        ConfigurationError: a setting is wrong, one of the two servers is named alone, or the port is taken.
        EmbeddedError: a server does not start, or the data directory is in use.
        CrashLoopError: the API's process fails whenever it is started.
        NotReadyError: it does not become ready in time.
    """
    settings = load_settings()
    check_both_named(settings, "or neither for embedded servers: data in a Redis belongs to one MongoDB")
    commands = _commands(settings, options)
    with Interruptions() as interruptions, ExitStack() as undo:
        # The directory may be relative, and the processes get their paths from here.
        data_dir = options.data_dir.absolute()
        undo.callback(os.close, _lock(data_dir))
        system = System(settings, options, data_dir, commands)
        undo.callback(system.stop, hurry=lambda: interruptions.count > 1)
        system.start()
        deadline = time.monotonic() + READY_WITHIN_S
        while not interruptions.count and (refusal := system.refusal()):
            system.check()
            if time.monotonic() >= deadline:
                raise NotReadyError(f"the system is not ready after {READY_WITHIN_S:.0f} s: {refusal}")
            time.sleep(POLL_S)
        if not interruptions.count:
            system.has_started()
            until = time.monotonic() + WORKERS_WITHIN_S
            while not interruptions.count and time.monotonic() < until and system.awaits_workers():
                system.check()
                time.sleep(POLL_S)
            # Who takes it may take nothing: that holds up nobody else.
            about = system.description()
            threading.Thread(target=announce, args=(about,), name="announce", daemon=True).start()
        while not interruptions.count or (system.is_gone and interruptions.count == 1 and interruptions.is_typed):
            system.check(asked_to_stop=bool(interruptions.count))
            time.sleep(POLL_S)


class System:
    """The servers and processes of one `up`."""

    def __init__(self, settings: Settings, options: Options, data_dir: Path, commands: Mapping[str, str]) -> None:
        """Choose ports and servers; nothing is started yet."""
        self._settings = settings
        self._data_dir = data_dir
        self._metrics_dir = settings.metrics_dir or data_dir / METRICS
        self._at = Addresses(settings, port=options.port, serves=bool(commands))
        self._servers = OwnServers(settings, data_dir, options.appendfsync)
        self._commands = commands
        try:
            as_json = settings.log_format == "json"
            logs = FileOutput(data_dir / "log", json=as_json) if options.quiet else None
        except OSError as error:
            raise EmbeddedError(f"the data directory cannot be used: {error}") from error
        console = JsonOutput if as_json else ConsoleOutput
        self._output = logs or console(commands, options.console)
        self._supervisor: Supervisor | None = None
        self._places = Places(())
        self._stopped = StoppedWatch(self._stopped_beside_api, self._say)
        self._look_at = 0.0
        #: Whether the data directory was deleted, or moved, while servers have files open in it.
        self.is_gone = False
        self._is_warned = False
        self._stopping = threading.Event()
        self._written: tuple[dict[str, int], dict[str, str]] = {}, {}

    @property
    def url(self) -> str:
        """The address of the API."""
        return self._at.url

    def start(self) -> None:
        """Start the servers, then the processes.

        Raises:
            ConfigurationError: the processes could not start with these settings; none was started.
            EmbeddedError: a server does not start.
        """
        self._servers.start()
        self._places = Places([self._data_dir, *(self._data_dir / name for name in self._servers.urls)])
        self._prepare()
        self._supervisor = Supervisor(
            self._commands, self._environment(), self._output, essential=ESSENTIAL & self._commands.keys()
        )
        self.check()

    def has_started(self) -> None:
        """Note that the API is ready: from now on only a signal ends the system."""
        if self._supervisor is not None:
            self._supervisor.has_started()
        if API in self._commands:
            threading.Thread(target=self._watch_api, name="watch-api", daemon=True).start()

    def check(self, *, asked_to_stop: bool = False) -> None:
        """Start what died anew, and look after the data directory. Call it a few times a second.

        Args:
            asked_to_stop: whether somebody has asked for it, and hears why it does not end.

        Raises:
            CrashLoopError: the API's process fails whenever it is started, and never was ready.
        """
        if self._supervisor is None:
            return
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            self._look_after_directory(self._supervisor)
            self._stopped.look()
        if asked_to_stop and not self._is_warned:
            self._is_warned = True
            self._say("not stopped: what is only in the deleted files would be lost; Ctrl-C again stops it anyhow")
        self._servers.check(self._supervisor.say, LastKnown(self._metrics_dir, of=self._names))
        self._supervisor.check()
        if (self._pids(), self._supervisor.failing) != self._written:
            self._write_state(self._supervisor)

    def _look_after_directory(self, supervisor: Supervisor) -> None:
        """Say once that it is gone, and have a new one in which commands find the system."""
        if self.is_gone or not self._servers:
            return
        if not (gone := self._places.gone()):
            return
        self.is_gone = True
        for place in (self._data_dir, self._metrics_dir, *(self._data_dir / name for name in ("flower", "log"))):
            with suppress(OSError):
                private_directory(place)
        supervisor.say(
            f"{', '.join(map(str, gone))} is not there any more, deleted or moved, and the servers go on with "
            f"files that may end with them: do not stop me. {SAVE}"
        )
        self._write_state(supervisor)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop the processes, then the servers that they need, which nothing hurries."""
        self._stopping.set()
        if self._supervisor is None:  # what keeps it from starting is all that there is to say
            self._servers.stop()
            return
        kept = "what was in deleted files is lost" if self.is_gone else "nothing that was acknowledged is lost"
        self._say(f"stopping; Ctrl-C again kills the processes, and {kept}")
        self._supervisor.stop(hurry=self._told(hurry))
        is_final = self._note_at_stake()
        self._servers.stop()
        with suppress(OSError):
            (self._data_dir / STATE_FILE).unlink(missing_ok=True)
        stays = f"the data stays in {self._data_dir}" if self._servers else "the servers that were given go on"
        if self.is_gone:
            stays = f"the data was in {self._data_dir}: what was deleted there is lost, what was moved is not"
        last_known = LastKnown(self._metrics_dir, of=self._names)
        self._say(f"stopped; {stays}{last_known.told(is_final=is_final)}")
        if self.is_gone:  # of no file any more
            with suppress(OSError):
                last_known.forget()
        self._output.finish(within_s=1)

    def refusal(self) -> str:
        """The reason why the API, or, without one, any process is not ready; empty when they are."""
        if API in self._commands:
            refusal = self._refusal_of_api()
            return refusal and f"{self.url}: {refusal}"
        missing = sorted(self._commands.keys() - self._pids().keys())
        return f"{', '.join(missing)} does not run" if missing else ""

    def awaits_workers(self) -> bool:
        """Whether the API has not seen as many workers yet as are started here, and do not fail."""
        started = {name for name, command in self._commands.items() if _WORKER.search(command)}
        failing = self._supervisor.failing if self._supervisor is not None else {}
        if API not in self._commands or not (started := started - failing.keys()):
            return False
        try:
            _, body = ask_api(self._settings, self._at.host, self._at.api, "/readyz", timeout_s=2)
            seen = json.loads(body)["workers"]
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):  # of another application
            return False
        return isinstance(seen, int) and seen < len(started)

    def _watch_api(self) -> None:
        """Look at the API now and then until the system stops."""

        def ask() -> list[str]:
            return silences_of_api(self._settings, self._at.host, self._at.api, timeout_s=API_PATIENCE_S)

        watch = ApiWatch(ask, lambda: stopped_of(self._pids().get(API, 0)), self._say_of_api)
        while not self._stopping.wait(watch.due_s):
            watch.look()

    def _stopped_beside_api(self) -> dict[str, list[int]]:
        """The processes that are stopped, by name; those of the API have a watch of their own."""
        return {name: stopped_of(pid) for name, pid in self._pids().items() if name != API}

    def _say_of_api(self, line: str) -> None:
        if not self._stopping.is_set():
            self._say(line)

    def _refusal_of_api(self) -> str:
        try:
            status, body = ask_api(self._settings, self._at.host, self._at.api, "/readyz", timeout_s=2)
        except (OSError, http.client.HTTPException) as error:
            return "" if wants_certificate(self._settings, error) else str(error)
        return "" if status == http.HTTPStatus.OK else f"HTTP {status} {body.strip()}"

    def description(self) -> dict[str, Any]:
        """The addresses of what is run, and what fails whenever it is started; without passwords."""
        about: dict[str, Any] = {}
        if API in self._commands:
            about["url"] = self.url
            about["console"] = f"{self.url}/console"
            about["docs"] = f"{self.url}/docs"
            about["status"] = f"{self.url}/admin/status"
            about["example"] = f"{self.url}/v1/{example_path(self._settings)}"
        if FLOWER in self._commands:
            about["flower"] = self._at.flower_url
        if EXPORTER in self._commands:
            about["metrics"] = self._at.metrics_url
        if self._settings.broker_url:
            about["broker_url"] = redacted(self._settings.broker_url)
        return about | {
            "redis_url": redacted(self._servers.redis_url),
            "mongodb_url": redacted(self._servers.mongodb_url),
            "mongodb_database": self._settings.mongodb_database,
            "embedded": self._servers.titles,
            "data_dir": str(self._data_dir),
            "metrics_dir": str(self._metrics_dir),
            "pid": os.getpid(),
            "process": mark(),
            "pids": self._pids(),
            "failing": self._supervisor.failing if self._supervisor else {},
            "is_gone": self.is_gone,
        }

    def _say(self, line: str) -> None:
        self._output(SUPERVISOR, line.encode())

    def _told(self, hurry: Callable[[], bool]) -> Callable[[], bool]:
        """The same, and say so when it hurries."""

        def hurries() -> bool:
            if now := hurry():
                self._say("killing the processes that are left; the servers end in order")
            return now

        return hurries

    def _environment(self) -> dict[str, str]:
        programs = dict.fromkeys([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
        return {
            **os.environ,
            "PATH": os.pathsep.join([*programs, os.environ.get("PATH", os.defpath)]),
            "PYTHONUNBUFFERED": "1",  # lines show when they are written
            "REDIS_URL": self._servers.redis_url,
            "MONGODB_URL": self._servers.mongodb_url,
            **({RUNS_IN: str(self._data_dir.absolute())} if self._servers else {}),
            "WRITEBEHIND_PORT": str(self._at.api),
            "WRITEBEHIND_FLOWER_PORT": str(self._at.flower),
            "WRITEBEHIND_FLOWER_DB": str(self._settings.flower_db or self._data_dir / "flower" / "state"),
            "WRITEBEHIND_EXPORTER_PORT": str(self._at.exporter),
            "WRITEBEHIND_METRICS_DIR": str(self._metrics_dir),
            "WRITEBEHIND_STATE_DIR": str(self._metrics_dir),
            "WRITEBEHIND_ALLOW_UNLISTED": json.dumps(accepts_any_collection(self._settings)),
        }

    def _prepare(self) -> None:
        """See once what each process looks at when it starts, and have what the embedded servers need."""
        if not self._commands:
            return
        urls = {"redis_url": self._servers.redis_url, "mongodb_url": self._servers.mongodb_url}
        if self._settings.broker_url or not self._servers:  # else it is the Redis that is started here
            from writebehind.celery.publisher import FlushPublisher  # noqa: PLC0415 - slow to import

            FlushPublisher(self._settings).close()
        with Pipeline(self._settings.model_copy(update=urls)) as pipeline:
            with suppress(UnavailableError):  # the processes say so, and wait for Redis
                check_start(pipeline)
            if API in self._commands:  # which would end by it, start by start
                from writebehind.flask.access import Access  # noqa: PLC0415 - slow to import

                Access(pipeline.keyring, is_open=pipeline.settings.is_open).check()
            if self._servers:  # of others' databases it is for `writebehind init` to have them
                self._create_indexes(pipeline)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """The names of the servers of this system."""
        urls = {"redis_url": self._servers.redis_url, "mongodb_url": self._servers.mongodb_url}
        return servers_of(self._settings.model_copy(update=urls), self._data_dir if self._servers else None)

    def _note_at_stake(self) -> bool:
        """Note what stays in Redis alone, after all that may have changed it; whether that was seen."""
        if not self._servers:
            return False
        changes = {
            "redis_url": self._servers.redis_url,
            "mongodb_url": self._servers.mongodb_url,
            "metrics_dir": None,
        }
        try:
            with Pipeline(self._settings.model_copy(update=changes)) as pipeline:
                pipeline.last_known.keep_in(self._metrics_dir, of=self._names)
                pipeline.note_at_stake()
        except WritebehindError as error:
            self._say(f"what stays in Redis alone is as it was seen last: {error}")
            return False
        return True

    def _create_indexes(self, pipeline: Pipeline) -> None:
        """Have the indexes that lookups want. Where one cannot be had, documents are looked up without it."""
        try:
            for one in create_lookup_indexes(pipeline):
                if one.why:
                    self._say(one.why)
        except MongoUnavailableError as error:
            self._say(f"no index could be created, all else goes on: {error}")

    def _pids(self) -> dict[str, int]:
        return self._servers.pids | (self._supervisor.pids if self._supervisor else {})

    def _write_state(self, supervisor: Supervisor) -> None:
        new = self._data_dir / f"{STATE_FILE}.new"
        self._written = self._pids(), supervisor.failing
        # Commands beside the system need the passwords of its servers; those of others', they are told themselves.
        urls = {f"{name}_url": url for name, url in self._servers.urls.items()}
        try:
            with private_file(new, "w") as state:
                json.dump(self.description() | urls, state)
            new.replace(self._data_dir / STATE_FILE)
        except OSError as error:
            supervisor.say(f"{STATE_FILE} cannot be written, all else goes on: {error}")


def _commands(settings: Settings, options: Options) -> dict[str, str]:
    if not options.servers_only:
        return read_procfile(options.procfile or default_procfile())
    if options.procfile or "redis_url" in settings.model_fields_set:
        raise ConfigurationError("--servers-only: leave out --procfile, and set neither REDIS_URL nor MONGODB_URL")
    return {}


def _lock(data_dir: Path) -> int:
    try:
        return lock_directory(data_dir)
    except EmbeddedError as error:
        if (running := state_of(data_dir)) is None:
            raise
        raise EmbeddedError(f"{error}; `writebehind up` runs there as process {running['pid']}") from None
