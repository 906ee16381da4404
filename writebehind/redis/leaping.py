"""Leaps of versions, after which they are above all that a server may have issued that was lost."""

from __future__ import annotations

#: How far beyond its own clock a new primary begins, µs; and beyond the last version that it knows, which is ahead
#: of its clock if there was another failover just before.
LEAP_US, LEAP_BEYOND_LAST_US = 3_000_000, 1_000_000

#: So many failovers each partition remembers: a process that lives has not slept through more.
MOST_LAPSES = 8

#: The arguments of a step in which they leap.
LEAP = (LEAP_US, LEAP_BEYOND_LAST_US, MOST_LAPSES)
