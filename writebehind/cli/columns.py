"""Tables from which a narrow terminal, or a pipe, cuts nothing; and counts of things in words."""

from __future__ import annotations

from rich.table import Column


def columns(*names: str) -> list[Column]:
    """Columns with these headings: what is too long for one goes on in its next line."""
    return [Column(name, overflow="fold") for name in names]


def counted(count: int, what: str) -> str:
    """A number of things: `1 dead letter`, `2 dead letters`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
