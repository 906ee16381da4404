"""Times as options of commands say them."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)


class Duration(click.ParamType):  # type: ignore[type-arg]  # as it is called in each version
    """A time such as 90d, 12h, 30m or 45s."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        if isinstance(value, int | float):
            return float(value)
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{str(value)[:40]!r} is no time such as 90d, 12h, 30m or 45s", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])
