"""Durability of a write when it is answered.

These know the levels one by one: `redis/confirmation.py`, the commands by which Redis confirms one;
`writing/admission.py`, which refuses one that this Redis cannot promise; `writing/writer.py`, `writing/bulk.py`
and `collection.py`, which wait for MongoDB; `settings/collection.py`, the default; and
`operations/doctor/redis.py`, which says what is offered. The parameter of the API and its description are made
from the enum; `docs/http-api.md` and `docs/library.md` tell what each means.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Durability(StrEnum):
    """Durability of a write when it was answered, least first."""

    BUFFERED = "buffered"
    """Redis has it."""
    FSYNCED = "fsynced"
    """Redis has it on disk, and so have as many of its replicas as are asked for, where it has any."""
    REPLICATED = "replicated"
    """As many replicas of Redis as are asked for have it too."""
    PERSISTED = "persisted"
    """MongoDB has it."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Confirmation by Redis of a write that waited for it.

    Attributes:
        disk: whether its own disk is known to have it: nobody asks that of one that is to be `REPLICATED`.
        replicas: how many replicas have it; of one that is to be `FSYNCED`, on their disks.
    """

    disk: bool
    replicas: int
