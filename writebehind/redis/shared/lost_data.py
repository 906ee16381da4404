"""Documents that were only in a Redis that has lost its data: told until an operator has seen it.

Whoever looks notes outside of Redis what is only there, of each partition, and in which data that was. The data of
a partition is known by the version of the first write in it, which the step of that write leaves there: so who has
a document of it has that too, be it a replica, a file or a server that the partition has moved to. Where it is
another one, or none, what was only in the former data is gone. Of several that have looked, the last knows best.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, islice
from typing import Any, Final

from writebehind.errors import UnavailableError
from writebehind.last_known import AtStake, Data, Part
from writebehind.redis.connections import Command
from writebehind.redis.keys import DATABASE, LOST_DATA, Layout, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.shared.owner import Owner
from writebehind.redis.shared.record import Record
from writebehind.redis.topology.dividing import steadily
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

log = logging.getLogger(__name__)

#: Fields of a partition's counts: what its data is known by, and how many documents became pending by a write.
_BORN: Final = "born"
_FIRST: Final = "first"
#: Such a one is left by the first write: others are made by whoever looks, where an older release took that.
_VERSION: Final = re.compile(r"\d{16}", re.ASCII)
_MADE: Final = "made-"

_NOTE_LOSSES = script("note_losses")


class LostData:
    """The losses of one installation, as its Redis of now has them. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout, *, database: str, owner: Record[Owner]) -> None:
        """Keep them on a server, for the installation of this database."""
        self._wire = wire
        self._layout = layout
        self._database = database
        self._owner = owner

    def judge(self, formers: Iterable[AtStake], figures: AtStake) -> Data | None:
        """The data that stands in Redis, once what was lost of former data is noted there, and told in the log.

        Args:
            formers: what is last known of what was only in Redis.
            figures: what is there now, as was just seen: of what there is none no partition is asked for.

        Returns:
            `None` where it is not known: Redis does not answer, or is another installation's.
        """
        known = [one for one in formers if one.data.database == self._database]
        try:
            return self._judge(sorted(known, key=lambda one: one.at, reverse=True), figures)
        except UnavailableError as error:
            log.debug("the last known figures stay as they are: %s", error)
            return None

    @steadily
    def _judge(self, formers: Sequence[AtStake], figures: AtStake) -> Data | None:
        numbers = sorted({*self._layout.in_use(), *(at for one in formers for at in one.data.parts)})
        of_all = [partition_keys(at) for at in numbers]
        asked: list[list[Command]] = [
            [("ZCARD", of.pending) for of in of_all] if figures.pending else [],
            [("HLEN", of.dead) for of in of_all] if figures.dead_letters else [],
            # Asked for after the figures, which are of this data, or of what it has replaced.
            [("HMGET", of.counts, _BORN, _FIRST) for of in of_all],
        ]
        owned, noted, *found = self._wire.calls_answered(
            [("GET", DATABASE), ("HGETALL", LOST_DATA), *chain.from_iterable(asked)]
        )
        owner = self._owner.read(owned)
        if noted is None or None in found or (owner is not None and not owner.fits(self._database)):
            return None
        answers = iter(found)
        none = [0] * len(numbers)
        pending, dead, data = ([*islice(answers, len(of_each))] or none for of_each in asked)
        parts = {
            at: Part((born or b"").decode(errors="replace"), count, letters)
            for at, count, letters, (born, _) in zip(numbers, pending, dead, data, strict=True)
        }
        # An older release has counted writes there, and has taken the first of them.
        older = {at for at, (born, first) in zip(numbers, data, strict=True) if first and not born}
        counted = older | {at for at, one in parts.items() if one.born}
        if owner is not None:
            parts = self._name(parts, _without_counts(formers, parts, counted))
        told: dict[str, AtStake] = {}  # by whoever knew of losses before
        losses: dict[str, AtStake] = {}
        for former in formers:
            told = dict(former.data.lost) | told
            losses = _lost(former, parts, older) | losses
        unseen = _unseen(noted)
        if owner is not None or told or any(one.documents for one in losses.values()):  # else it is left as it is
            self._note(told)
            self._tell(self._note(self._by_redis(losses)))
            unseen = self.unseen() if told or losses else unseen
        return Data(self._database, {at: one for at, one in parts.items() if one.born}, unseen)

    def unseen(self) -> dict[str, AtStake]:
        """The losses that no operator has seen yet, each partition's, in the order of time.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return _unseen(self._wire.call("HGETALL", LOST_DATA))

    def see(self) -> int:
        """Note that an operator has seen all of them; how many there were. Raises as `unseen`."""
        unseen = self.unseen()
        self._note(unseen, seen=True)
        return len(together(unseen))

    def _by_redis(self, losses: Mapping[str, AtStake]) -> dict[str, AtStake]:
        """The same by the clock of this Redis, in which hosts agree: theirs may differ."""
        if not losses:
            return {}
        asked = time.time()
        now_s = self._wire.now_ms(LOST_DATA) / 1000
        ahead_s = now_s - (asked + time.time()) / 2
        return {name: replace(one, at=max(0.0, one.at + ahead_s)) for name, one in losses.items()}

    def _note(self, losses: Mapping[str, AtStake], *, seen: bool = False) -> dict[str, AtStake]:
        """Note losses, and return those of which nobody has noted as many documents yet.

        That nothing was lost with data is noted too: a host that saw it earlier would tell otherwise.
        """
        if not losses:
            return {}
        figures = [part for name, one in losses.items() for part in (name, _dump(one, seen=seen))]
        more = self._wire.run(_NOTE_LOSSES, (LOST_DATA,), figures)
        return {name: losses[name] for name in (one.decode(errors="replace") for one in more)}

    def _tell(self, losses: Mapping[str, AtStake]) -> None:
        for one in together(losses):
            log.critical(
                "Redis has lost data, and with it acknowledged writes: %s; keep its old files, and see "
                "docs/runbook.md#writebehinddatalost",
                one,
                extra={"event": "data_lost", "pending": one.pending, "dead_letters": one.dead_letters},
            )

    def _name(self, parts: Mapping[int, Part], names: Mapping[int, str]) -> dict[int, Part]:
        """The same with what data is known by: one of `names`, or a new one where an older release began it."""
        nameless = [at for at, one in parts.items() if not one.born and (one.pending or one.dead_letters)]
        if not nameless:
            return dict(parts)
        places = [partition_keys(at).counts for at in nameless]
        made = [names.get(at) or f"{_MADE}{secrets.token_hex(8)}" for at in nameless]
        self._wire.calls([("HSETNX", place, _BORN, name) for place, name in zip(places, made, strict=True)])
        named = self._wire.calls([("HGET", place, _BORN) for place in places])
        return dict(parts) | {
            at: replace(parts[at], born=born.decode(errors="replace"))
            for at, born in zip(nameless, named, strict=True)
            if born
        }


def together(losses: Mapping[str, AtStake]) -> list[AtStake]:
    """The losses, those of partitions that were seen at one moment as one."""
    found: dict[float, AtStake] = {}
    for one in losses.values():
        if one.documents:
            before = found.get(one.at, AtStake(one.at, 0, 0, 0))
            found[one.at] = AtStake(
                one.at,
                before.pending + one.pending,
                before.pending_bytes + one.pending_bytes,
                before.dead_letters + one.dead_letters,
            )
    return [found[at] for at in sorted(found)]


def _without_counts(formers: Sequence[AtStake], parts: Mapping[int, Part], counted: set[int]) -> dict[int, str]:
    """The names of data of which only the counts are gone, as other hands spoil them: all that waited is there."""
    names: dict[int, str] = {}
    for former in formers:  # the newest first
        for at, one in former.data.parts.items():
            now = parts[at]
            has_all = now.pending >= one.pending and now.dead_letters >= one.dead_letters
            if at not in counted and has_all and one.pending + one.dead_letters:
                names.setdefault(at, one.born)
    return names


def _lost(former: AtStake, parts: Mapping[int, Part], older: set[int]) -> dict[str, AtStake]:
    """Documents that were only in data that is not there any more, of each partition."""
    mean = former.pending_bytes / former.pending if former.pending else 0.0
    return {
        f"{at}:{one.born}": AtStake(former.at, one.pending, round(mean * one.pending), one.dead_letters)
        for at, one in former.data.parts.items()
        if parts[at].born != one.born and (at not in older or _VERSION.fullmatch(one.born))
    }


def _dump(one: AtStake, *, seen: bool) -> bytes:
    return json.dumps(asdict(one.figures) | {"seen": seen}).encode()


def _unseen(flat: Sequence[Any]) -> dict[str, AtStake]:
    """The losses that no operator has seen yet, of the answer of HGETALL."""
    found = {
        name.decode(errors="replace"): one
        for name, value in pairs(flat)
        if (one := AtStake.parse(value)) and one.documents and not json.loads(value).get("seen")
    }
    return dict(sorted(found.items(), key=lambda item: item[1].at))
