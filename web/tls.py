"""TLS of what the service listens on itself, as the settings say: of the API, and of the exporter."""

from __future__ import annotations

import ssl

from writebehind import Settings
from writebehind.errors import ConfigurationError
from writebehind.regular_files import fault_of_file

#: Browsers that have seen this come by TLS for a year, whatever a link says (RFC 6797).
STRICT = (b"strict-transport-security", b"max-age=31536000")


def context(settings: Settings) -> ssl.SSLContext | None:
    """The context with which a listener serves by TLS, from 1.2 on; `None` where the settings have no certificate.

    Raises:
        ConfigurationError: a file cannot be read, or is no certificate or key.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        path = getattr(settings, name)
        if path is not None and (fault := fault_of_file(path)):
            raise ConfigurationError(f"WRITEBEHIND_{name.upper()}: {fault}: {path}")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_cert_chain(settings.tls_cert, settings.tls_key, password="")  # else it would ask a terminal
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"WRITEBEHIND_TLS_CERT and WRITEBEHIND_TLS_KEY cannot be used: {error}"
        ) from error
    try:
        if settings.tls_client_ca is not None:
            made.load_verify_locations(settings.tls_client_ca)
            made.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise ConfigurationError(f"WRITEBEHIND_TLS_CLIENT_CA cannot be used: {error}") from error
    return made
