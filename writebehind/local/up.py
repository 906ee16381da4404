"""Everything on one machine: the servers that nothing else is configured for, and the Procfile's processes."""

from __future__ import annotations

import http.client
import json
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from honcho.environ import parse_procfile

from writebehind.errors import ConfigurationError, MongoUnavailableError, UnavailableError, WritebehindError
from writebehind.last_known import LastKnown
from writebehind.launcher import service_folder
from writebehind.local.embedded import (
    EmbeddedError,
    EmbeddedMongo,
    EmbeddedRedis,
    EmbeddedServer,
    can_listen,
    free_port,
    lock_directory,
    reachable,
)
from writebehind.local.example import accepts_any_collection, example_path
from writebehind.local.output import SUPERVISOR, ConsoleOutput, FileOutput, JsonOutput, private_file
from writebehind.local.passwords import kept_password
from writebehind.local.supervisor import LONGEST_DELAY_S, Interruptions, Supervisor
from writebehind.operations.doctor import check_start
from writebehind.operations.indexes import create_lookup_indexes
from writebehind.operations.probing import ask_api, silences_of_api, wants_certificate
from writebehind.pipeline import Pipeline
from writebehind.process_identity import mark, stopped_of
from writebehind.settings.installation import Settings, load_settings
from writebehind.settings.running import DATA_DIR, STATE_FILE, check_both_named, state_of
from writebehind.settings.urls import redacted

READY_WITHIN_S = 60.0
POLL_S = 0.1
#: Between two looks whether the API answers, and how long an answer is waited for, seconds.
API_EVERY_S, API_PATIENCE_S = 5.0, 3.0
#: The names in a Procfile of the processes that have an address.
API, FLOWER, EXPORTER = "web", "flower", "exporter"
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
            # Who takes it may take nothing: that holds up nobody else.
            about = system.description()
            threading.Thread(target=announce, args=(about,), name="announce", daemon=True).start()
        while not interruptions.count:
            system.check()
            time.sleep(POLL_S)


