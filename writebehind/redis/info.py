"""Facts that a server tells of itself, as INFO has them."""

from __future__ import annotations

from collections.abc import Mapping


def parse_info(answer: bytes) -> Mapping[str, str]:
    """The facts of INFO's answer."""
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines() if ":" in line)
    return {name: value for name, _, value in lines}
