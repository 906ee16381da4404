"""Files of constants."""

from __future__ import annotations

import json

import pytest

from tests.unit.planning.conftest import KNOWN
from writebehind.errors import ConfigurationError
from writebehind.planning.constants import load_constants


def test_costs_lie_on_lines_between_sizes(known):
    """And beyond them on the last line, never below 0."""
    assert [400, 450, 500, 600] == [known.at(known.put.process_us, size) for size in (200, 700, 1_200, 2_200)]
    assert 0 == known.at([0.0, 1_000.0], 1)


def test_constants_come_with_the_package():
    """Of a machine that they name, for both allocators."""
    known = load_constants()
    assert {"jemalloc", "libc"} == set(known.memory)
    assert known.measured.processor
    assert known.sizes[0] < 300
    assert known.sizes[-1] > 50_000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sizes": [200]}, "sizes"),
        ({"sizes": [200, 100]}, "sizes must grow"),
        ({"sizes": [200, 300, 400]}, "each list needs a value for each of the sizes"),
        ({"task": {"worker_us": -1.0, "redis_us": 1.0}}, "task.worker_us"),
        ({"memory": {}}, "no allocator was measured"),
        ({"memory": {"tcmalloc": KNOWN["memory"]["jemalloc"]}}, "tcmalloc"),
        ({"more": 1}, "more"),
    ],
)
def test_a_wrong_file_is_told(tmp_path, change, told):
    """By what is wrong in it."""
    path = tmp_path / "constants.json"
    path.write_text(json.dumps(KNOWN | change))
    with pytest.raises(ConfigurationError, match=told):
        load_constants(path)


def test_a_file_that_is_none_is_told(tmp_path):
    """Text that is no JSON, and a file that is not there."""
    path = tmp_path / "constants.json"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_constants(path)
    path.write_text("{")
    with pytest.raises(ConfigurationError, match="no constants in"):
        load_constants(path)
