"""Tables from which a narrow terminal, or a pipe, cuts nothing."""

from __future__ import annotations

from rich.table import Column


def columns(*names: str) -> list[Column]:
    """Columns with these headings: what is too long for one goes on in its next line."""
    return [Column(name, overflow="fold") for name in names]
