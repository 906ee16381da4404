"""Files with secrets, as orchestrators mount them: `REDIS_URL_FILE` names the one with the `REDIS_URL`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from writebehind.errors import ConfigurationError
from writebehind.regular_files import fault_of_file

#: Variables that name the files, with the settings that these have.
OF_SECRETS: Final = {
    "REDIS_URL_FILE": "redis_url",
    "MONGODB_URL_FILE": "mongodb_url",
    "BROKER_URL_FILE": "broker_url",
    "WRITEBEHIND_ROOT_KEY_FILE": "root_key",
}
#: No secret is longer, in bytes.
MOST_BYTES: Final = 65_536


def secrets_of_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that files have which the environment names, without blanks and line ends around them.

    Raises:
        ConfigurationError: a file cannot be read or has no text, or the setting is in the environment as well.
    """
    found = {}
    for variable, setting in OF_SECRETS.items():
        if not (name := environment.get(variable)):
            continue
        itself = variable.removesuffix("_FILE")
        if environment.get(itself):
            raise ConfigurationError(f"{itself} and {variable} are both set: set one of them")
        if fault := fault_of_file(name, MOST_BYTES):
            raise ConfigurationError(f"{variable}: {fault}: {name[:200]}")
        try:
            with Path(name).open("rb") as file:
                text = file.read(MOST_BYTES + 1).decode().strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            raise ConfigurationError(f"{variable}: {why}: {name[:200]}") from None
        if not text or len(text) > MOST_BYTES:
            raise ConfigurationError(f"{variable}: the file is empty, or too long for a secret: {name[:200]}")
        found[setting] = text
    return found
