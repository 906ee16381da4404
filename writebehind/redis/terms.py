"""Terms of primaries: versions leap when a replica has become one, before it issues the first.

A replica may have missed the last writes, and the clock of its machine may be behind. Were it to issue the same
versions again, or lower ones, writes would be older than those before the failover, which MongoDB may have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial

from redis.exceptions import ClusterDownError, MovedError, ResponseError

from writebehind.errors import NoReplicasError, ReplicaError, without_frames
from writebehind.plurals import counted
from writebehind.redis.connections import Ask, Command, Greeted
from writebehind.redis.info import parse_info
from writebehind.redis.keys import DATABASE, Layout, PartitionKeys, partition_keys
from writebehind.redis.leaping import LEAP
from writebehind.redis.scripts import script
from writebehind.redis.shared.owner import Owner
from writebehind.redis.succession import Term
from writebehind.redis.topology.guard import ABSENT, UNRECORDED, changes, place_of
from writebehind.redis.topology.routing import ELSEWHERE, key_of

log = logging.getLogger(__name__)

#: By how much the clocks of servers may differ that take each other's place, seconds: `doctor` looks.
CLOCKS_DIFFER_S = 2.0
#: The replication id before this one, of a server that was no replica since it started.
NONE_BEFORE = "0" * 40
#: How many replicas keep up, where `min-replicas-to-write` and `min-replicas-max-lag` fence a primary. A node of a
#: cluster that is cut off stops by itself; one that Sentinels watch goes on to answer reads.
_KEEPING_UP = "min_slaves_good_slaves"
#: Words of the error about one of which none does.
_ALONE = "No replica of the primary keeps up: it takes no writes, and another one may have its place"
#: Words of the error about a replica.
_REPLICA = "The server is a replica, which may lack the last writes: nothing is read from it"
#: Words of the error of each node about a slot that nobody has; others are about a cluster that takes no commands.
_UNSERVED = "not served"
_LEAP = script("leap")


class Terms:
    """The terms that this process knows. Safe to share between threads."""

    def __init__(
        self,
        layout: Layout,
        database: str,
        *,
        approached: Callable[[str], object] = lambda _: None,
        met: Callable[[str, Collection[int]], object] = lambda *_: None,
        is_watched: bool = False,
        is_cluster: bool = False,
    ) -> None:
        """Take the partitions, and whose documents they have; nothing is asked yet.

        Args:
            layout: the partitions.
            database: of MongoDB.
            approached: called with a new term before its versions leap, or fail to: nothing was written in it yet.
            met: called with it once they have, and all connections are known to lead to it or not to be used; and
                with the partitions that are there.
            is_watched: whether Sentinels choose the primary.
            is_cluster: whether the servers are nodes of a cluster, of which a replica answers no reads itself.
        """
        self._database = database
        self._approached, self._met = approached, met
        self._is_watched, self._is_cluster = is_watched, is_cluster
        self._layout = layout
        #: Partitions whose versions are to leap yet, of each term that was met: their slots were on their way.
        self._left: dict[str, list[int]] = {}

    def greet(self, ask: Ask) -> Greeted:
        """Let versions leap where a new connection leads to a primary that was a replica.

        Args:
            ask: sends commands over the connection, and returns their answers; a `ResponseError` of one that is
                refused.

        Returns:
            The term of the primary, an empty one where the server does not say. What changes something is not sent
            to a replica of a cluster, which may become the primary before that comes; nor to a partition whose
            versions do not leap yet: that refusal is the answer.

        Raises:
            ReplicaError: the server is a replica, and may lack the last writes.
            NoReplicasError: the server calls itself the primary, and another one may have its place by now.
        """
        (info,) = ask([("INFO", "replication")])
        if not isinstance(info, bytes):
            return Greeted()  # refused, of which `doctor` tells
        facts = parse_info(info)
        if facts.get("role") == "slave":
            if self._is_cluster:
                return Greeted(is_kept=False, instead=_asked_where)
            raise ReplicaError(_REPLICA)
        if self._is_watched and facts.get(_KEEPING_UP) == "0":
            raise NoReplicasError(_ALONE)
        after = facts.get("master_replid2", NONE_BEFORE)
        term = Term(facts.get("master_replid", ""), "" if after == NONE_BEFORE else after)
        if not term.after or self._left.get(term.id) == []:
            return Greeted(term)
        (owner,) = ask([("GET", DATABASE)])
        recorded = Owner.parse(owner) if isinstance(owner, bytes) else None
        if recorded is not None and not recorded.fits(self._database):
            return Greeted(is_kept=False)  # nothing is changed there, and nothing is written
        return self._leap(term, ask)

    def _leap(self, term: Term, ask: Ask) -> Greeted:
        """Let versions leap that have not yet; where one refuses, what changes something is not sent."""
        left = self._left.get(term.id)
        if left is None:
            self._approached(term.id)
        partitions = range(self._layout.partitions) if left is None else left
        _, *answers = ask(
            [
                ("SCRIPT", "LOAD", _LEAP.source),
                *(_leap_of(partition_keys(one), term.id) for one in partitions),
            ]
        )
        refused = {
            str(at): without_frames(one)
            for at, one in zip(partitions, answers, strict=True)
            if isinstance(one, ResponseError) and not _is_elsewhere(one)
        }
        if refused:
            log.debug("versions do not leap yet: %s", next(iter(refused.values())))
            return Greeted(term, instead=partial(_refused, refused))
        here = [at for at, one in zip(partitions, answers, strict=True) if isinstance(one, int)]
        if leapt := sum(one for one in answers if isinstance(one, int)):
            log.info("a replica has become the primary: versions of %s have leapt", counted(leapt, "partition"))
        # A slot that is on its way may stay after all: it is looked at again by the next greeting.
        on_its_way = [at for at, one in zip(partitions, answers, strict=True) if _is_on_its_way(one)]
        if left is None or here:
            # Who is told asks the new primary what it has lost, and no former one over a connection that is open.
            return Greeted(term._replace(met=partial(self._meet, term.id, here, on_its_way)))
        self._left[term.id] = on_its_way
        return Greeted(term)

    def _meet(self, term: str, here: list[int], left: list[int]) -> None:
        self._met(term, here)
        self._left[term] = left


def _leap_of(of: PartitionKeys, term: str) -> Command:
    return ("EVALSHA", _LEAP.sha1, 3, of.clock, of.term, of.lapses, term, *LEAP)


def _refused(refusals: Mapping[str, ResponseError], command: Command) -> ResponseError | None:
    """The answer to a command that changes something where versions have not leapt: what refused the leap."""
    return refusals.get(place_of(key_of(command))) if changes(command) else None


def _asked_where(command: Command) -> Command | None:
    """A command that changes nothing in the place of one that does: a replica says to it where the primary is."""
    return ("EXISTS", key_of(command)) if changes(command) else None


def _is_elsewhere(answer: ResponseError) -> bool:
    if UNRECORDED in str(answer):
        return False  # what it will have is not known yet
    is_unserved = isinstance(answer, ClusterDownError) and _UNSERVED in str(answer)
    return is_unserved or isinstance(answer, ELSEWHERE)


def _is_on_its_way(answer: object) -> bool:
    """Whether it may be there soon without a leap in the step that lets it be there."""
    return isinstance(answer, ELSEWHERE) and not isinstance(answer, MovedError) and ABSENT not in str(answer)
