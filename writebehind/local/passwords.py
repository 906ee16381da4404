"""Passwords of the servers that `writebehind up` starts."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from writebehind.local.output import private_directory, private_file
from writebehind.regular_files import fault_of_file

_BYTES: Final = 32
#: It needs no encoding in a URL, and no quotes in a configuration.
_PASSWORD: Final = re.compile(r"[A-Za-z0-9_-]{16,128}", re.ASCII)


def kept_password(file: Path) -> str:
    """The password that a file has; a new one of 256 random bits if it has none, which it has from then on.

    Its owner alone may read the file. Whoever removes it, while the server is stopped, has another one made.

    Raises:
        OSError: the file can neither be read nor be made.
    """
    private_directory(file.parent)
    if file.exists() and (fault := fault_of_file(file)):
        raise OSError(f"the password in {file}: {fault}")
    with suppress(FileNotFoundError), private_file(file, "r") as kept:
        if found := _PASSWORD.fullmatch(kept.read(1_000).strip()):
            return str(found[0])
    password = secrets.token_urlsafe(_BYTES)
    new = file.with_name(f"{file.name}.new")
    with private_file(new, "w") as made:
        made.write(f"{password}\n")
    new.replace(file)  # at once: one that was cut off in the middle leaves no half
    return password
