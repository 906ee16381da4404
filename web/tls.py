"""TLS of the API's own listener, as the settings say."""

from __future__ import annotations

import ssl
from typing import Any

from granian.constants import SSLProtocols

from writebehind import Settings
from writebehind.errors import ConfigurationError

#: Browsers that have seen this come by TLS for a year, whatever a link says (RFC 6797).
STRICT = (b"strict-transport-security", b"max-age=31536000")


def listener(settings: Settings) -> dict[str, Any]:
    """Options for granian; none where the API is served without TLS.

    Raises:
        ConfigurationError: a file cannot be read, or is no certificate or key.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")  # else it would ask a terminal
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"WRITEBEHIND_TLS_CERT and WRITEBEHIND_TLS_KEY cannot be used: {error}"
        ) from error
    try:
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
    except OSError as error:
        raise ConfigurationError(f"WRITEBEHIND_TLS_CLIENT_CA cannot be used: {error}") from error
    return {
        "ssl_cert": settings.tls_cert,
        "ssl_key": settings.tls_key,
        "ssl_protocol_min": SSLProtocols.tls12,
        "ssl_ca": settings.tls_client_ca,
        "ssl_client_verify": settings.tls_client_ca is not None,
    }
