"""What processes tell of writes that failovers have lost, beside what clients were promised, and what there is."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.chaos.failovers.keepers import REGISTERS, Document, Keeper, Promise
from writebehind.reconcile.losses import Fate

#: A write in a line of the log.
_NAMED = re.compile(rf"{REGISTERS}/s:(\S+)@([0-9]+) \(([a-z]+)\)")


class Told(NamedTuple):
    """One write that was told to be lost."""

    key: str
    version: int
    fate: Fate


@dataclass(frozen=True, slots=True)
class Reports:
    """All that was told: how many writes by their fates, and those with names."""

    fates: Counter[str] = field(default_factory=Counter)
    named: list[Told] = field(default_factory=list)

    @classmethod
    def read(cls, logs: Iterable[Path]) -> Reports:
        """Read logs of processes, whose lines are JSON; others are of who started them."""
        found = cls()
        for log in logs:
            for line in log.read_text("utf-8").splitlines():
                if '"writes_lost"' in line:
                    event = json.loads(line)
                    found.fates.update({one: event[one] for one in Fate if one in event})
                    found.named.extend(
                        Told(key, int(version), Fate(fate))
                        for key, version, fate in _NAMED.findall(event["message"])
                    )
        return found

    def unreported(self, lost: Sequence[tuple[str, int]]) -> list[str]:
        """Lost writes of which nobody tells: not by name, nor a later one to the same document, which saw it."""
        told: dict[str, int] = {}
        for one in self.named:
            if one.fate is not Fate.RECOMMITTED:
                told[one.key] = max(one.version, told.get(one.key, 0))
        untold = [
            f"{key}@{version} is lost, and nobody tells" for key, version in lost if version > told.get(key, 0)
        ]
        return untold[self._without_a_name :]

    @property
    def _without_a_name(self) -> int:
        """The number of lost writes that are told and not named: a line of the log names the first ones only."""
        named = Counter(one.fate.value for one in self.named)
        lost = ((fate, told) for fate, told in self.fates.items() if fate != Fate.RECOMMITTED)
        return sum(max(0, told - named[fate]) for fate, told in lost)

    def wrong(self, keepers: Iterable[Keeper], stored: Mapping[str, int]) -> list[str]:
        """Writes that are told to be lost and were not: promised to be kept, or there in the end."""
        documents = {one.key: one for keeper in keepers for one in keeper.documents}
        return [
            f"{one.key}@{one.version} is told as {one.fate}, and {what}"
            for one in self.named
            if (what := _survival(one, documents[one.key], stored.get(one.key)))
        ]


def _survival(told: Told, document: Document, value: int | None) -> str:
    """What speaks against a write's being lost, if anything."""
    write = next((one for one in document.writes if one.version == told.version), None)
    if write is None:  # it had no answer, or one that does not say the version
        return ""
    if write.promise is Promise.KEPT:
        return "was promised to outlive a failover"
    is_there = told.fate is not Fate.RECOMMITTED and value is not None and value == write.value
    return "is there" if is_there else ""
