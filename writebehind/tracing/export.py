"""Export of spans by a process of the service, as OpenTelemetry's own variables say: the extra `otel`."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Final

from opentelemetry import trace

from writebehind.logs.fields import add_source
from writebehind.tracing.lost import Leaving
from writebehind.tracing.span import is_on, log_fields

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: Either says where spans go to.
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: The last spans of a process that ends are given so long to leave, seconds.
FLUSH_WITHIN_S: Final = 2.0
#: Before the children of a process are joined.
_EARLY: Final = 100


class SpanExport:
    """Export of the spans of this process and its forks, or that there is none."""

    def __init__(self, provider: TracerProvider | None = None, leaving: Leaving | None = None) -> None:
        """Export by a provider."""
        self._provider = provider
        self._leaving = leaving

    def count_in(self, tallies: Tallies) -> None:
        """Count in these tallies what is lost."""
        if self._leaving:
            self._leaving.count_in(tallies)

    def end(self) -> None:
        """Let the last spans leave, however long the collector takes not to answer. Again, it changes nothing.

        It is called at the end of Python and of a child of `multiprocessing`, too; but from Python 3.12 on there
        are no bounds at the former.
        """
        if self._provider is None or self._leaving is None:
            return
        leaving = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        try:
            leaving.start()
        except RuntimeError:  # Python ends, and starts no more threads
            self._provider.shutdown()
        else:
            leaving.join(FLUSH_WITHIN_S)
        self._leaving.end()


def export_spans(name: str) -> SpanExport:
    """Export the spans of this process and its forks, where a variable names an endpoint, and nobody sees to them.

    The sampler, the resource, headers and time limits are those of the other variables `OTEL_…`.

    Args:
        name: of the service, behind `writebehind-`, unless a variable says another one.
    """
    if not is_wanted() or is_on():
        return SpanExport()
    try:
        from writebehind.tracing.otlp import provider  # noqa: PLC0415 - an extra

        made, leaving = provider(f"writebehind-{name}")
    except ImportError as error:
        log.warning("spans are not exported (%s): pip install 'writebehind[otel]'", error)
        return SpanExport()
    except Exception as error:  # noqa: BLE001 - no reason to take no writes
        log.warning("spans are not exported, as a variable OTEL_… is wrong: %r", error)
        return SpanExport()
    trace.set_tracer_provider(made)
    add_source("span", log_fields)

    export = SpanExport(made, leaving)
    atexit.register(export.end)
    # A child of `multiprocessing`, such as granian's workers, calls these at its end, and not those of `atexit`.
    Finalize(None, export.end, exitpriority=_EARLY)
    return export


def is_wanted() -> bool:
    """Whether the variables ask for spans."""
    environ = os.environ
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if "otlp" not in environ.get("OTEL_TRACES_EXPORTER", "otlp").lower().replace(" ", "").split(","):
        return False
    return any(environ.get(one, "").strip() for one in ENDPOINTS)
