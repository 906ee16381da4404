"""The addresses at which one system serves: those of its settings, or free ones beside them."""

from __future__ import annotations

from writebehind.errors import ConfigurationError
from writebehind.local.embedded import can_listen, free_port, reachable
from writebehind.settings.installation import Settings


class Addresses:
    """The ports of the API, Flower and the exporter, and the URLs by which this machine reaches them.

    Attributes:
        host: by which this machine reaches the API.
        api, flower, exporter: the ports.
    """

    def __init__(self, settings: Settings, *, port: int | None, serves: bool) -> None:
        """Choose them.

        Args:
            settings: what is wanted.
            port: that of the API, in place of the one of the settings; 0 for any free one.
            serves: whether there is an API to be served.

        Raises:
            ConfigurationError: the API's port is taken, or there is no such host.
        """
        self._scheme = "http" if settings.tls_cert is None else "https"
        self.host = reachable(settings.host)
        self.api = _of_api(settings, port) if serves else settings.port
        self.flower = _free(settings.flower_port, "127.0.0.1")
        self.exporter = _free(settings.exporter_port, settings.host)

    @property
    def url(self) -> str:
        """That of the API."""
        return self._url(self.api)

    @property
    def flower_url(self) -> str:
        """That of Flower, which serves this machine alone."""
        return f"http://127.0.0.1:{self.flower}"

    @property
    def metrics_url(self) -> str:
        """That of the exporter's page."""
        return f"{self._url(self.exporter)}/metrics"

    def _url(self, port: int) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self._scheme}://{host}:{port}"


def _free(port: int, host: str) -> int:
    """This port, or any free one where it is taken."""
    return port if can_listen(port, host) else free_port()


def _of_api(settings: Settings, wanted: int | None) -> int:
    port = settings.port if wanted is None else wanted
    try:
        if port and not can_listen(port, settings.host):
            raise ConfigurationError(
                f"port {port} is taken: choose another with --port or WRITEBEHIND_PORT, or 0 for any free one"
            )
        return port or free_port(settings.host)
    except (OSError, ValueError) as error:  # ValueError: no name of a host can be so
        raise ConfigurationError(f"host {settings.host}: {error}") from error
