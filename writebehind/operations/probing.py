"""Connections by which a process asks the API on the same machine whether it serves."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from writebehind.settings.installation import Settings

#: Requests for each web process, and for all.
_FOR_EACH: Final = 4
_MOST: Final = 64
#: Why a request gets no answer where nobody listens.
REFUSED: Final = "connection refused"


def connection_to_api(settings: Settings, host: str, port: int, *, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to the API as it listens, with TLS where the settings have it; nothing is opened yet.

    Whose certificate it is does not matter: it is for names that others use, and nothing is sent that is secret.
    """
    if settings.tls_cert is None:
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def ask_api(settings: Settings, host: str, port: int, path: str, *, timeout_s: float) -> tuple[int, str]:
    """Status and body of the API's answer.

    Raises:
        OSError: there is none in time, or nobody listens.
        HTTPException: what comes is no answer.
    """
    with closing(connection_to_api(settings, host, port, timeout_s=timeout_s)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")


def wants_certificate(settings: Settings, error: Exception) -> bool:
    """Whether an error says that the API serves, but only clients with a certificate."""
    return settings.tls_client_ca is not None and isinstance(error, ssl.SSLError)


def silences_of_api(settings: Settings, host: str, port: int, *, timeout_s: float) -> list[str]:
    """Reasons for which requests for `/healthz` get no answer in time, some for each web process; none if all do.

    The system shares connections out among all processes, so each gets one of them, nearly always. A connection
    that is refused is no answer either.
    """

    def silence(_number: int) -> str:
        try:
            ask_api(settings, host, port, "/healthz", timeout_s=timeout_s)
        except ConnectionRefusedError:
            return REFUSED
        except (OSError, http.client.HTTPException) as error:
            return "" if wants_certificate(settings, error) else str(error) or type(error).__name__
        return ""

    asked = requests_to_all(settings)
    with ThreadPoolExecutor(asked, thread_name_prefix="probe") as threads:
        return [one for one in threads.map(silence, range(asked)) if one]


def all_refused(silences: Iterable[str]) -> bool:
    """Whether nobody listens, by the reasons for which requests get no answer."""
    return all(one == REFUSED for one in silences)


def requests_to_all(settings: Settings) -> int:
    """The number of requests that is made so that each web process gets one."""
    return 1 if settings.web_workers == 1 else min(_MOST, _FOR_EACH * settings.web_workers)
