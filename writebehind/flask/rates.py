"""Counts of the items of a request, against the rate of its client where the server holds one."""

from __future__ import annotations

from collections.abc import Callable

from flask import request

from writebehind.flask.problems import SPEND


def count_items(items: int) -> None:
    """Count the items of this request, of which the server has counted one by now."""
    spend: Callable[[int], None] | None = request.environ.get(SPEND)
    if spend is not None and items > 1:
        spend(items - 1)
