"""Tests that `make test` leaves to `make long`, as they take long and guard what shorter ones guard too."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import pytest

long = pytest.mark.long


def cases(of: Mapping[str, Any], short: AbstractSet[str]) -> list[Any]:
    """Values for `pytest.mark.parametrize`, by their names; all but the `short` ones are long."""
    assert short <= of.keys()
    return [
        pytest.param(*(one if isinstance(one, tuple) else (one,)), id=name, marks=() if name in short else long)
        for name, one in of.items()
    ]
