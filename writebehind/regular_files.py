"""Files that settings and arguments name: regular ones, as a pipe or a device would be waited for without end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

#: No such file is larger, bytes: certificates of all authorities of the world are 200 KiB.
MOST_BYTES: Final = 4 << 20
_KINDS: Final = {
    stat.S_IFDIR: "it is a directory",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
    stat.S_IFSOCK: "it is a socket",
}


def fault_of_file(path: str | Path, most_bytes: int = MOST_BYTES) -> str:
    """Reason why this is no file to read settings from, found without opening it; '' where it is one.

    Args:
        path: is followed where it is a link.
        most_bytes: it may have.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - a name with a zero byte is no fault of the program
    except OSError as error:
        return error.strerror or type(error).__name__
    except ValueError:
        return "no file can have this name"
    if not stat.S_ISREG(found.st_mode):
        return f"{_KINDS.get(stat.S_IFMT(found.st_mode), 'it is none')}: a regular file is needed"
    if found.st_size > most_bytes:
        return f"it has more than {most_bytes >> 10} KiB"
    return "" if os.access(path, os.R_OK) else "Permission denied"
