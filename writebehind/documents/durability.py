"""Durability of a write when it is answered."""

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
