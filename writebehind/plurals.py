"""Counts of things in words."""

from __future__ import annotations


def counted(count: int, what: str, several: str = "") -> str:
    """A number of things: `1 dead letter`, `2 dead letters`.

    Args:
        count: how many.
        what: one of them.
        several: more than one, or none, where it is not `what` with an s.
    """
    return f"{count} {what if count == 1 else several or f'{what}s'}"


def size_of(count: int) -> str:
    """A number of bytes as a person says it: `1 byte`, `3 MiB`."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= 2 * unit:
            return f"{count / unit:.0f} {name}"
    return counted(count, "byte")
