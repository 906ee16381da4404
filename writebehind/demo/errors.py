"""Errors of the demo."""

from __future__ import annotations

from writebehind.errors import WritebehindError


class DemoError(WritebehindError):
    """The demo could not be carried out."""


class InterruptedDemoError(WritebehindError):
    """The demo was interrupted; everything it started is stopped."""
