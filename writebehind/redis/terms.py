"""Terms of primaries: versions leap when a replica has become one, before it issues the first.

A replica may have missed the last writes, and the clock of its machine may be behind. Were it to issue the same
versions again, or lower ones, writes would be older than those before the failover, which MongoDB may have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import MovedError, ResponseError, TryAgainError

from writebehind.errors import NoReplicasError
from writebehind.plurals import counted
from writebehind.redis.connections import Command
from writebehind.redis.keys import DATABASE, Layout
from writebehind.redis.scripts import script
from writebehind.redis.shared.load_sample import parse_info
from writebehind.redis.shared.owner import Owner

log = logging.getLogger(__name__)

#: By how much the clocks of servers may differ that take each other's place, seconds: `doctor` looks.
CLOCKS_DIFFER_S = 2.0
#: How far beyond its own clock a new primary begins, µs; and beyond the last version that it knows, which is ahead
#: of its clock if there was another failover just before.
LEAP_US, LEAP_BEYOND_LAST_US = 3_000_000, 1_000_000

#: So many failovers each partition remembers: a process that lives has not slept through more.
MOST_LAPSES = 8

#: The replication id before this one, of a server that was no replica since it started.
NONE_BEFORE = "0" * 40
#: How many replicas keep up, where `min-replicas-to-write` and `min-replicas-max-lag` fence a primary. A node of a
#: cluster that is cut off stops by itself; one that Sentinels watch goes on to answer reads.
_KEEPING_UP = "min_slaves_good_slaves"
#: Words of the error about one of which none does.
_ALONE = "No replica of the primary keeps up: it takes no writes, and another one may have its place"
#: Answers of a server among several that does not have a partition.
_ELSEWHERE = (MovedError, TryAgainError)
_LEAP = script("leap")
_ARGUMENTS = (LEAP_US, LEAP_BEYOND_LAST_US, MOST_LAPSES)


class Terms:
    """The terms that this process knows. Safe to share between threads."""

    def __init__(
        self,
        layout: Layout,
        database: str,
        met: Callable[[], object] = lambda: None,
        *,
        is_watched: bool = False,
    ) -> None:
        """Take the partitions, and whose documents they have; nothing is asked yet.

        Args:
            layout: the partitions.
            database: of MongoDB.
            met: called when this process meets a new term, before it uses the connection.
            is_watched: whether Sentinels choose the primary.
        """
        self._database = database
        self._met = met
        self._is_watched = is_watched
        self._layout = layout
        self._seen: set[str] = set()

    def greet(self, ask: Callable[[Sequence[Command]], list[Any]]) -> str | None:
        """Let versions leap where a new connection leads to a primary that was a replica.

        Args:
            ask: sends commands over the connection, and returns their answers; a `ResponseError` of one that is
                refused.

        Returns:
            The term of the primary, '' where the server does not say. `None` where the connection may not be kept:
            one to a replica, which may become the primary, or to a primary that takes no writes yet.

        Raises:
            NoReplicasError: the server calls itself the primary, and another one may have its place by now.
        """
        (info,) = ask([("INFO", "replication")])
        if not isinstance(info, bytes):
            return ""  # refused, of which `doctor` tells
        facts = parse_info(info)
        if facts.get("role") == "slave":
            return None
        if self._is_watched and facts.get(_KEEPING_UP) == "0":
            raise NoReplicasError(_ALONE)
        term = facts.get("master_replid", "")
        if facts.get("master_replid2", NONE_BEFORE) == NONE_BEFORE or term in self._seen:
            return term
        (owner,) = ask([("GET", DATABASE)])
        recorded = Owner.parse(owner) if isinstance(owner, bytes) else None
        if recorded is not None and not recorded.fits(self._database):
            return None  # nothing is changed there, and nothing is written
        _, *answers = ask(
            [
                ("SCRIPT", "LOAD", _LEAP.source),
                *(
                    ("EVALSHA", _LEAP.sha1, 3, of.clock, of.term, of.lapses, term, *_ARGUMENTS)
                    for of in self._layout.all()
                ),
            ]
        )
        refused = [one for one in answers if isinstance(one, ResponseError) and not isinstance(one, _ELSEWHERE)]
        if refused:
            log.debug("versions do not leap yet: %s", refused[0])
            return None
        self._met()  # first: a thread that finds the term among those seen writes at once
        self._seen.add(term)
        if leapt := sum(one for one in answers if isinstance(one, int)):
            log.info("a replica has become the primary: versions of %s have leapt", counted(leapt, "partition"))
        return term
