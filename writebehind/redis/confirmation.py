"""Confirmations that Redis gives of a write before it is answered: of its disk, and of its replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from writebehind.documents.durability import Confirmed, Durability
from writebehind.redis.connections import Command
from writebehind.redis.shared.load_sample import LoadSample

#: Part of the time in which replicas are to say that they have a write, before they say that their disks have it.
ARRIVAL = 0.1


def replicas_needed(durability: Durability, connected: int, fixed: int, *, had_some: bool = False) -> int:
    """The number of replicas that a level promises.

    Args:
        durability: `FSYNCED` or `REPLICATED`.
        connected: how many replicas the server has.
        fixed: what the settings say; 0 for all but one of them, and at least one.
        had_some: whether replicas were connected lately: one of them may take its place.
    """
    if durability is Durability.FSYNCED and not connected and not had_some:
        return fixed
    return fixed or max(1, connected - 1)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Confirmation that is waited for after writes, on each server that they go to.

    Attributes:
        durability: `FSYNCED` or `REPLICATED`.
        fixed: as for `replicas_needed`.
        sample: which says how many replicas each server has.
        wait_ms: for how long.
    """

    durability: Durability
    fixed: int
    sample: LoadSample
    wait_ms: int

    def commands(self, server: str) -> Sequence[Command]:
        """Commands after the writes on the same connection to a server: the last one's answer counts.

        Nobody waits for replicas that are not connected.
        """
        awaited = min(self._needed(server), self._of(server).replicas)
        if self.durability is Durability.REPLICATED:
            return [("WAIT", awaited, self.wait_ms if awaited else 1)]
        if not awaited:
            return [("WAITAOF", 1, 0, self.wait_ms)]
        # A replica tells once a second how far its disk is, and when it is asked, as by both commands. Asked while
        # the write comes in, it would be heard of a second later.
        arrival_ms = max(1, int(self.wait_ms * ARRIVAL))
        return [("WAIT", awaited, arrival_ms), ("WAITAOF", 1, awaited, max(1, self.wait_ms - arrival_ms))]

    def judge(self, server: str, answer: Any) -> tuple[Durability, Confirmed]:
        """The level that was reached on a server, by the answer to the last command."""
        needed = self._needed(server)
        if self.durability is Durability.REPLICATED:
            confirmed = Confirmed(disk=False, replicas=answer if isinstance(answer, int) else 0)
            is_reached = confirmed.replicas >= needed
        else:
            disk, replicas = answer if isinstance(answer, list) else (0, 0)
            confirmed = Confirmed(disk=disk >= 1, replicas=replicas)
            is_reached = confirmed.disk and replicas >= needed
        return self.durability if is_reached else Durability.BUFFERED, confirmed

    def _of(self, server: str) -> LoadSample:
        return self.sample.servers.get(server, self.sample)

    def _needed(self, server: str) -> int:
        of = self._of(server)
        return replicas_needed(self.durability, of.replicas, self.fixed, had_some=of.had_replicas)
