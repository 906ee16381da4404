"""Texts of others in a line of the log, so that it is seen where they begin and end."""

from __future__ import annotations

import re
from typing import Final

#: A text that can stand in a line as it is: it has no blank, and nothing that begins a field or ends a quotation.
_PLAIN: Final = re.compile(r"""[^\s"'=\\]+""")


def quoted(text: str) -> str:
    """A text as one word of a line, such as an id: as it is, or in quotes where it could be taken for more.

    What cannot be seen is escaped, such as control characters, and so are quotes and backslashes in it.
    """
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable_line(escaped)}"'


def printable(text: str) -> str:
    """A text on one line: blanks for what separates words or lines, and escapes for what cannot be seen."""
    return printable_line(" ".join(text.split()))


def printable_line(line: str) -> str:
    """A line in which escapes stand for all that cannot be seen, such as control characters."""
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
