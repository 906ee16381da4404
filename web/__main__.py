"""Serve the API: `writebehind run web`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from web.server import create_server
from web.sockets import allow_connections
from writebehind import connect, load_settings
from writebehind.celery import FlushPublisher
from writebehind.errors import ConfigurationError
from writebehind.flask.extension import check
from writebehind.local.embedded import can_listen

#: How long a client may take to send the head of a request, also of the next one on a connection, ms.
HEAD_TIMEOUT_MS = 10_000
#: The longest head of a request, bytes.
MOST_HEAD_BYTES = 64 << 10
#: How long a process that is to end may take for its requests, seconds; less than its supervisor gives.
STOP_WITHIN_S = 8


def main(arguments: Sequence[str] = ()) -> None:
    """Run granian as the settings say.

    Raises:
        SystemExit: a setting is wrong, the port is taken, or there are arguments, of which it has none.
    """
    if arguments:
        sys.exit(f"writebehind: the API takes no arguments, but settings: {' '.join(arguments)}")
    try:
        settings = load_settings()
        # Here, as a worker that cannot start would be started again and again.
        FlushPublisher(settings).close()
        with connect(settings) as pipeline:
            check(pipeline)
    except ConfigurationError as error:
        sys.exit(f"writebehind: {error}")
    if not can_listen(settings.port, settings.host):  # granian would share it with another server, in silence
        sys.exit(
            f"writebehind: port {settings.port} of {settings.host} is taken: end who listens there, "
            "or set WRITEBEHIND_PORT"
        )
    server = Granian(
        "web.server:create_server",
        interface=Interfaces.ASGINL,
        # No HTTP/2: granian closes no idle connection of it.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_TIMEOUT_MS, max_buffer_size=MOST_HEAD_BYTES),
        address=settings.host,
        port=settings.port,
        workers=settings.web_workers,
        backpressure=allow_connections(settings.max_connections),
        workers_kill_timeout=STOP_WITHIN_S,
        respawn_failed_workers=True,
        websockets=False,
        log_level=LogLevels.warning,
    )
    server.on_startup(lambda: print(f"serves {settings.host}:{settings.port}", flush=True))  # noqa: T201
    server.serve(target_loader=create_server, wrap_loader=False)  # its own loader looks into the current directory


if __name__ == "__main__":
    main()
