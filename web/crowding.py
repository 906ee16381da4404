"""Room for new clients: as a process nears its number of connections, those that stand still are closed.

granian accepts no connection beyond that number, and closes none before its time is over: 10 s for half a head,
`request_timeout_ms` for half a body. Without this, as many clients that say half of something keep all others out.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Final, NamedTuple

from web.transfers import Transfer
from writebehind.logs.events import FAULT
from writebehind.outage_log import OutageLog

log = logging.getLogger(__name__)

#: How often connections are counted, seconds.
INTERVAL_S: Final = 0.1
#: A client that has stood still for this long makes way for others, seconds.
STILL_S: Final = 0.25
#: From which part of the connections on some make way, and which part is left then.
CROWDED: Final = 0.75
LEFT: Final = 0.5

_FILES: Final = Path("/proc/self/fd")
_INTERNET: Final = {socket.AF_INET, socket.AF_INET6}

#: A client's host and port.
Peer = tuple[str, str]


class Connection(NamedTuple):
    """A connection, the file that it is, and when it was seen first, seconds."""

    peer: Peer
    file: int
    inode: int
    seen_at: float


def peer_of(address: Sequence[object]) -> Peer:
    """A client, from an address as the system or granian has it."""
    return str(address[0]).partition("%")[0], str(address[1])


class Crowd:
    """The connections to a port of this process, and the requests that are on their way over them."""

    def __init__(self, port: int, most: int) -> None:
        """See to it that there are fewer than `most`."""
        self._port = port
        self._most = most
        self._transfers: dict[Peer, Transfer] = {}
        #: By the socket's inode; `None` for a socket that is no such connection. Empty while there is no crowd.
        self._known: dict[int, Connection | None] = {}
        #: When a client's last request was over, while there is a crowd.
        self._ended_at: dict[Peer, float] = {}
        self._told = OutageLog(log, "time")

    def watch(self) -> None:
        """Look after them from now on, in a thread; on Linux, where a process is told what it has open."""
        if _FILES.is_dir():
            Thread(target=self._watch, name="web-crowding", daemon=True).start()

    def begin(self, peer: Peer, transfer: Transfer) -> None:
        """Note that a client's request is on its way."""
        self._transfers[peer] = transfer

    def end(self, peer: Peer) -> None:
        """Note that it is over."""
        self._transfers.pop(peer, None)
        if self._known:
            self._ended_at[peer] = monotonic()

    def in_progress(self) -> int:
        """The number of requests that are on their way."""
        return len(self._transfers)

    def make_room(self) -> int:
        """Close the connections that have stood still for longest, if there are too many; how many were closed."""
        files = os.listdir(_FILES)  # noqa: PTH208 - a path for each would cost more
        connections = self._connections(files) if len(files) >= CROWDED * self._most else []
        if len(connections) < CROWDED * self._most:
            self._known, self._ended_at = {}, {}
            return 0
        before = monotonic() - STILL_S
        still = sorted((since, one) for one in connections if (since := self._still_since(one)) < before)
        surplus = len(connections) - int(LEFT * self._most)
        closed = sum(self._close(one) for _, one in still[:surplus])
        if closed:
            self._told.note("crowding", "too many connections: those that stand still are closed")
        return closed

    def _watch(self) -> None:
        while True:
            sleep(INTERVAL_S)
            try:
                self.make_room()
            except Exception:
                log.exception("no room could be made for new connections", extra=FAULT)

    def _connections(self, files: Iterable[str]) -> list[Connection]:
        """The connections among these open files."""
        known: dict[int, Connection | None] = {}
        for file in map(int, files):
            with suppress(OSError):  # closed by now
                said = os.fstat(file)
                if stat.S_ISSOCK(said.st_mode):
                    inode = said.st_ino
                    seen = inode in self._known
                    known[inode] = self._known[inode] if seen else self._connection(file, inode)
        self._known = known
        found = [one for one in known.values() if one is not None]
        peers = {one.peer for one in found}
        self._ended_at = {peer: at for peer, at in list(self._ended_at.items()) if peer in peers}
        return found

    def _connection(self, file: int, inode: int) -> Connection | None:
        with socket.socket(fileno=os.dup(file)) as one:
            if one.family not in _INTERNET or one.getsockname()[1] != self._port:
                return None
            try:
                return Connection(peer_of(one.getpeername()), file, inode, monotonic())
            except OSError:  # it listens
                return None

    def _still_since(self, one: Connection) -> float:
        """Since when it has been waited for this client; `inf` while it waits for us."""
        transfer = self._transfers.get(one.peer)
        if transfer is None:
            return max(one.seen_at, self._ended_at.get(one.peer, 0.0))
        return inf if transfer.at_work else transfer.moved_at

    def _close(self, one: Connection) -> bool:
        with suppress(OSError), socket.socket(fileno=os.dup(one.file)) as copy:  # unless it was closed by now
            if os.fstat(copy.fileno()).st_ino == one.inode:
                if (transfer := self._transfers.get(one.peer)) is not None:
                    transfer.given_up = True
                copy.shutdown(socket.SHUT_RDWR)
                return True
        return False
