"""Names and addresses of hosts, as the settings list them."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

#: Names that a client may use for the API's host; with `*`, names below it, or any.
_NAME = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on a host, an address or `localhost`."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


#: What a browser sends as `Origin`: of a page that hides where it is from, `null`, none is allowed.
_ORIGIN = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII)


def split(given: Any) -> Any:
    """The parts of a list as the environment has it, between commas; all else as it is."""
    return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given


def _check(hosts: list[str]) -> list[str]:
    for host in hosts:
        if not _NAME.fullmatch(host) and not is_address(host):
            raise ValueError(f"{host!r} is no name of a host, without scheme and port, and no address")
    return hosts


def _check_origins(origins: list[str]) -> list[str]:
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin as browsers send it, such as https://app.example.com")
    return origins


#: Lists, in the environment with commas between their parts.
Origins = Annotated[list[str], NoDecode, BeforeValidator(split), AfterValidator(_check_origins)]
Hosts = Annotated[list[str], NoDecode, BeforeValidator(split), AfterValidator(_check)]
