"""What several modules of this tier share."""

from __future__ import annotations

from writebehind import Settings


def environment(settings: Settings) -> dict[str, str]:
    """The variables with which a command finds the servers of a test."""
    return {
        "REDIS_URL": settings.redis_url,
        "MONGODB_URL": settings.mongodb_url,
        "MONGODB_DATABASE": settings.mongodb_database,
        "WRITEBEHIND_PARTITIONS": str(settings.partitions),
        "WRITEBEHIND_ALLOW_UNLISTED": "true",
    }
