"""Serve the API: `writebehind run web`."""

from __future__ import annotations

import http.client
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels

from web.server import create_server
from web.sockets import allow_connections, end_if_taken
from web.tls import context
from writebehind import Settings, connect, load_settings
from writebehind.celery import FlushPublisher
from writebehind.errors import ConfigurationError
from writebehind.flask.access import Access
from writebehind.flask.extension import check
from writebehind.launcher import begin_log
from writebehind.local.embedded import reachable
from writebehind.local.endings import ended
from writebehind.logs.audit import begin_audit
from writebehind.monitoring.directory import share_counts
from writebehind.operations.probing import ask_api, wants_certificate

log = logging.getLogger(__name__)

#: How long a client may take to send the head of a request, also of the next one on a connection, ms.
HEAD_TIMEOUT_MS = 10_000
#: The longest head of a request, bytes.
MOST_HEAD_BYTES = 64 << 10
#: How long a process that is to end may take for its requests, seconds; less than its supervisor gives.
STOP_WITHIN_S = 8
#: Signals by which others end a worker; what ends by itself soon after its start does so again.
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
#: Between two looks whether a worker serves by now, seconds.
_LOOK_EVERY_S = 0.05


class Server(Granian):  # type: ignore[valid-type,misc]  # it is one of two, as Python is built
    """granian that calls back once it serves: its own hook comes before a worker has bound the port.

    It also tells workers that have ended from those that do not want to, and takes no end for unexpected once it
    is to end itself.
    """

    def __init__(self, *arguments: Any, serves: Callable[[], None], **options: Any) -> None:
        """Serve as `Granian` does."""
        super().__init__(*arguments, **options)
        self._serves = serves

    def startup(self, *arguments: Any) -> None:
        """Start the workers, and then wait for their first answer: no thread runs while they are forked."""
        super().startup(*arguments)
        threading.Thread(target=self._serves, name="serves", daemon=True).start()

    def signal_handler_interrupt(self, *arguments: Any, **options: Any) -> None:
        """Stop. The workers may have got the signal as well, and end before they are told to."""
        for worker in self.wrks:
            worker.interrupt_by_parent = True
        super().signal_handler_interrupt(*arguments, **options)

    def _spawn_worker(self, *arguments: Any, **options: Any) -> Any:
        """A worker, not started yet, that is alive until its process has ended.

        granian waits for each in a thread. Where that one sees the end first, `multiprocessing` goes on saying
        `is_alive` until the thread runs again: on a busy machine granian warned that it killed a worker long gone.
        """
        worker = super()._spawn_worker(*arguments, **options)
        if isinstance(worker.inner, BaseProcess):  # not a thread
            worker.is_alive = lambda: not wait([worker.inner.sentinel], 0)
            worker._watcher = partial(self._await_end, worker)  # noqa: SLF001 - its own says less
        return worker

    def _await_end(self, worker: Any) -> None:
        """Wait for the end of a worker, and have it started anew where nobody has told it to end.

        As granian's own, which says that it ended, and not by what.
        """
        worker.inner.join()
        if worker.interrupt_by_parent:
            return
        number, pid, status = worker.idx + 1, worker.inner.pid, worker.inner.exitcode
        log.error(
            "web process %d, with id %d, %s, and is started anew: its requests were broken off, and what it had "
            "acknowledged is in Redis",
            *(number, pid, ended(status)),
            extra={"event": "web_process_ended", "child": pid, "exit_status": status},
        )
        if -status in _FROM_OUTSIDE:  # granian would take it for one that cannot start, and end them all
            self.respawned_wrks.pop(worker.idx, None)
        self.interrupt_children.append(worker.idx)
        self.main_loop_interrupt.set()


def main(arguments: Sequence[str] = ()) -> None:
    """Run granian as the settings say.

    Raises:
        SystemExit: a setting is wrong, the port is taken, or there are arguments, of which it has none.
    """
    if arguments:
        sys.exit(f"writebehind: the API takes no arguments, but settings: {' '.join(arguments)}")
    try:
        settings = share_counts(load_settings())
        # Here, as a worker that cannot start would be started again and again.
        begin_audit(settings.audit_log, "web")
        tls = tls_options(settings)
        FlushPublisher(settings).close()
        with connect(settings) as pipeline:
            check(pipeline)
            Access(pipeline.keyring, is_open=settings.is_open).check()
    except ConfigurationError as error:
        sys.exit(f"writebehind: {error}")
    # granian would share it with another server, in silence.
    end_if_taken(settings.port, settings.host, "WRITEBEHIND_PORT")
    begin_log("web")
    server = Server(
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
        log_dictconfig={"loggers": {"_granian": {}, "granian.access": {}}},  # no handlers of their own: the root's
        serves=lambda: _say_served(settings),
        **tls,
    )
    server.serve(target_loader=create_server, wrap_loader=False)  # its own loader looks into the current directory


def tls_options(settings: Settings) -> dict[str, Any]:
    """Options with which granian serves by TLS; none where the API is served without.

    Raises:
        ConfigurationError: a file cannot be read, or is no certificate or key.
    """
    if context(settings) is None:
        return {}
    return {
        "ssl_cert": settings.tls_cert,
        "ssl_key": settings.tls_key,
        "ssl_protocol_min": SSLProtocols.tls12,
        "ssl_ca": settings.tls_client_ca,
        "ssl_client_verify": settings.tls_client_ca is not None,
    }


def _say_served(settings: Settings) -> None:
    """Say that the API serves, as soon as it does."""
    while not _answers(settings):
        time.sleep(_LOOK_EVERY_S)
    log.info("serves %s:%d", settings.host, settings.port, extra={"event": "started"})


def _answers(settings: Settings) -> bool:
    try:
        ask_api(settings, reachable(settings.host), settings.port, "/healthz", timeout_s=1)
    except (OSError, http.client.HTTPException) as error:
        return wants_certificate(settings, error)
    return True  # whatever it says: the gate may not know this address


if __name__ == "__main__":
    main()
