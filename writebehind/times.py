"""Times as texts: one form wherever one is shown."""

from __future__ import annotations

from datetime import UTC, datetime


def shown(seconds: float) -> str | None:
    """A time as RFC 3339 has it, in UTC: `2026-11-26T18:34:59.123Z`; `None` for what no calendar has.

    Args:
        seconds: since the epoch; what is less than a millisecond is left out.
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # other hands may have written it
        return None


def duration(seconds: float) -> str:
    """A duration as a person says it: `2.5 s`, `3 min`."""
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s"


def unasked(seconds: float) -> str:
    """The end of a sentence about a server that nobody asks for so long; '' where that is as good as over."""
    told = f"{seconds:.1f}"
    return "" if float(told) <= 0 else f", and nobody asks it for {told} s"
