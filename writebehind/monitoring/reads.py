"""Reads that the processes of this host have counted, as the history takes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import inf

from writebehind.history.latencies import Buckets
from writebehind.tallies.families import READ_TIMES
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)


def reads_by_source(tallies: Tallies) -> Mapping[str, Buckets]:
    """The reads of single documents of all collections, by source and by the time that they took."""
    try:
        numbers = tallies.read()
    except OSError as error:
        log.debug("the counts of this host's processes cannot be read: %s", error)
        return {}
    bounds = (*READ_TIMES.bounds, inf)
    found: dict[str, dict[float, int]] = {}
    for (family, labels), (_, *counts) in numbers.items():
        if family == READ_TIMES.name:
            _, source = labels
            of_source = found.setdefault(source, dict.fromkeys(bounds, 0))
            for bound, count in zip(bounds, counts, strict=True):
                of_source[bound] += int(count)
    return found
