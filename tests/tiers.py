"""Tests that `make test` leaves to `make long`, as they take long and guard what shorter ones guard too."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import pytest
from hypothesis import settings

long = pytest.mark.long
#: Examples of a property that says nothing else, in `make long`; `make test` draws fewer.
ALL_EXAMPLES = 100


def examples(count: int) -> int:
    """The part of so many examples of a property that is drawn in this tier."""
    return max(1, count * settings.default.max_examples // ALL_EXAMPLES)


def cases(of: Mapping[str, Any], short: AbstractSet[str]) -> list[Any]:
    """Values for `pytest.mark.parametrize`, by their names; all but the `short` ones are long."""
    assert short <= of.keys()
    return [
        pytest.param(*(one if isinstance(one, tuple) else (one,)), id=name, marks=() if name in short else long)
        for name, one in of.items()
    ]
