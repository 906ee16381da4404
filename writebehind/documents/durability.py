"""Durability of a write when it is answered.

These know the levels one by one: `redis/store.py`, the command by which Redis confirms one;
`writing/admission.py`, which refuses one that this Redis cannot promise; `writing/writer.py`, `writing/bulk.py`
and `collection.py`, which wait for MongoDB; `settings/collection.py`, the default; and
`operations/doctor/redis.py`, which says what is offered. The parameter of the API and its description are made
from the enum; `docs/http-api.md` and `docs/library.md` tell what each means.
"""

from __future__ import annotations

from enum import StrEnum


class Durability(StrEnum):
    """Durability of a write when it was answered, least first."""

    BUFFERED = "buffered"
    """Redis has it."""
    FSYNCED = "fsynced"
    """Redis has it on disk."""
    REPLICATED = "replicated"
    """A replica of Redis has it too."""
    PERSISTED = "persisted"
    """MongoDB has it."""
