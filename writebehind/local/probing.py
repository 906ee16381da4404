"""Connections by which a process asks the API on the same machine whether it serves."""

from __future__ import annotations

import http.client
import ssl

from writebehind.settings.installation import Settings


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


def wants_certificate(settings: Settings, error: Exception) -> bool:
    """Whether an error says that the API serves, but only clients with a certificate."""
    return settings.tls_client_ca is not None and isinstance(error, ssl.SSLError)
