"""RabbitMQ of Debian's packages `rabbitmq-server` and `erlang-*`, fetched by `make rabbitmq`, or installed.

`python -m tests.rabbitmq 5672` runs a node by hand.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import click
import pytest
from amqp import Connection
from amqp.exceptions import NotFound

from writebehind.celery.names import QUEUES
from writebehind.local.embedded import LOOPBACK, EmbeddedServer, free_port

_PLACES = (Path(__file__).parents[1] / ".rabbitmq", Path("/"))
_PROGRAM = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
#: The script that starts it, and the folder in which it is unpacked.
SCRIPT, PLACE = next(
    (
        (one, place)
        for place in _PLACES
        for one in place.glob(_PROGRAM)
        if any(place.glob("usr/lib/erlang/bin/erl"))
    ),
    (None, None),
)

_ERLANG = (PLACE or Path("/")) / "usr/lib/erlang"
needs_rabbitmq = pytest.mark.skipif(
    SCRIPT is None, reason="RabbitMQ is not installed: `make rabbitmq` fetches it on Debian"
)


class RabbitMQ(EmbeddedServer):
    """One node, with a name, a home and a port mapper of its own."""

    name = "rabbitmq"
    title = "RabbitMQ"

    def __init__(self, data_dir: Path, port: int = 0, *, config: Path | None = None, user: str = "guest") -> None:
        """Start with a configuration file; ask whether it answers as a user, `name` or `name:password`."""
        super().__init__(data_dir, port, timeout_s=60)
        self._mapper, self._peers = free_port(), free_port()
        self._config = config
        self._user, _, password = user.partition(":")
        self._password = password or self._user

    @property
    def url(self) -> str:
        return f"amqp://{self._user}:{self._password}@{LOOPBACK}:{self.port}//"

    def empty(self) -> None:
        """Drop what waits in queues of the product. They stay: who has declared one does not declare it again."""
        with Connection(f"{LOOPBACK}:{self.port}", self._user, self._password) as connection:
            for queue in QUEUES:
                with suppress(NotFound):  # which closes the channel
                    connection.channel().queue_purge(queue)

    def lose_all(self) -> None:
        """Kill it, and start it without anything that it had."""
        self.kill()
        shutil.rmtree(self._data)
        self.start()

    def control(self, *arguments: str) -> None:
        """Have it do something, as operators do by `rabbitmqctl`."""
        assert SCRIPT is not None
        environment = {name: str(value) for name, value in self._variables().items()}
        command = ["/bin/sh", str(SCRIPT.with_name("rabbitmqctl")), *arguments]
        env = os.environ | environment
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"

    def _variables(self) -> dict[str, object]:
        """The environment by which its programs find each other."""
        return {
            "PATH": f"{_ERLANG}/bin:{os.environ['PATH']}",
            "HOME": self._home,
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": self._mapper,
            "RABBITMQ_ALLOW_INPUT": 1,  # else the script stays between this process and the server
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self._peers,
            "RABBITMQ_MNESIA_BASE": self._data,
            "RABBITMQ_LOG_BASE": self._data,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": self._config or self._home / "none",
            "RABBITMQ_CONF_ENV_FILE": self._home / "none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self._home / "none",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",  # no core is kept awake
        }

    def _command(self) -> list[str]:
        settings = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in self._variables().items())
        # Were it started by the server it would be a daemon, and outlive it.
        mapper = f"setpriv --pdeathsig TERM env {settings} {next(iter(_ERLANG.glob('erts-*/bin/epmd')))} &"
        return ["/bin/sh", "-c", f"{mapper} exec env {settings} {SCRIPT} -noinput"]

    def _answering_pid(self) -> int | None:
        try:
            with Connection(
                f"{LOOPBACK}:{self.port}", self._user, self._password, connect_timeout=1, read_timeout=1
            ) as connection:
                connection.channel().queue_declare("", exclusive=True)
        except OSError:
            return None
        return self.pid


def main() -> None:
    """Run a node until Ctrl-C, on the port that is named or a free one; what it has goes with it."""
    if SCRIPT is None:
        sys.exit("RabbitMQ is not installed: `make rabbitmq` fetches it on Debian")
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with tempfile.TemporaryDirectory() as directory, RabbitMQ(Path(directory), port) as server:
        click.echo(f"export BROKER_URL={server.url}")
        signal.sigwait(stops)


if __name__ == "__main__":
    main()
