"""Documents after updates."""

from __future__ import annotations

from typing import Any

from writebehind.documents.codec import decode_exactly, encode
from writebehind.mql.updates.update import compile_update

MOST_BYTES = 100_000


def updated(document: dict[str, Any], update: Any) -> dict[str, Any]:
    """A document after an update; of its own, as it was in BSON before."""
    return compile_update(update, most_bytes=MOST_BYTES)(decode_exactly(encode(document)))