class System:
    """The servers and processes of one `up`."""

    def __init__(self, settings: Settings, options: Options, data_dir: Path, commands: Mapping[str, str]) -> None:
        """Choose ports and servers; nothing is started yet."""
        self._settings = settings
        self._data_dir = data_dir
        self._metrics_dir = settings.metrics_dir or data_dir / "metrics"
        self._host = reachable(settings.host)
        self._port = _web_port(settings, options.port) if commands else settings.port
        self._flower_port = _free(settings.flower_port, "127.0.0.1")
        self._exporter_port = _free(settings.exporter_port, settings.host)
        self._servers = _servers(settings, data_dir, options.appendfsync)
        self._commands = commands
        try:
            as_json = settings.log_format == "json"
            logs = FileOutput(data_dir / "log", json=as_json) if options.quiet else None
        except OSError as error:
            raise EmbeddedError(f"the data directory cannot be used: {error}") from error
        console = JsonOutput if as_json else ConsoleOutput
        self._output = logs or console(commands, options.console)
        self._supervisor: Supervisor | None = None
        self._restart_at = 0.0
        self._stopping = threading.Event()
        self._written: tuple[dict[str, int], dict[str, str]] = {}, {}

    @property
    def url(self) -> str:
        """The address of the API."""
        return self._url(self._port, "http" if self._settings.tls_cert is None else "https")

    def _url(self, port: int, scheme: str = "http") -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{port}"

    def start(self) -> None:
        """Start the servers, then the processes.

        Raises:
            ConfigurationError: the processes could not start with these settings; none was started.
            EmbeddedError: a server does not start.
        """
        for server in self._servers.values():
            server.start()
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

    def check(self) -> None:
        """Start what died anew. Call it a few times a second.

        Raises:
            CrashLoopError: the API's process fails whenever it is started, and never was ready.
        """
        if self._supervisor is None:
            return
        for server in self._servers.values():
            if not server.is_running() and time.monotonic() >= self._restart_at:
                self._restart(server, self._supervisor.say)
        self._supervisor.check()
        if (self._pids(), self._supervisor.failing) != self._written:
            self._write_state(self._supervisor)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop the processes, then the servers that they need, which nothing hurries."""
        self._stopping.set()
        if self._supervisor is None:  # what keeps it from starting is all that there is to say
            self._stop_servers()
            return
        self._say("stopping; Ctrl-C again kills the processes, and nothing that was acknowledged is lost")
        self._supervisor.stop(hurry=self._told(hurry))
        self._stop_servers()
        with suppress(OSError):
            (self._data_dir / STATE_FILE).unlink(missing_ok=True)
        stays = f"the data stays in {self._data_dir}" if self._servers else "the servers that were given go on"
        self._say(f"stopped; {stays}{LastKnown(self._metrics_dir).told()}")
        self._output.finish(within_s=1)

    def refusal(self) -> str:
        """The reason why the API, or, without one, any process is not ready; empty when they are."""
        if API in self._commands:
            refusal = self._refusal_of_api()
            return refusal and f"{self.url}: {refusal}"
        missing = sorted(self._commands.keys() - self._pids().keys())
        return f"{', '.join(missing)} does not run" if missing else ""

    def _watch_api(self) -> None:
        """Say that the API does not answer, and that it does again: a web process that is frozen says nothing."""
        silent_since: float | None = None
        while not self._stopping.wait(API_EVERY_S):
            why = silences_of_api(self._settings, self._host, self._port, timeout_s=API_PATIENCE_S)
            if why and silent_since is None and not self._stopping.is_set():
                silent_since = time.monotonic()
                stopped = ", ".join(map(str, stopped_of(self._pids().get(API, 0))))
                advice = f"process {stopped} is stopped, `kill -CONT` lets it go on" if stopped else why[0]
                self._say(f"the API leaves requests without an answer: {advice}; `writebehind doctor` says more")
            elif not why and silent_since is not None:
                self._say(f"the API answers again, after {time.monotonic() - silent_since:.0f} s")
                silent_since = None

    def _refusal_of_api(self) -> str:
        try:
            status, body = ask_api(self._settings, self._host, self._port, "/readyz", timeout_s=2)
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
            about["flower"] = f"http://127.0.0.1:{self._flower_port}"
        if EXPORTER in self._commands:
            about["metrics"] = f"{self._url(self._exporter_port)}/metrics"
        if self._settings.broker_url:
            about["broker_url"] = redacted(self._settings.broker_url)
        return about | {
            "redis_url": redacted(self._redis_url),
            "mongodb_url": redacted(self._mongodb_url),
            "mongodb_database": self._settings.mongodb_database,
            "embedded": {name: server.title for name, server in self._servers.items()},
            "data_dir": str(self._data_dir),
            "metrics_dir": str(self._metrics_dir),
            "pid": os.getpid(),
            "process": mark(),
            "pids": self._pids(),
            "failing": self._supervisor.failing if self._supervisor else {},
        }

    def _say(self, line: str) -> None:
        self._output(SUPERVISOR, line.encode())

    def _stop_servers(self) -> None:
        for server in self._servers.values():
            server.stop()

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
            "REDIS_URL": self._redis_url,
            "MONGODB_URL": self._mongodb_url,
            "WRITEBEHIND_PORT": str(self._port),
            "WRITEBEHIND_FLOWER_PORT": str(self._flower_port),
            "WRITEBEHIND_FLOWER_DB": str(self._settings.flower_db or self._data_dir / "flower" / "state"),
            "WRITEBEHIND_EXPORTER_PORT": str(self._exporter_port),
            "WRITEBEHIND_METRICS_DIR": str(self._metrics_dir),
            "WRITEBEHIND_ALLOW_UNLISTED": json.dumps(accepts_any_collection(self._settings)),
        }

    def _prepare(self) -> None:
        """See once what each process looks at when it starts, and have what the embedded servers need."""
        if not self._commands:
            return
        urls = {"redis_url": self._redis_url, "mongodb_url": self._mongodb_url}
        if self._settings.broker_url:
            from writebehind.celery.publisher import FlushPublisher  # noqa: PLC0415 - slow to import

            FlushPublisher(self._settings).close()
        with Pipeline(self._settings.model_copy(update=urls)) as pipeline:
            with suppress(UnavailableError):  # the processes say so, and wait for Redis
                check_start(pipeline)
            if self._servers:  # of others' databases it is for `writebehind init` to have them
                self._create_indexes(pipeline)

    def _create_indexes(self, pipeline: Pipeline) -> None:
        """Have the indexes that lookups want. Where one cannot be had, documents are looked up without it."""
        try:
            for one in create_lookup_indexes(pipeline):
                if one.why:
                    self._say(one.why)
        except MongoUnavailableError as error:
            self._say(f"no index could be created, all else goes on: {error}")

    def _pids(self) -> dict[str, int]:
        servers = {name: server.pid for name, server in self._servers.items() if server.is_running()}
        return servers | (self._supervisor.pids if self._supervisor else {})

    def _restart(self, server: EmbeddedServer, say: Callable[[str], None]) -> None:
        ended = "does not run" if server.status is None else f"ended with {server.status}"
        at_stake = LastKnown(self._metrics_dir).told() if server is self._servers["redis"] else ""
        say(f"{server.title} {ended}, starting it again{at_stake}")
        try:
            server.start()
            say(f"{server.title} runs again, as process {server.pid}")
        except (EmbeddedError, OSError) as error:  # such as a port that is taken, or a disk that is full
            say(f"{error}. All else goes on; it is tried again in {LONGEST_DELAY_S:.0f} s")
            self._restart_at = time.monotonic() + LONGEST_DELAY_S

    def _write_state(self, supervisor: Supervisor) -> None:
        new = self._data_dir / f"{STATE_FILE}.new"
        self._written = self._pids(), supervisor.failing
        # Commands beside the system need the passwords of its servers; those of others', they are told themselves.
        urls = {f"{name}_url": server.url for name, server in self._servers.items()}
        try:
            with private_file(new, "w") as state:
                json.dump(self.description() | urls, state)
            new.replace(self._data_dir / STATE_FILE)
        except OSError as error:
            supervisor.say(f"{STATE_FILE} cannot be written, all else goes on: {error}")

    @property
    def _redis_url(self) -> str:
        return self._servers["redis"].url if self._servers else self._settings.redis_url

    @property
    def _mongodb_url(self) -> str:
        return self._servers["mongodb"].url if self._servers else self._settings.mongodb_url


def _free(port: int, host: str) -> int:
    """This port, or any free one where it is taken."""
    return port if can_listen(port, host) else free_port()


def default_procfile() -> Path:
    """The Procfile of the installed package, or of the repository."""
    return service_folder() / "Procfile"


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile, by name.

    Raises:
        ConfigurationError: it cannot be read, or has no processes.
    """
    try:
        commands = dict(parse_procfile(path.read_text("utf-8")).processes)
    except (OSError, ValueError, AssertionError) as error:  # AssertionError: honcho found a name twice
        raise ConfigurationError(f"Procfile: {error}") from error
    if not commands:
        raise ConfigurationError(f"{path} names no process")
    return commands


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


def _servers(settings: Settings, data_dir: Path, appendfsync: str) -> dict[str, EmbeddedServer]:
    """The servers to start: both, or, where the settings name them, none."""
    if {"redis_url", "mongodb_url"} & settings.model_fields_set:
        return {}
    try:
        of_redis, of_mongodb = (kept_password(data_dir / name / "password") for name in ("redis", "mongodb"))
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"the data directory cannot be used: {error}") from error
    valkey = EmbeddedRedis(
        data_dir,
        appendfsync=appendfsync,
        maxmemory_mib=settings.embedded_redis_mib,
        policy="volatile-lru",  # when it is full it evicts what has a TTL: what MongoDB does not have yet has none
        password=of_redis,
    )
    return {"redis": valkey, "mongodb": EmbeddedMongo(data_dir, password=of_mongodb)}


def _web_port(settings: Settings, wanted: int | None) -> int:
    port = settings.port if wanted is None else wanted
    try:
        if port and not can_listen(port, settings.host):
            raise ConfigurationError(f"port {port} is taken: choose another with --port, or 0 for any free one")
        return port or free_port(settings.host)
    except (OSError, ValueError) as error:  # ValueError: no name of a host can be so
        raise ConfigurationError(f"host {settings.host}: {error}") from error
