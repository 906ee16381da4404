"""Socket options that granian has no setting for."""

from __future__ import annotations

import os
import resource
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from writebehind.local.embedded import can_listen

#: Files that a process needs besides its connections: its own sockets to Redis and MongoDB, and what it reads.
RESERVED_FILES = 256


def allow_connections(wanted: int) -> int:
    """Raise the process's limit of open files as far as it may, for connections that it and its children have.

    Returns:
        How many connections there may be: as many as wanted, or what the limit leaves.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(1, min(wanted, soft - RESERVED_FILES))
    return wanted


def end_if_taken(port: int, host: str, setting: str) -> None:
    """End this process where it cannot listen; `setting` is the variable that names the port.

    Raises:
        SystemExit: the port is taken, or the host is none of this machine.
    """
    try:
        is_free = can_listen(port, host)
    except (OSError, ValueError) as error:  # ValueError: no name of a host can be so
        sys.exit(f"writebehind: host {host}: {error}: set WRITEBEHIND_HOST to an address of this machine")
    if not is_free:
        sys.exit(f"writebehind: port {port} of {host} is taken: end who listens there, or set {setting}")


def bound_untaken(port: int, milliseconds: int) -> None:
    """Have the system close connections of this port whose client takes nothing of what was sent for so long.

    What is accepted later inherits it from the listening socket. Only Linux offers it; elsewhere a client that
    takes nothing keeps its connection, and no more than that.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None:
        return
    for one in _open_sockets():
        with one:
            if one.type == socket.SOCK_STREAM and one.getsockname()[1:2] == (port,):
                one.setsockopt(socket.IPPROTO_TCP, option, milliseconds)


def _open_sockets() -> Iterator[socket.socket]:
    """Copies of the process's internet sockets, each to be closed."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # closed by now
            copy = os.dup(int(entry.name))
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                os.close(copy)
                continue
            one = socket.socket(fileno=copy)
            if one.family in {socket.AF_INET, socket.AF_INET6}:
                yield one
            else:
                one.close()
